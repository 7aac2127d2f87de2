//! `grpc-retry-pushback-ms`: the upstream says when to retry, or not to.

use std::time::Duration;

use http::HeaderName;
use tonic::Status;

/// gRFC A6.
pub(crate) const PUSHBACK_HEADER: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What the upstream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// Retry after this time.
    After(Duration),
    /// Do not retry.
    Stop,
}

impl Pushback {
    /// What `status` asks for, if it asks.
    ///
    /// A value that is negative, is not a whole number of 32 bits, or is there
    /// twice means "do not retry" (A6; on the last two, implementations
    /// differ, and the cautious reading is taken).
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let mut values = status.metadata().get_all(PUSHBACK_HEADER.as_str()).iter();
        let first = values.next()?;
        if values.next().is_some() {
            return Some(Self::Stop);
        }
        let millis = first
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        Some(match millis.and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Self::After(Duration::from_millis(millis)),
            None => Self::Stop,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Pushback> {
        let mut status = Status::unavailable("");
        for value in values {
            status
                .metadata_mut()
                .append("grpc-retry-pushback-ms", value.parse().unwrap());
        }
        Pushback::of(&status)
    }

    fn after(millis: u64) -> Option<Pushback> {
        Some(Pushback::After(Duration::from_millis(millis)))
    }

    #[test]
    fn a_number_is_a_delay() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["0"]), after(0));
        assert_eq!(of(&["-0"]), after(0));
        assert_eq!(of(&["007"]), after(7));
        assert_eq!(of(&["+100"]), after(100));
        assert_eq!(of(&["2147483647"]), after(2_147_483_647));
    }

    #[test]
    fn everything_else_is_a_no() {
        for value in ["-1", "", "xxx", "1.5", "2147483648", "99999999999999999999"] {
            assert_eq!(of(&[value]), Some(Pushback::Stop), "{value:?}");
        }
        assert_eq!(of(&["100", "10"]), Some(Pushback::Stop));
    }
}
