//! What is wrong with a request, field by field.

use std::fmt;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Violations that are reported. They travel in a header, and clients accept
/// 16 KiB of headers or less.
const REPORTED_MAX: usize = 20;

/// All that is wrong with a request, to be reported at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRequest {
    /// The first of them: at most [`REPORTED_MAX`].
    reported: Vec<(String, String)>,
    found: usize,
}

impl BadRequest {
    /// Nothing is wrong so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `field` breaks `rule`: `must be from 1 to 10`.
    pub fn find(&mut self, field: impl fmt::Display, rule: impl Into<String>) {
        self.found += 1;
        if self.reported.len() < REPORTED_MAX {
            self.reported.push((field.to_string(), rule.into()));
        }
    }

    /// `text` must hold something, and be so short and plain as
    /// [`check_text`](Self::check_text) says.
    pub fn check_some_text(&mut self, field: impl fmt::Display, text: &str, chars_max: usize) {
        if text.trim().is_empty() {
            self.find(field, "must not be empty");
        } else {
            self.check_text(field, text, chars_max);
        }
    }

    /// `text` must be so short, and without control characters: a zero ends a
    /// text elsewhere, and a line break a line of the log.
    pub fn check_text(&mut self, field: impl fmt::Display, text: &str, chars_max: usize) {
        // No text of fewer bytes has more characters.
        if text.len() > chars_max && text.chars().nth(chars_max).is_some() {
            self.find(field, format!("must have at most {chars_max} characters"));
        } else if text.contains(char::is_control) {
            self.find(field, "must not have control characters");
        }
    }

    /// Whether anything was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// Nothing, when nothing was found.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with each field named in its details, as a
    /// `google.rpc.BadRequest`.
    pub fn into_result(self) -> Result<(), Status> {
        let message = match &self.reported[..] {
            [] => return Ok(()),
            [(field, rule)] => format!("{field} {rule}"),
            [(field, rule), ..] => format!("{field} {rule}, and {} more", self.found - 1),
        };
        let violations: Vec<FieldViolation> = self
            .reported
            .into_iter()
            .map(|(field, rule)| FieldViolation::new(field, rule))
            .collect();
        let details = ErrorDetails::with_bad_request(violations);
        Err(Status::with_error_details(
            Code::InvalidArgument,
            message,
            details,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_violations_fit_into_a_header() {
        let mut bad = BadRequest::new();
        for at in 0..4000 {
            bad.find(format_args!("items[{at}].price"), "must be from 0 to 10");
        }
        let status = bad.into_result().unwrap_err();

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "items[0].price must be from 0 to 10, and 3999 more"
        );
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations.len(), REPORTED_MAX);
        assert_eq!(violations[3].field, "items[3].price");
        assert!(status.details().len() < 4096, "{}", status.details().len());
    }

    #[test]
    fn a_length_is_counted_in_characters() {
        let found = |text: &str| {
            let mut bad = BadRequest::new();
            bad.check_text("id", text, 2);
            !bad.is_empty()
        };
        assert_eq!(["жж", "ж", ""].map(found), [false; 3]);
        assert_eq!(["жжж", "abc", "\0", "a\n", "\u{7f}"].map(found), [true; 5]);
    }
}
