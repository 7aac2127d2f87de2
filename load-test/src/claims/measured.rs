//! The figures that promises are judged by, each from a recording; or why there is none.

use std::time::Duration;

use report::words::{at_least, at_most, short};

use super::required;
use crate::{
    figures::{attempts_per_call, attempts_per_call_in_all, retries},
    phases::Kind,
    recording::{Call, Ending, Outcome, Recording, Span, success_share},
    scrape::BreakerState,
};

/// A share of fewer calls than this is luck.
const CALLS_MIN: usize = 500;
/// A recovery is judged when at least this much of it is left after [`required::WELL_AFTER`].
const RECOVERY_WINDOW_MIN: Duration = Duration::from_secs(1);
/// Of fewer calls in an outage, those by which the breaker becomes sure are too large a part.
const OUTAGE_CALLS_MIN: usize = 300;
/// And a shorter one is over soon after it may be sure.
const OUTAGE_MIN: Duration = Duration::from_secs(2);
/// In less, a brown-out is over before its queue is full.
const BROWNOUT_MIN: Duration = Duration::from_secs(2);

/// Why counters do not say what happened.
const RESTARTED: &str = "the order service was started again";

/// A figure and whether it will do; or why there is none.
pub(super) type Measured = Result<(String, bool), String>;

pub(super) fn calls_in(recording: &Recording, spans: &[Span]) -> Vec<Call> {
    let calls = spans.iter().flat_map(|span| recording.calls_of(span));
    calls.copied().collect()
}

/// The worse of what there were calls enough of.
pub(super) fn success_at_rest(recording: &Recording) -> Measured {
    let mut too_few = None;
    let mut worst: Option<(f64, Kind)> = None;
    for kind in Kind::AT_REST {
        let Ok(spans) = spans(recording, |span| span.kind == kind) else {
            continue;
        };
        match success_share_in(recording, &spans) {
            Ok(share) if worst.is_none_or(|(least, _)| share < least) => {
                worst = Some((share, kind));
            }
            Ok(_) => {}
            Err(why) => too_few = Some(why),
        }
    }
    let (share, kind) = worst.ok_or_else(|| too_few.unwrap_or_else(|| not_reached(recording)))?;
    let figure = format!("{} in {kind}", at_least(share * 100.0, 2, " %"));
    Ok((figure, share >= required::SUCCESS_AT_REST))
}

pub(super) fn success_in(recording: &Recording, kind: Kind, least: f64) -> Measured {
    let spans = spans(recording, |span| span.kind == kind)?;
    let share = success_share_in(recording, &spans)?;
    fault_arrived(recording, &spans)?;
    Ok((at_least(share * 100.0, 2, " %"), share >= least))
}

fn success_share_in(recording: &Recording, spans: &[Span]) -> Result<f64, String> {
    let calls = calls_in(recording, spans);
    if calls.len() < CALLS_MIN {
        return Err(format!("{} calls are too few to judge", calls.len()));
    }
    Ok(success_share(&calls).unwrap_or(0.0))
}

