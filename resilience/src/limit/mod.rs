//! How many attempts may be in flight at once.
//!
//! | file | what |
//! | --- | --- |
//! | `slots.rs` | the slots and the queue, for many threads at once |

mod slots;

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use http::Request;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower_layer::Layer;

use self::slots::{Answer, Place, Slots};
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
    slots: Slots,
    rejections: Rejections,
    handles: LimitHandles,
}

impl LimitPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let config = upstream.config().limit;
        Self {
            upstream: upstream.clone(),
            config,
            slots: Slots::new(config.concurrency, config.queue),
            rejections: Rejections::new(upstream.name()),
            handles: LimitHandles::new(upstream.name(), config.concurrency),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    pub(crate) fn queued(&self) -> usize {
        self.slots.queued()
    }

    pub(crate) fn refresh_metrics(&self) {
        self.handles.in_flight.set(as_f64(self.in_flight()));
        self.handles.queued.set(as_f64(self.queued()));
    }

    #[cold]
    fn wait(&self, hold: &mut Hold, place: Place, context: &Context) -> Admission {
        let wait = Wait::new(place, self.config.queue_timeout, context.deadline());
        *hold = Hold::Place(Box::new(wait));
        Admission::Wait
    }

    #[cold]
    fn refuse(&self) -> Admission {
        let LimitConfig {
            concurrency, queue, ..
        } = self.config;
        let full = Rejection::LimitReached { concurrency, queue };
        Admission::Refused(self.rejections.reject(full))
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
        match self.slots.acquire() {
            Answer::Slot => {
                *hold = Hold::Slot;
                Admission::Admitted
            }
            Answer::Place(place) => self.wait(hold, place, context),
            Answer::Full => self.refuse(),
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
        let has_slot = ready!(wait.poll(turn.cx));
        let now = turn.now();
        let waited = now - wait.since;
        self.handles.queue_wait.record(waited);
        // The attempt begins when it has its slot. Until then it holds its place,
        // and with it a slot that it has become.
        context.begin_at(now);
        let late = context.left().is_some_and(|left| left.is_zero());
        if has_slot && !late {
            *hold = Hold::Slot;
            return Poll::Ready(Ok(()));
        }
        // The place, or a slot that has come too late.
        self.let_go(hold);
        Poll::Ready(Err(self.rejections.reject(if late {
            Rejection::DeadlineExceeded
        } else {
            Rejection::QueueTimeout { waited }
        })))
    }

    /// The slot is free again.
    #[inline]
    fn ended(&self, hold: &mut Hold, _: &Context, _: End<'_>, _: Over) {
        self.let_go(hold);
    }

    #[inline]
    fn let_go(&self, hold: &mut Hold) {
        match mem::take(hold) {
            Hold::Nothing => {}
            Hold::Slot => self.slots.release(),
            Hold::Place(wait) => self.slots.leave(wait.place),
        }
    }
}

/// What an attempt holds. To drop it gives nothing back: that would take a
/// pointer to the slots, and to count it costs more than the slot. The policy
/// gives back what is held, in [`Policy::ended`] or [`Policy::let_go`]: it is
/// told one or the other, whatever happens (`guard/watch.rs`).
#[derive(Debug, Default)]
pub enum Hold {
    /// Nothing: it has not asked, its method is exempt, or it is over.
    #[default]
    Nothing,
    /// One attempt's slot.
    Slot,
    /// A place in the queue. Boxed, as hardly any waits.
    Place(Box<Wait>),
}

/// Waiting for a slot. Slots go to those who came first.
#[derive(Debug)]
pub struct Wait {
    place: Place,
    since: Instant,
    until: Instant,
    /// Made at the first poll: there is a runtime then, and by then somebody
    /// sees to it that the place is given back.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn new(place: Place, queue_timeout: Duration, deadline: Option<Instant>) -> Self {
        let now = Instant::now();
        let until = now + queue_timeout;
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        Self {
            place,
            since: now,
            until,
            timer: None,
        }
    }

    /// Whether there is a slot, once that is so or the time to wait for one is
    /// over.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        if self.place.poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let until = self.until;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx).map(|()| false)
    }
}
