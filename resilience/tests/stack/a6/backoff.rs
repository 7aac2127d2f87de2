//! B: we name the delay.

use std::time::Duration;

use resilience::{Backoff as _, BackoffConfig, ResilienceConfig, ResilienceLayer};
use tonic::Code;

use super::{call, policy, pushback, waits};
use crate::{
    config, ms,
    upstream::{Reply, Upstream},
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn b01_delays_double_up_to_the_longest() {
    let mut config = ResilienceConfig {
        deadline: seconds(10_000),
        ..waits(policy(), seconds(100), seconds(700))
    };
    config.retry.max_attempts = 5;
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let (mut client, _) = upstream.client(config);

    call(&mut client).await.unwrap_err();

    let gaps: Vec<_> = upstream.gaps().iter().map(Duration::as_secs).collect();
    assert_eq!(gaps, [100, 200, 400, 700]);
}

/// gRPC: 40 to 60 ms.
#[tokio::test(start_paused = true)]
async fn b02_jitter_is_from_nothing_to_all_of_it_differs_on_purpose() {
    const CALLS: u32 = 120;
    let mut config = ResilienceConfig {
        deadline: seconds(60),
        ..config()
    };
    config.retry.max_attempts = 2;
    config.retry.backoff = BackoffConfig {
        initial: ms(50),
        max: ms(50),
    };
    config.budget.capacity = CALLS;
    let upstream = Upstream::new(|n| match n % 2 {
        0 => Reply::code(Code::Unavailable),
        _ => Reply::Valid,
    });
    let (mut client, _) = upstream.client(config);
    for _ in 0..CALLS {
        call(&mut client).await.unwrap();
    }
    // Every other gap is one between calls.
    let delays: Vec<_> = upstream.gaps().into_iter().step_by(2).collect();
    let mean = delays.iter().sum::<Duration>() / CALLS;

    assert_eq!(delays.len(), CALLS as usize);
    // Timers count in whole milliseconds, and round up.
    assert!(delays.iter().all(|delay| *delay <= ms(51)), "{delays:?}");
    assert!((ms(20)..=ms(31)).contains(&mean), "{mean:?}");
    for (from, to) in [(0, 10), (40, 51)] {
        let range = ms(from)..=ms(to);
        let there = delays.iter().filter(|delay| range.contains(delay)).count();
        assert!(there >= 10, "{there} of {CALLS} within {range:?}");
    }
}

#[test]
fn b03_an_initial_delay_above_the_longest_is_an_error_and_would_be_capped() {
    let mut config = config();
    config.retry.backoff = BackoffConfig {
        initial: seconds(5),
        max: seconds(1),
    };
    assert_eq!(config.retry.backoff.delay(1, 1.0), seconds(1));

    let error = ResilienceLayer::new("upstream", config).unwrap_err();
    assert_eq!(error.field(), "retry.backoff.initial");
}

#[tokio::test(start_paused = true)]
async fn b04_a_transparent_retry_and_one_after_a_pushback_are_told_apart() {
    let upstream = Upstream::replies([Reply::Refused, pushback("10"), Reply::Valid]);
    let (mut client, _) = upstream.client(waits(policy(), seconds(1), seconds(1)));

    let attempts = call(&mut client).await.unwrap();

    assert_eq!((attempts.retries, attempts.transparent), (1, 1));
    let gaps = upstream.gaps();
    assert_eq!(gaps[0], Duration::ZERO);
    assert!((ms(10)..=ms(11)).contains(&gaps[1]), "{gaps:?}");
}
