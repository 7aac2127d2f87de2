//! The `grpc-timeout` header.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) static TIMEOUT_HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that `headers` give the call. A value that breaks the rules of
/// gRPC over HTTP/2 (up to eight digits and a unit) is passed over, as tonic
/// does on both sides.
pub(crate) fn read(headers: &HeaderMap) -> Option<Duration> {
    // Requests have few headers: to go through them is cheaper than to hash.
    let (_, value) = headers.iter().find(|(name, _)| **name == TIMEOUT_HEADER)?;
    let value = value.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Makes `headers` say `timeout`, and nothing else about it.
pub(crate) fn write(headers: &mut HeaderMap, timeout: Option<HeaderValue>) {
    match timeout {
        Some(timeout) => {
            headers.insert(&TIMEOUT_HEADER, timeout);
        }
        None => {
            headers.remove(&TIMEOUT_HEADER);
        }
    }
}

/// The header value for `timeout`, in the finest unit that its eight digits
/// allow, rounded down: nobody is promised time that is not there.
pub(crate) fn value(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    let (amount, unit) = units
        .into_iter()
        .find(|(amount, _)| *amount <= MOST)
        .unwrap_or((u128::from(timeout.as_secs() / 3600).min(MOST), 'H'));
    let mut text = String::with_capacity(9);
    write!(text, "{amount}{unit}").expect("a String takes what is written to it");
    HeaderValue::try_from(text).expect("digits and a letter make a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(
            &TIMEOUT_HEADER,
            HeaderValue::from_bytes(text.as_bytes()).ok()?,
        );
        read(&headers)
    }

    #[test]
    fn every_unit_of_the_specification_is_read() {
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parsed("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parsed("42S"), Some(Duration::from_secs(42)));
        assert_eq!(parsed("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parsed("82u"), Some(Duration::from_micros(82)));
        assert_eq!(parsed("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn a_malformed_value_is_passed_over() {
        for text in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789n",
            " 1S",
            "1é",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_value_takes_the_finest_unit_that_fits() {
        assert_eq!(value(Duration::from_millis(99)), "99000000n");
        assert_eq!(value(Duration::from_millis(250)), "250000u");
        assert_eq!(value(Duration::from_secs(100)), "100000m");
        assert_eq!(value(Duration::MAX), "99999999H");
        assert_eq!(value(Duration::ZERO), "0n");
    }

    proptest! {
        #[test]
        fn a_value_is_never_more_than_was_given_and_little_less(nanos in 0..u64::MAX) {
            let given = Duration::from_nanos(nanos);
            let read = parsed(value(given).to_str().unwrap()).unwrap();
            prop_assert!(read <= given);
            prop_assert!(given - read <= given / 99_999);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parsed(&text);
        }
    }
}
