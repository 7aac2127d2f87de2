//! Faults from outside: what happens to processes and networks, and not what a service does
//! to its own answers. Orders flow at a steady rate to the real program, while its user service
//! is frozen or killed, or the way between them is slow, silent, cut or bad.
//!
//! | file | what for |
//! | --- | --- |
//! | `process.rs` | both services as processes, which signals act on |
//! | `../common/proxy.rs` | the way between them, which can be spoilt |
//! | `flow.rs` | orders at a steady rate |
//! | `machine.rs` | what the machine itself is late by |
//! | `trial.rs` | one fault, from a second before it to some after, and what must hold of each |
//!
//! `cargo test -p order-service --test outside -- --nocapture` prints a line for each fault.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

#[path = "../common/mod.rs"]
mod common;
mod flow;
mod machine;
mod process;
mod trial;

use std::time::Duration;

use common::proxy::{Proxy, Way};
use process::UserService;
use trial::{Breaker, Trial};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_user_service_that_is_frozen_and_goes_on() {
    let users = UserService::start().await;
    let mut trial = Trial::begin("frozen (SIGSTOP)", users.address()).await;

    trial.fault_begins();
    users.signal("STOP");
    trial.fault_lasts().await;
    users.signal("CONT");

    trial.end().await.judge(Breaker::Trips);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_service_that_is_killed_and_started_again() {
    let mut users = UserService::start().await;
    let mut trial = Trial::begin("killed (SIGKILL)", users.address()).await;

    trial.fault_begins();
    users.kill();
    trial.fault_lasts().await;
    users.start_again();

    trial.end().await.judge(Breaker::Trips);
}

/// Spoils the way between the services for a while.
async fn on_the_way(name: &'static str, way: Way, breaker: Breaker) {
    let users = UserService::start().await;
    let proxy = Proxy::start(users.address()).await;
    let mut trial = Trial::begin(name, proxy.address()).await;

    trial.fault_begins();
    proxy.set(way);
    trial.fault_lasts().await;
    proxy.set(Way::Clear);

    trial.end().await.judge(breaker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_takes_longer_than_an_attempt_may() {
    on_the_way("delay of 400 ms", Way::Delay(400 * MS), Breaker::Trips).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_on_which_everything_stays_and_nothing_is_closed() {
    on_the_way("silence", Way::Silent, Breaker::Trips).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_as_soon_as_they_are_made() {
    on_the_way("cut (RST)", Way::Cut, Breaker::Trips).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_lets_a_few_bytes_pass_at_a_time() {
    let way = Way::Trickle {
        bytes: 16,
        every: 50 * MS,
    };
    on_the_way("trickle of 320 bytes/s", way, Breaker::Trips).await;
}

/// What TCP makes of lost packets: nothing is missing, and all that follows waits for what was
/// lost, for the 200 ms after which Linux sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_stalls_for_three_packets_in_ten() {
    let way = Way::Stalls {
        share: 0.3,
        length: 200 * MS,
    };
    on_the_way("stalls, as of 30 % loss", way, Breaker::MayTrip).await;
}

/// No test: the user service of the tests above, which start this very program again as a
/// process of its own. A test may run the programs of its own package only.
#[test]
#[ignore = "the tests above start it"]
fn the_user_service() {
    process::serve_users();
}
