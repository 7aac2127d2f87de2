//! A timer that costs nothing until something has to be waited for, and the
//! future and body that end by it.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

/// Fires at an instant; registered with the runtime at the first wait only.
#[derive(Debug)]
pub(crate) struct Timer {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, sleep: None }
    }

    pub(crate) fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        self.sleep
            .get_or_insert_with(|| Box::pin(sleep_until(at)))
            .as_mut()
            .poll(cx)
    }

    /// When it fires.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }
}

/// What to say when time is up, and about statuses that come instead.
pub(crate) trait Expiry {
    /// The status of an attempt, or a call, that ran out of time.
    fn expired(&self) -> Status;

    /// What `status`, which came from below, really says.
    fn translate(&self, status: Status, fires: Instant) -> Status;
}

pin_project! {
    /// A future that is given a time to end, with its response body.
    #[derive(Debug)]
    pub struct TimedFuture<F, X> {
        #[pin]
        inner: F,
        timed: Option<Timed<X>>,
    }
}

#[derive(Debug)]
struct Timed<X> {
    timer: Timer,
    expiry: X,
    /// Frames that came without a pause.
    unbroken: u32,
}

impl<X> Timed<X> {
    /// Whether time is up in the middle of a stream that never pauses, so that
    /// the timer has no chance. Only now and then, for it reads the clock.
    fn overrun(&mut self) -> bool {
        const EVERY: u32 = 32;
        self.unbroken = (self.unbroken + 1) % EVERY;
        self.unbroken == 0 && Instant::now() >= self.timer.at()
    }
}

impl<F, X> TimedFuture<F, X> {
    pub(crate) fn new(inner: F, at: Instant, expiry: X) -> Self {
        Self {
            inner,
            timed: Some(Timed {
                timer: Timer::new(at),
                expiry,
                unbroken: 0,
            }),
        }
    }
}

impl<F, B, X> Future for TimedFuture<F, X>
where
    F: Future<Output = Result<Response<B>, Status>>,
    X: Expiry,
{
    type Output = Result<Response<TimedBody<B, X>>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // An answer that is there counts, even when time is up as well.
        match this.inner.poll(cx) {
            Poll::Ready(Ok(response)) => {
                let timed = mem::take(this.timed);
                Poll::Ready(Ok(response.map(|body| TimedBody {
                    body: Some(body),
                    timed,
                })))
            }
            Poll::Ready(Err(status)) => Poll::Ready(Err(match this.timed {
                Some(timed) => timed.expiry.translate(status, timed.timer.at()),
                None => status,
            })),
            Poll::Pending => match this.timed {
                Some(timed) => timed
                    .timer
                    .poll_fired(cx)
                    .map(|()| Err(timed.expiry.expired())),
                None => Poll::Pending,
            },
        }
    }
}

/// A body that is given a time to end.
#[derive(Debug)]
pub struct TimedBody<B, X> {
    /// `None` once time was up: dropping it resets the stream.
    body: Option<B>,
    timed: Option<Timed<X>>,
}

impl<B: Default, X> Default for TimedBody<B, X> {
    fn default() -> Self {
        Self {
            body: Some(B::default()),
            timed: None,
        }
    }
}

impl<B: Unpin, X> Unpin for TimedBody<B, X> {}

impl<B, X> Body for TimedBody<B, X>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    X: Expiry,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(match &this.timed {
                Some(timed) => timed.expiry.translate(status, timed.timer.at()),
                None => status,
            }))),
            Poll::Ready(frame) => {
                let is_data = matches!(&frame, Some(Ok(frame)) if frame.is_data());
                if is_data
                    && let Some(timed) = &mut this.timed
                    && timed.overrun()
                {
                    this.body = None;
                    return Poll::Ready(Some(Err(timed.expiry.expired())));
                }
                Poll::Ready(frame)
            }
            Poll::Pending => match &mut this.timed {
                Some(timed) => {
                    timed.unbroken = 0;
                    timed.timer.poll_fired(cx).map(|()| {
                        this.body = None;
                        Some(Err(timed.expiry.expired()))
                    })
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
