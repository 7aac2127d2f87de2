//! No order fails while the user service is replaced the way an orchestrator does
//! it: the new one serves on the same port before the old one is asked to stop.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::time::Duration;

use common::{Orders, orders_in_front_of};
use order_service::ResilienceSettings;
use service_kit::{Running, ServeSettings};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// A user service on a port that it shares.
async fn sharing(port: u16) -> Running {
    user_service::start(user_service::Settings {
        serve: ServeSettings {
            port,
            reuse_port: true,
            ..ServeSettings::default()
        },
        ..user_service::Settings::default()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_fails_while_the_user_service_is_replaced_again_and_again() {
    const PER_SECOND: u64 = 200;
    const REPLACED: usize = 4;
    let mut users = sharing(0).await;
    let port = users.grpc_addr().port();
    // A machine that is busy with other things may be slow, and must not be what
    // this measures. What is lost with the old process is lost for longer.
    let patient = ResilienceSettings {
        deadline: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(4),
        concurrency_limit: 1000,
        ..ResilienceSettings::default()
    };
    let orders = orders_in_front_of(users.grpc_addr(), patient).await;
    let client = Orders::of(&orders);
    client.order().await;

    // Open loop: an order each 5 ms, whatever becomes of those before.
    let load = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_micros(1_000_000 / PER_SECOND));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (started, mut calls) = (Instant::now(), JoinSet::new());
        while started.elapsed() < Duration::from_secs(REPLACED as u64 + 1) {
            ticks.tick().await;
            let client = client.clone();
            calls.spawn(async move { client.order().await });
        }
        calls.join_all().await
    });
    for _ in 0..REPLACED {
        sleep(Duration::from_secs(1)).await;
        // The new one serves before the old one is asked to stop.
        let new = sharing(port).await;
        std::mem::replace(&mut users, new).stop().await;
    }

    let answers = load.await.unwrap();
    let failed = answers.iter().filter(|answer| answer.status != "CREATED");
    let first: Vec<_> = failed.clone().take(3).collect();
    let (failed, all) = (failed.count(), answers.len());
    assert_eq!(failed, 0, "of {all}: {first:?}");
    assert!(answers.len() as u64 >= REPLACED as u64 * PER_SECOND);
}
