//! How long to wait before a retry.
//!
//! The only file that knows the `backoff` crate. That crate is no longer
//! maintained (RUSTSEC-2025-0012), so the seam is small: it computes the
//! exponential rule and nothing else. Its jitter cannot be seeded and its clock
//! is not ours, so both are switched off; the jitter is drawn here.

use std::{fmt, time::Duration};

use backoff::{ExponentialBackoffBuilder, backoff::Backoff as _};

use crate::config::{ConfigError, ordered, positive};

/// The delays between attempts: exponential, capped, with full jitter.
///
/// Retry *n* waits a random time between zero and
/// min(`initial` × 2ⁿ⁻¹, `max`). Full jitter, and not gRPC's ±20 %, because it
/// spreads clients that failed together best (Brooker, "Exponential backoff and
/// jitter", AWS 2015).
///
/// # Defaults
///
/// `initial` 25 ms, `max` 250 ms: Envoy's values, which fit calls of 10 to 50 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Longest delay before the first retry; doubles with each further one.
    pub initial: Duration,
    /// Longest delay at all.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

impl BackoffConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        positive("retry.backoff.initial", self.initial)?;
        positive("retry.backoff.max", self.max)?;
        ordered(
            "retry.backoff.initial",
            self.initial,
            "retry.backoff.max",
            self.max,
        )
    }
}

/// How long to wait before a retry.
///
/// The built-in rule is that of [`BackoffConfig`]; another goes into
/// [`Policies`](crate::Policies).
pub trait Backoff: fmt::Debug + Send + Sync {
    /// The delay before retry number `retry`, from 1; after a pushback it
    /// counts from 1 again (gRFC A6). `dice` is uniform in 0..1, and all the
    /// chance that there is.
    ///
    /// A delay that ends after the deadline means that there is no retry.
    fn delay(&self, retry: u32, dice: f64) -> Duration;
}

impl Backoff for BackoffConfig {
    fn delay(&self, retry: u32, dice: f64) -> Duration {
        let mut rule = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.initial)
            .with_max_interval(self.max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        // Attempts are few, so the rule is run from the start.
        let longest = (0..retry.min(RETRIES_MAX))
            .filter_map(|_| rule.next_backoff())
            .last()
            .unwrap_or(self.initial);
        // The crate does not cap its first delay.
        longest.min(self.max).mul_f64(dice)
    }
}

/// Further on, the delay does not change.
const RETRIES_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let config = BackoffConfig {
            initial: ms(100),
            max: ms(700),
        };
        let longest: Vec<_> = (1..=5).map(|retry| config.delay(retry, 1.0)).collect();
        assert_eq!(longest, [ms(100), ms(200), ms(400), ms(700), ms(700)]);
        assert_eq!(config.delay(u32::MAX, 1.0), ms(700));
    }

    #[test]
    fn jitter_is_full() {
        let config = BackoffConfig {
            initial: ms(100),
            max: ms(100),
        };
        assert_eq!(config.delay(1, 0.0), ms(0));
        assert_eq!(config.delay(1, 0.5), ms(50));
    }

    #[test]
    fn an_initial_delay_above_the_cap_is_a_config_error() {
        let error = BackoffConfig {
            initial: ms(300),
            max: ms(250),
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "retry.backoff.initial must be at most retry.backoff.max, which is 250ms, but is 300ms"
        );
    }
}
