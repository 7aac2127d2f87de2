//! How many attempts may be in flight at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use http::Request;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tonic::{Status, body::Body};
use tower_layer::Layer;

use crate::{
    config::{ConfigError, positive, require},
    context::Context,
    exchange::Turn,
    guard::{Admission, End, Guarded, Over, Policy},
    metrics::{LimitHandles, Rejections, as_f64},
    rejection::Rejection,
    upstream::Upstream,
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
    policy: Arc<LimitPolicy>,
}

impl ConcurrencyLimitLayer {
    /// Bounds the attempts in flight at `upstream`, but for methods that are
    /// exempt.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(LimitPolicy::new(upstream)),
        }
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.policy.in_flight()
    }

    /// Attempts waiting for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.policy.queued()
    }

    /// Brings the gauges up to date: to be called before each scrape.
    /// [`ResilienceLayer`](crate::ResilienceLayer) does it for all its layers.
    pub fn refresh_metrics(&self) {
        self.policy.refresh_metrics();
    }
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> ConcurrencyLimit<S> {
        Guarded::new(inner, &self.policy)
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
pub type ConcurrencyLimit<S> = Guarded<S, LimitPolicy>;

/// What [`ConcurrencyLimitLayer`] does at the start of an attempt.
#[derive(Debug)]
pub struct LimitPolicy {
    upstream: Upstream,
    config: LimitConfig,
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    rejections: Rejections,
    handles: LimitHandles,
}

impl LimitPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let config = upstream.config().limit;
        Self {
            upstream: upstream.clone(),
            config,
            slots: Arc::new(Semaphore::new(config.concurrency)),
            waiting: Arc::default(),
            rejections: Rejections::new(upstream.name()),
            handles: LimitHandles::new(upstream.name(), config.concurrency),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.config.concurrency - self.slots.available_permits()
    }

    pub(crate) fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn refresh_metrics(&self) {
        self.handles.in_flight.set(as_f64(self.in_flight()));
        self.handles.queued.set(as_f64(self.queued()));
    }
}

impl Policy for LimitPolicy {
    type Leave = Hold;

    const WAITS: bool = true;

    fn admit(
        &self,
        hold: &mut Hold,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        let method = context.method(&self.upstream, request);
        if !self.upstream.policy(method).limited {
            return Admission::Admitted;
        }
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            *hold = Hold::Slot(slot);
            return Admission::Admitted;
        }
        let LimitConfig {
            concurrency, queue, ..
        } = self.config;
        match Place::take(&self.waiting, queue) {
            Some(place) => {
                *hold = Hold::Place(Box::new(Wait::new(self, place, context.deadline())));
                Admission::Wait
            }
            None => {
                let full = Rejection::LimitReached { concurrency, queue };
                Admission::Refused(self.rejections.reject(full))
            }
        }
    }

    fn poll_admit(
        &self,
        hold: &mut Hold,
        context: &mut Context,
        _: &mut Request<Body>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Result<(), Status>> {
        let Hold::Place(wait) = hold else {
            return Poll::Ready(Ok(()));
        };
        let slot = ready!(wait.poll(turn.cx));
        let now = turn.now();
        let waited = now - wait.since;
        self.handles.queue_wait.record(waited);
        *hold = Hold::Nothing;
        // The attempt begins when it has its slot.
        context.begin_at(now);
        // A slot that comes too late is given back by being dropped.
        let late = context.left().is_some_and(|left| left.is_zero());
        Poll::Ready(match slot {
            Some(slot) if !late => {
                *hold = Hold::Slot(slot);
                Ok(())
            }
            _ if late => Err(self.rejections.reject(Rejection::DeadlineExceeded)),
            _ => Err(self.rejections.reject(Rejection::QueueTimeout { waited })),
        })
    }

    /// The slot is free again.
    #[inline]
    fn ended(&self, hold: &mut Hold, _: &Context, _: End<'_>, _: Over) {
        *hold = Hold::Nothing;
    }
}

/// What an attempt holds, and gives back when this is dropped.
#[derive(Debug, Default)]
pub enum Hold {
    /// Nothing: it has not asked, its method is exempt, or it is over.
    #[default]
    Nothing,
    /// One attempt's.
    Slot(OwnedSemaphorePermit),
    /// In the queue. Boxed, as hardly any waits.
    Place(Box<Wait>),
}

/// One place in the queue, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>, queue: usize) -> Option<Self> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < queue).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(waiting)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Waiting for a slot. Slots go to those who came first.
pub struct Wait {
    acquire: Acquire,
    timer: Pin<Box<Sleep>>,
    since: Instant,
    _place: Place,
}

impl Wait {
    fn new(policy: &LimitPolicy, place: Place, deadline: Option<Instant>) -> Self {
        let now = Instant::now();
        let until = now + policy.config.queue_timeout;
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        Self {
            acquire: Box::pin(Arc::clone(&policy.slots).acquire_owned()),
            timer: Box::pin(sleep_until(until)),
            since: now,
            _place: place,
        }
    }

    /// A slot, or `None` when the time to wait for one is over.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        match self.acquire.as_mut().poll(cx) {
            Poll::Ready(permit) => Poll::Ready(permit.ok()),
            Poll::Pending => self.timer.as_mut().poll(cx).map(|()| None),
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}
