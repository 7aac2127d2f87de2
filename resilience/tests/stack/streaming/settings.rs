//! What one method may have for itself.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use resilience::{
    BreakerConfig, BreakerState, MethodConfig, Rejection, ResilienceConfig, Scope, TimeLimit,
    TimedOut,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status, Streaming};

use super::{asks, client_on, declared, echo, endless, paced, server, with};
use crate::{
    feed::{Ask, CHAT, FeedServer, Note, UPLOAD, WATCH, ask, note},
    ms,
    upstream::{Reply, Upstream},
};

const HOUR: Duration = Duration::from_secs(3600);

fn scope(status: &Status) -> Option<Scope> {
    TimedOut::of(status).map(|timed_out| timed_out.scope)
}

/// A message an hour.
fn hourly() -> FeedServer {
    server(|| (0..24).map(|_| (3_600_000, Ok(note("ding")))).collect())
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_limits_lasts_as_long_as_it_lasts() {
    let (mut client, layer) = client_on(hourly(), with(WATCH, endless()));
    let start = Instant::now();
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    let mut dings = 0;
    while notes.message().await.unwrap().is_some() {
        dings += 1;
    }
    assert_eq!(dings, 24);
    assert!(start.elapsed() >= 24 * HOUR);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_of_a_stream_ends_at_its_first_message() {
    let own = MethodConfig {
        deadline: TimeLimit::None,
        attempt_timeout: TimeLimit::After(ms(250)),
        ..MethodConfig::default()
    };
    let slow = || vec![(200, Ok(note("first"))), (3_600_000, Ok(note("second")))];
    let (mut client, _) = client_on(server(slow), with(WATCH, own));

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();

    for text in ["first", "second"] {
        assert_eq!(notes.message().await.unwrap().unwrap().user_name, text);
    }
    assert_eq!(notes.message().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_sends_its_first_message_ends_with_its_attempt() {
    // Its head was passed on, and that is final.
    let upstream = Upstream::always(Reply::HangAfterHead);
    let (mut client, layer) = client_on(upstream.clone(), {
        let mut config = declared();
        config.idempotent = [WATCH].into();
        config
    });
    let start = Instant::now();
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    let status = notes.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(scope(&status), Some(Scope::Attempt));
    assert!((ms(250)..=ms(251)).contains(&start.elapsed()));
    assert_eq!((upstream.count(), layer.in_flight()), (1, 0));
    assert_eq!(layer.breaker().failure_ratio(), 1.0);

    // Without a head it may be tried again.
    upstream.becomes(Reply::Hang);
    client.watch(ask("")).await.unwrap_err();
    assert_eq!(upstream.count(), 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_a_stream_that_runs_over_it() {
    let often = || (0..100).map(|_| (30, Ok(note("tick")))).collect();
    let (mut client, layer) = client_on(server(often), declared());
    let start = Instant::now();
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    let mut ticks = 0;
    let status = loop {
        match notes.message().await {
            Ok(note) => ticks += usize::from(note.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(scope(&status), Some(Scope::Call));
    assert!((ms(1_000)..=ms(1_001)).contains(&start.elapsed()));
    // Timers count in milliseconds, and round up.
    assert!((32..=33).contains(&ticks), "{ticks}");
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_limit_what_has_no_limit() {
    let (mut client, _) = client_on(hourly(), with(WATCH, endless()));
    let start = Instant::now();
    let mut request = Request::new(ask(""));
    request.set_timeout(HOUR + HOUR / 2);
    let mut notes = client.watch(request).await.unwrap().into_inner();

    notes.message().await.unwrap().unwrap();
    let status = notes.message().await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(start.elapsed() <= HOUR + HOUR / 2 + ms(1));
}

/// A server that fails at first, and what each attempt said of its time.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Option<String>>>>);

impl Told {
    fn server(&self) -> FeedServer {
        let told = self.clone();
        FeedServer::new(move |request: Request<Streaming<Ask>>| {
            let header = request.metadata().get("grpc-timeout");
            let header = header.map(|value| value.to_str().unwrap().to_owned());
            let mut all = told.0.lock().unwrap();
            all.push(header);
            let first = all.len() == 1;
            async move {
                if first {
                    return Err(Status::unavailable("not yet"));
                }
                Ok(tokio_stream::once(Ok(note(""))))
            }
        })
    }

    fn take(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_told_the_time_of_its_call_and_not_that_of_its_attempt() {
    let told = Told::default();
    let text = |text: &str| Some(text.to_owned());
    let idempotent = |mut config: ResilienceConfig| {
        config.idempotent = [WATCH, UPLOAD].into();
        config.policies.backoff = Some(Arc::new(TenMillis));
        config
    };
    let (mut client, _) = client_on(told.server(), idempotent(declared()));
    client.watch(ask("")).await.unwrap();
    assert_eq!(told.take(), [text("1000000u"), text("990000u")]);
    // A method that answers with one message has the attempt timeout.
    client.upload(tokio_stream::once(ask(""))).await.unwrap();
    assert_eq!(told.take(), [text("250000u"), text("250000u")]);

    // No limit, nothing to tell; unless the caller has one.
    let (mut client, _) = client_on(told.server(), idempotent(with(WATCH, endless())));
    client.watch(ask("")).await.unwrap();
    assert_eq!(told.take(), [None, None]);
    let mut request = Request::new(ask(""));
    request.set_timeout(ms(5_000));
    client.watch(request).await.unwrap();
    assert_eq!(told.take(), [text("5000000u"), text("4990000u")]);

    // To the first message is not to the end: nothing to tell either.
    let own = MethodConfig {
        deadline: TimeLimit::None,
        ..MethodConfig::default()
    };
    let (mut client, _) = client_on(told.server(), idempotent(with(WATCH, own)));
    client.watch(ask("")).await.unwrap();
    assert_eq!(told.take(), [None, None]);
}

/// A rule of one's own.
#[derive(Debug)]
struct TenMillis;

impl resilience::Backoff for TenMillis {
    fn delay(&self, _: u32, _: f64) -> Duration {
        ms(10)
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_has_the_time_of_its_attempt_or_what_it_is_given() {
    let takes_all = || {
        FeedServer::new(|request: Request<Streaming<Ask>>| async {
            let mut asks = request.into_inner();
            while asks.message().await?.is_some() {}
            Ok(tokio_stream::once(Ok(note("all"))))
        })
    };
    let slow = || asks(&[(100, "a"), (100, "b"), (100, "c")]);

    let (mut client, _) = client_on(takes_all(), declared());
    let status = client.upload(slow()).await.unwrap_err();
    assert_eq!(scope(&status), Some(Scope::Attempt));

    let own = MethodConfig {
        attempt_timeout: TimeLimit::None,
        ..MethodConfig::default()
    };
    let (mut client, _) = client_on(takes_all(), with(UPLOAD, own));
    client.upload(slow()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_exempt_method_takes_no_slot_and_waits_for_none() {
    let own = MethodConfig {
        limited: Some(false),
        ..endless()
    };
    let mut config = with(WATCH, own);
    config.limit.concurrency = 1;
    config.limit.queue = 0;
    let (mut client, layer) = client_on(hourly(), config);

    let streams: Vec<_> = {
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(client.watch(ask("")).await.unwrap());
        }
        streams
    };
    assert_eq!(layer.in_flight(), 0);

    // The one slot is there for the others, and one at a time.
    let chat = client.chat(asks(&[(0, "hello")])).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    let status = client.chat(asks(&[(0, "hello")])).await.unwrap_err();
    assert!(matches!(
        Rejection::of(&status),
        Some(Rejection::LimitReached { .. })
    ));
    client.watch(ask("")).await.unwrap();
    drop((streams, chat));
}

#[tokio::test(start_paused = true)]
async fn a_method_may_have_a_breaker_of_its_own() {
    let own = MethodConfig {
        breaker: Some(BreakerConfig::default()),
        ..MethodConfig::default()
    };
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let (mut client, layer) = client_on(upstream.clone(), with(WATCH, own));
    let of_watch = layer.breaker_of(WATCH).unwrap();
    assert!(layer.breaker_of(CHAT).is_none());
    for _ in 0..27 {
        sleep(ms(40)).await;
        client.watch(ask("")).await.unwrap_err();
    }
    assert_eq!(of_watch.state(), BreakerState::Open);
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);

    let before = upstream.count();
    let status = client.watch(ask("")).await.unwrap_err();
    assert!(matches!(
        Rejection::of(&status),
        Some(Rejection::CircuitOpen { .. })
    ));
    assert_eq!(upstream.count(), before);
    upstream.becomes(Reply::Valid);
    client.upload(asks(&[(0, "hello")])).await.unwrap();

    // And the other way round.
    layer.breaker().force_open();
    of_watch.force_closed();
    client.watch(ask("")).await.unwrap();
    client.upload(asks(&[(0, "hello")])).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_method_may_have_fewer_attempts_or_more() {
    for own in [1, 2, 5] {
        let config = MethodConfig {
            max_attempts: Some(own),
            idempotent: Some(true),
            ..MethodConfig::default()
        };
        let upstream = Upstream::always(Reply::code(Code::Unavailable));
        let (mut client, _) = client_on(upstream.clone(), with(WATCH, config));
        client.watch(ask("")).await.unwrap_err();
        assert_eq!(upstream.count(), own as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_may_be_declared_streaming_for_itself() {
    let own = MethodConfig {
        streaming: Some(true),
        ..endless()
    };
    let config = ResilienceConfig {
        overrides: [(WATCH.to_owned(), own)].into(),
        ..crate::config()
    };
    let (mut client, _) = client_on(hourly(), config);
    let start = Instant::now();
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(start.elapsed(), ms(0));
    notes.message().await.unwrap().unwrap();
}

/// What a conversation takes is limited as a whole, or not at all.
#[tokio::test(start_paused = true)]
async fn a_conversation_lasts_as_long_as_it_is_allowed() {
    let slow = || paced((0..20).map(|n| (100, ask(n.to_string()))));
    let (mut client, _) = client_on(echo(), with(CHAT, endless()));
    let notes = client.chat(slow()).await.unwrap().into_inner();
    assert_eq!(all(notes).await.unwrap(), 20);

    let (mut client, layer) = client_on(echo(), declared());
    let notes = client.chat(slow()).await.unwrap().into_inner();
    let status = all(notes).await.unwrap_err();
    assert_eq!(scope(&status), Some(Scope::Call));
    assert_eq!(layer.in_flight(), 0);
}

async fn all(mut notes: Streaming<Note>) -> Result<usize, Status> {
    let mut count = 0;
    while notes.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_an_endless_stream_leaves_nothing() {
    let (mut client, layer) = client_on(hourly(), with(WATCH, endless()));
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    {
        let message = pin!(notes.message());
        timeout(ms(100), message).await.unwrap_err();
    }
    assert_eq!(layer.in_flight(), 1);
    drop(notes);
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}
