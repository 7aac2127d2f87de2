//! Faults, as callers see them.

mod common;

use std::time::Duration;

use common::{channel, get, reached, service, set_chaos, users, validate, value};
use proto::{
    chaos::v1::{GetRequest, chaos_client::ChaosClient},
    user::UserRequest,
};
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::test]
async fn down_fails_every_call_but_not_health() {
    let service = service("down", false).await;
    let mut users = users(&service).await;

    let status = users.validate_user(validate("user-123")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "injected fault")
    );
    let status = users
        .get_user(UserRequest {
            user_id: "user-123".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let mut health = HealthClient::new(channel(service.grpc_addr()).await);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn flaky_fails_the_same_calls_on_every_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let service = service("error=0.3:ABORTED,seed=7", false).await;
        let mut users = users(&service).await;
        let mut failed = Vec::new();
        for _ in 0..60 {
            match users.validate_user(validate("user-123")).await {
                Ok(_) => failed.push(false),
                Err(status) => {
                    assert_eq!(status.code(), Code::Aborted);
                    failed.push(true);
                }
            }
        }
        runs.push(failed);
    }

    assert_eq!(runs[0], runs[1]);
    let failed = runs[0].iter().filter(|failed| **failed).count();
    assert!((8..=30).contains(&failed), "{failed} of 60");
}

#[tokio::test]
async fn slow_answers_are_late_and_right() {
    let service = service("latency=100ms..120ms", false).await;
    let mut users = users(&service).await;
    let started = Instant::now();

    let answer = users
        .validate_user(validate("user-123"))
        .await
        .unwrap()
        .into_inner();

    assert!(answer.valid);
    assert!(
        started.elapsed() >= Duration::from_millis(100),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_brownout_refuses_what_does_not_fit_into_its_queue() {
    let service = service("capacity=1,queue=1,latency=300ms", false).await;
    let users = users(&service).await;

    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut users = users.clone();
            tokio::spawn(async move { users.validate_user(validate("user-123")).await })
        })
        .collect();
    let mut codes = Vec::new();
    for call in calls {
        codes.push(
            call.await
                .unwrap()
                .map_or_else(|status| status.code(), |_| Code::Ok),
        );
    }
    codes.sort_by_key(|code| *code as i32);

    assert_eq!(codes, [Code::Ok, Code::Ok, Code::ResourceExhausted]);
}

#[tokio::test]
async fn what_hangs_is_released_when_the_faults_change() {
    let service = service("hang", true).await;
    let hung = "chaos_injected_total{kind=\"hang\",method=\"user.UserService/ValidateUser\"}";
    let before = value(&get(service.metrics_addr(), "/metrics").await, hung).unwrap();
    let mut users = users(&service).await;
    let call = tokio::spawn(async move { users.validate_user(validate("user-123")).await });
    reached(service.metrics_addr(), hung, before + 1.0).await;
    assert!(!call.is_finished());

    assert_eq!(set_chaos(&service, "off").await.unwrap(), "off");

    let answer = call.await.unwrap().unwrap().into_inner();
    assert!(answer.valid);
}

#[tokio::test]
async fn the_chaos_api_reads_and_changes_the_faults() {
    let service = service("slow", true).await;
    let mut chaos = ChaosClient::new(channel(service.grpc_addr()).await);
    let mut in_force = async || chaos.get(GetRequest {}).await.unwrap().into_inner().chaos;

    assert_eq!(in_force().await, "latency=50ms..150ms");
    assert_eq!(
        set_chaos(&service, "brownout").await.unwrap(),
        "latency=50ms,capacity=4,queue=50"
    );
    assert_eq!(in_force().await, "latency=50ms,capacity=4,queue=50");

    let refused = set_chaos(&service, "hang=1,error=2").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        r#"chaos has a term that cannot be used: "error=2" must be a share from 0 to 1"#
    );
    assert_eq!(in_force().await, "latency=50ms,capacity=4,queue=50");
}

#[tokio::test]
async fn without_leave_there_is_no_chaos_api() {
    let service = service("off", false).await;

    let refused = set_chaos(&service, "down").await.unwrap_err();

    assert_eq!(refused.code(), Code::Unimplemented);
    users(&service)
        .await
        .validate_user(validate("user-123"))
        .await
        .unwrap();
}
