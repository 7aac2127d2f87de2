//! The figures as tables for a terminal.

use std::{fmt::Write as _, time::Duration};

use crate::{
    figures::{Figures, Spread},
    matrix::{Matrix, Plan},
    policies::Policy,
    script::Script,
};

/// A figure of which each table shows one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The share of calls that was answered.
    Answered,
    /// Attempts for each call.
    Attempts,
    /// How long after the end of the fault everything was well.
    Recovered,
    /// The time within which 99 % of the answers came.
    P99,
}

impl Column {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Attempts, Self::Recovered, Self::P99];

    /// What it is.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Answered => "calls answered, % (from the beginning of the fault)",
            Self::Attempts => "attempts per call",
            Self::Recovered => "well again, s after the fault's end (99 % of 5 s answered)",
            Self::P99 => "answers: p99, ms",
        }
    }

    /// The figure, to be compared: more is worse. `None` when there is none, for the fault has
    /// no end.
    #[must_use]
    pub fn badness(self, figures: &Figures, script: &Script) -> Option<f64> {
        match self {
            Self::Answered => Some(-figures.answered),
            Self::Attempts => Some(figures.attempts),
            Self::Recovered => script.over.map(|_| {
                figures
                    .recovered
                    .map_or(f64::INFINITY, |after| after.as_secs_f64())
            }),
            Self::P99 => (figures.answered > 0.0).then_some(figures.p99.as_secs_f64()),
        }
    }

    /// Of several runs.
    #[must_use]
    pub fn spread(self, figures: &[Figures], script: &Script) -> Option<Spread<f64>> {
        let values = figures.iter().filter_map(|one| self.badness(one, script));
        Spread::of(values, |one, other| one > other)
    }

    /// What [`badness`](Self::badness) means, for people.
    #[must_use]
    pub fn shown(self, badness: f64) -> String {
        match self {
            Self::Answered => format!("{:.1}", (-badness * 1000.0 + 1e-6).floor() / 10.0 + 0.0),
            Self::Attempts => match badness {
                few if few < 0.1 => format!("{few:.3}"),
                many => format!("{many:.2}"),
            },
            Self::Recovered if badness.is_infinite() => "never".to_owned(),
            Self::Recovered => format!("{badness:.1}"),
            Self::P99 => format!("{:.0}", badness * 1e3),
        }
    }
}

/// All tables.
#[must_use]
pub fn tables(plan: &Plan, matrix: &Matrix) -> String {
    let mut text = String::new();
    for column in Column::ALL {
        text.push_str(&table(column, plan, matrix));
        text.push('\n');
    }
    text
}

/// One figure of every script and every policy, the median over the seeds.
#[must_use]
pub fn table(column: Column, plan: &Plan, matrix: &Matrix) -> String {
    let shown = |script: &Script, policy: &Policy| {
        let cell = matrix.cell(script.id, policy.id)?;
        let spread = column.spread(&cell.figures, script)?;
        Some(column.shown(spread.median))
    };
    let widths: Vec<usize> = plan
        .policies
        .iter()
        .map(|policy| policy.id.len().max(5))
        .collect();
    let first = plan
        .scripts
        .iter()
        .map(|script| script.id.len())
        .max()
        .unwrap_or(0);
    let mut text = format!("{}\n{:first$}", column.title(), "");
    // Writing to a string cannot fail.
    for (policy, width) in plan.policies.iter().zip(&widths) {
        let _ = write!(text, "  {:>width$}", policy.id);
    }
    text.push('\n');
    for script in &plan.scripts {
        let figures: Vec<_> = plan
            .policies
            .iter()
            .map(|policy| shown(script, policy))
            .collect();
        if figures.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(text, "{:first$}", script.id);
        for (figure, width) in figures.iter().zip(&widths) {
            let _ = write!(text, "  {:>width$}", figure.as_deref().unwrap_or("-"));
        }
        text.push('\n');
    }
    text
}

/// Where another policy does better than ours, and by how much.
///
/// Worth telling of are half a per cent of the calls, and half a second.
#[must_use]
pub fn better_than_ours(plan: &Plan, matrix: &Matrix) -> Vec<String> {
    const CALLS: f64 = 0.005;
    const SECONDS: f64 = 0.5;
    let mut lines = Vec::new();
    for script in &plan.scripts {
        let median = |policy: &str, column: Column| {
            let cell = matrix.cell(script.id, policy)?;
            Some(column.spread(&cell.figures, script)?.median)
        };
        for (column, worth) in [(Column::Answered, CALLS), (Column::Recovered, SECONDS)] {
            let Some(ours) = median("ours", column) else {
                continue;
            };
            let others: Vec<String> = plan
                .policies
                .iter()
                .filter(|policy| policy.id != "ours")
                .filter_map(|policy| {
                    let theirs = median(policy.id, column).filter(|it| it + worth <= ours)?;
                    let load = median(policy.id, Column::Attempts)?;
                    Some(format!(
                        "{} {} ({load:.2}x)",
                        policy.id,
                        column.shown(theirs)
                    ))
                })
                .collect();
            if !others.is_empty() {
                let what = match column {
                    Column::Answered => "% answered",
                    _ => "s to be well",
                };
                lines.push(format!(
                    "{}, {what}: ours {} ({:.2}x); {}",
                    script.id,
                    column.shown(ours),
                    median("ours", Column::Attempts).unwrap_or_default(),
                    others.join(", ")
                ));
            }
        }
    }
    lines
}

/// What the names mean.
#[must_use]
pub fn legend(plan: &Plan) -> String {
    let mut text = String::new();
    for script in &plan.scripts {
        let _ = writeln!(text, "  {:12}  {}", script.id, script.title);
    }
    text.push('\n');
    text.push_str(&policies(&plan.policies));
    text
}

/// What policies are, and where their rules come from.
#[must_use]
pub fn policies(policies: &[Policy]) -> String {
    let mut text = String::new();
    for policy in policies {
        let _ = writeln!(
            text,
            "  {:12}  {} [{}]",
            policy.id, policy.title, policy.source
        );
    }
    text
}

/// A moment of virtual time, for people.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
