//! What callers get while the user service fails.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::time::Duration;

use common::{Orders, Stack, order, orders_in_front_of};
use order_service::ResilienceSettings;
use proto::order::CreateOrderResponse;
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

const MS: Duration = Duration::from_millis(1);

fn plain() -> ResilienceSettings {
    ResilienceSettings {
        enabled: false,
        ..ResilienceSettings::default()
    }
}

/// Sends orders, fifty at a time, until an answer is as wanted; at most five
/// seconds.
async fn until(client: &Orders, wanted: impl Fn(&CreateOrderResponse) -> bool) -> Duration {
    let started = Instant::now();
    while started.elapsed() < 5000 * MS {
        let mut answers: JoinSet<_> = (0..50)
            .map(|_| {
                let client = client.clone();
                async move { client.order().await }
            })
            .collect();
        while let Some(answer) = answers.join_next().await {
            if wanted(&answer.unwrap()) {
                return started.elapsed();
            }
        }
    }
    panic!("no answer was as wanted within 5 s");
}

#[tokio::test]
async fn orders_survive_a_user_service_that_fails_three_in_ten() {
    let stack = Stack::start("flaky", ResilienceSettings::default()).await;
    let client = stack.client();

    let mut created = 0;
    for _ in 0..200 {
        created += u32::from(client.order().await.status == "CREATED");
    }

    assert!(created >= 190, "{created} of 200");
}

#[tokio::test]
async fn without_resilience_three_in_ten_orders_are_lost() {
    let stack = Stack::start("flaky", plain()).await;
    let client = stack.client();

    let mut created = 0;
    for _ in 0..200 {
        let answer = client.order().await;
        if answer.status == "CREATED" {
            created += 1;
        } else {
            let text = "user validation failed: failed remotely: UNAVAILABLE: injected fault";
            assert_eq!(answer.error_message, text);
        }
    }

    assert!((110..170).contains(&created), "{created} of 200");
}

#[tokio::test]
async fn a_failure_there_says_so_and_how_often_it_was_tried() {
    let stack = Stack::start("error=1:UNAVAILABLE", ResilienceSettings::default()).await;

    let answer = stack.client().order().await;

    assert_eq!(answer.status, "ERROR");
    let begin = "user validation failed: failed remotely: UNAVAILABLE: injected fault \
                 (not retried after 3 attempts: ";
    assert!(
        answer.error_message.starts_with(begin),
        "{}",
        answer.error_message
    );
    assert_eq!(answer.total_amount, 0.0);
}

#[tokio::test]
async fn a_user_service_that_is_not_there_is_an_answer_in_time() {
    let orders = orders_in_front_of(
        "127.0.0.1:1".parse().unwrap(),
        ResilienceSettings::default(),
    )
    .await;
    let started = Instant::now();

    let answer = Orders::of(&orders).order().await;

    assert_eq!(answer.status, "ERROR");
    let begin = "user validation failed: failed remotely: UNAVAILABLE: ";
    assert!(
        answer.error_message.starts_with(begin),
        "{}",
        answer.error_message
    );
    assert!(started.elapsed() < 1050 * MS, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_hang_is_answered_within_the_deadline() {
    let resilience = ResilienceSettings {
        deadline: 300 * MS,
        attempt_timeout: 200 * MS,
        ..ResilienceSettings::default()
    };
    let stack = Stack::start("hang", resilience).await;
    let started = Instant::now();

    let answer = stack.client().order().await;

    let took = started.elapsed();
    assert_eq!(answer.status, "ERROR");
    assert!(
        (200 * MS..500 * MS).contains(&took),
        "{took:?}: {}",
        answer.error_message
    );
}

#[tokio::test]
async fn an_open_circuit_answers_at_once_that_it_refused_and_closes_when_the_fault_ends() {
    let stack = Stack::start("hang", ResilienceSettings::default()).await;
    let client = stack.client();
    let refused = "user validation failed: refused locally: circuit open";
    until(&client, |answer| answer.error_message.starts_with(refused)).await;

    let mut times = Vec::new();
    while times.len() < 20 {
        let started = Instant::now();
        let answer = client.order().await;
        if answer.error_message.starts_with(refused) {
            times.push(started.elapsed());
        } // else it was a probe
    }
    times.sort();
    assert!(times[10] < 50 * MS, "{times:?}");

    stack.set_chaos("off").await;
    let healed = until(&client, |answer| answer.status == "CREATED").await;
    assert!(healed < 2000 * MS, "{healed:?}");
}

#[tokio::test]
async fn the_caller_s_own_deadline_is_the_caller_s_failure() {
    for resilience in [ResilienceSettings::default(), plain()] {
        let stack = Stack::start("hang", resilience).await;
        let mut request = order("user-123");
        request.set_timeout(150 * MS);
        let started = Instant::now();

        let status = stack.client().create(request).await.unwrap_err();

        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let took = started.elapsed();
        assert!((130 * MS..500 * MS).contains(&took), "{took:?}");
    }
}
