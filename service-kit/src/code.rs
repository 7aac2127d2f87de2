//! gRPC codes by the names that the specification gives them.

use tonic::Code;

/// The names of all codes, each at its number.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a code: `UNAVAILABLE`.
#[must_use]
pub fn name(code: Code) -> &'static str {
    NAMES[code as usize]
}

/// The code of that name, exactly as [`name`] writes it.
#[must_use]
pub fn parse(name: &str) -> Option<Code> {
    let number = NAMES.iter().position(|known| *known == name)?;
    Some(Code::from_i32(i32::try_from(number).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_name() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            assert_eq!(parse(name(code)), Some(code));
        }
        assert_eq!(name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
        assert_eq!(name(Code::Unauthenticated), "UNAUTHENTICATED");
        assert_eq!(parse("unavailable"), None);
    }
}
