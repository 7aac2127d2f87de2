//! `grpc-timeout`: on a server, and on a client whose caller sets it.

use std::{convert::Infallible, future::pending, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response};
use resilience::{
    Deadline, InboundDeadlineLayer, Rejection, ResilienceConfig, Scope, TimedOut, Upstream,
    layers::{AttemptTimeoutLayer, DeadlineLayer, EdgeLayer},
};
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

use super::time::{in_virtual_time, ms};

/// The deadline of the client: what counts when the header says nothing.
const DEADLINE: Duration = Duration::from_secs(10);
/// Its attempt timeout.
const ATTEMPT: Duration = Duration::from_secs(9);
/// Timers count in milliseconds, and round up.
const TICK: Duration = Duration::from_millis(1);
/// A longer timeout than this is passed over by a client.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The rule of gRPC over HTTP/2, written down once more: one to eight digits
/// and a unit.
fn expected(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let mut amount = 0_u32;
    for digit in digits {
        amount = amount * 10 + char::from(*digit).to_digit(10)?;
    }
    let nanos: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    // 99,999,999 hours are more nanoseconds than 64 bits hold.
    let nanos = u128::from(nanos) * u128::from(amount);
    let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Some(Duration::new(
        u64::try_from(secs).expect("99,999,999 hours of seconds fit"),
        u32::try_from(rest).expect("less than a second"),
    ))
}

/// Checks one value.
pub fn check(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    let expected = expected(input);
    in_virtual_time(async {
        on_a_server(&value, expected).await;
        on_a_client(&value, expected).await;
    });
}

/// The handler is told exactly the time that the caller gives.
async fn on_a_server(value: &HeaderValue, expected: Option<Duration>) {
    let handler = service_fn(|request: Request<()>| async move {
        let deadline = Deadline::of(request.extensions());
        let left = deadline.map(|deadline| deadline.remaining(Instant::now()));
        Ok::<_, Infallible>(Response::new(left))
    });
    let mut request = Request::new(());
    request.headers_mut().insert("grpc-timeout", value.clone());

    let response = InboundDeadlineLayer.layer(handler).oneshot(request).await;

    let told = response.expect("infallible").into_body();
    assert_eq!(told, expected, "{value:?}");
}

/// The call ends when it says, or by the configured deadline, and the upstream
/// is told no more than is left.
async fn on_a_client(value: &HeaderValue, expected: Option<Duration>) {
    let left = expected
        .filter(|timeout| *timeout <= YEAR)
        .map_or(DEADLINE, |timeout| timeout.min(DEADLINE));
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hangs = service_fn(move |request: Request<Body>| {
        sender
            .send(request.headers().clone())
            .expect("the receiver lives");
        pending::<Result<Response<Body>, Infallible>>()
    });
    let config = ResilienceConfig {
        deadline: DEADLINE,
        attempt_timeout: ATTEMPT,
        ..ResilienceConfig::default()
    };
    let upstream = Upstream::new("upstream", config).expect("valid");
    let mut service = DeadlineLayer::new(&upstream)
        .layer(AttemptTimeoutLayer::new(&upstream).layer(EdgeLayer.layer(hangs)));
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("grpc-timeout", value.clone());
    let started = Instant::now();

    let status = service.call(request).await.expect_err("it hangs");

    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    if left.is_zero() {
        assert_eq!(
            Rejection::of(&status),
            Some(&Rejection::DeadlineExceeded),
            "{value:?}"
        );
        assert!(told.try_recv().is_err(), "nothing is sent");
        return;
    }
    let time = left.min(ATTEMPT);
    assert!(
        (time..=time + TICK).contains(&took),
        "{value:?}: {took:?} of {time:?}"
    );
    let scope = TimedOut::of(&status).map(|timed_out| timed_out.scope);
    let wanted = if left < ATTEMPT {
        Scope::Call
    } else {
        Scope::Attempt
    };
    assert_eq!(scope, Some(wanted));
    let headers: HeaderMap = told.try_recv().expect("it was sent");
    assert_eq!(headers.get_all("grpc-timeout").iter().count(), 1);
    let told = super::grpc_timeout::expected(headers["grpc-timeout"].as_bytes());
    let told = told.expect("what is sent is well formed");
    assert!(
        told <= time && time - told < ms(1),
        "{value:?}: {told:?} of {time:?}"
    );
}
