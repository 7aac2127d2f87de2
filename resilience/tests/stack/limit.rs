//! Slots and the queue.

use resilience::{Rejection, ResilienceConfig};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    config, ms,
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
    assert_eq!(
        Rejection::of(&too_many),
        Some(&Rejection::LimitReached {
            concurrency: 2,
            queue: 1
        })
    );
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
