//! Cases of gRFC A6 that need a connection. The rest are in `tests/stack/a6`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use resilience::RetryStopped;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::{
    bench::{Bench, Settings, get},
    fault::{Act, At, Fault, head, healthy, message, only_head},
    frames::{reason, reset, setting, settings},
    server::Server,
};

/// Past this it never will.
const HANG: Duration = Duration::from_secs(5);

/// Waits until it is so.
#[track_caller]
fn until(so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let from = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < HANG, "it never was so at {from}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Streams of a client are odd.
#[tokio::test(flavor = "multi_thread")]
async fn x01_a_refused_stream_is_opened_again_once_without_a_policy_of_retries() {
    let server = Server::start(Fault::new(At::Request, |stream| match stream {
        1 | 5 | 11 | 15 => vec![Act::Send(healthy(stream))],
        _ => vec![Act::Send(reset(stream, reason::REFUSED_STREAM))],
    }));
    let settings = Settings {
        max_attempts: 1,
        ..Settings::default()
    };
    let mut bench = Bench::new(server.address, &settings);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let before = server.requests();
        let result = bench.call().await;
        let code = result.map_or_else(|status| status.code(), |_| Code::Ok);
        seen.push((code, server.requests() - before));
    }
    assert_eq!(
        seen,
        [
            (Code::Ok, 1),
            (Code::Ok, 2),
            (Code::Unavailable, 2),
            (Code::Ok, 1),
            (Code::Ok, 2),
            (Code::Unavailable, 2),
        ]
    );
}

/// gRPC has its streams in its own hands, and knows that the second was never
/// opened. hyper does not always tell, so the method has to be idempotent.
#[tokio::test(flavor = "multi_thread")]
async fn x06_a_call_that_waits_for_a_stream_when_the_connection_ends_is_made_again() {
    let one = settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    let requests = AtomicUsize::new(0);
    let server = Server::start(Fault::new(At::Request, move |stream| {
        match requests.fetch_add(1, Ordering::SeqCst) {
            0 => vec![Act::Send([&*one, &healthy(stream)].concat())],
            1 => vec![Act::Pause(Duration::from_millis(100)), Act::Rst],
            _ => vec![Act::Send(healthy(stream))],
        }
    }));
    let settings = Settings {
        idempotent: true,
        ..Settings::default()
    };
    let mut bench = Bench::new(server.address, &settings);
    bench.call().await.unwrap();

    let mut clients = [bench.client(), bench.client()];
    let [first, second] = &mut clients;
    let (first, second) = tokio::join!(get(first), get(second));

    first.unwrap();
    second.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn x07_a_retry_that_waits_for_a_stream_may_be_cancelled() {
    let one = settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    let requests = AtomicUsize::new(0);
    let server = Server::start(Fault::new(At::Request, move |stream| {
        match requests.fetch_add(1, Ordering::SeqCst) {
            // The limit, and a reason to come again in a moment...
            0 => {
                let fields = [("grpc-status", "14"), ("grpc-retry-pushback-ms", "200")];
                vec![Act::Send([&*one, &only_head(stream, &fields)].concat())]
            }
            // ...and by then the only stream is taken.
            _ => Vec::new(),
        }
    }));
    let settings = Settings {
        idempotent: true,
        ..Settings::default()
    };
    let bench = Bench::new(server.address, &settings);
    let mut client = bench.client();
    let retried = tokio::spawn(async move { get(&mut client).await });
    until(|| server.requests() == 1).await;
    let mut client = bench.client();
    let holds = tokio::spawn(async move { get(&mut client).await });
    until(|| bench.attempts() == 3).await;

    assert_eq!(server.requests(), 2, "the retry waits");
    retried.abort();
    assert!(retried.await.unwrap_err().is_cancelled());
    assert_eq!(bench.in_flight(), 1);
    holds.abort();
    assert!(holds.await.unwrap_err().is_cancelled());
    assert_eq!(bench.in_flight(), 0);

    // h2 may open the stream that was waited for, only to reset it.
    let cancelled = [3, 5].map(|stream| (stream, reason::CANCEL));
    until(|| server.resets().contains(&cancelled[0])).await;
    let resets = server.resets();
    assert!(
        resets.iter().all(|reset| cancelled.contains(reset)),
        "{resets:?}"
    );
    assert!(server.requests() <= 3, "{}", server.requests());
    assert_eq!(server.connections(), 1);
}

/// Before the head, after it, and after the message.
#[tokio::test(flavor = "multi_thread")]
async fn d03_a_call_that_is_dropped_tells_the_upstream_so() {
    let parts: [fn(u32) -> Vec<u8>; 3] = [
        |_| Vec::new(),
        |stream| head(stream, &[]),
        |stream| [head(stream, &[]), message(stream)].concat(),
    ];
    for part in parts {
        let server = Server::start(Fault::answer(part));
        let settings = Settings {
            idempotent: true,
            ..Settings::default()
        };
        let bench = Bench::new(server.address, &settings);
        let mut client = bench.client();
        let call = timeout(Duration::from_millis(200), get(&mut client)).await;

        assert!(call.is_err(), "{call:?}");
        until(|| server.resets() == [(1, reason::CANCEL)]).await;
        assert_eq!((server.requests(), bench.in_flight()), (1, 0));
    }
}

/// An attempt that timed out is not left running beside its retry.
#[tokio::test(flavor = "multi_thread")]
async fn d06_an_attempt_that_timed_out_is_reset_before_the_next_is_sent() {
    let server = Server::start(Fault::answer(|_| Vec::new()));
    let settings = Settings {
        idempotent: true,
        attempt_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut bench = Bench::new(server.address, &settings);

    let status = bench.call().await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(RetryStopped::of(&status).unwrap().attempts(), 3);
    let cancelled = [1, 3, 5].map(|stream| (stream, reason::CANCEL));
    until(|| server.resets() == cancelled).await;
}
