//! What our layers know of a call, on its way down.

use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use crate::{
    deadline::Deadline,
    upstream::{MethodIndex, Upstream},
};

/// What is known of a call, or of one of its attempts.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// When the call, or below the retry layer the attempt, began. Each layer
    /// would have to ask the clock if it were not told.
    pub(crate) started: Instant,
    /// When the call must be over.
    pub(crate) deadline: Option<Instant>,
    /// Attempts before this one, and whether it repeats one that was not
    /// processed.
    pub(crate) previous_attempts: u32,
    pub(crate) transparent: bool,
    /// Its method, once somebody has looked. Layers of one stack are layers of
    /// one upstream, and only the first of them looks.
    method: Option<MethodIndex>,
}

impl Context {
    /// The same, of a further attempt, which begins at `started`.
    pub(crate) fn retry(self, started: Instant, previous_attempts: u32, transparent: bool) -> Self {
        Self {
            started,
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
        Some(Deadline(self.deadline?).remaining(self.started))
    }
}

/// A request that goes through our layers: an HTTP request, or an [`Envelope`].
///
/// Sealed: there are these two, and no others.
pub trait CallRequest: Sized + sealed::Sealed {
    /// The body of the request.
    type Body;

    #[doc(hidden)]
    fn context(&self) -> Context;
    #[doc(hidden)]
    fn set_context(&mut self, context: Context);
    #[doc(hidden)]
    fn request(&self) -> &Request<Self::Body>;
    #[doc(hidden)]
    fn request_mut(&mut self) -> &mut Request<Self::Body>;
    #[doc(hidden)]
    fn into_request(self) -> Request<Self::Body>;
    #[doc(hidden)]
    fn from_parts(request: Request<Self::Body>, context: Context) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for http::Request<R> {}
    impl<R> Sealed for super::Envelope<R> {}
}

/// Layers that are composed by hand find what they need among the extensions.
impl<R> CallRequest for Request<R> {
    type Body = R;

    fn context(&self) -> Context {
        Context {
            started: Instant::now(),
            deadline: Deadline::of(self.extensions()).map(|deadline| deadline.0),
            previous_attempts: 0,
            transparent: false,
            method: None,
        }
    }

    fn set_context(&mut self, context: Context) {
        let known = Deadline::of(self.extensions()).map(|deadline| deadline.0);
        if let Some(deadline) = context.deadline.filter(|at| known != Some(*at)) {
            self.extensions_mut().insert(Deadline(deadline));
        }
    }

    fn request(&self) -> &Request<R> {
        self
    }

    fn request_mut(&mut self) -> &mut Request<R> {
        self
    }

    fn into_request(self) -> Self {
        self
    }

    fn from_parts(mut request: Request<R>, context: Context) -> Self {
        CallRequest::set_context(&mut request, context);
        request
    }
}

/// A request with what is known of it beside it.
///
/// The layers of one stack hand this down. Among the extensions it would cost
/// an allocation, and a lookup in each layer.
#[derive(Debug)]
pub struct Envelope<R> {
    request: Request<R>,
    context: Context,
}

impl<R> Envelope<R> {
    /// A call that begins now, through layers of `upstream` alone.
    pub(crate) fn new(request: Request<R>, upstream: &Upstream) -> Self {
        let context = Context {
            method: Some(upstream.index_of(&request)),
            ..request.context()
        };
        Self { request, context }
    }
}

impl<R> CallRequest for Envelope<R> {
    type Body = R;

    fn context(&self) -> Context {
        self.context
    }

    fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    fn request(&self) -> &Request<R> {
        &self.request
    }

    fn request_mut(&mut self) -> &mut Request<R> {
        &mut self.request
    }

    fn into_request(self) -> Request<R> {
        self.request
    }

    fn from_parts(request: Request<R>, context: Context) -> Self {
        Self { request, context }
    }
}
