//! What came of a call, held against what its case says.

use std::fmt::Display;

use resilience::{Attempts, BreakerState, Delivery, RetryStopped, Scope, TimedOut, TransportError};
use tonic::{Code, Status};

use crate::{
    bench::{BUDGET, Bench, Counted},
    case::{Case, Origin, Retry, Says},
    server::Server,
};

/// What was not as told.
#[derive(Debug, Default)]
pub(crate) struct Wrong(pub(crate) Vec<String>);

impl Wrong {
    pub(crate) fn unless(&mut self, holds: bool, what: impl Display) {
        if !holds {
            self.0.push(what.to_string());
        }
    }
}

/// One call: what the caller got, and the means to find out the rest.
pub(crate) struct Met {
    pub(crate) server: Server,
    pub(crate) bench: Bench,
    pub(crate) result: Result<Attempts, Status>,
    /// Attempts that were sent, by the stack's own account.
    pub(crate) attempts: usize,
}

impl Met {
    /// The server never stops: the caller gets what the case says, after as
    /// many attempts as are due.
    pub(crate) async fn check_always(&self, case: &Case, idempotent: bool, wrong: &mut Wrong) {
        self.check_result(case, wrong);

        let (attempts, retries) = match (case.is_retried(idempotent), case.retry) {
            (Some(false), _) => (1..=1, Some(0)),
            // Three that count, and one that does not.
            (Some(true), Retry::Always) => (4..=4, Some(2)),
            // One more is lost, and made again for nothing, if it meets the end
            // of the connection that the one before was on.
            (Some(true), _) if case.dying => (3..=4, Some(2)),
            (Some(true), _) => (3..=3, Some(2)),
            (None, _) => (1..=4, None),
        };
        wrong.unless(
            attempts.contains(&self.attempts),
            format_args!("{} attempts, not {attempts:?}", self.attempts),
        );
        let tokens = self.bench.budget_tokens();
        wrong.unless(
            retries.is_none_or(|retries| tokens == BUDGET - f64::from(retries)),
            format_args!("{tokens} tokens left"),
        );
        self.check_stopped(case, idempotent, wrong);
        self.check_outcome(case, wrong);
        let counted = self.bench.counted().await;
        let told = counts(case.says, self.attempts);
        wrong.unless(
            counted == told,
            format_args!("the breaker counted {counted:?}, not {told:?}"),
        );
    }

    /// The server stops after the first: if the call is tried again at all, it
    /// succeeds.
    pub(crate) async fn check_once(&self, case: &Case, idempotent: bool, wrong: &mut Wrong) {
        if case.lasting {
            return;
        }
        let retried = case.is_retried(idempotent).unwrap_or(self.result.is_ok());
        let attempts = match retried {
            false => 1..=1,
            true if case.dying => 2..=4,
            true => 2..=2,
        };
        wrong.unless(
            attempts.contains(&self.attempts),
            format_args!("{} attempts, not {attempts:?}", self.attempts),
        );
        let mut told = counts(case.says, self.attempts);
        if retried {
            told = counts(case.says, self.attempts - 1);
            told.successes += 1;
            self.check_recovered(case, wrong);
        } else {
            self.check_result(case, wrong);
        }
        let tokens = self.bench.budget_tokens();
        let spent = if case.dying { 0.0..=1.0 } else { 0.0..=0.0 };
        wrong.unless(
            spent.contains(&(BUDGET - tokens)),
            format_args!("{tokens} tokens left: a retry that succeeded costs nothing"),
        );
        let counted = self.bench.counted().await;
        wrong.unless(
            counted == told,
            format_args!("the breaker counted {counted:?}, not {told:?}"),
        );
    }

    /// A probe decides at once, or gives its place back.
    pub(crate) fn check_probe(&self, case: &Case, wrong: &mut Wrong) {
        // One that is sent again at once finds the circuit open, and the caller
        // gets the first result or the second.
        if case.retry != Retry::Always && case.retry != Retry::Race {
            self.check_result(case, wrong);
        }
        let told = match case.says {
            Says::Success | Says::Answered => BreakerState::Closed,
            Says::Failure => BreakerState::Open,
            Says::Nothing => BreakerState::HalfOpen,
        };
        let state = self.bench.breaker_state();
        wrong.unless(
            state == told,
            format_args!("the circuit is {state:?}, not {told:?}"),
        );
    }

