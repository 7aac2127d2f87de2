//! The deadline of a caller, and its going away, from one hop to the next.
//!
//! The order service is the real one. The user service is served as the real
//! one is, and remembers what it was told of time, and whether its handlers
//! were dropped.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Orders, order, orders_in_front_of, scrape, value};
use order_service::ResilienceSettings;
use proto::user::{
    self, UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use service_kit::{Deadline, Running, ServeSettings, Server};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status};

const MS: Duration = Duration::from_millis(1);

/// What one attempt looked like from the user service.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    at: Instant,
    /// By the `grpc-timeout` that it came with.
    told: Option<Duration>,
    /// What a handler there would pass on.
    left: Option<Duration>,
    previous_attempts: Option<String>,
    dropped_at: Option<Instant>,
}

/// A user service that fails a few times, slowly, and then does as it is told.
#[derive(Debug, Clone, Default)]
struct Users {
    seen: Arc<Mutex<Vec<Seen>>>,
    failures: usize,
    hangs: bool,
}

/// How long a failure takes.
const FAILS_AFTER: Duration = Duration::from_millis(20);

impl Users {
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Itself, and an order service in front of it.
    async fn start(self, settings: ResilienceSettings) -> (Self, Running, Running) {
        let users = Server::open(&ServeSettings::default())
            .await
            .unwrap()
            .service(UserServiceServer::new(self.clone()), user::METHODS)
            .serve(proto::FILE_DESCRIPTOR_SET)
            .await
            .unwrap();
        let orders = orders_in_front_of(users.grpc_addr(), settings).await;
        (self, users, orders)
    }
}

/// Tells that a handler was dropped before it was done.
struct Handler {
    users: Users,
    number: usize,
    done: bool,
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.done {
            let mut seen = self.users.seen.lock().unwrap();
            seen[self.number].dropped_at = Some(Instant::now());
        }
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn validate_user(
        &self,
        request: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        let at = Instant::now();
        let header = |name| {
            let value = request.metadata().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let seen = Seen {
            at,
            told: header("grpc-timeout").map(|text| timeout(&text)),
            left: Deadline::of(request.extensions()).map(|deadline| deadline.remaining(at)),
            previous_attempts: header("grpc-previous-rpc-attempts"),
            dropped_at: None,
        };
        let number = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen);
            all.len() - 1
        };
        let mut handler = Handler {
            users: self.clone(),
            number,
            done: false,
        };
        if number < self.failures {
            sleep(FAILS_AFTER).await;
            handler.done = true;
            return Err(Status::unavailable("not yet"));
        }
        if self.hangs {
            pending::<()>().await;
        }
        handler.done = true;
        Ok(Response::new(ValidateUserResponse {
            valid: true,
            ..ValidateUserResponse::default()
        }))
    }
}

/// The time that a `grpc-timeout` of ours says.
fn timeout(text: &str) -> Duration {
    let (amount, unit) = text.split_at(text.len() - 1);
    let amount = amount.parse().unwrap();
    match unit {
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => panic!("{text}"),
    }
}

/// Attempts may take as long as their call.
fn patient() -> ResilienceSettings {
    ResilienceSettings {
        deadline: 5_000 * MS,
        attempt_timeout: 4_999 * MS,
        ..ResilienceSettings::default()
    }
}

/// Waits until it is so.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < 5_000 * MS, "{what}");
        sleep(MS).await;
    }
}

#[tokio::test]
async fn the_user_service_is_told_what_the_caller_has_left_less_a_margin() {
    let (users, _running, orders) = Users::default().start(patient()).await;
    let mut request = order("user-123");
    request.set_timeout(2_000 * MS);
    let began = Instant::now();

    let answer = Orders::of(&orders).create(request).await.unwrap();

    assert_eq!(answer.status, "CREATED");
    let [seen] = &users.seen()[..] else {
        panic!("{:?}", users.seen())
    };
    let told = seen.told.unwrap();
    assert!(told <= 2_000 * MS - Deadline::MARGIN, "{told:?}");
    // All but what has passed meanwhile.
    let passed = seen.at - began;
    assert!(told + passed >= 2_000 * MS - Deadline::MARGIN - MS);
    let left = seen.left.unwrap();
    assert!(
        left <= told && told - left < 200 * MS,
        "{left:?} of {told:?}"
    );
}

