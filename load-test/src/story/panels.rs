//! The drawings of the report.

use report::{
    Figure, Lines, Mark, Panel, Scale, Segment, Series, Shade, Stack, Strip, Tone, words::short,
};

use super::TITLE;
use crate::{
    figures::Slice,
    recording::{Client, Recording, Span},
    results::{Judged, Results},
    scrape::{BreakerState, EVERY},
};

fn figure(results: &Results, panels: Vec<Panel>) -> Figure {
    let recording = &results.resilient.recording;
    let shade = |span: &Span| Shade {
        label: span.kind.to_string(),
        start: span.start.as_secs_f64(),
        end: span.end.as_secs_f64(),
        dark: !span.kind.is_clean(),
    };
    Figure {
        title: TITLE.to_owned(),
        seconds: recording.length().as_secs_f64(),
        shades: recording.spans.iter().map(shade).collect(),
        panels,
    }
}

/// Success, latency and the breaker: what a README has room for.
pub(super) fn main_picture(results: &Results) -> Figure {
    let mut panels = vec![success(results), latency(results)];
    panels.extend(breaker(&results.resilient.recording));
    figure(results, panels)
}

/// All there is to see.
pub(super) fn everything(results: &Results) -> Figure {
    let mut panels: Vec<Panel> = results
        .runs()
        .map(|judged| outcomes(results, judged))
        .collect();
    panels.push(success(results));
    panels.push(latency(results));
    panels.extend(breaker(&results.resilient.recording));
    panels.extend(attempts(results));
    figure(results, panels)
}

/// What became of the orders. What never happened, in no run, is left out.
fn outcomes(results: &Results, judged: &Judged) -> Panel {
    let tones = [
        Tone::Good,
        Tone::MainSoft,
        Tone::Warn,
        Tone::Bad,
        Tone::Worse,
    ];
    let happened = |index: usize| {
        let mut slices = results.runs().flat_map(|judged| &judged.slices);
        slices.any(|slice| slice.per_second[index] > 0.0)
    };
    let layer = |(index, tone): (usize, Tone)| Series {
        name: Slice::OUTCOMES[index].to_owned(),
        tone,
        points: points(&judged.slices, |slice| Some(slice.per_second[index])),
    };
    let layers = tones.into_iter().enumerate();
    Panel::Stack(Stack {
        title: match judged.recording.client {
            Client::Resilient => "Orders a second".to_owned(),
            Client::Plain => "Orders a second, tonic alone".to_owned(),
        },
        max: f64::from(results.plan.rate) * 1.05,
        layers: layers
            .filter(|(index, _)| happened(*index))
            .map(layer)
            .collect(),
    })
}

fn success(results: &Results) -> Panel {
    let line = |judged: &Judged, name: &str, tone| Series {
        name: name.to_owned(),
        tone,
        points: points(&judged.slices, |slice| slice.in_time),
    };
    let plain = results.plain.as_ref();
    let mut series: Vec<_> = plain
        .map(|plain| line(plain, "tonic alone", Tone::Other))
        .into_iter()
        .collect();
    series.push(line(&results.resilient, "resilient client", Tone::Main));
    Panel::Lines(Lines {
        title: format!("Orders created within {}", short(results.terms.latest())),
        scale: Scale::Linear {
            max: 104.0,
            unit: " %",
        },
        series,
        marks: Vec::new(),
    })
}

fn latency(results: &Results) -> Panel {
    let mut series = Vec::new();
    if let Some(plain) = &results.plain {
        series.push(Series {
            name: "tonic alone p99".to_owned(),
            tone: Tone::Other,
            points: points(&plain.slices, |slice| slice.latencies[2]),
        });
    }
    for (index, name, tone) in [
        (0, "p50", Tone::MainFaint),
        (1, "p95", Tone::MainSoft),
        (2, "p99", Tone::Main),
    ] {
        series.push(Series {
            name: name.to_owned(),
            tone,
            points: points(&results.resilient.slices, |slice| slice.latencies[index]),
        });
    }
    Panel::Lines(Lines {
        title: "Time to an answer".to_owned(),
        scale: Scale::LogMillis {
            min: 0.5,
            max: 5_000.0,
        },
        series,
        marks: vec![Mark {
            label: format!("deadline {}", short(results.terms.deadline)),
            value: results.terms.deadline.as_secs_f64() * 1e3,
        }],
    })
}

