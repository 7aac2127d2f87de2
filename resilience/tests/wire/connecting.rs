//! No connection: nobody there, nobody who accepts, no such name, nobody left.

use std::{io, net::Ipv4Addr, time::Duration};

use resilience::{ConnectConfig, Delivery, TimedOut, TransportError};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    bench::{BUDGET, Bench, Counted, Settings, get},
    fault::{Act, At, Fault},
    server::Server,
};

/// Enough for a connection on the loopback, on a busy machine too.
const CONNECT: Duration = Duration::from_millis(200);

/// One call, of a method that is not idempotent, to what cannot be connected
/// to: it is tried as often as any, for nothing can have been acted on.
async fn assert_never_sent(mut bench: Bench) {
    let status = bench.call().await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(delivery(&status), Some(Delivery::NotSent), "{status:?}");
    assert_eq!(bench.attempts(), 4, "one of them transparent");
    assert_eq!(
        bench.counter("resilience_retries_stopped_total", "reason"),
        [("attempts".to_owned(), 1)]
    );
    assert_eq!(bench.budget_tokens(), BUDGET - 2.0);
    let counted = Counted {
        successes: 0,
        failures: 4,
    };
    assert_eq!(bench.counted().await, counted);
}

fn delivery(status: &Status) -> Option<Delivery> {
    TransportError::of(status).map(TransportError::delivery)
}

#[tokio::test]
async fn a1_nobody_there_is_unavailable_and_was_not_sent() {
    // Bound, so that nobody else gets the port; not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();

    assert_never_sent(Bench::new(
        socket.local_addr().unwrap(),
        &Settings::default(),
    ))
    .await;
}

#[tokio::test]
async fn a4_a_name_that_does_not_exist_is_unavailable_and_was_not_sent() {
    // Longer than a label can be, so that no server is asked.
    let url = format!("http://{}.invalid:1", "x".repeat(64));
    let channel = resilience::connect(&url, ConnectConfig::default()).unwrap();

    assert_never_sent(Bench::on(channel, &Settings::default())).await;
}

#[tokio::test]
async fn a9_nobody_who_accepts_is_unavailable_and_was_not_sent() {
    let blackhole = Blackhole::dig().await.unwrap();
    let mut settings = Settings::default();
    settings.connect.connect_timeout = CONNECT;

    assert_never_sent(Bench::new(
        blackhole.listener.local_addr().unwrap(),
        &settings,
    ))
    .await;
}

/// An attempt has less time than the connection: its timer is what ends it. A
/// call that was never sent looks like one that was, then; the connection goes
/// on being made for the calls to come.
#[tokio::test]
async fn a5_a_connection_that_takes_longer_than_the_attempt_has_ends_with_the_attempt() {
    let blackhole = Blackhole::dig().await.unwrap();
    let settings = Settings {
        idempotent: true,
        attempt_timeout: CONNECT,
        ..Settings::default()
    };
    let mut bench = Bench::new(blackhole.listener.local_addr().unwrap(), &settings);
    let status = bench.call().await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(TimedOut::of(&status).is_some(), "{status:?}");
    assert_eq!(bench.attempts(), 3);
}

