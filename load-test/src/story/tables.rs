//! The tables of the report.

use std::time::Duration;

use report::{
    Cell, Column, Table, Tone,
    words::{at_least, at_most, short},
};

use crate::{
    claims::{Claim, Verdict},
    figures::PhaseFigures,
    results::{Judged, Results},
};

pub(super) fn claims_table(results: &Results) -> Table {
    let mut head = vec![
        Column::words("claim"),
        Column::figures("required"),
        Column::figures("measured"),
    ];
    head.extend(
        results
            .plain
            .is_some()
            .then(|| Column::figures("tonic alone")),
    );
    let row = |(index, claim): (usize, &Claim)| {
        let mut row = vec![
            Cell::from(claim.name()),
            claim.required.as_str().into(),
            measured(claim),
        ];
        let plain = results.plain.as_ref();
        // What is claimed of tonic alone has nothing beside it.
        row.extend(plain.map(|plain| plain.claims.get(index).map_or_else(|| "".into(), beside)));
        row
    };
    Table {
        head,
        rows: results.claims().iter().enumerate().map(row).collect(),
        cards: true,
    }
}

fn measured(claim: &Claim) -> Cell {
    let tone = match claim.verdict {
        Verdict::Passed => Tone::Good,
        Verdict::Missed => Tone::Bad,
        Verdict::NotMeasured => Tone::Neutral,
    };
    // The colour alone must not carry the verdict.
    let text = match claim.verdict {
        Verdict::Passed => format!("{} ✔", claim.measured),
        Verdict::Missed => format!("{} ✘", claim.measured),
        Verdict::NotMeasured => "not measured".to_owned(),
    };
    Cell::toned(text, tone)
}

/// What tonic alone cannot be asked is no gap.
fn beside(claim: &Claim) -> Cell {
    match claim.verdict {
        Verdict::NotMeasured => dash().into(),
        Verdict::Passed | Verdict::Missed => measured(claim),
    }
}

pub(super) fn phase_table(judged: &Judged) -> Table {
    let columns = [
        "calls",
        "created",
        "in time",
        "p50",
        "p95",
        "p99",
        "slowest",
        "attempts each",
        "retries",
        "breaker open",
    ];
    let mut head = vec![
        Column::figures("#"),
        Column::words("phase"),
        Column::figures("from"),
    ];
    head.extend(columns.map(Column::figures));
    let time = |time: Option<Duration>| time.map_or_else(dash, short);
    let share =
        |share: Option<f64>| share.map_or_else(dash, |share| at_least(share * 100.0, 2, " %"));
    let row = |(index, phase): (usize, &PhaseFigures)| {
        let cut = if phase.span.complete {
            ""
        } else {
            " (cut short)"
        };
        let seconds = |time: Duration| format!("{:.0} s", time.as_secs_f64());
        vec![
            Cell::from((index + 1).to_string()),
            format!("{}{cut}", phase.span.kind).into(),
            seconds(phase.span.start).into(),
            phase.calls.to_string().into(),
            share(phase.success).into(),
            share(phase.in_time).into(),
            time(phase.p50).into(),
            time(phase.p95).into(),
            time(phase.p99).into(),
            time(phase.slowest).into(),
            phase
                .attempts_per_call
                .map_or_else(dash, |attempts| at_most(attempts, 2, ""))
                .into(),
            phase
                .retries
                .map_or_else(dash, |retries| format!("{retries:.0}"))
                .into(),
            phase
                .open
                .map_or_else(dash, |open| format!("{:.1} s", open.as_secs_f64()))
                .into(),
        ]
    };
    Table {
        head,
        rows: judged.phases.iter().enumerate().map(row).collect(),
        cards: false,
    }
}

fn dash() -> String {
    "–".to_owned()
}
