//! The verdict on a terminal.

use crate::{
    claims::{Claim, Verdict},
    paint::{Hue, Paint},
};

/// How many claims were kept, missed and not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Kept.
    pub passed: usize,
    /// Not kept.
    pub missed: usize,
    /// Nobody can say.
    pub not_measured: usize,
}

impl Tally {
    /// Counts.
    pub fn of(claims: &[Claim]) -> Self {
        let count = |verdict| {
            let same = claims.iter().filter(|claim| claim.verdict == verdict);
            same.count()
        };
        Self {
            passed: count(Verdict::Passed),
            missed: count(Verdict::Missed),
            not_measured: count(Verdict::NotMeasured),
        }
    }

    /// The one thing to know.
    pub fn headline(&self) -> String {
        let total = self.passed + self.missed + self.not_measured;
        match (self.missed, self.not_measured) {
            (0, 0) => format!("{} of {total} claims kept", self.passed),
            (0, rest) => format!(
                "{} of {total} claims kept, {rest} not measured",
                self.passed
            ),
            (missed, 0) => format!("{missed} of {total} claims missed"),
            (missed, rest) => format!("{missed} of {total} claims missed, {rest} not measured"),
        }
    }
}

/// What was not measured, and why: each reason once.
pub fn gaps(claims: &[Claim]) -> Vec<String> {
    let mut gaps: Vec<(&str, Vec<String>)> = Vec::new();
    for claim in claims
        .iter()
        .filter(|claim| claim.verdict == Verdict::NotMeasured)
    {
        match gaps.iter_mut().find(|(why, _)| *why == claim.measured) {
            Some((_, names)) => names.push(claim.name()),
            None => gaps.push((&claim.measured, vec![claim.name()])),
        }
    }
    let line =
        |(why, names): (&str, Vec<String>)| format!("not measured ({why}): {}", names.join("; "));
    gaps.into_iter().map(line).collect()
}

/// Claims as a table; beside them, what tonic alone measured.
pub(crate) fn table(claims: &[Claim], plain: Option<&[Claim]>, paint: Paint) -> String {
    let row = |claim: &Claim| {
        [
            claim.name(),
            claim.required.clone(),
            figure(claim).to_owned(),
        ]
    };
    let mut rows = vec![["claim", "required", "measured"].map(str::to_owned)];
    rows.extend(claims.iter().map(row));
    let widths = [0, 1, 2].map(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    });

    let mut table = String::new();
    for (index, [what, required, measured]) in rows.iter().enumerate() {
        let line = format!(
            "{what:<0$}   {required:<1$}   {measured:<2$}",
            widths[0], widths[1], widths[2]
        );
        let claim = index.checked_sub(1).and_then(|index| claims.get(index));
        let beside = plain.map(|plain| match index.checked_sub(1) {
            None => "   tonic alone".to_owned(),
            Some(index) => plain.get(index).map_or_else(String::new, |claim| {
                match claim.verdict {
                    // What tonic alone cannot be asked is no gap.
                    Verdict::NotMeasured => "   –".to_owned(),
                    verdict => format!("   {} {}", sign(verdict, paint), claim.measured),
                }
            }),
        });
        let (sign, line) = match claim {
            None => (" ".to_owned(), paint.text(Hue::Quiet, &line)),
            Some(claim) => (sign(claim.verdict, paint), line),
        };
        let beside = beside.unwrap_or_default();
        table.push_str(format!(" {sign} {line}{beside}").trim_end());
        table.push('\n');
    }
    table
}

/// What was measured, or that nothing was: why not stands elsewhere.
fn figure(claim: &Claim) -> &str {
    match claim.verdict {
        Verdict::NotMeasured => "not measured",
        Verdict::Passed | Verdict::Missed => &claim.measured,
    }
}

fn sign(verdict: Verdict, paint: Paint) -> String {
    match verdict {
        Verdict::Passed => paint.text(Hue::Good, "✔"),
        Verdict::Missed => paint.text(Hue::Bad, "✘"),
        Verdict::NotMeasured => paint.text(Hue::Warn, "?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(what: &'static str, measured: &str, verdict: Verdict) -> Claim {
        Claim {
            when: "hang".to_owned(),
            what,
            required: "≤ 1 s".to_owned(),
            measured: measured.to_owned(),
            verdict,
        }
    }

    #[test]
    fn the_table_shows_what_was_required_and_measured_and_stands_straight() {
        let claims = [
            claim("breaker open after", "712 ms", Verdict::Passed),
            claim("slowest", "1.2 s", Verdict::Missed),
        ];
        let plain = [
            claim(
                "breaker open after",
                "tonic alone counts nothing",
                Verdict::NotMeasured,
            ),
            claim("slowest", "3 s (9 late)", Verdict::Missed),
        ];
        assert_eq!(
            table(&claims, Some(&plain), Paint::none()),
            "   claim                      required   measured   tonic alone\n \
             ✔ hang: breaker open after   ≤ 1 s      712 ms     –\n \
             ✘ hang: slowest              ≤ 1 s      1.2 s      ✘ 3 s (9 late)\n"
        );
    }

    #[test]
    fn each_reason_for_a_gap_is_given_once() {
        let claims = [
            claim("one", "needs --metrics", Verdict::NotMeasured),
            claim("two", "1", Verdict::Passed),
            claim("three", "needs --metrics", Verdict::NotMeasured),
        ];
        assert_eq!(
            gaps(&claims),
            ["not measured (needs --metrics): hang: one; hang: three"]
        );
    }

    #[test]
    fn the_headline_never_hides_a_miss_or_a_gap() {
        let headline = |passed, missed, not_measured| {
            Tally {
                passed,
                missed,
                not_measured,
            }
            .headline()
        };
        assert_eq!(headline(9, 0, 0), "9 of 9 claims kept");
        assert_eq!(headline(5, 0, 4), "5 of 9 claims kept, 4 not measured");
        assert_eq!(headline(8, 1, 0), "1 of 9 claims missed");
        assert_eq!(headline(1, 2, 3), "2 of 6 claims missed, 3 not measured");
    }
}
