//! What was promised, and whether it was kept in every run.

use std::time::Duration;

use crate::{
    figures::Figures,
    matrix::{Matrix, Plan},
    policies,
    script::Script,
};

/// A claim, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Its name, in tests.
    pub id: &'static str,
    /// What is claimed.
    pub text: &'static str,
    /// What must be measured, in every run.
    pub required: String,
    /// The worst that was.
    pub measured: String,
    /// Whether that is enough.
    pub held: bool,
}

/// The runs that all claims need.
#[must_use]
pub fn plans(seeds: &[u64]) -> [Plan; 2] {
    let patience = [
        "hang",
        "slow",
        "pauses",
        "capacity-75",
        "capacity-90",
        "lost-25",
    ];
    [
        Plan {
            scripts: Script::all(),
            policies: vec![policies::budget_alone(), policies::ours()],
            seeds: seeds.to_vec(),
        },
        // By default three attempts end before the deadline does.
        Plan {
            scripts: patience.into_iter().filter_map(Script::named).collect(),
            policies: vec![policies::impatient()],
            seeds: seeds.to_vec(),
        },
    ]
}

/// The shares of failures at which a breaker must do no harm.
const UNIFORM: [&str; 5] = [
    "errors-5",
    "errors-10",
    "errors-25",
    "errors-50",
    "errors-75",
];

/// The deadlines of calls by policy, with the step of the clock.
const ANSWERED_BY: [(&str, Duration); 2] = [
    ("ours", Duration::from_millis(1001)),
    ("deadline-400", Duration::from_millis(401)),
];

/// Judges what can be judged of these runs; a claim whose runs are not among them is left out.
#[must_use]
pub fn judge(matrix: &Matrix) -> Vec<Claim> {
    let judged = [
        recovers(matrix),
        most(
            matrix,
            "minute_500",
            "a minute of outage at 500 calls/s, breaker held closed: attempts per call",
            ("minute-500", "budget"),
            1.01,
            |figures| figures.attempts,
        ),
        most(
            matrix,
            "minute_20",
            "a minute of outage at 20 calls/s, breaker held closed: attempts per call",
            ("minute-20", "budget"),
            1.02,
            |figures| figures.attempts,
        ),
        most(
            matrix,
            "minute_500_breaker",
            "a minute of outage at 500 calls/s: attempts per call",
            ("minute-500", "ours"),
            0.02,
            |figures| figures.attempts,
        ),
        most(
            matrix,
            "minute_20_breaker",
            "a minute of outage at 20 calls/s: attempts per call",
            ("minute-20", "ours"),
            0.3,
            |figures| figures.attempts,
        ),
        answered(
            matrix,
            "errors_10",
            "10 % failures: calls answered",
            "errors-10",
            0.998,
        ),
        most(
            matrix,
            "errors_10_load",
            "10 % failures: attempts per call",
            ("errors-10", "ours"),
            1.12,
            |figures| figures.attempts,
        ),
        answered(
            matrix,
            "errors_25",
            "25 % failures: calls answered",
            "errors-25",
            0.975,
        ),
        harmless(matrix),
        most(
            matrix,
            "capacity_75",
            "capacity back at 75 % utilisation: seconds until 99 % are answered",
            ("capacity-75", "ours"),
            3.0,
            recovered,
        ),
        most(
            matrix,
            "capacity_90",
            "capacity back at 90 % utilisation: seconds until 99 % are answered",
            ("capacity-90", "ours"),
            3.0,
            recovered,
        ),
        in_time(matrix),
    ];
    judged.into_iter().flatten().collect()
}

fn recovered(figures: &Figures) -> f64 {
    figures
        .recovered
        .map_or(f64::INFINITY, |after| after.as_secs_f64())
}

/// At most so much, in every run of one cell.
fn most(
    matrix: &Matrix,
    id: &'static str,
    text: &'static str,
    (script, policy): (&str, &str),
    limit: f64,
    of: impl Fn(&Figures) -> f64,
) -> Option<Claim> {
    let figures = &matrix.cell(script, policy)?.figures;
    let worst = figures.iter().map(of).fold(0.0, f64::max);
    Some(Claim {
        id,
        text,
        required: format!("≤ {limit}"),
        measured: format!("{worst:.4}"),
        held: worst <= limit,
    })
}

