//! R: what is retried, how often, and what the upstream is told.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{
    Classify, GrpcClassifier, Outcome, Policies, ResilienceConfig, ResilienceLayer, RetryRule,
    StopReason,
};
use tonic::{
    Code, Request, Status, body::Body, metadata::MetadataValue,
    service::interceptor::InterceptedService,
};
use tower::{Layer as _, Service as _, service_fn};

use super::{call, policy, said, stopped};
use crate::upstream::{Reply, Upstream};

#[tokio::test(start_paused = true)]
async fn r01_a_failed_attempt_is_made_again_and_the_upstream_is_told() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = upstream.client(policy());

    let attempts = call(&mut client).await.unwrap();

    assert_eq!((attempts.retries, attempts.transparent), (1, 0));
    assert_eq!(upstream.previous_attempts(), said(&[None, Some("1")]));
}

/// ALREADY_EXISTS, and nothing else, is worth another attempt.
#[derive(Debug)]
struct OnlyAlreadyExists;

impl Classify for OnlyAlreadyExists {
    fn retry(&self, status: &Status) -> RetryRule {
        match status.code() {
            Code::AlreadyExists => RetryRule::Idempotent,
            _ => RetryRule::Never,
        }
    }

    fn outcome(&self, status: &Status) -> Outcome {
        GrpcClassifier.outcome(status)
    }
}

#[tokio::test(start_paused = true)]
async fn r02_each_call_takes_as_many_attempts_as_it_needs_and_no_more() {
    let upstream = Upstream::new(|i| match i {
        0 | 2 | 5 => Reply::Valid,
        6 | 8 | 11 => Reply::code(Code::Internal),
        _ => Reply::code(Code::AlreadyExists),
    });
    let (mut client, _) = upstream.client(ResilienceConfig {
        policies: Policies {
            classifier: Some(Arc::new(OnlyAlreadyExists)),
            ..policy().policies
        },
        ..policy()
    });
    for (seen, code) in [
        (1, Code::Ok),
        (3, Code::Ok),
        (6, Code::Ok),
        (7, Code::Internal),
        (9, Code::Internal),
        (12, Code::Internal),
        (16, Code::AlreadyExists),
    ] {
        let result = call(&mut client).await;
        let got = result.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!((upstream.count(), got), (seen, code));
    }
}

#[tokio::test(start_paused = true)]
async fn r03_r04_a_status_that_is_not_worth_it_is_not_retried() {
    let not = Some(StopReason::NotRetryable);
    for (code, reason) in [
        (Code::Internal, not),
        (Code::Aborted, not),
        // An answer: nobody would have.
        (Code::InvalidArgument, None),
    ] {
        let upstream = Upstream::replies([Reply::code(code), Reply::Valid]);
        let (mut client, _) = upstream.client(policy());

        let status = call(&mut client).await.unwrap_err();

        assert_eq!(status.code(), code);
        assert_eq!(stopped(&status), reason);
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r05_the_last_of_the_attempts_is_the_answer() {
    const MESSAGES: [&str; 4] = ["attempt 0", "attempt 1", "attempt 2", "attempt 3"];
    let upstream =
        Upstream::new(|n| Reply::Head(Code::Unavailable, vec![("grpc-message", MESSAGES[n])]));
    let (mut client, _) = upstream.client(policy());

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "attempt 3")
    );
    assert_eq!(stopped(&status), Some(StopReason::Attempts));
    assert_eq!(
        upstream.previous_attempts(),
        said(&[None, Some("1"), Some("2"), Some("3")])
    );
}

