//! Figures as people read them.

use std::time::Duration;

/// A figure of which more is better, never rounded up: 99.596 is not "99.60".
pub fn at_least(value: f64, places: i32, unit: &str) -> String {
    rounded(value, places, unit, f64::floor)
}

/// A figure of which less is better, never rounded down.
pub fn at_most(value: f64, places: i32, unit: &str) -> String {
    rounded(value, places, unit, f64::ceil)
}

fn rounded(value: f64, places: i32, unit: &str, round: fn(f64) -> f64) -> String {
    let scale = 10_f64.powi(places);
    // What floating point adds to an exact figure (1.14 is 1.139999...) is no reason to
    // show another one.
    let exact = (value * scale * 1e6).round() / 1e6;
    let places = usize::try_from(places).unwrap_or(0);
    format!("{:.places$}{unit}", round(exact) / scale)
}

/// A time in three digits: `1.05 s`, `250 ms`, `1.2 ms`.
pub fn short(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        _ if millis >= 999.5 => {
            let seconds = format!("{:.2}", millis / 1e3);
            format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
        }
        _ if millis >= 9.95 => format!("{millis:.0} ms"),
        _ => format!("{millis:.1} ms"),
    }
}

/// A count with its thousands apart: `16,200`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_flatters() {
        assert_eq!(at_least(99.599, 2, " %"), "99.59 %");
        assert_eq!(at_most(1.1401, 2, ""), "1.15");
        assert_eq!(at_least(99.6, 1, " %"), "99.6 %");
        assert_eq!(at_least(100.0, 2, " %"), "100.00 %");
        assert_eq!(at_most(1.14, 2, ""), "1.14");
        assert_eq!(at_least(0.958 * 100.0, 1, " %"), "95.8 %");
    }

    #[test]
    fn thousands_stand_apart() {
        let text = [0, 999, 1_000, 16_200, 2_000_000].map(count);
        assert_eq!(text, ["0", "999", "1,000", "16,200", "2,000,000"]);
    }

    #[test]
    fn times_are_short() {
        let text = |micros| short(Duration::from_micros(micros));
        assert_eq!(text(0), "0.0 ms");
        assert_eq!(text(1_240), "1.2 ms");
        assert_eq!(text(250_400), "250 ms");
        assert_eq!(text(999_700), "1 s");
        assert_eq!(text(1_050_000), "1.05 s");
        assert_eq!(text(2_000_000), "2 s");
    }
}
