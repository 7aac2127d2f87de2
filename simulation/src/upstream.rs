//! The model of a server as a tower service, where a client has its channel.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tonic::{Code, ConnectError, Status, body::Body};
use tower_service::Service;

use crate::{
    recording::Recorder,
    server::{Answer, Condition, Server, Ticket},
};

/// What a transport may say.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A server in memory; clones reach the same one.
#[derive(Debug, Clone)]
pub struct Upstream {
    shared: Arc<Mutex<Shared>>,
    /// Is told of each attempt that comes this way.
    recorder: Option<Recorder>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    began: Instant,
    /// Who waits for an answer, by ticket.
    callers: Vec<Option<oneshot::Sender<Answer>>>,
    free: Vec<Ticket>,
    /// Kept, so that it need not be made for each step.
    answered: Vec<(Ticket, Answer)>,
    /// When the driver will look again, and how to have it look sooner.
    armed: Option<Duration>,
    driver: Option<Waker>,
}

impl Upstream {
    /// `server`, at the beginning of a run.
    #[must_use]
    pub fn new(server: Server, began: Instant) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                server,
                began,
                callers: Vec::new(),
                free: Vec::new(),
                answered: Vec::new(),
                armed: None,
                driver: None,
            })),
            recorder: None,
        }
    }

    /// The same server, seen by those whose attempts `recorder` counts.
    #[must_use]
    pub fn recorded(&self, recorder: &Recorder) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            recorder: Some(recorder.clone()),
        }
    }

    /// Requests that are being worked on, and that wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let shared = self.lock();
        (shared.server.busy(), shared.server.queued())
    }

    /// Has it answer in time, and has things befall it as `steps` say. To be run beside the
    /// clients, and to be dropped when they are done.
    pub async fn drive(self, steps: Vec<(Duration, Condition)>) {
        let mut steps = steps.into_iter().peekable();
        loop {
            let next = {
                let mut shared = self.lock();
                let now = shared.now();
                while let Some((at, condition)) = steps.next_if(|(at, _)| *at <= now) {
                    shared.advance(at);
                    tracing::debug!(%condition, "the server");
                    shared.server.befall(condition, at);
                }
                shared.advance(now);
                let event = shared.server.next_event();
                let step = steps.peek().map(|(at, _)| *at);
                shared.armed = [event, step].into_iter().flatten().min();
                shared.armed.map(|at| shared.began + at)
            };
            // Until then, or until something comes that will be over sooner.
            let mut sleep = next.map(|at| Box::pin(sleep_until(at)));
            poll_fn(|cx| {
                let mut shared = self.lock();
                if shared.armed.map(|at| shared.began + at) != next {
                    return Poll::Ready(());
                }
                shared.driver = Some(cx.waker().clone());
                drop(shared);
                match &mut sleep {
                    Some(sleep) => sleep.as_mut().poll(cx),
                    None => Poll::Pending,
                }
            })
            .await;
        }
    }

    /// Takes a request to the server, and says where its answer will be.
    fn send(&self, request: &Request<Body>) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let mut shared = self.lock();
        let now = shared.now();
        shared.advance(now);
        let ticket = shared.admit(sender);
        let timeout = request.headers().get("grpc-timeout").and_then(timeout);
        shared
            .server
            .arrive(ticket, timeout.map(|timeout| now + timeout), now);
        if let Some(recorder) = &self.recorder {
            recorder.attempt(now);
        }
        tracing::debug!(
            busy = shared.server.busy(),
            queued = shared.server.queued(),
            timeout = ?timeout.unwrap_or_default(),
            "sent"
        );
        let event = shared.server.next_event();
        if event.is_some() && (shared.armed.is_none() || event < shared.armed) {
            shared.armed = event;
            if let Some(driver) = shared.driver.take() {
                driver.wake();
            }
        }
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn admit(&mut self, caller: oneshot::Sender<Answer>) -> Ticket {
        if let Some(ticket) = self.free.pop() {
            self.callers[ticket as usize] = Some(caller);
            return ticket;
        }
        self.callers.push(Some(caller));
        Ticket::try_from(self.callers.len() - 1)
            .expect("a run has fewer requests than a u32 counts")
    }

    fn advance(&mut self, now: Duration) {
        self.server.advance(now, &mut self.answered);
        for (ticket, answer) in self.answered.drain(..) {
            if let Some(caller) = self.callers[ticket as usize].take() {
                // An error means that the caller has stopped waiting.
                let _ = caller.send(answer);
            }
            self.free.push(ticket);
        }
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.send(&request);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => response(answer),
                // The server lost it, and its connection stays as it is: silence.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

fn response(answer: Answer) -> Result<Response<Body>, BoxError> {
    tracing::debug!(?answer, "answered");
    Ok(match answer {
        Answer::Ok => {
            let mut response = Response::new(Body::new(Message::default()));
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, grpc);
            response
        }
        Answer::Unavailable => Status::new(Code::Unavailable, "simulated").into_http(),
        Answer::Exhausted => Status::new(Code::ResourceExhausted, "queue full").into_http(),
        Answer::Expired => Status::new(Code::DeadlineExceeded, "waited too long").into_http(),
        Answer::Refused => {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Err(Box::new(ConnectError(refused.into())));
        }
    })
}

/// A message of gRPC without a field set: not compressed, no bytes.
pub const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// The body of a right answer: a message, and trailers that say OK.
#[derive(Debug, Default)]
struct Message {
    frames: u8,
}

impl http_body::Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames += 1;
        Poll::Ready(match self.frames {
            1 => Some(Ok(Frame::data(EMPTY_MESSAGE))),
            2 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(trailers)))
            }
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.frames >= 2
    }
}

/// `grpc-timeout` as the specification of gRPC over HTTP/2 has it: up to 8 digits and a unit.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}
