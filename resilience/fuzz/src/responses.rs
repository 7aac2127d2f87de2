//! Whatever an upstream answers, through the whole stack.
//!
//! A script says what comes back for the first attempt, after a line `---` for
//! the second, and so on; the last part counts for all further attempts.
//!
//! ```text
//! :status N      the HTTP status of the response head
//! name: value    a header of it
//! wait, break, reset, hang
//!                in place of a head, or before it
//! refuse         no connection
//! body           the head is sent; what follows is what the body does, as in
//!                `script.rs`
//! ```

use std::{
    cell::RefCell,
    future::pending,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{Attempts, Rejection, ResilienceConfig, ResilienceLayer, RetryStopped};
use tokio::time::{Instant, sleep};
use tonic::{ConnectError, GrpcMethod, Status, body::Body};
use tower::{BoxError, Layer as _, Service as _, service_fn};

use super::{
    books::Books,
    script::{self, Failure, Step, header, number, word},
    time::{in_virtual_time, ms},
};

const DEADLINE: Duration = Duration::from_secs(1);
/// Three, and a transparent one.
const ATTEMPTS_MAX: usize = 4;

/// What comes back for one attempt.
#[derive(Debug, Clone, Default)]
struct Reply {
    before: Vec<Before>,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<Step>,
}

/// What happens in place of a head, or before it.
#[derive(Debug, Clone)]
enum Before {
    Wait(Duration),
    Fail(Failure),
    Refuse,
    Hang,
}

impl Reply {
    fn read(lines: &[&[u8]]) -> Self {
        let mut reply = Self::default();
        let mut lines = lines.iter();
        for line in lines.by_ref() {
            if *line == b"body" {
                break;
            }
            reply.read_head(line);
        }
        for line in lines {
            if let Some(step) = Step::read(line) {
                reply.body.push(step);
            } else if let Some((name, value)) = header(line)
                && let Some(Step::Trailers(trailers)) = reply.body.last_mut()
            {
                trailers.append(name, value);
            }
        }
        reply
    }

    fn read_head(&mut self, line: &[u8]) {
        if let (b":status", text) = word(line) {
            let status = number(text).and_then(|status| u16::try_from(status).ok());
            if let Some(Ok(status)) = status.map(StatusCode::from_u16) {
                self.status = status;
            }
        } else if line == b"refuse" {
            self.before.push(Before::Refuse);
        } else if let Some((name, value)) = header(line) {
            self.headers.append(name, value);
        } else {
            match Step::read(line) {
                Some(Step::Wait(time)) => self.before.push(Before::Wait(time)),
                Some(Step::Fail(failure)) => self.before.push(Before::Fail(failure)),
                Some(Step::Hang) => self.before.push(Before::Hang),
                _ => {}
            }
        }
    }

    async fn answer(self) -> Result<Response<Body>, BoxError> {
        for event in self.before {
            match event {
                Before::Wait(time) => sleep(time).await,
                Before::Fail(failure) => return Err(failure.error()),
                Before::Refuse => {
                    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                    return Err(Box::new(ConnectError(refused.into())));
                }
                Before::Hang => pending().await,
            }
        }
        let mut response = Response::new(if self.body.is_empty() {
            Body::empty()
        } else {
            script::body(self.body)
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        Ok(response)
    }
}

/// Checks one script, for a unary method and for a streaming one.
pub fn check(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let replies: Vec<Reply> = lines
        .split(|line| *line == b"---")
        .map(Reply::read)
        .collect();
    for streaming in [false, true] {
        one_call(replies.clone(), streaming);
    }
}

fn one_call(replies: Vec<Reply>, streaming: bool) {
    let books = Books::default();
    let attempts = metrics::with_local_recorder(&books, || {
        let layer = ResilienceLayer::new("upstream", config(streaming)).expect("valid");
        let attempts = in_virtual_time(calls(&layer, replies, streaming));

        assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
        let spent = 20.0 - layer.budget_tokens();
        // A transparent retry is free.
        assert!((0.0..=attempts as f64).contains(&spent), "{spent}");
        attempts
    });
    for (name, expected) in [
        ("resilience_calls_total", 1),
        ("grpc_client_call_duration_seconds", 1),
        ("grpc_client_attempt_started_total", attempts),
        ("grpc_client_attempt_duration_seconds", attempts),
    ] {
        assert_eq!(books.total(name), expected as u64, "{name}");
    }
}

fn config(streaming: bool) -> ResilienceConfig {
    let mut config = ResilienceConfig {
        deadline: DEADLINE,
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        ..ResilienceConfig::default()
    };
    if streaming {
        config.streaming = user::METHODS.into();
    }
    config.retry.seed = Some(1);
    config.breaker.seed = Some(1);
    config
}

/// One call; the number of its attempts.
async fn calls(layer: &ResilienceLayer, replies: Vec<Reply>, streaming: bool) -> usize {
    let seen = Arc::new(AtomicUsize::new(0));
    let upstream = {
        let seen = Arc::clone(&seen);
        service_fn(move |_: Request<Body>| {
            let number = seen.fetch_add(1, Ordering::Relaxed);
            replies[number.min(replies.len() - 1)].clone().answer()
        })
    };
    let started = Instant::now();
    // As many as the caller is told of, where the caller is told.
    let told = Rc::new(RefCell::new(None));
    if streaming {
        let mut service = layer.layer(upstream);
        let mut request = Request::new(Body::empty());
        request
            .extensions_mut()
            .insert(GrpcMethod::new("user.UserService", "ValidateUser"));
        match service.call(request).await {
            Ok(response) => read(response).await,
            Err(status) => *told.borrow_mut() = attempts(&status),
        }
    } else {
        let mut client = UserServiceClient::new(layer.layer(upstream));
        let answer = client.validate_user(ValidateUserRequest::default()).await;
        *told.borrow_mut() = match &answer {
            Ok(reply) => {
                let attempts = Attempts::of(reply.extensions());
                Some(1 + attempts.retries + attempts.transparent)
            }
            Err(status) => attempts(status),
        };
    }

    // Timers count in milliseconds.
    let took = started.elapsed();
    assert!(took <= DEADLINE + ms(1), "{took:?}");
    let seen = seen.load(Ordering::Relaxed);
    assert!((1..=ATTEMPTS_MAX).contains(&seen), "{seen} attempts");
    if let Some(told) = *told.borrow() {
        assert_eq!(told as usize, seen);
    }
    seen
}

/// The attempts that `status` tells of.
fn attempts(status: &Status) -> Option<u32> {
    assert_eq!(Rejection::of(status), None, "nothing here is refused");
    RetryStopped::of(status).map(RetryStopped::attempts)
}

/// Reads a body to its end, which is trailers that say OK, or an error, unless
/// there is no body at all.
async fn read(response: Response<impl HttpBody<Data = Bytes, Error = Status> + Unpin>) {
    let mut body = response.into_body();
    if body.is_end_stream() {
        return;
    }
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        assert!(trailers.is_none(), "nothing follows trailers");
        match frame {
            Ok(frame) => trailers = frame.into_trailers().ok(),
            Err(_) => return,
        }
    }
    let trailers = trailers.expect("a body does not end without a word");
    assert_eq!(trailers["grpc-status"], "0");
}
