//! A client as the simulation sees it: something that can be called, whatever layers it has.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header::CONTENT_TYPE};
use http_body_util::Full;
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::upstream::EMPTY_MESSAGE;

/// The method that is called; it is safe to repeat.
pub const METHOD: &str = "simulated.Upstream/Ask";

/// The future of a call.
pub type Call = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// Calls the upstream through whatever layers there are.
pub trait Caller: Send + Sync {
    /// Makes one call, to the last trailer of its answer.
    fn call(&self) -> Call;
}

/// A service of layers, as a [`Caller`].
#[derive(Clone)]
pub struct Through<S>(pub S);

impl<S: fmt::Debug> fmt::Debug for Through<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Through").field(&self.0).finish()
    }
}

impl<S, B> Caller for Through<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error = Status> + Send,
{
    fn call(&self) -> Call {
        let mut service = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let response = service.call(request()).await?;
            let mut body = pin!(response.into_body());
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                frame?;
            }
            Ok(())
        })
    }
}

/// A caller that tells when calls begin and end: what some policies must know.
pub struct Watched {
    inner: Box<dyn Caller>,
    begins: Box<dyn Fn() + Send + Sync>,
    ends: Arc<dyn Fn() + Send + Sync>,
}

impl Watched {
    /// `begins` and `ends` are called in the task of the call.
    pub fn new(
        inner: Box<dyn Caller>,
        begins: impl Fn() + Send + Sync + 'static,
        ends: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            begins: Box::new(begins),
            ends: Arc::new(ends),
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Caller for Watched {
    fn call(&self) -> Call {
        (self.begins)();
        let (call, ends) = (self.inner.call(), Arc::clone(&self.ends));
        Box::pin(async move {
            let result = call.await;
            ends();
            result
        })
    }
}

/// What a generated client sends for a unary call.
fn request() -> Request<Body> {
    let mut request = Request::new(Body::new(Full::new(EMPTY_MESSAGE)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_static("http://upstream/simulated.Upstream/Ask");
    let headers = request.headers_mut();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_for_the_method_that_is_declared_safe() {
        assert_eq!(request().uri().path(), format!("/{METHOD}"));
    }
}
