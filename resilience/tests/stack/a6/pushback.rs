//! P: the upstream names the delay.

use std::time::Duration;

use resilience::{ResilienceConfig, StopReason};
use tokio::time::Instant;
use tonic::Code;

use super::{call, policy, pushback, stopped, waits};
use crate::{
    ms,
    upstream::{Reply, Upstream},
};

/// The delay that a pushback of `value` makes, or that there is no retry.
async fn delay(value: &'static str) -> Option<Duration> {
    let upstream = Upstream::replies([pushback(value), Reply::Valid]);
    let (mut client, _) = upstream.client(waits(policy(), ms(9_000), ms(9_000)));
    match call(&mut client).await {
        Ok(_) => Some(upstream.gaps()[0]),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(stopped(&status), Some(StopReason::Pushback));
            assert_eq!(upstream.count(), 1);
            None
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p01_a_negative_pushback_means_no() {
    assert_eq!(delay("-1").await, None);
    assert_eq!(delay("-2147483648").await, None);

    let replies = [Reply::code(Code::Unavailable), pushback("-1"), Reply::Valid];
    let upstream = Upstream::replies(replies);
    let (mut client, _) = upstream.client(policy());
    let status = call(&mut client).await.unwrap_err();
    assert_eq!(stopped(&status), Some(StopReason::Pushback));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn p02_a_pushback_that_is_no_number_of_32_bits_means_no() {
    for value in ["xxx", "", "1.5", "2147483648", "99999999999999999999"] {
        assert_eq!(delay(value).await, None, "{value:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p03_several_pushbacks_mean_no() {
    let name = "grpc-retry-pushback-ms";
    let two = Reply::Head(Code::Unavailable, vec![(name, "100"), (name, "10")]);
    let upstream = Upstream::replies([two, Reply::Valid]);
    let (mut client, _) = upstream.client(policy());

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(stopped(&status), Some(StopReason::Pushback));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn p04_a_pushback_is_the_delay_whatever_the_backoff() {
    for millis in [1000, 2000] {
        let value = if millis == 1000 { "1000" } else { "2000" };
        let delay = delay(value).await.unwrap();
        assert!((ms(millis)..=ms(millis + 1)).contains(&delay), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p05_after_a_pushback_the_backoff_begins_anew_and_attempts_stay_as_many() {
    const HOUR: Duration = Duration::from_secs(3600);
    let initial = Duration::from_secs(100);
    let mut config = ResilienceConfig {
        deadline: 24 * HOUR,
        ..waits(policy(), initial, HOUR)
    };
    config.retry.max_attempts = 5;
    let upstream = Upstream::replies([
        pushback("123"),
        pushback("4567000"),
        Reply::code(Code::Unavailable),
        Reply::code(Code::Unavailable),
        pushback("0"),
    ]);
    let (mut client, _) = upstream.client(config);

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(stopped(&status), Some(StopReason::Attempts));
    let gaps: Vec<_> = upstream.gaps().iter().map(Duration::as_millis).collect();
    assert_eq!(gaps, [123, 4_567_000, 100_000, 200_000]);
}

#[tokio::test(start_paused = true)]
async fn p06_a_pushback_between_backoffs_replaces_one_of_them() {
    let mut config = waits(policy(), ms(50), ms(1000));
    config.retry.max_attempts = 5;
    let none = || Reply::code(Code::Unavailable);
    let upstream = Upstream::replies([none(), none(), pushback("10"), none()]);
    let (mut client, _) = upstream.client(config);

    call(&mut client).await.unwrap_err();

    assert_eq!(upstream.gaps(), [ms(50), ms(100), ms(10), ms(50)]);
}

#[tokio::test(start_paused = true)]
async fn p07_a_pushback_makes_no_failure_retryable_but_resource_exhausted() {
    for (code, seen) in [(Code::Internal, 1), (Code::ResourceExhausted, 2)] {
        let told = Reply::Head(code, vec![("grpc-retry-pushback-ms", "10")]);
        let upstream = Upstream::replies([told, Reply::Valid]);
        let (mut client, _) = upstream.client(policy());
        let result = call(&mut client).await;
        assert_eq!((result.is_ok(), upstream.count()), (seen == 2, seen));
    }
}

/// C core 1.85 hangs on "0".
#[tokio::test(start_paused = true)]
async fn p08_unusual_numbers_are_numbers() {
    assert_eq!(delay("0").await, Some(ms(0)));
    assert_eq!(delay("-0").await, Some(ms(0)));
    assert_eq!(delay("007").await, Some(ms(7)));
    assert_eq!(delay("+100").await, Some(ms(100)));
}

/// gRPC waits for the deadline, to say DEADLINE_EXCEEDED.
#[tokio::test(start_paused = true)]
async fn p09_a_pushback_past_the_deadline_is_a_no_at_once_differs_on_purpose() {
    let upstream = Upstream::replies([pushback("10000"), Reply::Valid]);
    let (mut client, layer) = upstream.client(ResilienceConfig {
        deadline: ms(300),
        attempt_timeout: ms(200),
        ..policy()
    });
    let start = Instant::now();

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable, "the last real status");
    assert_eq!(stopped(&status), Some(StopReason::Deadline));
    assert_eq!(upstream.count(), 1);
    assert_eq!(layer.budget_tokens(), 20.0, "what is not sent is not paid");
}
