//! The report of a load test: what is drawn, what stands in the tables, and in which order.

mod panels;
mod tables;

use crate::{
    generator::Limits,
    recording::Ending,
    report::{Page, Tone},
    results::Results,
    settings::Place,
    verdict::gaps,
    words::short,
};

use panels::{everything, main_picture};
use tables::{claims_table, phase_table};

const TITLE: &str = "Orders while the user service fails";

/// The whole report as one HTML file.
pub fn html(results: &Results) -> String {
    let mut page = Page::new(TITLE);
    page.banner(tone(results), &results.tally().headline(), &lead(results));
    page.table(&claims_table(results));
    for gap in gaps(&results.resilient.claims) {
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

    page.section("How to read this");
    for paragraph in explanations(results) {
        page.text(&paragraph);
    }

    page.section("To repeat it");
    let facts = facts(results);
    page.facts(
        facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    page.html()
}

/// The main picture as an SVG file: success, latency, breaker.
pub fn picture(results: &Results) -> String {
    main_picture(results).standalone_svg()
}

fn tone(results: &Results) -> Tone {
    let tally = results.tally();
    match (tally.missed, tally.not_measured) {
        (0, 0) if *results.ending() == Ending::Complete => Tone::Good,
        (0, _) => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// What was done, in a sentence or two.
fn lead(results: &Results) -> String {
    let recording = &results.resilient.recording;
    let mut faults: Vec<String> = Vec::new();
    for span in recording.spans.iter().filter(|span| !span.kind.is_clean()) {
        let name = span.kind.to_string();
        if !faults.contains(&name) {
            faults.push(name);
        }
    }
    let faults = match faults.is_empty() {
        true => String::new(),
        false => format!(
            ", while the user service behind it went through: {}",
            faults.join(", ")
        ),
    };
    let mut lead = format!(
        "{} orders in {:.0} s, {} a second, placed with an order service{faults}.",
        recording.calls.len(),
        recording.length().as_secs_f64(),
        results.plan.rate,
    );
    for warning in results.warnings() {
        lead.push_str(&format!(" Note: {warning}."));
    }
    lead
}

fn caption(results: &Results) -> String {
    let mut caption = "Shaded: the user service has a fault. All drawings share the axis of time. \
        While nothing can succeed (hang, down), what matters is that callers are told at once, \
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
            "How late the generator was itself: 99 of 100 calls started less than {} late, the \
             latest {}; {} were not started at all.",
            short(pacing.late_p99),
            short(pacing.late_max),
            pacing.not_started
        ),
        "Created: the order service said CREATED; everything else is no success. Refused at once: \
         it said that it did not ask the user service, because the breaker was open or a limit was \
         reached. Failed: it asked, and got no good answer. An attempt is what was sent to the user \
         service; attempts per call divides by all calls, refused ones included."
            .to_owned(),
    ]
}

fn facts(results: &Results) -> Vec<(String, String)> {
    let mut facts = vec![
        ("command".to_owned(), format!("load-test {}", results.plan)),
        ("began".to_owned(), results.began_text()),
        ("phases".to_owned(), results.plan.phases.to_string()),
        (
            "services".to_owned(),
            match results.plan.place {
                Place::Embedded => "both in the process of the load test".to_owned(),
                Place::Target(_) => "running elsewhere".to_owned(),
            },
        ),
    ];
    let versions = Results::versions();
    facts.extend(versions.map(|(name, value)| (name.to_owned(), value)));
    facts.extend(results.settings.iter().cloned());
    facts
}
