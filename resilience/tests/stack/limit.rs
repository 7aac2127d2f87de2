//! Slots and the queue.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{Classify, Outcome, Rejection, ResilienceConfig, ResilienceLayer, RetryRule};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, Service as _, service_fn};

use crate::{
    Client, config, ms,
    upstream::{Reply, Upstream},
    validate,
};

fn small() -> ResilienceConfig {
    let mut config = config();
    config.limit.concurrency = 2;
    config.limit.queue = 1;
    config.retry.max_attempts = 1;
    config
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_held_until_the_body_ends() {
    let upstream = Upstream::always(Reply::HangAfterMessage);
    let (client, layer) = upstream.client(small());
    for _ in 0..2 {
        let mut client = client.clone();
        tokio::spawn(async move { validate(&mut client).await });
    }
    sleep(ms(200)).await;
    assert_eq!(
        layer.in_flight(),
        2,
        "heads and messages have come, the ends have not"
    );
    sleep(ms(60)).await;
    assert_eq!(layer.in_flight(), 0, "the attempts timed out");
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_length_and_in_time() {
    let upstream = Upstream::always(Reply::Hang);
    let (client, layer) = upstream.client(small());
    let start = Instant::now();
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move {
            (validate(&mut client).await, start.elapsed())
        }));
        tokio::task::yield_now().await;
    }
    let (too_many, after) = calls.pop().unwrap().await.unwrap();
    let (waited, waited_for) = calls.pop().unwrap().await.unwrap();

    let too_many = too_many.unwrap_err();
    assert_eq!(too_many.code(), Code::ResourceExhausted);
    assert!(matches!(
        Rejection::of(&too_many),
        Some(Rejection::LimitReached {
            concurrency: 2,
            queue: 1,
            ..
        })
    ));
    assert_eq!(after, ms(0));
    let waited = waited.unwrap_err();
    assert!(matches!(
        Rejection::of(&waited),
        Some(Rejection::QueueTimeout { .. })
    ));
    assert!((ms(100)..=ms(101)).contains(&waited_for), "{waited_for:?}");
    assert_eq!((upstream.count(), layer.queued()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_slot_that_becomes_free() {
    let upstream = Upstream::always(Reply::After(ms(50), Box::new(Reply::Valid)));
    let (client, layer) = upstream.client(small());
    let start = Instant::now();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { validate(&mut client).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(
        (ms(100)..=ms(103)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_nothing() {
    let upstream = Upstream::always(Reply::Hang);
    let (client, layer) = upstream.client(small());
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move { validate(&mut client).await }));
        tokio::task::yield_now().await;
    }
    assert_eq!((layer.in_flight(), layer.queued()), (2, 1));
    for call in calls {
        call.abort();
        let _ = call.await;
    }
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_call() {
    let upstream = Upstream::always(Reply::Hang);
    let (client, _) = upstream.client(ResilienceConfig {
        deadline: ms(300),
        ..small()
    });
    for _ in 0..2 {
        let mut client = client.clone();
        tokio::spawn(async move { validate(&mut client).await });
        tokio::task::yield_now().await;
    }
    let mut client = client.clone();
    let mut request = tonic::Request::new(proto::user::ValidateUserRequest::default());
    request.set_timeout(ms(40));
    let start = Instant::now();

    let status = client.validate_user(request).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(Rejection::of(&status), Some(&Rejection::DeadlineExceeded));
    assert!(start.elapsed() <= ms(41), "{:?}", start.elapsed());
    assert_eq!(upstream.count(), 2);
}

/// One slot, which a call has that takes 30 ms, and a queue of two.
fn one_slot() -> (Client, ResilienceLayer) {
    let upstream = Upstream::always(Reply::After(ms(30), Box::new(Reply::Valid)));
    let mut config = small();
    config.limit.concurrency = 1;
    config.limit.queue = 2;
    upstream.client(config)
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_a_waiter_that_is_dropped_before_it_knows_goes_to_the_next() {
    let (client, layer) = one_slot();
    let [mut first, mut second, mut third] = [(); 3].map(|()| client.clone());
    let mut first = Box::pin(validate(&mut first));
    let mut second = Box::pin(validate(&mut second));
    let third = tokio::spawn(async move { validate(&mut third).await });
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!((layer.in_flight(), layer.queued()), (1, 2));

    first.await.unwrap();
    assert_eq!((layer.in_flight(), layer.queued()), (1, 1));
    drop(second);

    assert_eq!((layer.in_flight(), layer.queued()), (1, 0));
    third.await.unwrap().unwrap();
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_too_late_is_given_back() {
    let (client, layer) = one_slot();
    let [mut first, mut second] = [(); 2].map(|()| client.clone());
    let mut first = Box::pin(validate(&mut first));
    let mut request = tonic::Request::new(ValidateUserRequest::default());
    request.set_timeout(ms(40));
    let mut second = Box::pin(second.validate_user(request));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());

    first.await.unwrap();
    assert_eq!((layer.in_flight(), layer.queued()), (1, 0));
    // Its task has other things to do.
    sleep(ms(20)).await;
    let status = second.await.unwrap_err();

    assert_eq!(Rejection::of(&status), Some(&Rejection::DeadlineExceeded));
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}

/// Does not know what to say.
#[derive(Debug)]
struct Panics;

impl Classify for Panics {
    fn retry(&self, _: &Status) -> RetryRule {
        RetryRule::Never
    }

    fn outcome(&self, status: &Status) -> Outcome {
        panic!("{status}")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_below_loses_no_slot() {
    let upstream = Upstream::always(Reply::code(Code::Internal));
    let mut config = small();
    config.policies.classifier = Some(Arc::new(Panics));
    let (client, layer) = upstream.client(config);
    for _ in 0..3 {
        let mut client = client.clone();
        let call = tokio::spawn(async move { validate(&mut client).await });
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(layer.in_flight(), 0);
    }
    assert_eq!(upstream.count(), 3);
}

/// What came of calls at ten times what the upstream can do.
#[derive(Debug, Default)]
struct Overload {
    answered: usize,
    refused: usize,
    /// Sent, and no answer in time.
    failed: usize,
    slowest_answer: Duration,
    slowest_refusal: Duration,
    /// Most that the upstream had to hold at once.
    held: usize,
}

/// An upstream that works on four at a time, 50 ms each, and lets the others
/// wait, is called 800 times a second for ten seconds.
async fn overload(config: ResilienceConfig) -> Overload {
    let workers = Arc::new(Semaphore::new(4));
    let (holds, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::clone(&held);
    let upstream = service_fn(move |_: http::Request<Body>| {
        let (workers, holds, most) = (workers.clone(), holds.clone(), most.clone());
        async move {
            let now = holds.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            let held = Held(holds);
            let worker = workers.acquire().await.unwrap();
            sleep(ms(50)).await;
            drop((worker, held));
            Ok::<_, Infallible>(crate::upstream::valid())
        }
    });
    let layer = ResilienceLayer::new("upstream", config).unwrap();
    let client = UserServiceClient::new(layer.layer(upstream));
    let mut calls = JoinSet::new();
    let mut ticks = interval(ms(5));
    for n in 0..8_000 {
        // Four at a tick.
        if n % 4 == 0 {
            ticks.tick().await;
        }
        let mut client = client.clone();
        calls.spawn(async move {
            let start = Instant::now();
            let result = client.validate_user(ValidateUserRequest::default()).await;
            (result, start.elapsed())
        });
    }
    let mut overload = Overload::default();
    for (result, took) in calls.join_all().await {
        match result {
            Ok(_) => {
                overload.answered += 1;
                overload.slowest_answer = overload.slowest_answer.max(took);
            }
            Err(status) if Rejection::of(&status).is_some() => {
                overload.refused += 1;
                overload.slowest_refusal = overload.slowest_refusal.max(took);
            }
            Err(_) => overload.failed += 1,
        }
    }
    overload.held = held.load(Ordering::Relaxed);
    println!("{overload:?}");
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
    overload
}

/// One request that the upstream holds, until it is done or given up.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn at_ten_times_the_load_what_is_admitted_is_answered_in_time() {
    let mut config = config();
    config.limit.concurrency = 4;
    config.limit.queue = 8;
    let overload = overload(config).await;

    assert_eq!(overload.failed, 0, "{overload:?}");
    assert!(
        overload.answered >= 760,
        "of the 800 that it can do: {overload:?}"
    );
    assert_eq!(overload.answered + overload.refused, 8_000);
    // 100 ms in the queue at most, and the work.
    assert!(overload.slowest_answer <= ms(152), "{overload:?}");
    assert!(overload.slowest_refusal <= ms(102), "{overload:?}");
    assert_eq!(overload.held, 4);
}

/// What the limit is for: the upstream is as busy as above, with work that
/// nobody waits for any more.
#[tokio::test(start_paused = true)]
async fn at_ten_times_the_load_without_a_limit_hardly_anything_is_answered() {
    let mut config = config();
    config.limit.concurrency = 10_000;
    let overload = overload(config).await;

    assert!(overload.answered < 400, "{overload:?}");
    assert!(overload.held > 100, "{overload:?}");
}

/// As a thread does that hands the future to a runtime.
#[test]
fn a_call_may_begin_to_wait_outside_a_runtime() {
    let upstream = Upstream::always(Reply::Hang);
    let (_, layer) = upstream.client(small());
    let mut service = layer.layer(upstream);
    let mut call = || service.call(http::Request::new(Body::empty()));

    let held = (call(), call());
    let waits = call();
    assert_eq!((layer.in_flight(), layer.queued()), (2, 1));
    drop(waits);
    assert_eq!((layer.in_flight(), layer.queued()), (2, 0));
    drop(held);
    assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
}