/// That failures were there to be retried, as far as anybody can tell.
///
/// Where the order service asks another user service than the one whose faults are set, nothing
/// fails and nothing is retried: what is kept then was not tried. (Nothing is retried by a
/// client that cannot, either; but its orders fail.)
fn fault_arrived(recording: &Recording, spans: &[Span]) -> Result<(), String> {
    let missed = |span: &Span| {
        let Kind::Errors(percent) = span.kind else {
            return false;
        };
        let share = success_share(recording.calls_of(span)).unwrap_or(0.0);
        let unharmed = 1.0 - share < f64::from(percent) / 100.0 / 2.0;
        unharmed && retries(recording, span) == Some(0.0)
    };
    match spans.iter().any(missed) {
        true => Err("the fault did not reach it".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn attempts_in(recording: &Recording, kind: Kind, most: f64) -> Measured {
    let spans = spans(recording, |span| span.kind == kind)?;
    fault_arrived(recording, &spans)?;
    let worst = worst(&spans, |span| attempts_per_call(recording, span))
        .ok_or_else(|| no_figures(recording, &spans))?;
    Ok((at_most(worst.1, 3, ""), worst.1 <= most))
}

/// How many of the answers that can be given in a brown-out are of use to somebody.
///
/// What can be given is what the user service's slots amount to on this machine, by the naps of
/// the control, or all that is asked for when that is less.
pub(super) fn goodput_in_brownout(recording: &Recording, latest: Duration) -> Measured {
    let spans = spans(recording, |span| span.kind == Kind::Brownout)?;
    if spans.iter().any(|span| span.length() < BROWNOUT_MIN) {
        return Err(not_reached(recording));
    }
    let figures = spans.iter().map(|span| {
        let seconds = span.length().as_secs_f64();
        // What still waits when the fault ends is answered by a user service that is well.
        let useful = |call: &&Call| {
            let done = call.intended + call.latency <= span.end;
            done && call.outcome == Outcome::Created && call.latency <= latest
        };
        let useful = recording.calls_of(span).iter().filter(useful).count();
        let goodput = useful as f64 / seconds;
        let asked = recording.calls_of(span).len() as f64 / seconds;
        let most = Kind::served_in_brownout(recording.nap_of(span)?);
        Some((goodput, most.min(asked)))
    });
    let figures: Option<Vec<_>> = figures.collect();
    let share = |(goodput, most): &(f64, f64)| goodput / most.max(f64::EPSILON);
    let worst = figures
        .and_then(|figures| {
            let worst = figures
                .iter()
                .min_by(|one, other| share(one).total_cmp(&share(other)));
            worst.copied()
        })
        .ok_or_else(|| not_reached(recording))?;
    let figure = format!(
        "{}, {} of {}/s",
        at_least(share(&worst) * 100.0, 1, " %"),
        at_least(worst.0, 1, ""),
        at_most(worst.1, 1, "")
    );
    Ok((figure, share(&worst) >= required::GOODPUT_IN_BROWNOUT))
}

/// A late answer is the services' fault only if it is late without the generator's own delay.
pub(super) fn slowest_answer(calls: &[Call], recording: &Recording, latest: Duration) -> Measured {
    let started = calls
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

pub(super) fn breaker_opens(recording: &Recording) -> Measured {
    let samples = recording.samples.as_deref();
    let samples = samples.map_err(Clone::clone)?;
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
        let before = recording.sample_before(span.start);
        match before.and_then(|sample| sample.breaker) {
            Some(BreakerState::Closed) => {}
            Some(state) => return Err(format!("it was {state} before the phase")),
            None => return Err("nobody knows how it was before the phase".to_owned()),
        }
        match opened(span) {
            Some(after) => slowest = slowest.max(after),
            None if span.length() < required::OPEN_AFTER => return Err(not_reached(recording)),
            None => return Ok((format!("not within {}", short(span.length())), false)),
        }
    }
    Ok((short(slowest), slowest <= required::OPEN_AFTER))
}

pub(super) fn breaker_closes(recording: &Recording) -> Measured {
    let samples = recording.samples.as_deref();
    let samples = samples.map_err(Clone::clone)?;
    let mut slowest = None;
    for (fault, clean) in recoveries(recording) {
        if fault.kind != Kind::Hang {
            continue;
        }
        if recording.restarted_between(fault.start, clean.end) {
            return Err(RESTARTED.to_owned());
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

pub(super) fn retries_in_outage(recording: &Recording, most: u32) -> Measured {
    let spans = spans(recording, |span| span.kind.is_outage())?;
    let worst = worst(&spans, |span| retries(recording, span));
    let (span, retries) = worst.ok_or_else(|| no_figures(recording, &spans))?;
    let figure = format!(
        "{retries:.0} in {:.0} s of {}",
        span.length().as_secs_f64(),
        span.kind
    );
    Ok((figure, retries <= f64::from(most)))
}

/// From the beginning of each outage, when it is not known yet, to its end.
pub(super) fn attempts_in_outage(recording: &Recording) -> Measured {
    let mut spans = spans(recording, |span| span.kind.is_outage())?;
    spans.retain(|span| {
        span.length() >= OUTAGE_MIN && recording.calls_of(span).len() >= OUTAGE_CALLS_MIN
    });
    let worst = worst(&spans, |span| attempts_per_call_in_all(recording, span));
    let worst = worst.ok_or_else(|| match &recording.samples {
        Ok(_) if spans.is_empty() => {
            format!(
                "no outage of {OUTAGE_CALLS_MIN} calls and {}",
                short(OUTAGE_MIN)
            )
        }
        _ => no_figures(recording, &spans),
    })?;
    let figure = format!("{} in {}", at_most(worst.1, 2, ""), worst.0.kind);
    Ok((figure, worst.1 <= required::ATTEMPTS_IN_OUTAGE))
}

pub(super) fn recovers(recording: &Recording) -> Measured {
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
pub(super) fn spans(
    recording: &Recording,
    wanted: impl Fn(&Span) -> bool,
) -> Result<Vec<Span>, String> {
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

fn not_reached(recording: &Recording) -> String {
    match &recording.ending {
        Ending::Complete => "the phase was too short".to_owned(),
        Ending::Interrupted => "not reached: interrupted".to_owned(),
        Ending::Broken(_) => "not reached".to_owned(),
    }
}

fn no_figures(recording: &Recording, spans: &[Span]) -> String {
    let restarted = |span: &Span| {
        let before = recording.sample_before(span.start);
        let after = recording.sample_after(span.end);
        let from = before.map_or(span.start, |sample| sample.at);
        let to = after.map_or(span.end, |sample| sample.at);
        recording.restarted_between(from, to)
    };
    match &recording.samples {
        Ok(_) if spans.iter().any(restarted) => RESTARTED.to_owned(),
        Ok(_) => not_reached(recording),
        Err(why) => why.clone(),
    }
}