/// gRPC takes more than five for five, and one or none for a mistake.
#[tokio::test(start_paused = true)]
async fn r06_attempts_are_one_to_five_and_more_is_an_error_differs_on_purpose() {
    for allowed in 1..=5 {
        let mut config = policy();
        config.retry.max_attempts = allowed;
        let upstream = Upstream::always(Reply::code(Code::Unavailable));
        let (mut client, _) = upstream.client(config);
        call(&mut client).await.unwrap_err();
        assert_eq!(upstream.count(), allowed as usize);
    }
    for not_allowed in [0, 6, u32::MAX] {
        let mut config = policy();
        config.retry.max_attempts = not_allowed;
        let error = ResilienceLayer::new("upstream", config).unwrap_err();
        assert_eq!(
            (error.field(), error.rule()),
            ("retry.max_attempts", "1 to 5")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn r07_without_retries_the_status_is_the_upstreams_own() {
    let mut config = policy();
    config.retry.max_attempts = 1;
    let tired = vec![("grpc-message", "tired")];
    let upstream = Upstream::always(Reply::Head(Code::Unavailable, tired));
    let (mut client, _) = upstream.client(config);

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "tired")
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn r08_an_attempt_that_fails_on_its_way_down_is_an_attempt() {
    let upstream = Upstream::always(Reply::code(Code::Aborted));
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let fails_once = InterceptedService::new(upstream.clone(), move |request: Request<()>| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Status::unavailable("no credentials yet")),
            _ => Ok(request),
        }
    });
    let mut config = policy();
    config.retry.max_attempts = 2;
    let layer = ResilienceLayer::new("upstream", config).unwrap();
    let mut client = UserServiceClient::new(layer.layer(fails_once));

    let status = client
        .validate_user(ValidateUserRequest::default())
        .await
        .unwrap_err();

    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(failed.load(Ordering::Relaxed), 2);
    assert_eq!(upstream.previous_attempts(), said(&[Some("1")]));
}

#[tokio::test(start_paused = true)]
async fn r09_what_a_layer_below_makes_of_a_status_is_what_counts() {
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let inner = upstream.clone();
    let rewrites = service_fn(move |request: http::Request<Body>| {
        let mut inner = inner.clone();
        async move {
            let mut response = inner.call(request).await.unwrap();
            let code = Code::InvalidArgument as i32;
            response.headers_mut().insert("grpc-status", code.into());
            Ok::<_, Infallible>(response)
        }
    });
    let layer = ResilienceLayer::new("upstream", policy()).unwrap();
    let mut client = UserServiceClient::new(layer.layer(rewrites));

    let status = client
        .validate_user(ValidateUserRequest::default())
        .await
        .unwrap_err();

    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn r10_the_callers_own_metadata_is_in_every_attempt_unchanged() {
    let upstream = Upstream::replies([
        Reply::code(Code::Unavailable),
        Reply::code(Code::Unavailable),
        Reply::Valid,
    ]);
    let (mut client, _) = upstream.client(policy());
    let mut request = Request::new(ValidateUserRequest::default());
    let metadata = request.metadata_mut();
    metadata.append("x-twice", "one".parse().unwrap());
    metadata.append("x-twice", "two".parse().unwrap());
    metadata.insert_bin("x-bytes-bin", MetadataValue::from_bytes(&[0, 255]));

    client.validate_user(request).await.unwrap();

    let mut seen = upstream.seen();
    assert_eq!(
        upstream.previous_attempts(),
        said(&[None, Some("1"), Some("2")])
    );
    for seen in &mut seen {
        seen.headers.remove("grpc-previous-rpc-attempts");
    }
    let twice: Vec<_> = seen[0].headers.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["one", "two"]);
    for again in &seen[1..] {
        assert_eq!(again.headers, seen[0].headers);
        assert_eq!(again.body, seen[0].body);
    }
}

/// A caller who is an upstream itself may have been sent the header, and pass
/// on all that it was sent.
#[tokio::test(start_paused = true)]
async fn r10_the_number_of_attempts_is_ours_alone() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = upstream.client(policy());
    let mut request = Request::new(ValidateUserRequest::default());
    request
        .metadata_mut()
        .append("grpc-previous-rpc-attempts", "345".parse().unwrap());

    client.validate_user(request).await.unwrap();

    let seen = upstream.seen();
    let all = |n: usize| {
        let values = seen[n].headers.get_all("grpc-previous-rpc-attempts");
        values.iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!((all(0).len(), all(1).len()), (1, 1));
    assert_eq!(all(1)[0], "1");
}
