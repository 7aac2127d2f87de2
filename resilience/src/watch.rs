//! Sees how an attempt, or a call, really ends.
//!
//! A response head says little: the status is in the trailers, and a body can
//! hang, break or be dropped long after the head. A [`Watch`] rides along, first
//! in the future and then in the body, and is told the end exactly once.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

/// How it ended.
#[derive(Debug)]
pub enum End<'a> {
    /// With status OK.
    Ok,
    /// With any other status, wherever it came from.
    Failed(&'a Status),
    /// Nobody waited for the end.
    Dropped,
}

/// Is told, once, how an attempt or a call ended.
pub trait Watch {
    /// The response head has arrived, and what came with it.
    fn head(&mut self, _extensions: &Extensions) {}

    /// It is over.
    fn ended(self, end: End<'_>);
}

/// Holds a watch, and tells it that nobody waited when it is dropped.
#[derive(Debug)]
struct Armed<W: Watch>(Option<W>);

impl<W: Watch> Armed<W> {
    fn end(&mut self, end: End<'_>) {
        if let Some(watch) = self.0.take() {
            watch.ended(end);
        }
    }
}

impl<W: Watch> Drop for Armed<W> {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

pin_project! {
    /// A future whose response, to the end of its body, is watched.
    #[derive(Debug)]
    pub struct WatchedFuture<F, W: Watch> {
        #[pin]
        inner: F,
        watch: Armed<W>,
    }
}

impl<F, W: Watch> WatchedFuture<F, W> {
    pub(crate) fn new(inner: F, watch: W) -> Self {
        Self {
            inner,
            watch: Armed(Some(watch)),
        }
    }
}

impl<F, B, W> Future for WatchedFuture<F, W>
where
    F: Future<Output = Result<Response<B>, Status>>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
    W: Watch,
{
    type Output = Result<Response<WatchedBody<B, W>>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(match result {
            Ok(response) => {
                if let Some(watch) = &mut this.watch.0 {
                    watch.head(response.extensions());
                }
                let watch = mem::replace(this.watch, Armed(None));
                Ok(response.map(|body| WatchedBody::armed(body, watch)))
            }
            Err(status) => {
                this.watch.end(End::Failed(&status));
                Err(status)
            }
        })
    }
}

/// A body whose end is watched.
#[derive(Debug)]
pub struct WatchedBody<B, W: Watch> {
    body: B,
    watch: Armed<W>,
}

impl<B, W> WatchedBody<B, W>
where
    B: Body<Data = Bytes, Error = Status>,
    W: Watch,
{
    pub(crate) fn new(body: B, watch: W) -> Self {
        Self::armed(body, Armed(Some(watch)))
    }

    fn armed(body: B, mut watch: Armed<W>) -> Self {
        // A body that is over at once may never be polled.
        if body.is_end_stream() {
            watch.end(End::Ok);
        }
        Self { body, watch }
    }
}

impl<B: Default, W: Watch> Default for WatchedBody<B, W> {
    fn default() -> Self {
        Self {
            body: B::default(),
            watch: Armed(None),
        }
    }
}

// The body is `Unpin`, and nothing here needs a fixed place.
impl<B: Unpin, W: Watch> Unpin for WatchedBody<B, W> {}

impl<B, W> Body for WatchedBody<B, W>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    W: Watch,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {}
            // The edge lets trailers through only when they say OK, and turns
            // a missing status into an error: see `edge`.
            Some(Ok(_)) | None => this.watch.end(End::Ok),
            Some(Err(status)) => this.watch.end(End::Failed(status)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
