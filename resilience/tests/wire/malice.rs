//! Servers that never stop: what they cost is bounded, in time and in memory.

use std::{fs, time::Duration};

use resilience::TimedOut;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tonic::{Code, Status};

use crate::{
    bench::{Bench, Settings, get},
    connecting::calls,
    fault::{Act, At, Fault, MESSAGE, head, healthy},
    frames::{
        Fields, block, data, flag, frame, headers, kind, reason, reset, setting, settings,
        window_update,
    },
    server::Server,
};

const MIB: usize = 1 << 20;

/// What a call may cost in memory, the other tests of this process included.
const MEMORY_MAX: usize = 192 * MIB;

/// How long the next call may take to be answered.
const RECOVERY_MAX: Duration = Duration::from_secs(3);

/// Past this it never will.
const HANG: Duration = Duration::from_secs(20);

/// Memory that this process has, where the system says so.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    pages.and_then(|pages| pages.parse().ok()).unwrap_or(0) * PAGE
}

/// The result of a call, and the time and the memory that it cost.
async fn cost<T: 'static>(call: JoinHandle<T>) -> (T, Duration, usize) {
    let (began, before, mut most) = (Instant::now(), resident(), 0);
    while !call.is_finished() {
        assert!(began.elapsed() < HANG, "it hangs");
        most = most.max(resident());
        sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    (call.await.unwrap(), took, most.saturating_sub(before))
}

/// One call to a server that does this to it, and the right thing to the next.
async fn one_call(name: &str, acts: fn(u32) -> Vec<Act>) -> (Status, Duration, usize) {
    const ATTEMPT: Duration = Duration::from_millis(700);
    let server = Server::start_for(Fault::new(At::Request, acts), 1);
    let attempt_timeout = ATTEMPT;
    let bench_settings = Settings {
        attempt_timeout,
        max_attempts: 1,
        ..Settings::default()
    };
    let mut bench = Bench::new(server.address, &bench_settings);
    let mut client = bench.client();
    let call = tokio::spawn(async move { get(&mut client).await.unwrap_err() });
    let (status, took, memory) = cost(call).await;

    println!(
        "{name}: {:?} after {took:?}, {} KiB poured, {} KiB taken",
        status.code(),
        server.poured() >> 10,
        memory >> 10
    );
    assert_eq!(bench.in_flight(), 0, "{name}");
    assert!(memory < MEMORY_MAX, "{name}: {memory}");
    // Who is not listened to any more gives up, or is given up.
    if took < ATTEMPT {
        // On a busy machine more calls may still meet the old connection.
        let mut answer = bench.call().await;
        let began = Instant::now();
        while answer.is_err() && began.elapsed() < RECOVERY_MAX {
            sleep(Duration::from_millis(20)).await;
            answer = bench.call().await;
        }
        answer.unwrap();
    }
    (status, took, server.poured())
}

/// A response head that goes on.
const HEAD: Fields<'_> = &[(":status", "200"), ("content-type", "application/grpc")];

