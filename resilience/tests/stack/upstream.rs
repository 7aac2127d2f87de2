//! An upstream in memory: it does as it is told, and remembers what it saw.
//!
//! Nothing here crosses a socket, so the clock may be paused, and a second
//! takes no time.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use proto::user::{ValidateUserResponse, user_service_client::UserServiceClient};
use resilience::{Resilience, ResilienceConfig, ResilienceLayer};
use tokio::time::{Instant, sleep};
use tokio_stream::{StreamExt as _, iter, pending as pending_stream};
use tonic::{Code, ConnectError, Status, body::Body};
use tower::{BoxError, Layer as _, Service};

/// What the upstream does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers `valid = true`.
    Valid,
    /// Says `code` in the response head, with these headers.
    Head(Code, Vec<(&'static str, &'static str)>),
    /// Sends a head, and says `code` in the trailers, without a message.
    Trailers(Code),
    /// Sends a head and a message, and says `code` in the trailers.
    MessageThenTrailers(Code),
    /// Never answers.
    Hang,
    /// Sends a head, and then nothing.
    HangAfterHead,
    /// Sends a head and a message, and then nothing.
    HangAfterMessage,
    /// Cannot be connected to.
    Refused,
    /// The connection breaks while the call is in flight.
    Broken,
    /// Does the rest after a time.
    After(Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn code(code: Code) -> Self {
        Self::Head(code, Vec::new())
    }
}

/// What the upstream saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Script = Arc<dyn Fn(usize) -> Reply + Send + Sync>;

/// The upstream; a tower service where a channel would be.
#[derive(Clone)]
pub(crate) struct Upstream {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Does as `script` says; it is given the number of the request, from 0.
    pub(crate) fn new(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(Mutex::new(Arc::new(script))),
            seen: Arc::default(),
        }
    }

    /// Always does the same.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// Does these in order, and the last for ever.
    pub(crate) fn replies(replies: impl Into<Vec<Reply>>) -> Self {
        let replies = replies.into();
        Self::new(move |n| replies[n.min(replies.len() - 1)].clone())
    }

    /// From now on always does this.
    pub(crate) fn becomes(&self, reply: Reply) {
        *self.script.lock().unwrap() = Arc::new(move |_| reply.clone());
    }

    /// Everything it saw.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests it saw.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The time between each request and the next.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        let seen = self.seen();
        seen.windows(2).map(|two| two[1].at - two[0].at).collect()
    }

    /// What each request said of the attempts before it.
    pub(crate) fn previous_attempts(&self) -> Vec<Option<String>> {
        let said = |seen: &Seen| seen.headers.get("grpc-previous-rpc-attempts").cloned();
        let text = |value: HeaderValue| value.to_str().map(str::to_owned).unwrap();
        self.seen()
            .iter()
            .map(|seen| said(seen).map(text))
            .collect()
    }

    /// A generated client on the whole stack on this upstream.
    pub(crate) fn client(&self, config: ResilienceConfig) -> (Client, ResilienceLayer) {
        let layer = ResilienceLayer::new("upstream", config).unwrap();
        (UserServiceClient::new(layer.layer(self.clone())), layer)
    }
}

pub(crate) type Client = UserServiceClient<Resilience<Upstream>>;

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let path = parts.uri.path().to_owned();
            let number = {
                let mut seen = this.seen.lock().unwrap();
                seen.push(Seen {
                    at: Instant::now(),
                    path,
                    headers: parts.headers,
                    body,
                });
                seen.len() - 1
            };
            let script = Arc::clone(&this.script.lock().unwrap());
            answer(script(number)).await
        })
    }
}

async fn answer(mut reply: Reply) -> Result<Response<Body>, BoxError> {
    while let Reply::After(delay, then) = reply {
        sleep(delay).await;
        reply = *then;
    }
    Ok(match reply {
        Reply::Valid => valid(),
        Reply::Head(code, headers) => {
            let mut response = Response::new(Body::empty());
            let map = response.headers_mut();
            map.insert("content-type", "application/grpc".parse()?);
            map.insert("grpc-status", (code as i32).into());
            for (name, value) in headers {
                map.append(name, value.parse()?);
            }
            response
        }
        Reply::Trailers(code) => body(vec![trailers(code)], false),
        Reply::MessageThenTrailers(code) => body(vec![message(), trailers(code)], false),
        Reply::Hang => pending().await,
        Reply::HangAfterHead => body(vec![], true),
        Reply::HangAfterMessage => body(vec![message()], true),
        Reply::Refused => {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Err(Box::new(ConnectError(refused.into())));
        }
        Reply::Broken => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        Reply::After(..) => unreachable!("taken apart above"),
    })
}

/// A right answer.
pub(crate) fn valid() -> Response<Body> {
    body(vec![message(), trailers(Code::Ok)], false)
}

fn body(frames: Vec<Frame<Bytes>>, then_hang: bool) -> Response<Body> {
    let frames = iter(frames.into_iter().map(Ok::<_, Infallible>));
    let body = if then_hang {
        Body::new(StreamBody::new(frames.chain(pending_stream())))
    } else {
        Body::new(StreamBody::new(frames))
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn message() -> Frame<Bytes> {
    let reply = ValidateUserResponse {
        valid: true,
        ..Default::default()
    }
    .encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(reply.len()).unwrap().to_be_bytes());
    framed.extend(reply);
    Frame::data(framed.into())
}

fn trailers(code: Code) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    Status::new(code, "").add_header(&mut trailers).unwrap();
    Frame::trailers(trailers)
}