fn attempts(results: &Results) -> Option<Panel> {
    results.resilient.recording.samples.as_ref().ok()?;
    Some(Panel::Lines(Lines {
        title: "Attempts for each order".to_owned(),
        scale: Scale::Linear { max: 3.4, unit: "" },
        series: vec![Series {
            name: "resilient client".to_owned(),
            tone: Tone::Main,
            points: points(&results.resilient.slices, |slice| slice.attempts_per_call),
        }],
        marks: vec![Mark {
            label: "three attempts, whatever happens".to_owned(),
            value: 3.0,
        }],
    }))
}

fn points(slices: &[Slice], value: impl Fn(&Slice) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    slices
        .iter()
        .map(|slice| (slice.at, value(slice)))
        .collect()
}

/// The breaker's states, those that follow each other unchanged as one.
///
/// Looked at a thousand times at most: of several states between two looks, the one that
/// refuses most is shown.
fn breaker(recording: &Recording) -> Option<Panel> {
    let samples = recording.samples.as_deref().ok()?;
    let length = recording.length();
    let cell = (length / 1000).max(EVERY).as_secs_f64();
    let mut segments: Vec<Segment> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.at < length) {
        let Some(state) = sample.breaker else {
            continue;
        };
        let at = (sample.at.as_secs_f64() / cell).floor() * cell;
        let segment = Segment {
            start: at,
            end: length.as_secs_f64(),
            label: state.to_string(),
            tone: state_tone(state),
        };
        match segments.last_mut() {
            Some(last) if last.label == segment.label => {}
            Some(last) if last.start == at && refuses(last.tone) >= refuses(segment.tone) => {}
            Some(last) if last.start == at => *last = segment,
            Some(last) => {
                last.end = at;
                segments.push(segment);
            }
            None => segments.push(segment),
        }
    }
    let states = [
        BreakerState::Closed,
        BreakerState::HalfOpen,
        BreakerState::Open,
    ];
    Some(Panel::Strip(Strip {
        title: "Circuit breaker".to_owned(),
        segments,
        legend: states
            .map(|state| (state.to_string(), state_tone(state)))
            .into(),
    }))
}

/// How much a state refuses.
fn refuses(tone: Tone) -> u8 {
    match tone {
        Tone::Bad => 2,
        Tone::Warn => 1,
        _ => 0,
    }
}

fn state_tone(state: BreakerState) -> Tone {
    match state {
        BreakerState::Closed => Tone::Good,
        BreakerState::HalfOpen => Tone::Warn,
        BreakerState::Open | BreakerState::ForcedOpen => Tone::Bad,
        BreakerState::ForcedClosed | BreakerState::Disabled => Tone::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{made_up::Script, phases::Kind, recording::Outcome};

    fn strip(recording: &Recording) -> Vec<Segment> {
        match breaker(recording) {
            Some(Panel::Strip(strip)) => strip.segments,
            other => panic!("no strip: {other:?}"),
        }
    }

    #[test]
    fn states_that_follow_each_other_unchanged_are_one() {
        let recording = Script::new()
            .phase(Kind::Hang, 4, |_| (Outcome::Refused, 1))
            .breaker(500, 2_000, BreakerState::Open)
            .breaker(2_000, 2_100, BreakerState::HalfOpen)
            .recording();
        let states: Vec<_> = strip(&recording)
            .into_iter()
            .map(|segment| (segment.label, segment.start, segment.end))
            .collect();
        assert_eq!(
            states,
            [
                ("closed".to_owned(), 0.0, 0.5),
                ("open".to_owned(), 0.5, 2.0),
                ("half-open".to_owned(), 2.0, 2.1),
                ("closed".to_owned(), 2.1, 4.0),
            ]
        );
    }

    #[test]
    fn a_breaker_that_flaps_all_the_time_is_still_a_small_drawing() {
        let mut script = Script::new().phase(Kind::Down, 300, |_| (Outcome::Refused, 1));
        for tick in 0..1_500 {
            let from = tick * 200;
            script = script.breaker(from, from + 100, BreakerState::Open);
        }
        let segments = strip(&script.recording());
        assert!(segments.len() <= 1_001);
        // What refuses most is never hidden by what follows it.
        assert!(segments.iter().any(|segment| segment.label == "open"));
    }
}
