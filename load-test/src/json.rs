//! The figures as JSON, for programs.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    claims::{Claim, Verdict},
    figures::{PhaseFigures, Slice},
    recording::Ending,
    results::{Judged, Results},
    verdict::Tally,
    versions::versions,
};

#[derive(Serialize)]
struct Document<'a> {
    command: String,
    began: String,
    ending: &'static str,
    warnings: Vec<String>,
    verdict: Tally,
    claims: Vec<ClaimRow<'a>>,
    versions: BTreeMap<&'static str, String>,
    resilient: Run<'a>,
    plain: Option<Run<'a>>,
}

#[derive(Serialize)]
struct Run<'a> {
    claims: Vec<ClaimRow<'a>>,
    phases: Vec<PhaseRow>,
    generator: GeneratorRow,
    series: Vec<SliceRow>,
}

#[derive(Serialize)]
struct ClaimRow<'a> {
    when: &'a str,
    what: &'a str,
    required: &'a str,
    measured: &'a str,
    verdict: &'static str,
}

#[derive(Serialize)]
struct PhaseRow {
    phase: String,
    start_seconds: f64,
    end_seconds: f64,
    complete: bool,
    calls: usize,
    success: Option<f64>,
    in_time: Option<f64>,
    goodput_per_second: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    slowest_ms: Option<f64>,
    attempts_per_call: Option<f64>,
    retries: Option<f64>,
    breaker_not_closed_seconds: Option<f64>,
}

#[derive(Serialize)]
struct GeneratorRow {
    late_p99_ms: f64,
    late_max_ms: f64,
    held_up: usize,
    not_started: usize,
    bottleneck: bool,
}

#[derive(Serialize)]
struct SliceRow {
    at_seconds: f64,
    created_per_second: f64,
    created_late_per_second: f64,
    refused_per_second: f64,
    failed_per_second: f64,
    no_answer_per_second: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    attempts_per_call: Option<f64>,
}

/// Everything but the single calls.
///
/// # Errors
/// None that is known of: every figure has a place in JSON.
pub fn document(results: &Results) -> serde_json::Result<String> {
    let claims = results.claims();
    serde_json::to_string_pretty(&Document {
        command: format!("load-test {}", results.plan),
        began: results.began_text(),
        ending: match results.ending() {
            Ending::Complete => "complete",
            Ending::Interrupted => "interrupted",
            Ending::Broken(_) => "broken",
        },
        warnings: results.warnings(),
        verdict: results.tally(),
        claims: claims.iter().map(claim).collect(),
        versions: versions().into_iter().collect(),
        resilient: run(&results.resilient),
        plain: results.plain.as_ref().map(run),
    })
}

fn run(judged: &Judged) -> Run<'_> {
    let pacing = judged.pacing;
    Run {
        claims: judged.claims.iter().map(claim).collect(),
        phases: judged.phases.iter().map(phase).collect(),
        generator: GeneratorRow {
            late_p99_ms: millis(pacing.late_p99),
            late_max_ms: millis(pacing.late_max),
            held_up: pacing.held_up,
            not_started: pacing.not_started,
            bottleneck: pacing.bottleneck,
        },
        series: judged.slices.iter().map(slice).collect(),
    }
}

fn claim(claim: &Claim) -> ClaimRow<'_> {
    ClaimRow {
        when: &claim.when,
        what: claim.what,
        required: &claim.required,
        measured: &claim.measured,
        verdict: match claim.verdict {
            Verdict::Passed => "passed",
            Verdict::Missed => "missed",
            Verdict::NotMeasured => "not measured",
        },
    }
}

fn phase(phase: &PhaseFigures) -> PhaseRow {
    PhaseRow {
        phase: phase.span.kind.to_string(),
        start_seconds: phase.span.start.as_secs_f64(),
        end_seconds: phase.span.end.as_secs_f64(),
        complete: phase.span.complete,
        calls: phase.calls,
        success: phase.success,
        in_time: phase.in_time,
        goodput_per_second: phase.goodput,
        p50_ms: phase.p50.map(millis),
        p95_ms: phase.p95.map(millis),
        p99_ms: phase.p99.map(millis),
        slowest_ms: phase.slowest.map(millis),
        attempts_per_call: phase.attempts_per_call,
        retries: phase.retries,
        breaker_not_closed_seconds: phase.open.map(|open| open.as_secs_f64()),
    }
}

fn slice(slice: &Slice) -> SliceRow {
    let [created, late, refused, failed, no_answer] = slice.per_second;
    let [p50_ms, p95_ms, p99_ms] = slice.latencies;
    SliceRow {
        at_seconds: slice.at,
        created_per_second: created,
        created_late_per_second: late,
        refused_per_second: refused,
        failed_per_second: failed,
        no_answer_per_second: no_answer,
        p50_ms,
        p95_ms,
        p99_ms,
        attempts_per_call: slice.attempts_per_call,
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