#[tokio::test]
async fn without_a_deadline_of_the_caller_it_is_told_that_of_the_attempt() {
    let (users, _running, orders) = Users::default().start(ResilienceSettings::default()).await;

    let answer = Orders::of(&orders).create(order("user-123")).await.unwrap();

    assert_eq!(answer.status, "CREATED");
    let told: Vec<_> = users.seen().iter().map(|seen| seen.told).collect();
    // A busy machine may need another.
    assert_eq!(told[0], Some(250 * MS));
}

#[tokio::test]
async fn every_attempt_is_told_less_than_the_one_before() {
    let users = Users {
        failures: 2,
        ..Users::default()
    };
    let (users, _running, orders) = users.start(patient()).await;
    let mut request = order("user-123");
    request.set_timeout(2_000 * MS);
    let began = Instant::now();

    let answer = Orders::of(&orders).create(request).await.unwrap();

    assert_eq!(answer.status, "CREATED");
    let seen = users.seen();
    let previous: Vec<_> = seen
        .iter()
        .map(|seen| seen.previous_attempts.as_deref())
        .collect();
    assert_eq!(previous, [None, Some("1"), Some("2")]);
    for two in seen.windows(2) {
        let (told, before) = (two[1].told.unwrap(), two[0].told.unwrap());
        assert!(told + FAILS_AFTER <= before, "{told:?} after {before:?}");
    }
    for seen in &seen {
        // A timeout counts from its arrival, so what a busy machine takes for
        // the way comes on top.
        let ends = seen.at - began + seen.left.unwrap();
        assert!(ends < 2_300 * MS, "none outlives the caller: {ends:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_both_hops() {
    let users = Users {
        hangs: true,
        ..Users::default()
    };
    let (users, running, orders) = users.start(patient()).await;
    let client = Orders::of(&orders);
    let call = tokio::spawn(async move { client.create(order("user-123")).await });
    until("it is asked", async || users.seen().len() == 1).await;
    assert_eq!(users.seen()[0].dropped_at, None);
    let gone = Instant::now();
    call.abort();

    until("the second hop is dropped", async || {
        users.seen()[0].dropped_at.is_some()
    })
    .await;
    let took = users.seen()[0].dropped_at.unwrap() - gone;
    assert!(took < 1_000 * MS, "long before any deadline: {took:?}");

    // Both services report to the recorder of this process.
    for method in [
        "order.OrderService/CreateOrder",
        "user.UserService/ValidateUser",
    ] {
        let series = format!(
            r#"grpc_server_call_duration_seconds_count{{grpc_method="{method}",grpc_status="CANCELLED"}}"#
        );
        until(&series, async || {
            value(&scrape(&running).await, &series).is_some_and(|count| count >= 1.0)
        })
        .await;
    }
    sleep(100 * MS).await;
    assert_eq!(users.seen().len(), 1, "and nothing is tried again");
}

#[tokio::test]
async fn at_the_callers_deadline_both_hops_end() {
    let users = Users {
        hangs: true,
        ..Users::default()
    };
    let (users, _running, orders) = users.start(patient()).await;
    let mut request = order("user-123");
    request.set_timeout(300 * MS);
    let began = Instant::now();

    let status = Orders::of(&orders).create(request).await.unwrap_err();

    let answered = Instant::now();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    until("the second hop is dropped", async || {
        users.seen()[0].dropped_at.is_some()
    })
    .await;
    let dropped = users.seen()[0].dropped_at.unwrap();
    assert!(
        dropped - began < 300 * MS + 100 * MS,
        "{:?}",
        dropped - began
    );
    assert!(answered - began >= 285 * MS, "{:?}", answered - began);
    assert_eq!(users.seen().len(), 1, "there was no time for another");
}

#[tokio::test]
async fn nothing_is_sent_when_nothing_is_left() {
    let (users, _running, orders) = Users::default().start(patient()).await;
    // Less than is kept back for the way home.
    for left in [Deadline::MARGIN, 5 * MS, Duration::ZERO] {
        let mut request = order("user-123");
        request.set_timeout(left);

        let status = Orders::of(&orders).create(request).await.unwrap_err();

        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    assert_eq!(users.seen(), []);

    // And it is not for want of a user service.
    let answer = Orders::of(&orders).create(order("user-123")).await.unwrap();
    assert_eq!(answer.status, "CREATED");
    assert_eq!(users.seen().len(), 1);
}
