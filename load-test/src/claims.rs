//! What the resilient client promises, each a number, and whether a run has kept it.
//!
//! The required figures stand in [`required`] and nowhere else. Judging is a function of a
//! recording: nothing here knows where it came from.

pub mod required;

use std::time::Duration;

use report::words::{at_least, at_most, short};

use crate::{
    figures::{attempts_per_call, retries},
    phases::Kind,
    recording::{Ending, Outcome, Recording, Span, success_share},
    scrape::BreakerState,
};

/// A share of fewer calls than this is luck.
const CALLS_MIN: usize = 500;
/// A recovery is judged when at least this much of it is left after [`required::WELL_AFTER`].
const RECOVERY_WINDOW_MIN: Duration = Duration::from_secs(1);

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

/// A figure and whether it will do; or why there is none.
type Measured = Result<(String, bool), String>;

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
    claim(
        "every phase".to_owned(),
        "slowest answer",
        format!("≤ {}", short(latest)),
        slowest_answer(recording, latest),
    );
    if planned(Kind::Hang) {
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

fn success_in(recording: &Recording, kind: Kind, least: f64) -> Measured {
    let spans = spans(recording, |span| span.kind == kind)?;
    let calls: Vec<_> = spans
        .iter()
        .flat_map(|span| recording.calls_of(span))
        .copied()
        .collect();
    if calls.len() < CALLS_MIN {
        return Err(format!("{} calls are too few to judge", calls.len()));
    }
    let share = success_share(&calls).unwrap_or(0.0);
    Ok((at_least(share * 100.0, 2, " %"), share >= least))
}

fn attempts_in(recording: &Recording, kind: Kind, most: f64) -> Measured {
    let spans = spans(recording, |span| span.kind == kind)?;
    let worst = worst(&spans, |span| attempts_per_call(recording, span))
        .ok_or_else(|| no_figures(recording))?;
    Ok((at_most(worst.1, 3, ""), worst.1 <= most))
}

/// A late answer is the services' fault only if it is late without the generator's own delay.
fn slowest_answer(recording: &Recording, latest: Duration) -> Measured {
    let started = recording
        .calls
        .iter()
        .filter(|call| call.outcome != Outcome::NotStarted);
    let slowest = started
        .clone()
        .max_by_key(|call| call.latency)
        .ok_or_else(|| not_reached(recording))?;
    let late = started.filter(|call| call.latency > latest);
    let (total, excused) = late.fold((0, 0), |(total, excused), call| {
        let own = call.latency.saturating_sub(call.late) <= latest;
        (total + 1, excused + usize::from(own))
    });
    if total > 0 && total == excused {
        return Err(format!(
            "{total} calls started too late to tell: the generator was the bottleneck"
        ));
    }
    let figure = match total {
        0 => short(slowest.latency),
        1 => format!("{} (1 late)", short(slowest.latency)),
        _ => format!("{} ({total} late)", short(slowest.latency)),
    };
    Ok((figure, total == 0))
}

fn breaker_opens(recording: &Recording) -> Measured {
    let samples = recording.samples.as_deref();
    let samples = samples.map_err(|_| no_figures(recording))?;
    let spans = spans(recording, |span| span.kind == Kind::Hang)?;
    let opened = |span: &Span| {
        let within = |at| (span.start..=span.end).contains(&at);
        samples
            .iter()
            .find(|sample| within(sample.at) && sample.breaker == Some(BreakerState::Open))
            .map(|sample| sample.at - span.start)
    };
    let mut slowest = Duration::ZERO;
    for span in &spans {
        match opened(span) {
            Some(after) => slowest = slowest.max(after),
            None if span.length() < required::OPEN_AFTER => return Err(not_reached(recording)),
            None => return Ok((format!("not within {}", short(span.length())), false)),
        }
    }
    Ok((short(slowest), slowest <= required::OPEN_AFTER))
}

fn breaker_closes(recording: &Recording) -> Measured {
    let samples = recording.samples.as_deref();
    let samples = samples.map_err(|_| no_figures(recording))?;
    let mut slowest = None;
    for (fault, clean) in recoveries(recording) {
        if fault.kind != Kind::Hang {
            continue;
        }
        let within: Vec<_> = samples
            .iter()
            .filter(|sample| (clean.start..=clean.end).contains(&sample.at))
            .collect();
        // The last moment at which it was not closed: a breaker that closes only to open
        // again has not closed.
        let refusing = within
            .iter()
            .rposition(|sample| sample.breaker != Some(BreakerState::Closed));
        let closed = match refusing {
            None => within.first(),
            Some(index) => within.get(index + 1),
        };
        match closed {
            Some(sample) => slowest = slowest.max(Some(sample.at - clean.start)),
            None if clean.length() < required::CLOSED_AFTER => {
                return Err(not_reached(recording));
            }
            None => return Ok((format!("not within {}", short(clean.length())), false)),
        }
    }
    let slowest = slowest.ok_or_else(|| not_reached(recording))?;
    Ok((short(slowest), slowest <= required::CLOSED_AFTER))
}

fn retries_in_outage(recording: &Recording, most: u32) -> Measured {
    let spans = spans(recording, |span| span.kind.is_outage())?;
    let worst = worst(&spans, |span| retries(recording, span));
    let (span, retries) = worst.ok_or_else(|| no_figures(recording))?;
    let figure = format!(
        "{retries:.0} in {:.0} s of {}",
        span.length().as_secs_f64(),
        span.kind
    );
    Ok((figure, retries <= f64::from(most)))
}

fn recovers(recording: &Recording) -> Measured {
    let share = |(fault, clean): (Span, Span)| {
        let start = clean.start + required::WELL_AFTER;
        let end = clean.end.saturating_sub(required::BEFORE_NEXT_FAULT);
        let enough = start + RECOVERY_WINDOW_MIN <= clean.end;
        let calls = recording.calls_between(start, end);
        let share = success_share(calls).filter(|_| enough)?;
        Some((share, fault.kind))
    };
    let (worst, fault) = recoveries(recording)
        .filter_map(share)
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .ok_or_else(|| not_reached(recording))?;
    let figure = format!("{} after {fault}", at_least(worst * 100.0, 2, " %"));
    Ok((figure, worst >= required::SUCCESS_WHEN_WELL))
}

/// The phases of some kind that were begun.
fn spans(recording: &Recording, wanted: impl Fn(&Span) -> bool) -> Result<Vec<Span>, String> {
    let spans: Vec<_> = recording.spans.iter().copied().filter(wanted).collect();
    if spans.is_empty() {
        return Err(not_reached(recording));
    }
    Ok(spans)
}

/// The phase with the largest figure.
fn worst(spans: &[Span], figure: impl Fn(&Span) -> Option<f64>) -> Option<(Span, f64)> {
    let figures = spans.iter().map(|span| Some((*span, figure(span)?)));
    let figures: Option<Vec<_>> = figures.collect();
    figures?
        .into_iter()
        .max_by(|one, other| one.1.total_cmp(&other.1))
}

/// Each fault that is over, with the phase after it in which nothing is wrong.
fn recoveries(recording: &Recording) -> impl Iterator<Item = (Span, Span)> + '_ {
    recording
        .spans
        .windows(2)
        .filter(|pair| !pair[0].kind.is_clean() && pair[1].kind.is_clean())
        .map(|pair| (pair[0], pair[1]))
}

fn recovery_planned(recording: &Recording, fault: impl Fn(Kind) -> bool) -> bool {
    recording.planned.windows(2).any(|pair| {
        let (before, after) = (pair[0].kind, pair[1].kind);
        !before.is_clean() && after.is_clean() && fault(before)
    })
}

fn not_reached(recording: &Recording) -> String {
    match &recording.ending {
        Ending::Complete => "the phase was too short".to_owned(),
        Ending::Interrupted => "not reached: interrupted".to_owned(),
        Ending::Broken(_) => "not reached".to_owned(),
    }
}

fn no_figures(recording: &Recording) -> String {
    match &recording.samples {
        Ok(_) => not_reached(recording),
        Err(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests;
