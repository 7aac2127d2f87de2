//! Methods that stream, through the stack, to a tonic server over a real
//! socket: one test for each kind, and what only a socket shows.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

mod feed;

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use feed::{Ask, CHAT, FeedClient, FeedServer, Note, UPLOAD, WATCH, ask, note};
use resilience::{
    BreakerState, ConnectConfig, InboundDeadlineLayer, MethodConfig, Resilience, ResilienceConfig,
    ResilienceLayer, TimeLimit,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Code, Request, Status, Streaming,
    service::interceptor::InterceptedService,
    transport::{Channel, Server},
};
use tower::Layer as _;

const MS: Duration = Duration::from_millis(1);

/// A server, gone when it is dropped.
struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(feed: FeedServer) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        Server::builder()
            .layer(InboundDeadlineLayer)
            .add_service(feed)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Running { address, task }
}

fn channel(address: SocketAddr) -> Channel {
    resilience::connect(&address.to_string(), ConnectConfig::default()).unwrap()
}

/// The defaults, and no limits for what may go on for long.
fn stack() -> ResilienceLayer {
    let endless = MethodConfig {
        deadline: TimeLimit::None,
        attempt_timeout: TimeLimit::None,
        ..MethodConfig::default()
    };
    let overrides = [WATCH, UPLOAD, CHAT].map(|method| (method.to_owned(), endless.clone()));
    ResilienceLayer::new(
        "feed",
        ResilienceConfig {
            idempotent: [WATCH, UPLOAD].into(),
            streaming: [WATCH, CHAT].into(),
            overrides: overrides.into(),
            ..ResilienceConfig::default()
        },
    )
    .unwrap()
}

fn client(server: &Running) -> (FeedClient<Resilience<Channel>>, ResilienceLayer) {
    let layer = stack();
    (FeedClient::new(layer.layer(channel(server.address))), layer)
}

/// Answers every message with itself.
fn echo() -> FeedServer {
    FeedServer::new(|asks: Request<Streaming<Ask>>| async {
        Ok(asks
            .into_inner()
            .map(|ask| ask.map(|ask| note(ask.user_id))))
    })
}

/// Waits until it is so.
async fn until(so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < 5_000 * MS, "it never was so");
        sleep(MS).await;
    }
}

#[tokio::test]
async fn the_first_message_of_a_server_stream_does_not_wait_for_the_second() {
    let server = serve(FeedServer::new(|_| async {
        let second = tokio_stream::once(()).then(|()| async {
            sleep(1_500 * MS).await;
            Ok(note("second"))
        });
        Ok(tokio_stream::once(Ok(note("first"))).chain(second))
    }))
    .await;
    let (mut client, layer) = client(&server);
    let start = Instant::now();

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    let first = notes.message().await.unwrap().unwrap();

    assert_eq!(first.user_name, "first");
    assert!(start.elapsed() < 1_000 * MS, "{:?}", start.elapsed());
    let second = notes.message().await.unwrap().unwrap();
    assert_eq!(second.user_name, "second");
    assert_eq!(layer.in_flight(), 1);
    assert_eq!(notes.message().await.unwrap(), None);
    assert!(
        start.elapsed() >= 1_500 * MS,
        "longer than the default deadline"
    );
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test]
async fn a_client_stream_arrives_whole_and_in_order() {
    let server = serve(FeedServer::new(|request: Request<Streaming<Ask>>| async {
        let mut asks = request.into_inner();
        let mut all = String::new();
        while let Some(ask) = asks.message().await? {
            all.push_str(&ask.user_id);
        }
        Ok(tokio_stream::once(Ok(note(all))))
    }))
    .await;
    let (mut client, layer) = client(&server);
    let letters = tokio_stream::iter('a'..='z').then(|letter| async move {
        sleep(2 * MS).await;
        ask(letter)
    });

    let reply = client.upload(letters).await.unwrap();

    assert_eq!(reply.into_inner().user_name, "abcdefghijklmnopqrstuvwxyz");
    assert_eq!(layer.in_flight(), 0);
}

