//! However long a server goes on, a call ends by its deadline; and a server
//! that has stopped is found out without one.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    ops::Range,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use proto::user::{UserRequest, user_service_client::UserServiceClient};
use resilience::{Delivery, TimedOut, TransportError};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, body::Body};
use tower::service_fn;

use crate::{
    bench::{Bench, Settings, get},
    fault::{Act, At, Fault, MESSAGE, head, healthy},
    frames::{data, flag, setting, settings},
    server::Server,
};

const DEADLINE: Duration = Duration::from_millis(300);

/// The time of its only attempt: a second would come too late.
const ATTEMPT: Duration = Duration::from_millis(290);

/// When such a call may end; most of it is for a busy machine.
const ENDS: Range<Duration> = ATTEMPT..Duration::from_millis(800);

/// Past this it never will.
const HANG: Duration = Duration::from_secs(3);

/// A call to a server that does this to every request ends when its time, or
/// the time of its only attempt, is up.
async fn assert_ends_by_the_deadline(acts: fn(u32) -> Vec<Act>) {
    let server = Server::start(Fault::new(At::Request, acts));
    let settings = Settings {
        idempotent: true,
        deadline: DEADLINE,
        attempt_timeout: ATTEMPT,
        ..Settings::default()
    };
    let bench = Bench::new(server.address, &settings);
    let mut client = bench.client();
    let began = Instant::now();
    // On a task of its own: one that never waits cannot be timed out.
    let call = tokio::spawn(async move { get(&mut client).await.unwrap_err() });
    let status = timeout(HANG, call).await.expect("it ends").unwrap();
    let took = began.elapsed();

    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(TimedOut::of(&status).is_some(), "{status:?}");
    assert!(ENDS.contains(&took), "{took:?}");
    assert_eq!(server.requests(), 1);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_by_the_deadline() {
    assert_ends_by_the_deadline(|_| Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_ends_by_the_deadline() {
    assert_ends_by_the_deadline(|id| {
        let byte = data(id, flag::NONE, &MESSAGE[..1]);
        vec![
            Act::Send(head(id, &[])),
            Act::Trickle(byte, Duration::from_millis(20)),
        ]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_ends_by_the_deadline() {
    assert_ends_by_the_deadline(|id| {
        vec![Act::Send(head(id, &[])), Act::Flood(MESSAGE.repeat(1_000))]
    })
    .await;
}

/// A network pauses now and then, and the timer has its chance. Here is none.
#[tokio::test]
async fn a_flood_that_never_pauses_ends_by_the_deadline_too() {
    let upstream = service_fn(|_: Request<Body>| async {
        let mut response = Response::new(Body::new(Endless(Instant::now() + HANG)));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        Ok::<_, Infallible>(response)
    });
    let settings = Settings {
        deadline: DEADLINE,
        attempt_timeout: ATTEMPT,
        ..Settings::default()
    };
    let bench = Bench::new((Ipv4Addr::LOCALHOST, 1).into(), &settings);
    let began = Instant::now();
    let status = UserServiceClient::new(bench.wrap(upstream))
        .get_user(UserRequest::default())
        .await
        .unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(ENDS.contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// Messages, always one more; an end, for the sake of the test.
struct Endless(Instant);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Frame::data(Bytes::from_static(MESSAGE));
        Poll::Ready((Instant::now() < self.0).then_some(Ok(frame)))
    }
}

/// The first call is answered, and the client told of a limit with it.
async fn assert_never_answered_after_the_first(limit: (u16, u32), seen: usize) {
    let first = AtomicBool::new(true);
    let limits = Fault::new(At::Request, move |id| {
        if first.swap(false, Ordering::SeqCst) {
            vec![Act::Send([settings(&[limit]), healthy(id)].concat())]
        } else {
            Vec::new()
        }
    });
    let server = Server::start(limits);
    let settings = Settings {
        idempotent: true,
        attempt_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    let mut bench = Bench::new(server.address, &settings);
    bench.call().await.unwrap();
    assert_eq!(server.requests(), 1);

    let status = bench.call().await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(TimedOut::of(&status).is_some(), "{status:?}");
    assert_eq!(bench.attempts(), 1 + 3);
    assert_eq!(server.requests(), 1 + seen);
    assert_eq!(bench.counted().await.failures, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_an_upstream_that_takes_no_streams_trips_the_breaker_unseen() {
    assert_never_answered_after_the_first((setting::MAX_CONCURRENT_STREAMS, 0), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_an_upstream_that_takes_no_bodies_trips_the_breaker() {
    assert_never_answered_after_the_first((setting::INITIAL_WINDOW_SIZE, 0), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_a_connection_without_a_pulse_is_given_up_before_the_attempt_is() {
    let mute = Fault::new(At::Request, |_| vec![Act::Mute]);
    let server = Server::start_for(mute, 1);
    let mut settings = Settings::default();
    settings.connect.keep_alive_interval = Duration::from_millis(100);
    settings.connect.keep_alive_timeout = Duration::from_millis(100);
    let mut bench = Bench::new(server.address, &settings);
    let status = bench.call().await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let delivery = TransportError::of(&status).map(TransportError::delivery);
    assert_eq!(delivery, Some(Delivery::Unknown), "{status:?}");
    assert_eq!(server.requests(), 1);

    // The next has a connection of its own.
    bench.call().await.unwrap();
    assert_eq!((server.requests(), server.connections()), (2, 2));
}
