//! What each field of a request may hold: the only file that says so.
//!
//! An unknown id is an answer of its own (NOT_FOUND, or `valid = false`), and so
//! is an empty one, which nobody has. What no id can be is INVALID_ARGUMENT.

use proto::user::CreateUserRequest;
use service_kit::BadRequest;
use tonic::Status;

use crate::store::User;

/// Longest message: several times what the fields may hold, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Longest user id, in characters; as in the order service.
const ID_CHARS_MAX: usize = 128;
/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 200;
/// Longest email address (RFC 5321, less the brackets).
const EMAIL_CHARS_MAX: usize = 254;

/// An id to look for.
///
/// # Errors
/// INVALID_ARGUMENT, when nobody can have it.
pub(crate) fn known_id(id: &str) -> Result<(), Status> {
    let mut bad = BadRequest::new();
    bad.check_text("user_id", id, ID_CHARS_MAX);
    bad.into_result()
}

/// A user to create.
///
/// # Errors
/// INVALID_ARGUMENT, which names each field.
pub(crate) fn new_user(request: CreateUserRequest) -> Result<User, Status> {
    let CreateUserRequest {
        user_id,
        name,
        email,
    } = request;
    let mut bad = BadRequest::new();
    for (field, text, chars_max) in [
        ("user_id", &user_id, ID_CHARS_MAX),
        ("name", &name, NAME_CHARS_MAX),
        ("email", &email, EMAIL_CHARS_MAX),
    ] {
        bad.check_some_text(field, text, chars_max);
    }
    let address = email.split_once('@').is_some_and(|(who, host)| {
        !who.is_empty() && !host.is_empty() && !host.contains('@') && !email.contains(' ')
    });
    if !address && !email.trim().is_empty() {
        bad.find("email", "must be an address such as name@example.com");
    }
    bad.into_result()?;
    Ok(User {
        id: user_id,
        name,
        email,
        active: true,
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn request(user_id: &str, name: &str, email: &str) -> CreateUserRequest {
        CreateUserRequest {
            user_id: user_id.into(),
            name: name.into(),
            email: email.into(),
        }
    }

    fn fields(status: &Status) -> Vec<String> {
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = status.get_error_details();
        let violations = details.bad_request().unwrap().field_violations.iter();
        violations
            .map(|violation| violation.field.clone())
            .collect()
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        let long = "ж".repeat(129);
        for (wrong, named) in [
            (request("", " ", ""), &["user_id", "name", "email"][..]),
            (request(&long, "A", "a@b"), &["user_id"]),
            (request("a\0b", "A", "a@b"), &["user_id"]),
            (request("a", &"n".repeat(201), "a@b"), &["name"]),
            (request("a", "A\n", "a@b"), &["name"]),
            (request("a", "A", "nobody"), &["email"]),
            (request("a", "A", "@b"), &["email"]),
            (request("a", "A", "a@b@c"), &["email"]),
            (
                request("a", "A", &format!("{}@b", "a".repeat(253))),
                &["email"],
            ),
        ] {
            assert_eq!(fields(&new_user(wrong).unwrap_err()), named);
        }
        assert_eq!(fields(&known_id(&long).unwrap_err()), ["user_id"]);
    }

    #[test]
    fn what_is_within_the_limits_is_taken_as_it_is() {
        let longest = "ж".repeat(128);
        assert!(known_id(&longest).is_ok());
        assert!(known_id("").is_ok());
        // A combining accent, a right-to-left override, and no normalisation.
        let odd = "e\u{301}\u{202e}\u{1f600}";
        let user = new_user(request(odd, odd, "почта@пример.рф")).unwrap();
        assert_eq!((&*user.id, &*user.email), (odd, "почта@пример.рф"));
    }
}
