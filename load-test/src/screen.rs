//! What a person sees while the run goes on.
//!
//! On a terminal: a line for each phase that is over, and below them how things stand now.
//! Elsewhere: the lines only.

use std::{
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::words::{at_least, short};

use crate::{
    paint::{Hue, Paint, hue_of},
    phases::Phase,
    recorder::{Recent, Recorder},
    recording::{Span, percentile, success_share},
    scrape::BreakerState,
};

/// How many cells the whole run has on the screen.
const CELLS: usize = 54;
/// How many cells a phase has.
const PHASE_CELLS: usize = 40;

/// How things stand.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// The phase under way.
    pub phase: Phase,
    /// How much of it is over.
    pub elapsed: Duration,
    /// How much of the run is over.
    pub now: Duration,
    /// The last second.
    pub recent: Recent,
    /// What the breaker is doing, if that is known.
    pub breaker: Option<BreakerState>,
}

/// Where lines for people go.
#[derive(Debug)]
pub struct Screen {
    stderr: bool,
    paint: Paint,
    bar: Option<ProgressBar>,
    total: Duration,
    cells: Vec<Cell>,
}

/// One part of the run.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    success: Option<f64>,
    refusing: bool,
}

impl Screen {
    /// Standard output, unless that is wanted for something else.
    pub fn new(stderr: bool, no_color: bool) -> Self {
        let (paint, terminal) = match stderr {
            true => (
                Paint::new(&io::stderr(), no_color),
                io::stderr().is_terminal(),
            ),
            false => (
                Paint::new(&io::stdout(), no_color),
                io::stdout().is_terminal(),
            ),
        };
        let bar = terminal.then(|| {
            let target = match stderr {
                true => ProgressDrawTarget::stderr(),
                false => ProgressDrawTarget::stdout(),
            };
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar.set_draw_target(target);
            bar
        });
        Self {
            stderr,
            paint,
            bar,
            total: Duration::ZERO,
            cells: Vec::new(),
        }
    }

    /// How this screen colours its text.
    pub(crate) fn paint(&self) -> Paint {
        self.paint
    }

    /// Writes lines that stay.
    pub fn say(&self, text: &str) {
        let write = || {
            // A reader that has gone away is no reason to stop measuring.
            let _ = match self.stderr {
                true => writeln!(io::stderr().lock(), "{text}"),
                false => writeln!(io::stdout().lock(), "{text}"),
            };
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A run of this length begins.
    pub fn run_begins(&mut self, headline: &str, total: Duration) {
        self.total = total;
        self.cells = vec![Cell::default(); CELLS];
        self.say(&self.paint.text(Hue::Loud, headline));
    }

    /// The run is over: what moves goes away.
    pub fn run_ends(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.tick();
        }
    }

    /// How things stand now.
    pub fn tick(&mut self, live: &Live) {
        let share = live.now.as_secs_f64() / self.total.as_secs_f64().max(f64::EPSILON);
        let index = (share * self.cells.len() as f64) as usize;
        if let Some(cell) = self.cells.get_mut(index) {
            cell.success = live.recent.success;
            cell.refusing |= live
                .breaker
                .is_some_and(|state| state != BreakerState::Closed);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(now(live, &self.cells, self.total, self.paint));
            bar.tick();
        }
    }

    /// A phase is over. The calls in it that are still open are not in its line yet.
    pub fn phase_ended(&self, span: &Span, recorder: &Recorder) {
        let calls = recorder.calls_between(span.start, span.end);
        let success = success_share(&calls);
        let cut = if span.complete { "" } else { "  (cut short)" };
        self.say(&format!(
            " {} {:<12} {:>6}   {:>8} created   p50 {:>7}   p99 {:>7}{cut}",
            self.paint.text(hue_of(success), "■"),
            span.kind,
            short(Duration::from_millis(
                span.length().as_millis() as u64 / 100 * 100
            )),
            percent(success),
            time(percentile(&calls, 50.0)),
            time(percentile(&calls, 99.0)),
        ));
    }
}

/// How things stand, in four lines.
fn now(live: &Live, cells: &[Cell], total: Duration, paint: Paint) -> String {
    let length = live.phase.length.as_secs_f64();
    let elapsed = live.elapsed.as_secs_f64().min(length);
    let done = (elapsed / length.max(f64::EPSILON) * PHASE_CELLS as f64) as usize;
    let bar = format!(
        "{}{}",
        "━".repeat(done),
        paint.text(Hue::Quiet, &"─".repeat(PHASE_CELLS - done.min(PHASE_CELLS)))
    );
    let breaker = match live.breaker {
        None => paint.text(Hue::Quiet, "unknown"),
        Some(state @ BreakerState::Closed) => paint.text(Hue::Good, &state.to_string()),
        Some(state @ BreakerState::HalfOpen) => paint.text(Hue::Warn, &state.to_string()),
        Some(state) => paint.text(Hue::Bad, &state.to_string()),
    };
    let success = percent(live.recent.success);
    let reached = (live.now.as_secs_f64() / total.as_secs_f64().max(f64::EPSILON)
        * cells.len() as f64) as usize;
    let strip = |draw: &dyn Fn(&Cell) -> String| -> String {
        let seen = cells.iter().take(reached + 1).map(draw);
        let rest = cells.len().saturating_sub(reached + 1);
        seen.collect::<String>() + &paint.text(Hue::Quiet, &"·".repeat(rest))
    };
    let orders = strip(&|cell| paint.text(hue_of(cell.success), "▇"));
    let circuit = strip(&|cell| match cell.refusing {
        true => paint.text(Hue::Bad, "▇"),
        false => paint.text(Hue::Quiet, "─"),
    });
    format!(
        "\n   {} {bar} {elapsed:.1} of {length:.0} s\n   \
         {:.0} calls/s   {} created   p50 {}   p99 {}   breaker {breaker}\n   \
         orders  {orders} {:.0} of {:.0} s\n   \
         breaker {circuit}",
        paint.text(Hue::Loud, &format!("{:<12}", live.phase.kind)),
        live.recent.rate,
        paint.text(hue_of(live.recent.success), &success),
        time(live.recent.p50),
        time(live.recent.p99),
        live.now.as_secs_f64(),
        total.as_secs_f64(),
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| at_least(share * 100.0, 1, " %"))
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::Kind;

    fn live(elapsed: u64, breaker: Option<BreakerState>) -> Live {
        Live {
            phase: Phase {
                kind: Kind::Hang,
                length: Duration::from_secs(8),
            },
            elapsed: Duration::from_secs(elapsed),
            now: Duration::from_secs(40 + elapsed),
            recent: Recent {
                rate: 199.6,
                success: Some(0.9996),
                p50: Some(Duration::from_micros(1_500)),
                p99: None,
            },
            breaker,
        }
    }

    #[test]
    fn how_things_stand_fits_a_terminal_of_80_columns() {
        let total = Duration::from_secs(80);
        for elapsed in [0, 4, 8, 60] {
            let cells = [Cell::default(); CELLS];
            let live = live(elapsed, Some(BreakerState::ForcedClosed));
            let text = now(&live, &cells, total, Paint::none());
            assert!(
                text.contains("hang") && text.contains("200 calls/s") && text.contains("99.9 %")
            );
            assert!(text.contains("p50 1.5 ms   p99 -   breaker forced closed"));
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
