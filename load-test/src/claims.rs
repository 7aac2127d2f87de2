//! What the resilient client promises, each a number, and whether a run has kept it.
//!
//! The required figures stand in [`required`] and nowhere else; `measured` has the others.
//! Judging is a function of a recording: nothing here knows where it came from.

pub mod required;

mod measured;

use std::time::Duration;

use measured::{
    Measured, attempts_in, attempts_in_outage, breaker_closes, breaker_opens, calls_in,
    goodput_in_brownout, recovers, retries_in_outage, slowest_answer, spans, success_at_rest,
    success_in,
};
use report::words::{at_least, short};

use crate::{phases::Kind, recording::Recording};

/// The settings that the promises depend on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The order service's total time for a call to the user service.
    pub deadline: Duration,
    /// How many retries the order service's budget holds when it is full.
    pub budget_capacity: u32,
}

impl Terms {
    /// How long an answer may take, however it ends.
    pub fn latest(&self) -> Duration {
        self.deadline + required::PAST_DEADLINE
    }
}

/// One promise, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// When it holds: `10 % errors`.
    pub when: String,
    /// What is promised, without the figure: `success`.
    pub what: &'static str,
    /// The figure required, for people.
    pub required: String,
    /// The figure measured, for people; or why there is none.
    pub measured: String,
    /// Whether it was kept.
    pub verdict: Verdict,
}

impl Claim {
    /// `hang: breaker open after`.
    pub fn name(&self) -> String {
        format!("{}: {}", self.when, self.what)
    }
}

/// Whether a claim was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Passed,
    /// It was not.
    Missed,
    /// Nobody can say.
    NotMeasured,
}

/// Judges every claim that the planned phases give reason for.
pub fn judge(recording: &Recording, terms: &Terms) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut claim = |when: String, what, required, measured: Measured| {
        let (measured, verdict) = match measured {
            Ok((figure, true)) => (figure, Verdict::Passed),
            Ok((figure, false)) => (figure, Verdict::Missed),
            Err(why) => (why, Verdict::NotMeasured),
        };
        claims.push(Claim {
            when,
            what,
            required,
            measured,
            verdict,
        });
    };
    let planned = |kind: Kind| recording.planned.iter().any(|phase| phase.kind == kind);

    if Kind::AT_REST.into_iter().any(planned) {
        claim(
            "steady and slow".to_owned(),
            "success",
            format!("≥ {}", at_least(required::SUCCESS_AT_REST * 100.0, 0, " %")),
            success_at_rest(recording),
        );
    }
    for (kind, share, attempts) in [
        (
            Kind::Errors(10),
            required::SUCCESS_AT_10,
            required::ATTEMPTS_AT_10,
        ),
        (
            Kind::Errors(30),
            required::SUCCESS_AT_30,
            required::ATTEMPTS_AT_30,
        ),
    ] {
        if planned(kind) {
            claim(
                kind.to_string(),
                "success",
                format!("≥ {}", at_least(share * 100.0, 1, " %")),
                success_in(recording, kind, share),
            );
            claim(
                kind.to_string(),
                "attempts per call",
                format!("≤ {attempts:.2}"),
                attempts_in(recording, kind, attempts),
            );
        }
    }

    let latest = terms.latest();
    if planned(Kind::Brownout) {
        let least = required::GOODPUT_IN_BROWNOUT * 100.0;
        claim(
            Kind::Brownout.to_string(),
            "created in time, of what can be served",
            format!("≥ {}", at_least(least, 0, " %")),
            goodput_in_brownout(recording, latest),
        );
    }
    claim(
        "every phase".to_owned(),
        "slowest answer",
        format!("≤ {}", short(latest)),
        slowest_answer(&recording.calls, recording, latest),
    );
    if planned(Kind::Hang) {
        let hang = spans(recording, |span| span.kind == Kind::Hang);
        claim(
            "hang".to_owned(),
            "slowest answer",
            format!("≤ {}", short(latest)),
            hang.and_then(|spans| {
                let calls = calls_in(recording, &spans);
                slowest_answer(&calls, recording, latest)
            }),
        );
        claim(
            "hang".to_owned(),
            "breaker open after",
            format!("≤ {}", short(required::OPEN_AFTER)),
            breaker_opens(recording),
        );
    }
    if recovery_planned(recording, |kind| kind == Kind::Hang) {
        claim(
            "end of hang".to_owned(),
            "breaker closed after",
            format!("≤ {}", short(required::CLOSED_AFTER)),
            breaker_closes(recording),
        );
    }
    if recording.planned.iter().any(|phase| phase.kind.is_outage()) {
        let most = terms.budget_capacity + required::RETRIES_PAST_BUDGET;
        claim(
            "outage".to_owned(),
            "retries in all",
            format!("≤ {most}"),
            retries_in_outage(recording, most),
        );
        claim(
            "outage".to_owned(),
            "attempts per call",
            format!(
                "≤ {:.2} (naive retries: {:.1})",
                required::ATTEMPTS_IN_OUTAGE,
                required::NAIVE_ATTEMPTS
            ),
            attempts_in_outage(recording),
        );
    }
    if recovery_planned(recording, |_| true) {
        claim(
            format!("from {} after a fault", short(required::WELL_AFTER)),
            "success",
            format!(
                "≥ {}",
                at_least(required::SUCCESS_WHEN_WELL * 100.0, 0, " %")
            ),
            recovers(recording),
        );
    }
    claims
}

/// What the same phases must show of tonic alone: that they do harm. Where they do none, a
/// promise that was kept says nothing.
///
/// `plain` is what became of the promises without the resilient client.
pub fn contrast(plain: &[Claim]) -> Vec<Claim> {
    const HARMFUL: [(&str, &str); 3] = [
        ("10 % errors", "success"),
        ("30 % errors", "success"),
        ("hang", "slowest answer"),
    ];
    let harmful = plain
        .iter()
        .filter(|claim| HARMFUL.contains(&(claim.when.as_str(), claim.what)));
    harmful
        .map(|claim| Claim {
            when: format!("tonic alone, {}", claim.when),
            what: claim.what,
            required: format!("not {}", claim.required),
            measured: claim.measured.clone(),
            verdict: match claim.verdict {
                Verdict::Passed => Verdict::Missed,
                Verdict::Missed => Verdict::Passed,
                Verdict::NotMeasured => Verdict::NotMeasured,
            },
        })
        .collect()
}

fn recovery_planned(recording: &Recording, fault: impl Fn(Kind) -> bool) -> bool {
    recording.planned.windows(2).any(|pair| {
        let (before, after) = (pair[0].kind, pair[1].kind);
        !before.is_clean() && after.is_clean() && fault(before)
    })
}

#[cfg(test)]
mod tests;
