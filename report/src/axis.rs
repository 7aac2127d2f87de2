//! Where the ticks of an axis stand, and what they say.

use super::figure::Scale;

impl Scale {
    /// Where a value stands: 0 is the bottom, 1 the top. What lies outside is drawn at the edge.
    pub(super) fn position(self, value: f64) -> f64 {
        let position = match self {
            Self::Linear { max, .. } => value / max,
            Self::LogMillis { min, max } => (value.max(min) / min).log10() / (max / min).log10(),
        };
        // Also makes a number of what is none, as with an axis of no length.
        if position.is_finite() {
            position.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The values at which lines are drawn across, with their labels.
    pub(super) fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Self::Linear { max, unit } => linear(max, 4)
                .into_iter()
                .map(|value| (value, format!("{}{unit}", plain(value))))
                .collect(),
            Self::LogMillis { min, max } => {
                let powers = (min.log10().ceil() as i32)..=(max.log10().floor() as i32);
                powers
                    .map(|power| 10_f64.powi(power))
                    .map(|value| (value, millis(value)))
                    .collect()
            }
        }
    }
}

/// Moments on the time axis, at most `most` of them, with their labels.
pub(super) fn seconds(end: f64, most: usize) -> Vec<(f64, String)> {
    const STEPS: [f64; 11] = [
        1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
    ];
    let fits = |step: &&f64| end / **step <= most as f64;
    let step = STEPS.iter().find(fits).copied().unwrap_or(3600.0);
    multiples(step, end)
        .map(|at| (at, format!("{} s", plain(at))))
        .collect()
}

/// Zero and the multiples of a round number up to `max`: about `wanted` of them.
fn linear(max: f64, wanted: usize) -> Vec<f64> {
    let rough = max / wanted as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return vec![0.0];
    }
    let power = 10_f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].map(|digit| digit * power);
    let step = round.into_iter().find(|step| *step >= rough * 0.999);
    multiples(step.unwrap_or(rough), max).collect()
}

fn multiples(step: f64, max: f64) -> impl Iterator<Item = f64> {
    let count = (max / step + 1e-9).floor().clamp(0.0, 1000.0) as u32;
    (0..=count).map(move |index| f64::from(index) * step)
}

/// Without digits that say nothing: `0.5`, `1`, `100`.
fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn millis(value: f64) -> String {
    if value >= 1000.0 {
        format!("{} s", plain(value / 1000.0))
    } else {
        format!("{} ms", plain(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let percent = Scale::Linear {
            max: 100.0,
            unit: " %",
        };
        assert_eq!(
            labels(percent.ticks()),
            ["0 %", "25 %", "50 %", "75 %", "100 %"]
        );
        let attempts = Scale::Linear { max: 3.2, unit: "" };
        assert_eq!(labels(attempts.ticks()), ["0", "1", "2", "3"]);
        let log = Scale::LogMillis {
            min: 0.5,
            max: 4000.0,
        };
        assert_eq!(labels(log.ticks()), ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(
            labels(seconds(81.0, 10)),
            [
                "0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s", "70 s", "80 s"
            ]
        );
    }

    #[test]
    fn positions_stay_on_the_axis_whatever_the_value() {
        let log = Scale::LogMillis {
            min: 1.0,
            max: 1000.0,
        };
        assert!((log.position(10.0) - 1.0 / 3.0).abs() < 1e-9);
        for scale in [log, Scale::Linear { max: 0.0, unit: "" }] {
            for value in [-5.0, 0.0, 1e9, f64::NAN, f64::INFINITY] {
                assert!(
                    (0.0..=1.0).contains(&scale.position(value)),
                    "{scale:?} {value}"
                );
            }
        }
    }

    #[test]
    fn an_axis_of_no_length_has_a_tick_and_no_end() {
        assert_eq!(linear(0.0, 4), [0.0]);
        assert_eq!(linear(f64::NAN, 4), [0.0]);
        assert_eq!(seconds(0.0, 10).len(), 1);
        assert!(seconds(86_400.0, 10).len() < 30);
    }
}
