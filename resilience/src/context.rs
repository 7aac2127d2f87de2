//! What our layers know of a call, on its way down.

use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use crate::{
    deadline::Deadline,
    method::MethodName,
    upstream::{MethodIndex, Upstream},
};

/// What is known of a call, or of one of its attempts.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// When the call, or below the retry layer the attempt, began. Each layer
    /// would have to ask the clock if it were not told.
    pub(crate) started: Instant,
    /// What was left of the call at the start.
    left: Option<Duration>,
    /// Attempts before this one, and whether it repeats one that was not
    /// processed.
    pub(crate) previous_attempts: u32,
    pub(crate) transparent: bool,
    /// Its method, once somebody has looked. Layers of one stack are layers of
    /// one upstream, and only the first of them looks.
    method: Option<MethodIndex>,
    /// Whether what lies below is told by the extensions of the request.
    by_extensions: bool,
}

impl Context {
    /// Of a call that begins now, through the layers of `upstream` and no
    /// others: what is known goes down beside the request.
    #[inline]
    pub(crate) fn of_call<R>(request: &Request<R>, upstream: &Upstream) -> Self {
        let extensions = request.extensions();
        let generated = MethodName::generated(extensions);
        // Most requests have nothing else.
        let other = extensions.len() > usize::from(generated.is_some());
        Self {
            method: Some(upstream.index(request, generated)),
            by_extensions: false,
            ..Self::starting(other.then(|| Deadline::of(extensions)).flatten())
        }
    }

    /// Of a call, or an attempt, that comes to a layer which was composed by
    /// hand. The layers above are known by what is among the extensions.
    #[inline]
    pub(crate) fn of_layer<R>(request: &Request<R>) -> Self {
        Self::starting(Deadline::of(request.extensions()))
    }

    #[inline]
    fn starting(deadline: Option<Deadline>) -> Self {
        let started = Instant::now();
        Self {
            started,
            left: deadline.map(|deadline| deadline.remaining(started)),
            previous_attempts: 0,
            transparent: false,
            method: None,
            by_extensions: true,
        }
    }

    /// Tells what lies below. Within one stack there is no need, and among the
    /// extensions it would cost an allocation, and a lookup in each layer.
    #[inline]
    pub(crate) fn tell<R>(&self, request: &mut Request<R>) {
        if self.by_extensions
            && let Some(deadline) = self.deadline().map(Deadline)
            && Deadline::of(request.extensions()) != Some(deadline)
        {
            request.extensions_mut().insert(deadline);
        }
    }

    /// Whether the layers above, if there are any, were composed by hand.
    pub(crate) fn is_by_extensions(&self) -> bool {
        self.by_extensions
    }

    /// The same, of a further attempt, which begins at `started`.
    pub(crate) fn retry(self, started: Instant, previous_attempts: u32, transparent: bool) -> Self {
        Self {
            started,
            left: self.remaining(started),
            previous_attempts,
            transparent,
            ..self
        }
    }

    /// The method of `upstream` that `request` calls.
    #[inline]
    pub(crate) fn method<R>(&mut self, upstream: &Upstream, request: &Request<R>) -> MethodIndex {
        *self
            .method
            .get_or_insert_with(|| upstream.index_of(request))
    }

    /// The method, after somebody has looked.
    #[inline]
    pub(crate) fn known_method(&self) -> MethodIndex {
        self.method.unwrap_or(MethodIndex::OTHER)
    }

    /// What was left of the call when this began.
    #[inline]
    pub(crate) fn left(&self) -> Option<Duration> {
        self.left
    }

    /// When the call must be over.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.started + self.left?)
    }

    /// What is left of the call at `now`.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.started);
        Some(self.left?.saturating_sub(passed))
    }

    /// The call has `left`, from the start.
    #[inline]
    pub(crate) fn set_left(&mut self, left: Option<Duration>) {
        self.left = left;
    }

    /// The call has no more than `left`, from the start.
    pub(crate) fn shorten(&mut self, left: Option<Duration>) {
        self.left = [self.left, left].into_iter().flatten().min();
    }

    /// It begins later than was thought.
    pub(crate) fn begin_at(&mut self, now: Instant) {
        self.left = self.remaining(now);
        self.started = now;
    }
}
