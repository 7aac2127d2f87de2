//! How long to wait before a retry.
//!
//! The only file that knows the `backoff` crate. That crate is no longer
//! maintained (RUSTSEC-2025-0012), so the seam is small: it computes the
//! exponential rule and nothing else. Its jitter cannot be seeded and its clock
//! is not ours, so both are switched off; the jitter is drawn here.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

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

/// The delays of one call.
#[derive(Debug)]
pub(crate) struct Delays {
    config: BackoffConfig,
    rule: ExponentialBackoff,
}

impl Delays {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        let rule = ExponentialBackoffBuilder::new()
            .with_initial_interval(config.initial)
            .with_max_interval(config.max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { config, rule }
    }

    /// The next delay; `dice` is uniform in 0..1.
    pub(crate) fn next(&mut self, dice: f64) -> Duration {
        // The crate does not cap its first delay, and ends only by elapsed time.
        let longest = self
            .rule
            .next_backoff()
            .unwrap_or(self.config.max)
            .min(self.config.max);
        longest.mul_f64(dice)
    }

    /// Starts over, as gRFC A6 asks after a pushback.
    pub(crate) fn reset(&mut self) {
        self.rule.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut delays = Delays::new(BackoffConfig {
            initial: ms(100),
            max: ms(700),
        });
        let longest: Vec<_> = (0..5).map(|_| delays.next(1.0)).collect();
        assert_eq!(longest, [ms(100), ms(200), ms(400), ms(700), ms(700)]);

        delays.reset();
        assert_eq!(delays.next(1.0), ms(100));
    }

    #[test]
    fn jitter_is_full() {
        let mut delays = Delays::new(BackoffConfig {
            initial: ms(100),
            max: ms(100),
        });
        assert_eq!(delays.next(0.0), ms(0));
        assert_eq!(delays.next(0.5), ms(50));
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
