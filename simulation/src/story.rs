//! The figures as a page with plots.

use std::time::Duration;

use report::{Cell, Column as Head, Figure, Lines, Page, Panel, Scale, Series, Shade, Table, Tone};

use crate::{
    claims::Claim,
    matrix::{Matrix, Plan},
    recording::{Recording, SLICE, Slice},
    script::Script,
    table::{Column, better_than_ours},
};

/// Slices that make one point of a line.
const POINT: usize = 5;

/// A queue without end is drawn up to here, or the others would lie on the ground.
const WAITING_MAX: f64 = 5_000.0;

/// The whole page as one HTML file.
#[must_use]
pub fn html(plan: &Plan, matrix: &Matrix, claims: &[Claim]) -> String {
    let mut page = Page::new("Simulation");
    let missed = claims.iter().filter(|claim| !claim.held).count();
    let (tone, headline) = match (missed, claims.len()) {
        (_, 0) => (Tone::Neutral, "No claim was judged".to_owned()),
        (0, all) => (Tone::Good, format!("{all} of {all} claims held")),
        (missed, all) => (Tone::Bad, format!("{missed} of {all} claims missed")),
    };
    page.banner(tone, &headline, &lead(plan));

    if !claims.is_empty() {
        page.section("What is claimed");
        page.table(&claims_table(claims));
    }
    let better = better_than_ours(plan, matrix);
    if !better.is_empty() {
        page.section("Where others do better than ours");
        page.text(
            "The median over the seeds; in brackets the attempts that it takes for each call. \
             What is answered by retrying without a bound is paid for elsewhere in the table.",
        );
        for line in better {
            page.text(&line);
        }
    }
    for column in Column::ALL {
        page.section(&sentence(column.title()));
        page.text("The median over the seeds, and the worst where that is another.");
        page.table(&figures_table(column, plan, matrix));
    }
    page.section("Script by script");
    page.text(&format!(
        "The run of seed {}. A point is half a second; what is answered counts where its call \
         began. Shaded: the fault.",
        plan.seeds.first().copied().unwrap_or_default()
    ));
    for script in &plan.scripts {
        page.figure(&figure(script, plan, matrix), script.title);
    }
    page.section("The policies, and where they come from");
    let policies: Vec<_> = plan
        .policies
        .iter()
        .map(|policy| {
            (
                policy.id.to_owned(),
                format!("{} ({})", policy.title, policy.source),
            )
        })
        .collect();
    page.facts(&policies);
    page.html()
}

/// A picture of the first script, as an SVG file.
#[must_use]
pub fn picture(plan: &Plan, matrix: &Matrix) -> String {
    let first = plan.scripts.first();
    first.map_or_else(String::new, |script| {
        figure(script, plan, matrix).standalone_svg()
    })
}

fn lead(plan: &Plan) -> String {
    format!(
        "{} scripts, {} policies, {} seeds: {} runs in virtual time. Clients have the production \
         layers; the server is a model. The same seed makes the same run.",
        plan.scripts.len(),
        plan.policies.len(),
        plan.seeds.len(),
        plan.runs()
    )
}

/// With a capital.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

fn claims_table(claims: &[Claim]) -> Table {
    let row = |claim: &Claim| {
        let verdict = match claim.held {
            true => Cell::toned("held", Tone::Good),
            false => Cell::toned("missed", Tone::Bad),
        };
        vec![
            claim.text.into(),
            claim.required.as_str().into(),
            claim.measured.as_str().into(),
            verdict,
        ]
    };
    Table {
        head: vec![
            Head::words("claim, in every run"),
            Head::figures("required"),
            Head::figures("worst"),
            Head::words("verdict"),
        ],
        rows: claims.iter().map(row).collect(),
        cards: true,
    }
}

fn figures_table(column: Column, plan: &Plan, matrix: &Matrix) -> Table {
    // Ours first, for not all of them fit on every screen.
    let policies = || plan.policies.iter().rev();
    let mut head = vec![Head::words("script")];
    head.extend(policies().map(|policy| Head::figures(policy.id)));
    let rows = plan.scripts.iter().map(|script| {
        let mut row: Vec<Cell> = vec![script.id.into()];
        row.extend(policies().map(|policy| {
            let cell = matrix.cell(script.id, policy.id);
            let spread = cell.and_then(|cell| column.spread(&cell.figures, script));
            let text = spread.map_or_else(String::new, |spread| {
                let (median, worst) = (column.shown(spread.median), column.shown(spread.worst));
                match median == worst {
                    true => median,
                    false => format!("{median} ({worst})"),
                }
            });
            Cell::from(text.as_str())
        }));
        row
    });
    Table {
        head,
        rows: rows.collect(),
        cards: false,
    }
}

