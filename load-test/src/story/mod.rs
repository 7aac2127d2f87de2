//! The report of a load test: what is drawn, what stands in the tables, and in which order.

mod panels;
mod tables;

use report::{
    Page, Tone,
    words::{count, short},
};

use crate::{
    generator::Limits, phases::Kind, recording::Ending, results::Results, settings::Place,
    verdict::gaps, versions::versions,
};

use panels::{everything, main_picture};
use tables::{claims_table, phase_table};

const TITLE: &str = "Orders while the user service fails";

/// The whole report as one HTML file.
pub fn html(results: &Results) -> String {
    let mut page = Page::new(TITLE);
    page.banner(tone(results), &results.tally().headline(), &lead(results));
    page.table(&claims_table(results));
    for gap in gaps(&results.claims()) {
        page.text(&gap);
    }

    page.section("What happened");
    page.figure(&everything(results), &caption(results));

    page.section("Phase by phase");
    page.table(&phase_table(&results.resilient));
    if let Some(plain) = &results.plain {
        page.section("Phase by phase with tonic alone");
        page.table(&phase_table(plain));
    }

    page.section("What the user service does in each");
    let kinds = kinds(results).into_iter();
    let meanings: Vec<_> = kinds
        .map(|kind| (kind.to_string(), kind.meaning()))
        .collect();
    page.facts(&meanings);

    page.section("How to read this");
    for paragraph in explanations(results) {
        page.text(&paragraph);
    }

    page.section("To repeat it");
    page.facts(&facts(results));
    page.html()
}

/// The main picture as an SVG file: success, latency, breaker.
pub fn picture(results: &Results) -> String {
    main_picture(results).standalone_svg()
}

fn tone(results: &Results) -> Tone {
    let tally = results.tally();
    let trusted = *results.ending() == Ending::Complete && !results.resilient.pacing.bottleneck;
    match (tally.missed, tally.not_measured) {
        (0, 0) if trusted => Tone::Good,
        (0, _) => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// What was done, in a sentence or two.
fn lead(results: &Results) -> String {
    let recording = &results.resilient.recording;
    let faults: Vec<String> = kinds(results)
        .into_iter()
        .filter(|kind| !kind.is_clean())
        .map(|kind| kind.to_string())
        .collect();
    let faults = match faults.is_empty() {
        true => String::new(),
        false => format!(
            ", while the user service behind it went through: {}",
            faults.join(", ")
        ),
    };
    let mut lead = format!(
        "{} orders in {:.0} s, {} a second, placed with an order service{faults}.",
        count(recording.calls.len()),
        recording.length().as_secs_f64(),
        results.plan.rate,
    );
    for warning in results.warnings() {
        lead.push_str(&format!(" Note: {warning}."));
    }
    lead
}

/// The kinds of phases that there were, each once.
fn kinds(results: &Results) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for span in &results.resilient.recording.spans {
        if !kinds.contains(&span.kind) {
            kinds.push(span.kind);
        }
    }
    kinds
}

fn caption(results: &Results) -> String {
    let mut caption = "Shaded: the user service has a fault. All drawings share the axis of time. \
        While nothing can succeed (hang, down, stopped), what matters is that callers are told at once, \
        that the user service is left alone, and that orders are created again right after."
        .to_owned();
    if let Err(why) = &results.resilient.recording.samples {
        caption.push_str(&format!(
            " The order service's own figures are missing: {why}."
        ));
    }
    caption
}

fn explanations(results: &Results) -> Vec<String> {
    let pacing = results.resilient.pacing;
    let give_up = Limits::default().give_up;
    vec![
        format!(
            "Calls start on schedule, whatever becomes of the earlier ones, and the time to an \
             answer counts from the moment at which a call should have started: a slow service \
             cannot hide behind a generator that waits for it. A call without an answer is given \
             up after {}.",
            short(give_up)
        ),
        format!(
            "How late the generator was itself, {pacing}. With more than 1 of 100 calls held up, \
             or any not started, the report says that the generator was the bottleneck."
        ),
        "Created: the order service said CREATED; everything else is no success. Refused at once: \
         it said that it did not ask the user service, because the breaker was open or a limit was \
         reached. Failed: it asked, and got no good answer. An attempt is what was sent to the user \
         service; attempts per call divides by all calls, refused ones included. Breaker open: or \
         probing, that is, not letting calls through freely."
            .to_owned(),
    ]
}

fn facts(results: &Results) -> Vec<(String, String)> {
    let mut facts = vec![
        (
            "command".to_owned(),
            format!("cargo run --release -- {}", results.plan),
        ),
        ("began".to_owned(), results.began_text()),
        ("phases".to_owned(), results.plan.phases.to_string()),
        (
            "services".to_owned(),
            match results.plan.place {
                Place::Embedded => "both in the process of the load test".to_owned(),
                Place::Target(_) => "running elsewhere, with settings of their own".to_owned(),
            },
        ),
    ];
    let versions = versions().into_iter();
    facts.extend(versions.map(|(name, value)| (name.to_owned(), value)));
    facts.extend(results.settings.iter().cloned());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made_up::{Script, results},
        recording::{Client, Outcome},
    };

    fn script() -> Script {
        Script::new()
            .phase(Kind::Steady, 3, |_| (Outcome::Created, 2))
            .phase(Kind::Hang, 4, |_| (Outcome::Refused, 1))
    }

    #[test]
    fn the_verdict_comes_first_and_everything_needed_to_repeat_it_last() {
        let html = html(&results(script().recording(), None));
        let position = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text:?}"));
        let order = [
            "2 of 6 claims missed",
            "hang: breaker open after",
            "What happened",
            "Phase by phase",
            "To repeat it",
            "cargo run --release -- --rate 200 --seed 7",
        ];
        assert!(order.map(position).is_sorted());
        assert!(!html.contains("tonic alone"));
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        let mut plain = script().recording();
        plain.client = Client::Plain;
        plain.samples = Err("tonic alone counts nothing".to_owned());
        let results = results(script().recording(), Some(plain));
        let runs = results.runs().map(phase_table);
        for table in runs.chain([claims_table(&results)]) {
            assert!(!table.rows.is_empty());
            for row in &table.rows {
                assert_eq!(row.len(), table.head.len());
            }
        }
        assert!(html(&results).contains("Orders a second, tonic alone"));
    }

    #[test]
    fn a_run_that_broke_off_before_it_began_has_a_report_too() {
        let mut recording = script().recording();
        recording.ending = Ending::Broken("<the switch>".to_owned());
        recording.spans.clear();
        recording.calls.clear();
        recording.samples = Ok(Vec::new());
        let results = results(recording, None);
        let html = html(&results);
        assert!(html.contains("0 of 6 claims kept, 6 not measured"));
        assert!(html.contains("the run broke off: &lt;the switch&gt;"));
        assert!(picture(&results).starts_with("<svg"));
    }

    #[test]
    fn the_main_picture_is_small_enough_for_a_readme_however_long_the_run() {
        let long = Script::new()
            .phase(Kind::Errors(30), 600, |index| {
                (Outcome::Created, index % 97)
            })
            .recording();
        let results = results(long, None);
        assert!(picture(&results).len() < 100_000);
        assert!(html(&results).len() < 400_000);
    }
}
