//! `grpc-retry-pushback-ms`: the upstream says when to retry, or not to.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{ResilienceConfig, ResilienceLayer, RetryStopped, StopReason};
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tower::{Layer as _, service_fn};

use super::{
    script::message,
    time::{in_virtual_time, ms},
};

/// Long, for time costs nothing here: most values are within it.
const DEADLINE: Duration = Duration::from_secs(1000);

/// What the values ask for.
#[derive(Debug, PartialEq)]
enum Asked {
    Nothing,
    Wait(Duration),
    Stop,
}

/// gRFC A6 once more: one whole number of 32 bits is a delay when it is not
/// negative, and everything else is a no.
fn asked(values: &[HeaderValue]) -> Asked {
    let [value] = values else {
        return if values.is_empty() {
            Asked::Nothing
        } else {
            Asked::Stop
        };
    };
    let text = value.as_bytes().trim_ascii();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Asked::Stop;
    }
    let amount = digits.iter().fold(0_u64, |amount, digit| {
        amount
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    match amount {
        0 => Asked::Wait(Duration::ZERO),
        1..=2_147_483_647 if !negative => Asked::Wait(ms(amount)),
        _ => Asked::Stop,
    }
}

/// Checks the values, a line each, in the response head and in trailers.
pub fn check(input: &[u8]) {
    let values: Option<Vec<HeaderValue>> = input
        .split(|byte| *byte == b'\n')
        .map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let Some(values) = values else {
        return;
    };
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        for in_head in [true, false] {
            in_virtual_time(call(code, in_head, &values));
        }
    }
}

async fn call(code: Code, in_head: bool, values: &[HeaderValue]) {
    let mut refusal = HeaderMap::new();
    refusal.insert("grpc-status", (code as i32).into());
    for value in values {
        refusal.append("grpc-retry-pushback-ms", value.clone());
    }
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let upstream = service_fn(move |_: Request<Body>| {
        let mut seen = seen.lock().expect("nothing panics while it is held");
        seen.push(Instant::now());
        let first = seen.len() == 1;
        let response = answer(first.then_some(&refusal), in_head);
        async { Ok::<_, Infallible>(response) }
    });
    let mut config = ResilienceConfig {
        deadline: DEADLINE,
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        ..ResilienceConfig::default()
    };
    config.retry.seed = Some(1);
    let layer = ResilienceLayer::new("upstream", config).expect("valid");
    let mut client = UserServiceClient::new(layer.layer(upstream));
    let started = Instant::now();

    let answer = client.validate_user(ValidateUserRequest::default()).await;

    let attempts: Vec<Duration> = attempts
        .lock()
        .expect("nothing panics while it is held")
        .iter()
        .map(|at| at.duration_since(started))
        .collect();
    let stopped = answer
        .as_ref()
        .err()
        .and_then(RetryStopped::of)
        .map(RetryStopped::reason);
    match asked(values) {
        Asked::Wait(delay) if delay < DEADLINE => {
            assert!(answer.is_ok(), "{values:?}: {answer:?}");
            assert_eq!(attempts.len(), 2, "{values:?}");
            // Timers count in milliseconds.
            let late = attempts[1].checked_sub(delay);
            assert!(
                late.is_some_and(|late| late <= ms(1)),
                "{values:?}: {attempts:?}"
            );
        }
        asked => {
            let reason = match asked {
                Asked::Stop => StopReason::Pushback,
                Asked::Wait(_) => StopReason::Deadline,
                Asked::Nothing => unreachable!("there is at least one line"),
            };
            assert_eq!(attempts.len(), 1, "{values:?}");
            assert_eq!(stopped, Some(reason), "{values:?}");
            let status = answer.expect_err("it was refused");
            assert_eq!(status.code(), code, "{values:?}");
            assert!(started.elapsed() <= ms(1), "it is told so at once");
        }
    }
}

/// `refusal`, or what a good upstream says.
fn answer(refusal: Option<&HeaderMap>, in_head: bool) -> Response<Body> {
    let mut response = match refusal {
        Some(headers) if in_head => {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = headers.clone();
            response
        }
        _ => {
            let mut frames = Vec::new();
            let mut trailers = HeaderMap::new();
            match refusal {
                Some(refusal) => trailers.clone_from(refusal),
                None => {
                    frames.push(Ok::<_, Infallible>(Frame::data(message())));
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                }
            }
            frames.push(Ok(Frame::trailers(trailers)));
            Response::new(Body::new(StreamBody::new(futures_util::stream::iter(
                frames,
            ))))
        }
    };
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