/// The policies that are drawn, the most important on top, and their colours.
const DRAWN: [(&str, Tone); 7] = [
    ("none", Tone::Neutral),
    ("naive", Tone::Bad),
    ("r4j", Tone::Worse),
    ("aws", Tone::Warn),
    ("polly", Tone::Other),
    ("yours", Tone::Good),
    ("ours", Tone::Main),
];

fn figure(script: &Script, plan: &Plan, matrix: &Matrix) -> Figure {
    let runs: Vec<_> = DRAWN
        .iter()
        .filter(|(id, _)| plan.policies.iter().any(|policy| policy.id == *id))
        .filter_map(|(id, tone)| Some((*id, *tone, &matrix.cell(script.id, id)?.first)))
        .collect();
    let series = |of: &dyn Fn(&[Slice]) -> Option<f64>| -> Vec<Series> {
        runs.iter()
            .map(|(id, tone, recording)| Series {
                name: (*id).to_owned(),
                tone: *tone,
                points: points(recording, script.length, of),
            })
            .collect()
    };
    let counts = |title: &str, series: Vec<Series>, most: f64| {
        let values = series.iter().flat_map(|one| &one.points);
        let max = values.filter_map(|(_, value)| *value).fold(1.0, f64::max);
        let max = max.min(most);
        Panel::Lines(Lines {
            title: title.to_owned(),
            scale: Scale::Linear {
                max: max * 1.05,
                unit: "",
            },
            series,
            marks: Vec::new(),
        })
    };
    let answered = Panel::Lines(Lines {
        title: "Calls answered".to_owned(),
        scale: Scale::Linear {
            max: 104.0,
            unit: " %",
        },
        series: series(&|slices| {
            let calls = sum(slices, |slice| slice.calls);
            (calls > 0.0).then(|| 100.0 * sum(slices, |slice| slice.ok) / calls)
        }),
        marks: Vec::new(),
    });
    let attempts = series(&|slices| {
        Some(sum(slices, |slice| slice.attempts) / (SLICE.as_secs_f64() * slices.len() as f64))
    });
    let waiting = series(&|slices| slices.last().map(|slice| f64::from(slice.queued)));
    Figure {
        title: format!("{}: {}", script.id, script.title),
        seconds: script.length.as_secs_f64(),
        shades: shades(script),
        panels: vec![
            answered,
            counts("Attempts a second", attempts, f64::INFINITY),
            counts("Requests waiting at the server", waiting, WAITING_MAX),
        ],
    }
}

fn shades(script: &Script) -> Vec<Shade> {
    let end = script.over.unwrap_or(script.length);
    let shade = |label: &str, start: Duration, end: Duration, dark| Shade {
        label: label.to_owned(),
        start: start.as_secs_f64(),
        end: end.as_secs_f64(),
        dark,
    };
    vec![
        shade("", Duration::ZERO, script.begins, false),
        shade(script.id, script.begins, end, true),
        shade("", end, script.length, false),
    ]
}

fn points(
    recording: &Recording,
    length: Duration,
    of: &dyn Fn(&[Slice]) -> Option<f64>,
) -> Vec<(f64, Option<f64>)> {
    recording
        .between(Duration::ZERO, length)
        .chunks(POINT)
        .enumerate()
        .map(|(index, slices)| {
            let begins = SLICE.as_secs_f64() * (index * POINT) as f64;
            let middle = SLICE.as_secs_f64() * slices.len() as f64 / 2.0;
            (begins + middle, of(slices))
        })
        .collect()
}

fn sum(slices: &[Slice], of: impl Fn(&Slice) -> u32) -> f64 {
    slices.iter().map(|slice| f64::from(of(slice))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{claims::judge, policies};

    #[test]
    fn a_page_shows_every_script_policy_and_claim() {
        let mut script = Script::named("burst").unwrap();
        script.length = Duration::from_secs(11);
        let plan = Plan {
            scripts: vec![script],
            policies: vec![policies::none(), policies::ours()],
            seeds: vec![1],
        };
        let matrix = plan.run(|| ());
        let claims = judge(&matrix);
        let html = html(&plan, &matrix, &claims);
        for part in [
            "2 of 2 claims held",
            "all requests fail for 100 ms",
            "one attempt, no retries",
            "every call is answered by its deadline and 1 ms",
        ] {
            assert!(html.contains(part), "{part}");
        }
    }
}