    /// What holds whatever happens.
    pub(crate) fn check_bounds(&self, case: &Case, wrong: &mut Wrong) {
        let (requests, connections) = (self.server.requests(), self.server.connections());
        let seen = if case.blind {
            requests <= self.attempts
        } else {
            requests == self.attempts
        };
        wrong.unless(
            seen,
            format_args!("{} attempts, and {requests} seen", self.attempts),
        );
        wrong.unless(
            connections <= self.attempts,
            format_args!("{} attempts on {connections} connections", self.attempts),
        );
        wrong.unless(self.bench.in_flight() == 0, "a slot was not given back");
    }

    fn check_result(&self, case: &Case, wrong: &mut Wrong) {
        match &self.result {
            Ok(_) => wrong.unless(case.code == Code::Ok, "it succeeded"),
            Err(status) => {
                wrong.unless(
                    status.code() == case.code,
                    format_args!("{status:?}, not {:?}", case.code),
                );
                let transport = TransportError::of(status).map(TransportError::delivery);
                let timed_out = TimedOut::of(status).map(|timed_out| timed_out.scope);
                let told = match case.origin {
                    Origin::Upstream | Origin::Codec => (None, None),
                    Origin::NotProcessed => (Some(Delivery::NotProcessed), None),
                    Origin::MaybeProcessed => (Some(Delivery::Unknown), None),
                    Origin::Race => (transport.or(Some(Delivery::Unknown)), None),
                    Origin::Timer => (None, Some(Scope::Attempt)),
                };
                wrong.unless(
                    (transport, timed_out) == told,
                    format_args!("caused by {transport:?} {timed_out:?}, not {told:?}"),
                );
            }
        }
    }

    fn check_recovered(&self, case: &Case, wrong: &mut Wrong) {
        match &self.result {
            Ok(Attempts {
                retries,
                transparent,
                ..
            }) => {
                let told = match case.retry {
                    // A transparent one may be lost, or be the second.
                    _ if case.dying => retries + transparent >= 1,
                    Retry::Always => (*retries, *transparent) == (0, 1),
                    _ => (*retries, *transparent) == (1, 0),
                };
                wrong.unless(
                    told,
                    format_args!("{retries} retries, {transparent} transparent"),
                );
            }
            Err(status) => wrong.unless(false, format_args!("not tried again: {status:?}")),
        }
    }

    /// What stopped the retries: in the metrics, and in the status unless the
    /// response was the caller's by then.
    fn check_stopped(&self, case: &Case, idempotent: bool, wrong: &mut Wrong) {
        let counted = self
            .bench
            .counter("resilience_retries_stopped_total", "reason");
        let told = case.stopped_by(idempotent);
        let depends = case.is_retried(idempotent).is_none();
        let right = match (counted.as_slice(), told) {
            ([], None) => true,
            ([(reason, 1)], Some(told)) => reason == told || depends && reason == "not_idempotent",
            _ => false,
        };
        wrong.unless(right, format_args!("stopped by {counted:?}, not {told:?}"));

        let stopped = self.result.as_ref().err().and_then(RetryStopped::of);
        let named = stopped.map(|stopped| (stopped.reason().as_str(), stopped.attempts() as usize));
        let told = match told {
            Some(told) if !case.committed => Some((told, self.attempts)),
            _ => None,
        };
        wrong.unless(
            named == told || depends && named == Some(("not_idempotent", self.attempts)),
            format_args!("the status names {named:?}, not {told:?}"),
        );
    }

    /// How the call is counted.
    fn check_outcome(&self, case: &Case, wrong: &mut Wrong) {
        let told = match (case.says, case.origin) {
            (Says::Success, _) => "ok",
            // All that the stack sees is a caller that goes away.
            (Says::Nothing, Origin::Codec) => "cancelled",
            _ => "failed",
        };
        let counted = self.bench.counter("resilience_calls_total", "outcome");
        let right = counted.iter().eq([&(told.to_owned(), 1)]);
        wrong.unless(right, format_args!("counted as {counted:?}, not {told}"));
    }
}

/// What a closed circuit has counted after so many attempts that say this.
fn counts(says: Says, attempts: usize) -> Counted {
    let (successes, failures) = match says {
        Says::Success => (attempts, 0),
        Says::Failure => (0, attempts),
        Says::Answered | Says::Nothing => (0, 0),
    };
    Counted {
        successes,
        failures,
    }
}
