//! The same call without the generated client, on one layer alone.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    pin::{Pin, pin},
    sync::mpsc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::work::{Caller, Client, drive};

/// The request that the generated client makes, to be made again and again
/// without it.
///
/// A layer is a small part of what the client does, and without it how the
/// compiler cuts that up is not in the way.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    parts: Parts,
    body: Bytes,
}

impl Recorded {
    /// Has the client make one call, and keeps what it sends.
    pub(crate) fn new() -> Self {
        let (keep, kept) = mpsc::channel();
        drive(Client::new(Keep(keep)).call());
        let (parts, mut body) = kept.recv().expect("a call is a request").into_parts();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
            panic!("the body of a unary call is there at once");
        };
        let body = frame.into_data().expect("and begins with its message");
        Self { parts, body }
    }

    /// The request once more.
    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::new(OneFrame(Some(self.body.clone()))));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.version_mut() = self.parts.version;
        *request.extensions_mut() = self.parts.extensions.clone();
        // One by one, as the client does: a copy of the map would have no room
        // for another header.
        for (name, value) in &self.parts.headers {
            request.headers_mut().append(name, value.clone());
        }
        request
    }
}

/// Keeps requests, and answers none.
struct Keep(mpsc::Sender<Request<Body>>);

impl Service<Request<Body>> for Keep {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Ready<Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.send(request).expect("who wants it waits for it");
        ready(Err(Status::cancelled("kept")))
    }
}

/// The body of a unary request: one message.
struct OneFrame(Option<Bytes>);

impl http_body::Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// Makes the recorded request of a service, and reads the response to its end.
#[derive(Debug)]
pub(crate) struct Direct<S> {
    service: S,
    recorded: Recorded,
}

impl<S> Direct<S> {
    pub(crate) fn new(service: S) -> Self {
        let recorded = Recorded::new();
        Self { service, recorded }
    }
}

impl<S, B> Caller for Direct<S>
where
    S: Service<Request<Body>, Response = Response<B>, Future: Send> + Send,
    B: http_body::Body + Send,
{
    async fn call(&mut self) -> bool {
        let request = self.recorded.request();
        if poll_fn(|cx| self.service.poll_ready(cx)).await.is_err() {
            return false;
        }
        let Ok(response) = self.service.call(request).await else {
            return false;
        };
        let mut body = pin!(response.into_body());
        let mut trailers = false;
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            trailers = frame.is_ok_and(|frame| frame.is_trailers());
        }
        trailers
    }
}