/// tonic makes one connection after the other, one for each call that waits;
/// the calls do not wait for that.
#[tokio::test]
async fn a10_calls_that_queue_behind_a_connection_end_by_their_deadline() {
    let blackhole = Blackhole::dig().await.unwrap();
    let mut settings = Settings {
        deadline: Duration::from_millis(500),
        attempt_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    settings.connect.connect_timeout = CONNECT;
    let bench = Bench::new(blackhole.listener.local_addr().unwrap(), &settings);

    let began = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let mut client = bench.client();
        calls.spawn(async move { get(&mut client).await.unwrap_err().code() });
    }
    for code in calls.join_all().await {
        assert!(
            matches!(code, Code::Unavailable | Code::DeadlineExceeded),
            "{code:?}"
        );
    }
    // In tonic's order the last would have failed after a second.
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn k11_an_upstream_that_comes_back_is_used_again() {
    let server = Server::healthy(0);
    let address = server.address;
    let mut bench = Bench::new(address, &Settings::default());
    bench.call().await.unwrap();

    server.stop().await;
    let status = bench.call().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    let server = Server::healthy(address.port());
    bench.call().await.unwrap();
    assert_eq!(server.requests(), 1);
}

/// Plain tonic says UNKNOWN here, from `poll_ready`.
#[tokio::test]
async fn p2_a_channel_whose_runtime_is_gone_is_unavailable_and_sends_nothing() {
    let server = Server::healthy(0);
    let address = server.address.to_string();
    let channel = std::thread::spawn(move || orphan(&address)).join().unwrap();

    assert_never_sent(Bench::on(channel, &Settings::default())).await;
    assert_eq!(server.connections(), 0);
}

/// A channel whose runtime is gone.
fn orphan(address: &str) -> Channel {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    resilience::connect(address, ConnectConfig::default()).unwrap()
}

/// A port where connections are neither accepted nor refused.
struct Blackhole {
    listener: TcpListener,
    /// In the backlog, which they fill.
    _waiting: Vec<TcpStream>,
}

impl Blackhole {
    async fn dig() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(0)?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        // A backlog of 0 has room for one or two, by the system.
        for _ in 0..16 {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(stream) => waiting.push(stream?),
                Err(_) => {
                    return Ok(Self {
                        listener,
                        _waiting: waiting,
                    });
                }
            }
        }
        Err(io::Error::other("the backlog cannot be filled"))
    }
}

/// 500 calls a second for a time, and how many of them succeeded.
pub(crate) async fn calls(bench: &Bench, time: Duration) -> usize {
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(2));
    let began = Instant::now();
    while began.elapsed() < time {
        ticks.tick().await;
        let mut client = bench.client();
        calls.spawn(async move { get(&mut client).await.is_ok() });
    }
    calls.join_all().await.into_iter().filter(|ok| *ok).count()
}

/// The defaults, of a method that may be retried.
fn defaults() -> Settings {
    Settings {
        idempotent: true,
        deadline: Duration::from_secs(1),
        attempt_timeout: Duration::from_millis(250),
        ..Settings::default()
    }
}

/// Attempts in 3 s: those of the quarter of a second after which the circuit
/// opens, a call's two at once among them as nothing was sent; 20 that the
/// budget pays; then two to five probes a second. With the circuit forced closed
/// there are 3000.
const FEW: usize = 400;

/// tonic's channel tries to connect for each attempt that finds it without a
/// connection; so it is attempts that have to be few.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_hardly_called_once_the_circuit_is_open() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let bench = Bench::new(socket.local_addr().unwrap(), &defaults());

    assert_eq!(calls(&bench, Duration::from_secs(3)).await, 0);

    assert!(bench.attempts() < FEW, "{}", bench.attempts());
}

/// A proxy in front of nobody does this.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_accepts_and_closes_is_hardly_called_once_the_circuit_is_open() {
    let closes = Server::start(Fault::new(At::Accept, |_| vec![Act::Rst]));
    let bench = Bench::new(closes.address, &defaults());

    assert_eq!(calls(&bench, Duration::from_secs(3)).await, 0);

    assert!(bench.attempts() < FEW, "{}", bench.attempts());
    assert!(closes.connections() < FEW, "{}", closes.connections());
}

/// However often it has failed to connect, and with no circuit that could have
/// spared it the trouble. `connect/pace.rs` counts how often it tried.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_comes_back_after_a_storm_of_calls_is_found_at_once() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut bench = Bench::new(address, &defaults());
    bench.force_closed();
    assert_eq!(calls(&bench, Duration::from_millis(500)).await, 0);
    // Four attempts of one call in 40 ms are more than may try by now.
    let status = bench.call().await.unwrap_err();
    assert_eq!(delivery(&status), Some(Delivery::NotSent), "{status:?}");
    let mut spared = format!("{status:?}").contains("tried for in");
    for _ in 0..20 {
        spared |= format!("{:?}", bench.call().await).contains("tried for in");
    }
    assert!(spared, "every attempt tried to connect");

    drop(socket);
    let server = Server::healthy(address.port());
    let back = Instant::now();
    while bench.call().await.is_err() {
        // 20 ms, and the rest is for a busy machine.
        assert!(back.elapsed() < Duration::from_millis(500), "still lost");
    }
    assert_eq!(server.connections(), 1);
}