/// What cannot be encoded resets the stream, from this side.
#[tokio::test]
async fn a_streamed_request_that_fails_here_is_not_held_against_the_upstream() {
    let server = serve(FeedServer::new(|request: Request<Streaming<Ask>>| async {
        let mut asks = request.into_inner();
        while asks.message().await?.is_some() {}
        Ok(tokio_stream::once(Ok(note("all"))))
    }))
    .await;
    let (client, layer) = client(&server);
    let mut client = client.sends_at_most(8);
    for _ in 0..60 {
        let asks = tokio_stream::iter(["short", "much too long"]).then(|text| async move {
            sleep(MS).await;
            ask(text)
        });
        let status = client.upload(asks).await.unwrap_err();
        assert_eq!(status.code(), Code::Cancelled, "{status}");
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test]
async fn a_caller_may_wait_for_the_head_before_it_asks_and_the_server_for_each_question() {
    let server = serve(echo()).await;
    let (mut client, layer) = client(&server);
    let (sender, asks) = mpsc::channel(1);

    let mut notes = client
        .chat(ReceiverStream::new(asks))
        .await
        .unwrap()
        .into_inner();
    for round in 0..50 {
        sender.send(ask(round.to_string())).await.unwrap();
        let note = notes.message().await.unwrap().unwrap();
        assert_eq!(note.user_name, round.to_string());
    }
    drop(sender);
    assert_eq!(notes.message().await.unwrap(), None);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test]
async fn compressed_streams_pass_in_both_directions_and_are_replayed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let server = serve(FeedServer::new(move |request: Request<Streaming<Ask>>| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                return Err(Status::unavailable("not yet"));
            }
            assert_eq!(request.metadata().get("grpc-encoding").unwrap(), "gzip");
            let mut asks = request.into_inner();
            let mut notes = Vec::new();
            while let Some(ask) = asks.message().await? {
                notes.push(Ok(note(ask.user_id)));
            }
            Ok(tokio_stream::iter(notes))
        }
    }))
    .await;
    let (client, _) = client(&server);
    let mut client = client.gzip();

    let long = "x".repeat(10_000);
    let response = client.watch(ask(long.clone())).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
    let mut notes = response.into_inner();
    assert_eq!(notes.message().await.unwrap().unwrap().user_name, long);
    assert_eq!(notes.message().await.unwrap(), None);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one was made again");

    let many: Vec<_> = (0..100).map(|n| ask(format!("{n}{long}"))).collect();
    let mut notes = client
        .chat(tokio_stream::iter(many))
        .await
        .unwrap()
        .into_inner();
    for n in 0..100 {
        let note = notes.message().await.unwrap().unwrap();
        assert_eq!(note.user_name, format!("{n}{long}"));
    }
    assert_eq!(notes.message().await.unwrap(), None);
}

#[tokio::test]
async fn interceptors_outside_and_inside_see_a_stream_once_per_call_and_per_attempt() {
    let failed = AtomicBool::new(false);
    let server = serve(FeedServer::new(move |request: Request<Streaming<Ask>>| {
        let fail = !failed.swap(true, Ordering::SeqCst);
        async move {
            let metadata = request.metadata();
            let all = |name| metadata.get_all(name).iter().count();
            assert_eq!((all("x-outside"), all("x-inside")), (1, 1));
            if fail {
                return Err(Status::unavailable("not yet"));
            }
            Ok(tokio_stream::once(Ok(note("hello"))))
        }
    }))
    .await;
    let count = |name: &'static str| {
        let times = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&times);
        let adds = move |mut request: Request<()>| {
            counter.fetch_add(1, Ordering::SeqCst);
            request.metadata_mut().append(name, "1".parse().unwrap());
            Ok(request)
        };
        (times, adds)
    };
    let (inside, adds) = count("x-inside");
    let intercepted = InterceptedService::new(channel(server.address), adds);
    let (outside, adds) = count("x-outside");
    let resilient = InterceptedService::new(stack().layer(intercepted), adds);
    let mut client = FeedClient::new(resilient);

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();

    assert_eq!(notes.message().await.unwrap().unwrap().user_name, "hello");
    assert_eq!(notes.message().await.unwrap(), None);
    let times = (
        outside.load(Ordering::SeqCst),
        inside.load(Ordering::SeqCst),
    );
    assert_eq!(times, (1, 2));
}

/// Always has one more message, and tells how many it made, and its end.
struct Endless {
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
    message: Note,
}

impl Stream for Endless {
    type Item = Result<Note, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.made.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(self.message.clone())))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_read_stops_the_server_and_one_who_leaves_ends_it() {
    const MESSAGE: usize = 64 << 10;
    // The windows of a connection and of a stream, and what lies in sockets.
    const BUFFERED_MAX: usize = 32 << 20;
    let made = Arc::new(AtomicUsize::new(0));
    let dropped = Arc::new(AtomicBool::new(false));
    let server = {
        let (made, dropped) = (Arc::clone(&made), Arc::clone(&dropped));
        serve(FeedServer::new(move |_| {
            let endless = Endless {
                made: Arc::clone(&made),
                dropped: Arc::clone(&dropped),
                message: note("x".repeat(MESSAGE)),
            };
            async { Ok(endless) }
        }))
        .await
    };
    let (mut client, layer) = client(&server);
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    notes.message().await.unwrap().unwrap();

    // It makes what the windows take, and then no more.
    let mut before = 0;
    let stalled = loop {
        sleep(200 * MS).await;
        let now = made.load(Ordering::SeqCst);
        assert!(now * MESSAGE < BUFFERED_MAX, "{now} messages ahead");
        if now == before {
            break now;
        }
        before = now;
    };
    println!(
        "{stalled} messages, {} KiB ahead",
        (stalled * MESSAGE) >> 10
    );

    // Read on, it goes on.
    for _ in 0..2 * stalled {
        notes.message().await.unwrap().unwrap();
    }
    assert!(made.load(Ordering::SeqCst) > 2 * stalled);
    assert_eq!(layer.in_flight(), 1);

    drop(notes);
    assert_eq!(layer.in_flight(), 0);
    until(|| dropped.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_handler_that_fails_in_the_middle_is_heard_at_the_end_of_what_it_sent() {
    let server = serve(FeedServer::new(|_| async {
        Ok(tokio_stream::iter([
            Ok(note("one")),
            Ok(note("two")),
            Err(Status::data_loss("torn")),
        ]))
    }))
    .await;
    let (mut client, layer) = client(&server);
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    for text in ["one", "two"] {
        assert_eq!(notes.message().await.unwrap().unwrap().user_name, text);
    }
    let status = notes.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "torn"));
    assert_eq!(layer.breaker().failure_ratio(), 1.0);
    assert_eq!(layer.in_flight(), 0);
}