/// At least this share is answered by ours, in all runs together: what chance
/// makes of one run is not for a claim. Of its 15,000 calls at 10 % failures 15
/// fail three times, and in one run of some thousands more than 30.
fn answered(
    matrix: &Matrix,
    id: &'static str,
    text: &'static str,
    script: &str,
    limit: f64,
) -> Option<Claim> {
    let figures = &matrix.cell(script, "ours")?.figures;
    let shares = || figures.iter().map(|one| one.answered);
    let (worst, runs) = (shares().fold(1.0, f64::min), shares().count() as f64);
    let mean = shares().sum::<f64>() / runs;
    Some(Claim {
        id,
        text,
        required: format!("≥ {:.1} %", limit * 100.0),
        measured: format!("{:.2}, worst {:.2} %", mean * 100.0, worst * 100.0),
        held: mean >= limit,
    })
}

/// No run of ours stays unwell after its fault is over.
fn recovers(matrix: &Matrix) -> Option<Claim> {
    let scripts = Script::all();
    let ends = |id: &str| {
        scripts
            .iter()
            .any(|script| script.id == id && script.over.is_some())
    };
    let runs: Vec<_> = matrix
        .runs()
        .filter(|(script, policy, _)| *policy == "ours" && ends(script))
        .collect();
    let never: Vec<&str> = runs
        .iter()
        .filter(|(.., figures)| figures.recovered.is_none())
        .map(|(script, ..)| *script)
        .collect();
    let slowest = runs
        .iter()
        .map(|(.., figures)| recovered(figures))
        .fold(0.0, f64::max);
    (!runs.is_empty()).then(|| Claim {
        id: "recovers",
        text: "no run fails to recover from a fault that ends",
        required: format!("{} of {} runs", runs.len(), runs.len()),
        measured: match never.first() {
            None => format!("all, within {slowest:.1} s"),
            Some(first) => format!("{} do not, such as {first}", never.len()),
        },
        held: never.is_empty(),
    })
}

/// The breaker does no harm in partial failure: the same seeds with it and without.
fn harmless(matrix: &Matrix) -> Option<Claim> {
    let mut worst = (f64::INFINITY, "");
    for script in UNIFORM {
        let with = &matrix.cell(script, "ours")?.figures;
        let without = &matrix.cell(script, "budget")?.figures;
        for (with, without) in with.iter().zip(without) {
            let ratio = with.answered / without.answered;
            if ratio < worst.0 {
                worst = (ratio, script);
            }
        }
    }
    Some(Claim {
        id: "harmless",
        text: "5 to 75 % failures: calls answered with the breaker, of those without",
        required: "≥ 0.98".to_owned(),
        measured: format!("{:.4} ({})", worst.0, worst.1),
        held: worst.0 >= 0.98,
    })
}

/// Every call of ours is answered by its deadline, also where that comes in the midst of things.
fn in_time(matrix: &Matrix) -> Option<Claim> {
    let of = |id: &str| {
        let runs = matrix.runs().filter(|(_, policy, _)| *policy == id);
        let runs: Vec<_> = runs.map(|(.., figures)| *figures).collect();
        let longest = runs.iter().map(|figures| figures.longest).max()?;
        let unanswered: u32 = runs.iter().map(|figures| figures.unanswered).sum();
        Some((longest, unanswered))
    };
    let measured = ANSWERED_BY.map(|(id, limit)| of(id).map(|measured| (limit, measured)));
    let measured: Vec<_> = measured.into_iter().flatten().collect();
    let listed = |times: &mut dyn Iterator<Item = Duration>| {
        let times: Vec<String> = times.map(|time| time.as_millis().to_string()).collect();
        format!("{} ms", times.join(", "))
    };
    let unanswered: u32 = measured.iter().map(|(_, (_, unanswered))| unanswered).sum();
    (!measured.is_empty()).then(|| Claim {
        id: "in_time",
        text: "every call is answered by its deadline and 1 ms",
        required: format!(
            "≤ {}",
            listed(&mut measured.iter().map(|(limit, _)| *limit))
        ),
        measured: match unanswered {
            0 => listed(&mut measured.iter().map(|(_, (longest, _))| *longest)),
            some => format!("{some} never"),
        },
        held: unanswered == 0
            && measured
                .iter()
                .all(|(limit, (longest, _))| longest <= limit),
    })
}

