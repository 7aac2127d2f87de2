//! How many attempts may be in flight at once.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    config::{ConfigError, positive, require},
    deadline::Deadline,
    metrics::{LimitHandles, Rejections, as_f64},
    rejection::Rejection,
    timer::Timer,
    watch::{End, Watch, WatchedBody, WatchedFuture},
};

/// How many attempts may be in flight, and how many may wait, for how long.
///
/// # Defaults
///
/// | field | default | reason |
/// | --- | --- | --- |
/// | `concurrency` | 100 | Little's law: 500 calls/s of 50 ms are 25 in flight; four times that |
/// | `queue` | 50 | a burst, not a backlog |
/// | `queue_timeout` | 100 ms | a call that has waited longer is better refused: its caller waits too |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitConfig {
    /// Attempts in flight at once; at least 1.
    pub concurrency: usize,
    /// Attempts waiting at once; 0 means that nobody waits.
    pub queue: usize,
    /// Longest wait; clipped to what is left of the call.
    pub queue_timeout: Duration,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            concurrency: 100,
            queue: 50,
            queue_timeout: Duration::from_millis(100),
        }
    }
}

impl LimitConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        const MOST: usize = 1_000_000;
        let count = |field, value| {
            require(
                (1..=MOST).contains(&value),
                field,
                format!("1 to {MOST}"),
                value,
            )
        };
        count("limit.concurrency", self.concurrency)?;
        if self.queue > 0 {
            count("limit.queue", self.queue)?;
        }
        positive("limit.queue_timeout", self.queue_timeout)
    }
}

/// Bounds the attempts in flight at an upstream.
///
/// An attempt holds its slot until its response body is over; tower's limit
/// lets go at the response head. None is held between attempts.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimitLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: LimitConfig,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    rejections: Rejections,
    handles: LimitHandles,
}

impl ConcurrencyLimitLayer {
    /// Bounds the attempts in flight at `upstream`.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn new(upstream: &str, config: LimitConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                slots: Arc::new(Semaphore::new(config.concurrency)),
                waiting: AtomicUsize::new(0),
                rejections: Rejections::new(upstream),
                handles: LimitHandles::new(upstream, config.concurrency),
            }),
        })
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.config.concurrency - self.shared.slots.available_permits()
    }

    /// Attempts waiting for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Brings the gauges up to date: to be called before each scrape. [`ResilienceLayer`](crate::ResilienceLayer) does it for all its layers.
    pub fn refresh_metrics(&self) {
        self.shared.handles.in_flight.set(as_f64(self.in_flight()));
        self.shared.handles.queued.set(as_f64(self.queued()));
    }
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> ConcurrencyLimit<S> {
        ConcurrencyLimit {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Bounds the attempts in flight: see [`ConcurrencyLimitLayer`].
///
/// # Errors
/// [`Rejection::LimitReached`] at once when the queue is full as well,
/// [`Rejection::QueueTimeout`] when no slot became free in time; both are
/// RESOURCE_EXHAUSTED. [`Rejection::DeadlineExceeded`] when the call's time ran
/// out in the queue.
///
/// # Cancellation
/// A dropped attempt gives back its slot, or its place in the queue, at once.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, R, B> Service<Request<R>> for ConcurrencyLimit<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status> + Clone,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<WatchedBody<B, Slot>>;
    type Error = Status;
    type Future = LimitFuture<S, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        if let Ok(permit) = Arc::clone(&self.shared.slots).try_acquire_owned() {
            let future = WatchedFuture::new(self.inner.call(request), Slot { _permit: permit });
            return LimitFuture {
                state: State::Sent { future },
            };
        }
        let Some(place) = Place::take(&self.shared) else {
            let LimitConfig {
                concurrency, queue, ..
            } = self.shared.config;
            let full = Rejection::LimitReached { concurrency, queue };
            let status = self.shared.rejections.reject(full);
            return LimitFuture {
                state: State::Refused {
                    status: Some(status),
                },
            };
        };
        // The service that is ready is the one to call; a copy stays here.
        let copy = self.inner.clone();
        let service = mem::replace(&mut self.inner, copy);
        let deadline = Deadline::of(request.extensions());
        let wait = Wait::new(place, deadline, Instant::now());
        LimitFuture {
            state: State::Queued {
                wait,
                call: Some((service, request)),
            },
        }
    }
}

/// One slot, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Watch for Slot {
    fn ended(self, _: End<'_>) {}
}

/// One place in the queue, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        shared
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < shared.config.queue).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Waiting for a slot. Slots go to those who came first.
struct Wait {
    acquire: Acquire,
    timer: Timer,
    since: Instant,
    deadline: Option<Deadline>,
    place: Place,
}

impl Wait {
    fn new(place: Place, deadline: Option<Deadline>, now: Instant) -> Self {
        let until = now + place.0.config.queue_timeout;
        let until = deadline.map_or(until, |deadline| until.min(deadline.0));
        Self {
            acquire: Box::pin(Arc::clone(&place.0.slots).acquire_owned()),
            timer: Timer::new(until),
            since: now,
            deadline,
            place,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slot, Status>> {
        let acquired = match self.acquire.as_mut().poll(cx) {
            Poll::Ready(permit) => permit.ok(),
            Poll::Pending => {
                ready!(self.timer.poll_fired(cx));
                None
            }
        };
        let now = Instant::now();
        let shared = &self.place.0;
        shared.handles.queue_wait.record(now - self.since);
        // A slot that comes too late is given back by being dropped.
        let late = self.deadline.is_some_and(|deadline| now >= deadline.0);
        Poll::Ready(match acquired {
            Some(permit) if !late => Ok(Slot { _permit: permit }),
            _ if late => Err(shared.rejections.reject(Rejection::DeadlineExceeded)),
            _ => {
                let waited = now - self.since;
                Err(shared.rejections.reject(Rejection::QueueTimeout { waited }))
            }
        })
    }
}

pin_project! {
    /// The future of [`ConcurrencyLimit`].
    pub struct LimitFuture<S, R>
    where
        S: Service<Request<R>>,
    {
        #[pin]
        state: State<S, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, R>
    where
        S: Service<Request<R>>,
    {
        Sent { #[pin] future: WatchedFuture<S::Future, Slot> },
        Queued { wait: Wait, call: Option<(S, Request<R>)> },
        Admitted { slot: Option<Slot>, call: Option<(S, Request<R>)> },
        Refused { status: Option<Status> },
    }
}

impl<S, R, B> Future for LimitFuture<S, R>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Output = Result<Response<WatchedBody<B, Slot>>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Sent { future } => return future.poll(cx),
                StateProj::Queued { wait, call } => {
                    let slot = ready!(wait.poll(cx));
                    let call = call.take();
                    state.set(match slot {
                        Ok(slot) => State::Admitted {
                            slot: Some(slot),
                            call,
                        },
                        Err(status) => State::Refused {
                            status: Some(status),
                        },
                    });
                }
                StateProj::Admitted { slot, call } => {
                    let Some((service, _)) = call else {
                        return Poll::Pending;
                    };
                    ready!(service.poll_ready(cx))?;
                    let (Some(slot), Some((mut service, request))) = (slot.take(), call.take())
                    else {
                        return Poll::Pending;
                    };
                    let future = WatchedFuture::new(service.call(request), slot);
                    state.set(State::Sent { future });
                }
                StateProj::Refused { status } => {
                    return match status.take() {
                        Some(status) => Poll::Ready(Err(status)),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl<S, R> fmt::Debug for LimitFuture<S, R>
where
    S: Service<Request<R>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitFuture").finish_non_exhaustive()
    }
}
