//! Circuit breakers that are no tower layers: failsafe and recloser.
//!
//! Each wraps a future that makes the call when it is polled. Both settle with
//! the future, which is when the response head is there.

use std::time::Duration;

use failsafe::{Config, backoff, failure_policy, futures::CircuitBreaker as _};
use http::{Request, Response};
use recloser::{AsyncRecloser, Recloser};
use tonic::{Status, body::Body};
use tower_service::Service as _;

use crate::{
    rows::{Call, ONCE, Row, Table},
    work::{Tiny, drive},
};

/// Longer than anybody measures.
const LONG: Duration = Duration::from_secs(3600);

/// failsafe as it comes: a success rate over a window, or five in a row.
pub(crate) fn failsafe_default() -> impl failsafe::futures::CircuitBreaker + Clone + Send + 'static
{
    Config::new().build()
}

/// failsafe at its cheapest: failures in a row, and no clock.
pub(crate) fn failsafe_consecutive(
    failures: u32,
) -> impl failsafe::futures::CircuitBreaker + Clone + Send + 'static {
    let policy = failure_policy::consecutive_failures(failures, backoff::constant(LONG));
    Config::new().failure_policy(policy).build()
}

pub(crate) fn recloser_default() -> AsyncRecloser {
    Recloser::default().into()
}

/// The call that is guarded; made when it is polled, of a request that is there
/// before.
pub(crate) async fn call(mut tiny: Tiny, request: Request<Body>) -> Result<Response<Body>, Status> {
    tiny.call(request).await
}

fn failsafe_closed(breaker: impl failsafe::futures::CircuitBreaker + 'static) -> Call {
    Box::new(move || {
        assert!(drive(breaker.call(call(Tiny::succeeding(), Tiny::request()))).is_ok())
    })
}

fn failsafe_open() -> Call {
    let breaker = failsafe_consecutive(1);
    assert!(drive(breaker.call(call(Tiny::failing(), Tiny::request()))).is_err());
    Box::new(move || {
        let refused = drive(breaker.call(call(Tiny::succeeding(), Tiny::request())));
        assert!(matches!(refused, Err(failsafe::Error::Rejected)));
    })
}

fn recloser_open() -> Call {
    let breaker = Recloser::custom()
        .error_rate(0.5)
        .closed_len(1)
        .open_wait(LONG)
        .build();
    let breaker = AsyncRecloser::from(breaker);
    // Its ring has to be full before it looks.
    for _ in 0..2 {
        assert!(drive(breaker.call(call(Tiny::failing(), Tiny::request()))).is_err());
    }
    Box::new(move || {
        let refused = drive(breaker.call(call(Tiny::succeeding(), Tiny::request())));
        assert!(matches!(refused, Err(recloser::Error::Rejected)));
    })
}

pub(super) fn rows() -> Vec<Row> {
    let closed = |id, title, make| Row {
        table: Table::Breaker,
        id,
        over: Some("tiny"),
        title,
        manners: ONCE,
        make,
    };
    let open = |id, title, make| Row {
        table: Table::Refusal,
        id,
        over: Some("request"),
        title,
        manners: ONCE,
        make,
    };
    vec![
        closed("failsafe-closed", "failsafe, default policy", |_| {
            failsafe_closed(failsafe_default())
        }),
        closed(
            "failsafe-consecutive-closed",
            "failsafe, failures in a row",
            |_| failsafe_closed(failsafe_consecutive(5)),
        ),
        closed("recloser-closed", "recloser", |_| {
            let breaker = recloser_default();
            Box::new(move || {
                assert!(drive(breaker.call(call(Tiny::succeeding(), Tiny::request()))).is_ok())
            })
        }),
        open("failsafe-open", "failsafe", |_| failsafe_open()),
        open("recloser-open", "recloser", |_| recloser_open()),
    ]
}