/// The claims as lines for a terminal.
#[must_use]
pub fn lines(claims: &[Claim]) -> String {
    let width = claims
        .iter()
        .map(|claim| claim.text.chars().count())
        .max()
        .unwrap_or(0);
    claims.iter().fold(String::new(), |text, claim| {
        let verdict = if claim.held { "held" } else { "MISSED" };
        format!(
            "{text}  {verdict:6}  {:width$}  {:>16}  {}\n",
            claim.text, claim.required, claim.measured
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As good as can be.
    const GOOD: Figures = Figures {
        calls: 1000,
        answered: 1.0,
        attempts: 0.01,
        recovered: Some(Duration::ZERO),
        p99: Duration::ZERO,
        longest: Duration::ZERO,
        unanswered: 0,
    };

    /// Three runs of everything, of which one is as `bad` says.
    fn missed(script: &str, policy: &str, bad: Figures) -> Vec<&'static str> {
        let plans = plans(&[1, 2, 3]);
        let runs = plans.iter().flat_map(|plan| {
            plan.scripts.iter().flat_map(|script| {
                let of = |policy: &policies::Policy| (script.id, policy.id);
                plan.policies.iter().map(of).collect::<Vec<_>>()
            })
        });
        let runs = runs.flat_map(|(one, other)| {
            let last = match (one, other) == (script, policy) {
                true => bad,
                false => GOOD,
            };
            [(one, other, GOOD), (one, other, last), (one, other, GOOD)]
        });
        let claims = judge(&Matrix::made_up(runs));
        assert_eq!(claims.len(), 12);
        let missed = claims.iter().filter(|claim| !claim.held);
        missed.map(|claim| claim.id).collect()
    }

    #[test]
    fn one_bad_run_misses_the_claim_that_it_breaks() {
        let attempts = |attempts| Figures { attempts, ..GOOD };
        let answered = |answered| Figures { answered, ..GOOD };
        let recovered = |recovered| Figures { recovered, ..GOOD };
        let late = Some(Duration::from_millis(3100));
        for (script, policy, bad, ids) in [
            ("outage", "ours", GOOD, &[] as &[_]),
            ("hang", "ours", recovered(None), &["recovers"]),
            ("minute-500", "budget", attempts(1.011), &["minute_500"]),
            ("minute-20", "budget", attempts(1.021), &["minute_20"]),
            (
                "minute-500",
                "ours",
                attempts(0.021),
                &["minute_500_breaker"],
            ),
            ("minute-20", "ours", attempts(0.31), &["minute_20_breaker"]),
            // A third of the runs: of all together, 99.797 %.
            ("errors-10", "ours", answered(0.9939), &["errors_10"]),
            ("errors-10", "ours", attempts(1.121), &["errors_10_load"]),
            (
                "errors-25",
                "ours",
                answered(0.92),
                &["errors_25", "harmless"],
            ),
            ("errors-75", "ours", answered(0.979), &["harmless"]),
            ("capacity-75", "ours", recovered(late), &["capacity_75"]),
            ("capacity-90", "ours", recovered(late), &["capacity_90"]),
            (
                "slow",
                "ours",
                Figures {
                    longest: Duration::from_millis(1002),
                    ..GOOD
                },
                &["in_time"],
            ),
            (
                "slow",
                "deadline-400",
                Figures {
                    longest: Duration::from_millis(402),
                    ..GOOD
                },
                &["in_time"],
            ),
            (
                "hang",
                "ours",
                Figures {
                    unanswered: 1,
                    ..GOOD
                },
                &["in_time"],
            ),
        ] {
            assert_eq!(missed(script, policy, bad), ids, "{script} {policy}");
        }
    }
}
