//! Who may retry, by the rules of others.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use resilience::{Classify, GrpcClassifier, Outcome, RetryBudget, RetryRule};
use tokio::time::Instant;
use tonic::Status;

/// No budget: everything that may be retried is.
#[derive(Debug)]
pub struct Unlimited;

impl RetryBudget for Unlimited {
    fn withdraw(&self) -> bool {
        true
    }

    fn refund(&self) {}

    fn deposit(&self) {}

    fn tokens(&self) -> f64 {
        f64::INFINITY
    }
}

/// gRPC's throttle (gRFC A6): a token for each failed attempt, `ratio` of one for each success,
/// and no retries while half of the tokens or more are gone.
///
/// A budget and a classifier in one: it must see every failure, also those after which nothing
/// would be retried, and the classifier does.
#[derive(Debug)]
pub struct GrpcThrottle {
    max: f64,
    ratio: f64,
    tokens: Mutex<f64>,
}

impl GrpcThrottle {
    /// A full one.
    #[must_use]
    pub fn new(max: f64, ratio: f64) -> Self {
        Self {
            max,
            ratio,
            tokens: Mutex::new(max),
        }
    }

    fn add(&self, tokens: f64) {
        let mut balance = lock(&self.tokens);
        *balance = (*balance + tokens).clamp(0.0, self.max);
    }
}

impl RetryBudget for GrpcThrottle {
    fn withdraw(&self) -> bool {
        *lock(&self.tokens) > self.max / 2.0
    }

    /// A retry has succeeded.
    fn refund(&self) {
        self.add(self.ratio);
    }

    fn deposit(&self) {
        self.add(self.ratio);
    }

    fn tokens(&self) -> f64 {
        *lock(&self.tokens)
    }
}

impl Classify for GrpcThrottle {
    /// Asked once for each attempt that failed.
    fn retry(&self, status: &Status) -> RetryRule {
        let rule = GrpcClassifier.retry(status);
        if rule != RetryRule::Never {
            self.add(-1.0);
        }
        rule
    }

    fn outcome(&self, status: &Status) -> Outcome {
        GrpcClassifier.outcome(status)
    }
}

/// The quota of the AWS SDKs' standard mode: 500 tokens; a retry costs 14 and gets them back
/// when it succeeds; a call that succeeds at once earns 1.
#[derive(Debug)]
pub struct AwsQuota(Mutex<u32>);

impl AwsQuota {
    const CAPACITY: u32 = 500;
    const COST: u32 = 14;

    fn add(&self, tokens: u32) {
        let mut balance = lock(&self.0);
        *balance = (*balance + tokens).min(Self::CAPACITY);
    }
}

impl Default for AwsQuota {
    fn default() -> Self {
        Self(Mutex::new(Self::CAPACITY))
    }
}

impl RetryBudget for AwsQuota {
    fn withdraw(&self) -> bool {
        let mut balance = lock(&self.0);
        let left = balance.checked_sub(Self::COST);
        left.inspect(|left| *balance = *left).is_some()
    }

    fn refund(&self) {
        self.add(Self::COST);
    }

    fn deposit(&self) {
        self.add(1);
    }

    fn tokens(&self) -> f64 {
        f64::from(*lock(&self.0)) / f64::from(Self::COST)
    }
}

/// Finagle's budget, which is Linkerd's too: a fifth of the calls of the last 10 s, and 10
/// retries a second on top.
///
/// Calls deposit when they begin, whatever becomes of them; deposits and withdrawals are
/// forgotten after 10 s, in steps of one.
#[derive(Debug)]
pub struct FinagleBudget {
    began: Instant,
    /// The balance of each second, in calls: the number of the second, and what it added.
    seconds: Mutex<VecDeque<(u64, i64)>>,
}

impl FinagleBudget {
    const SECONDS: u64 = 10;
    /// What a retry costs, in calls: one in five may be retried.
    const COST: i64 = 5;
    /// 10 retries for each of the 10 seconds.
    const RESERVE: i64 = 100 * Self::COST;

    /// A call begins.
    pub fn call(&self) {
        self.add(1);
    }

    fn add(&self, calls: i64) {
        let second = self.began.elapsed().as_secs();
        let mut seconds = lock(&self.seconds);
        match seconds.back_mut() {
            Some((last, sum)) if *last == second => *sum += calls,
            _ => seconds.push_back((second, calls)),
        }
    }

    fn balance(&self) -> i64 {
        let second = self.began.elapsed().as_secs();
        let mut seconds = lock(&self.seconds);
        while seconds
            .front()
            .is_some_and(|(first, _)| first + Self::SECONDS <= second)
        {
            seconds.pop_front();
        }
        Self::RESERVE + seconds.iter().map(|(_, sum)| sum).sum::<i64>()
    }
}

impl Default for FinagleBudget {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            seconds: Mutex::default(),
        }
    }
}

impl RetryBudget for FinagleBudget {
    fn withdraw(&self) -> bool {
        let enough = self.balance() >= Self::COST;
        if enough {
            self.add(-Self::COST);
        }
        enough
    }

    /// What was paid is spent, whatever becomes of the retry.
    fn refund(&self) {}

    /// Calls have deposited when they began.
    fn deposit(&self) {}

    fn tokens(&self) -> f64 {
        self.balance() as f64 / Self::COST as f64
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn withdrawals(budget: &impl RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.withdraw()).count()
    }

    #[test]
    fn grpc_stops_when_half_of_its_tokens_are_gone() {
        let throttle = GrpcThrottle::new(10.0, 0.1);
        let failure = Status::unavailable("");
        for failures in 1..=5 {
            throttle.retry(&failure);
            assert_eq!(throttle.withdraw(), failures < 5, "after {failures}");
        }
        throttle.deposit();
        assert!(throttle.withdraw());
        // Answers cost nothing.
        throttle.retry(&Status::not_found(""));
        assert!(throttle.withdraw());
    }

    #[test]
    fn the_quota_of_aws_pays_for_35_retries_and_14_successes_for_one() {
        let quota = AwsQuota::default();
        assert_eq!(withdrawals(&quota), 35);
        (0..3).for_each(|_| quota.deposit());
        assert!(!quota.withdraw(), "10 are left of 500, and 3 were earned");
        quota.deposit();
        assert!(quota.withdraw());
        quota.refund();
        assert!(quota.withdraw());
    }

    #[tokio::test(start_paused = true)]
    async fn finagle_gives_a_fifth_of_the_last_ten_seconds_and_a_hundred() {
        let budget = FinagleBudget::default();
        (0..500).for_each(|_| budget.call());
        assert_eq!(withdrawals(&budget), 200);
        advance(Duration::from_secs(9)).await;
        assert_eq!(withdrawals(&budget), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(
            withdrawals(&budget),
            100,
            "the reserve, and nothing of before"
        );
    }
}
