//! The work that is measured: a unary call that is answered in memory.
//!
//! The service beneath the layers does what a transport would: it reads the
//! request to its end and answers with a head, a message and trailers. It
//! allocates only what such an answer needs, so that what comes on top of it
//! is what the layers cost.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as _, Frame};
use prost::Message as _;
use proto::user::{ValidateUserRequest, ValidateUserResponse, user_service_client};
use tonic::{Status, body::Body, client::GrpcService};
use tower_service::Service;

/// How the service in memory behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers at the first poll.
    AtOnce,
    /// Answers at the second poll, as whatever waits for a socket does.
    PendingOnce,
    /// As before, and has itself woken, so that a runtime polls again.
    #[cfg(feature = "peers")]
    YieldOnce,
    /// Refuses at the first poll, and reads nothing.
    Refusing,
    /// Reads, and fails with INTERNAL: a failure for every breaker, and nothing
    /// that is tried again.
    Failing,
}

/// What is asked for.
pub(crate) fn question() -> ValidateUserRequest {
    ValidateUserRequest {
        user_id: "user-123".to_owned(),
    }
}

/// What is answered.
pub(crate) fn answer() -> ValidateUserResponse {
    ValidateUserResponse {
        valid: true,
        user_name: "Иван Иванов".to_owned(),
        error_message: String::new(),
    }
}

/// The service in memory, where a channel would be.
///
/// `ROW` is any number that no other row has: with it each row is compiled by
/// itself, from the client to here, as a program would have it that has one
/// client. Else what is inlined into one row would depend on what other rows
/// there are.
#[derive(Debug, Clone)]
pub(crate) struct Upstream<const ROW: u32> {
    manner: Manner,
    message: Bytes,
}

impl<const ROW: u32> Upstream<ROW> {
    pub(crate) fn new(manner: Manner) -> Self {
        let reply = answer();
        // The prefix of a gRPC message: not compressed, and its length.
        let mut message = vec![0];
        let size = u32::try_from(reply.encoded_len()).expect("it is short");
        message.extend(size.to_be_bytes());
        message.extend(reply.encode_to_vec());
        Self {
            manner,
            message: message.into(),
        }
    }
}

impl<const ROW: u32> Service<Request<Body>> for Upstream<ROW> {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Answer<ROW>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer<ROW> {
        Answer {
            manner: self.manner,
            read: false,
            request,
            message: self.message.clone(),
        }
    }
}

/// The answer of [`Upstream`], on its way.
#[derive(Debug)]
pub(crate) struct Answer<const ROW: u32> {
    manner: Manner,
    read: bool,
    request: Request<Body>,
    message: Bytes,
}

impl<const ROW: u32> Answer<ROW> {
    /// Reads the request as a transport would, to its end.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        while let Poll::Ready(Some(frame)) = Pin::new(self.request.body_mut()).poll_frame(cx) {
            drop(frame?);
        }
        Ok(())
    }
}

impl<const ROW: u32> Future for Answer<ROW> {
    type Output = Result<Response<Body>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.manner == Manner::Refusing {
            return Poll::Ready(Err(Status::unavailable("told to refuse")));
        }
        if !mem::replace(&mut this.read, true) {
            this.read(cx)?;
            match this.manner {
                Manner::PendingOnce => return Poll::Pending,
                #[cfg(feature = "peers")]
                Manner::YieldOnce => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Manner::AtOnce | Manner::Refusing | Manner::Failing => {}
            }
        }
        if this.manner == Manner::Failing {
            return Poll::Ready(Err(Status::internal("told to fail")));
        }
        let mut response = Response::new(Body::new(Message {
            message: Some(mem::take(&mut this.message)),
            ended: false,
        }));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        Poll::Ready(Ok(response))
    }
}

/// A message, and trailers that say OK.
struct Message {
    message: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// The least that a breaker can guard: no message, no header, answered at
/// once, and over with the head. No heap is touched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiny {
    fails: bool,
}

impl Tiny {
    pub(crate) fn succeeding() -> Self {
        Self { fails: false }
    }

    pub(crate) fn failing() -> Self {
        Self { fails: true }
    }

    /// What it is asked.
    pub(crate) fn request() -> Request<Body> {
        Request::new(Body::empty())
    }
}

impl Service<Request<Body>> for Tiny {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Ready<Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(if self.fails {
            Err(Status::internal("told to fail"))
        } else {
            Ok(Response::new(Body::empty()))
        })
    }
}

/// Whatever can make the call, and say whether it was answered as it should.
pub(crate) trait Caller {
    /// Makes one call.
    fn call(&mut self) -> impl Future<Output = bool> + Send;
}

/// The generated client, on any service: without layers this is what the
/// layers are compared with.
pub(crate) type Client<S> = user_service_client::UserServiceClient<S>;

impl<S> Caller for Client<S>
where
    S: GrpcService<Body> + Send,
    S::Error: Into<tonic::codegen::StdError>,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    async fn call(&mut self) -> bool {
        let reply = self.validate_user(question()).await;
        reply.is_ok_and(|reply| reply.get_ref().valid)
    }
}

/// The generated client on a bare channel, which says with each call for how
/// long it will wait, as a careful caller does.
///
/// tonic's channel and server each keep a timer for a call that says so.
#[cfg(feature = "peers")]
#[derive(Clone)]
pub(crate) struct Bounded(pub(crate) Client<tonic::transport::Channel>);

#[cfg(feature = "peers")]
impl Caller for Bounded {
    async fn call(&mut self) -> bool {
        let mut request = tonic::Request::new(question());
        request.set_timeout(std::time::Duration::from_millis(500));
        let reply = self.0.validate_user(request).await;
        reply.is_ok_and(|reply| reply.get_ref().valid)
    }
}

/// Polls `future` by hand until it is ready, at once again when it is pending.
///
/// # Panics
/// When it is pending more often than anything here has reason to be: then it
/// waits for what does not come.
pub(crate) fn drive<F: Future>(future: F) -> F::Output {
    const POLLS_MAX: u32 = 100;
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("a future was pending {POLLS_MAX} times");
}