/// A header block of some length.
fn some() -> Vec<u8> {
    block(&[("x-name", "a value of some length")]).repeat(100)
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_end_the_connection() {
    type Endless = (&'static str, fn(u32) -> Vec<Act>);
    let endless: [Endless; 4] = [
        ("a head", |id| {
            let begun = frame(kind::HEADERS, flag::NONE, id, &block(HEAD));
            let more = frame(kind::CONTINUATION, flag::NONE, id, &some());
            vec![Act::Send(begun), Act::Spew(more)]
        }),
        ("a head, by nothing at a time", |id| {
            let begun = frame(kind::HEADERS, flag::NONE, id, &block(HEAD));
            let more = frame(kind::CONTINUATION, flag::NONE, id, &[]);
            vec![Act::Send(begun), Act::Spew(more.repeat(1_000))]
        }),
        ("trailers", |id| {
            let begun = frame(kind::HEADERS, flag::END_STREAM, id, &some());
            let answer = [head(id, &[]), data(id, flag::NONE, MESSAGE), begun];
            let more = frame(kind::CONTINUATION, flag::NONE, id, &some());
            vec![Act::Send(answer.concat()), Act::Spew(more)]
        }),
        ("a body of nothing", |id| {
            let more = data(id, flag::NONE, &[]);
            vec![Act::Send(head(id, &[])), Act::Spew(more.repeat(1_000))]
        }),
    ];
    for (name, acts) in endless {
        let (status, took, poured) = one_call(name, acts).await;
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status:?}");
        assert!(took < Duration::from_millis(700), "{name}: {took:?}");
        assert!(poured < 16 * MIB, "{name}: {poured}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_never_end_cost_the_time_of_the_attempt_and_no_memory() {
    type Endless = (&'static str, fn(u32) -> Vec<Act>);
    let endless: [Endless; 6] = [
        ("early hints", |id| {
            let hint = headers(id, flag::NONE, &[(":status", "103"), ("link", "</x>")]);
            vec![Act::Spew(hint.repeat(100))]
        }),
        ("pings", |_| {
            let ping = frame(kind::PING, flag::NONE, 0, &[0; 8]);
            vec![Act::Spew(ping.repeat(1_000))]
        }),
        ("settings", |_| {
            let narrow = settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
            let wide = settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]);
            vec![Act::Spew([narrow, wide].concat().repeat(1_000))]
        }),
        ("window updates", |id| {
            vec![Act::Spew(window_update(id, 1).repeat(1_000))]
        }),
        ("what HTTP/2 does not know", |id| {
            vec![Act::Spew(
                frame(0xfa, flag::NONE, id, &[0; 100]).repeat(100),
            )]
        }),
        ("messages", |id| {
            vec![Act::Send(head(id, &[])), Act::Flood(MESSAGE.repeat(1_000))]
        }),
    ];
    for (name, acts) in endless {
        let (status, took, _) = one_call(name, acts).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{name}: {status:?}");
        assert!(TimedOut::of(&status).is_some(), "{name}: {status:?}");
        assert!(took < Duration::from_millis(2_000), "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_it_is_giant_is_not_waited_for() {
    let (status, took, poured) = one_call("a message of 4 GiB", |id| {
        let begun = [head(id, &[]), data(id, flag::NONE, b"\0\xff\xff\xff\xff")];
        // What was sent by hand is not counted by the flood.
        vec![Act::Send(begun.concat()), Act::Flood(vec![0; 16_000])]
    })
    .await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(took < Duration::from_millis(700), "{took:?}");
    assert!(poured < 16 * MIB, "{poured}");
}

/// The same whether the bytes make frames or parts of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_a_second_ends_by_the_deadline() {
    const DEADLINE: Duration = Duration::from_millis(2_500);
    const SECOND: Duration = Duration::from_secs(1);
    let trickles: [fn(u32) -> Vec<Act>; 3] = [
        |_| vec![Act::Trickle(vec![0], SECOND)],
        |id| {
            let byte = data(id, flag::NONE, &MESSAGE[..1]);
            vec![Act::Send(head(id, &[])), Act::Trickle(byte, SECOND)]
        },
        |id| {
            let answer = [head(id, &[]), data(id, flag::NONE, MESSAGE)];
            vec![Act::Send(answer.concat()), Act::Trickle(vec![0], SECOND)]
        },
    ];
    let mut calls = JoinSet::new();
    for acts in trickles {
        calls.spawn(async move {
            let server = Server::start(Fault::new(At::Request, acts));
            let settings = Settings {
                idempotent: true,
                deadline: DEADLINE,
                attempt_timeout: DEADLINE - Duration::from_millis(1),
                ..Settings::default()
            };
            let mut bench = Bench::new(server.address, &settings);
            let began = Instant::now();
            let status = bench.call().await.unwrap_err();
            (status, began.elapsed(), server.poured(), bench.in_flight())
        });
    }
    for (status, took, poured, in_flight) in calls.join_all().await {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(took < DEADLINE + Duration::from_millis(500), "{took:?}");
        assert!((2..100).contains(&poured), "{poured} bytes");
        assert_eq!(in_flight, 0);
    }
}

const MANY: usize = 10_000;

/// As many calls, fifty at a time, and how many succeeded.
async fn many_calls(bench: &Bench) -> usize {
    const CALLERS: usize = 50;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = bench.client();
        callers.spawn(async move {
            let mut succeeded = 0;
            for _ in 0..MANY / CALLERS {
                succeeded += usize::from(get(&mut client).await.is_ok());
            }
            succeeded
        });
    }
    callers.join_all().await.into_iter().sum()
}

fn resets_every_stream() -> Fault {
    Fault::answer(|stream| reset(stream, reason::INTERNAL_ERROR))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_that_are_reset_leave_nothing() {
    let server = Server::start_for(resets_every_stream(), MANY);
    let mut bench = Bench::new(server.address, &Settings::default());
    bench.force_closed();
    let before = resident();

    assert_eq!(many_calls(&bench).await, 0);

    let memory = resident().saturating_sub(before);
    println!("{} KiB, {} connections", memory >> 10, server.connections());
    assert!(memory < MEMORY_MAX, "{memory}");
    assert_eq!((server.requests(), bench.in_flight()), (MANY, 0));
    bench.call().await.unwrap();
    assert_eq!(server.connections(), 1, "it was good all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_streams_that_would_be_reset_few_are_opened() {
    let server = Server::start(resets_every_stream());
    let bench = Bench::new(server.address, &Settings::default());

    assert_eq!(calls(&bench, Duration::from_secs(2)).await, 0);

    // A quarter of a second to be sure, and a probe now and then.
    assert!(server.requests() < 300, "{}", server.requests());
}

/// Of one stream: none is left to be reset after the first.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_resets_of_a_stream_that_is_over_are_passed_over() {
    let resets = Fault::answer(|stream| {
        let reset = reset(stream, reason::CANCEL);
        [healthy(stream), reset.repeat(MANY)].concat()
    });
    let server = Server::start_for(resets, 3);
    let mut bench = Bench::new(server.address, &Settings::default());
    for _ in 0..6 {
        bench.call().await.unwrap();
    }
    assert_eq!(server.requests(), 6);
}

/// Ours, of attempts that time out.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_attempts_that_time_out_leave_nothing() {
    let server = Server::start_for(Fault::answer(|_| Vec::new()), MANY);
    let settings = Settings {
        attempt_timeout: Duration::from_millis(20),
        max_attempts: 1,
        ..Settings::default()
    };
    let bench = Bench::new(server.address, &settings);
    bench.force_closed();
    let before = resident();

    // On a busy machine, some are never seen, and leave an answer for others.
    let succeeded = many_calls(&bench).await;

    let memory = resident().saturating_sub(before);
    println!("{succeeded} succeeded, {} KiB", memory >> 10);
    assert!(succeeded < MANY / 2, "{succeeded}");
    assert!(memory < MEMORY_MAX, "{memory}");
    assert_eq!(bench.in_flight(), 0);
}
