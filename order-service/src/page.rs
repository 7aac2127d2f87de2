//! The token of a page: where the one before ended.
//!
//! Callers pass it back as it came, and need not know what it says: the place of
//! the last order, in hexadecimal. It is no secret, as a page holds only orders
//! of the user that is asked for.

use std::fmt::Write as _;

use crate::store::Place;

/// Digits of the time that a token begins with.
const TIME: usize = 16;

/// The token of the page that begins after `place`.
pub(crate) fn token_of(place: &Place) -> String {
    let mut token = format!("{:016x}", place.created_at_ms);
    for byte in place.order_id.bytes() {
        write!(token, "{byte:02x}").expect("a string takes all that is written to it");
    }
    token
}

/// The place that a token of ours says; nothing for any other.
pub(crate) fn place_of(token: &str) -> Option<Place> {
    // `from_str_radix` takes a sign, which no token of ours has.
    if !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let created_at_ms = i64::from_str_radix(token.get(..TIME)?, 16).ok()?;
    let id = &token.as_bytes()[TIME..];
    let bytes = id.chunks(2).map(|pair| match pair {
        [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
        _ => None,
    });
    let order_id = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
    // PostgreSQL takes no text with a zero, and no id of ours has one.
    let ours = !order_id.is_empty() && !order_id.contains(char::is_control);
    ours.then_some(Place {
        created_at_ms,
        order_id,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_of_somebody_else_is_none() {
        for token in [
            "0",
            "000000000000000",
            "0000000000000001",
            "00000000000000016",
            "000000000000000100",
            "+000000000000000161",
            "ffffffffffffffff61",
            "0000000000000001ff",
            "0000000000000001ж",
        ] {
            assert_eq!(place_of(token), None, "{token:?}");
        }
    }

    proptest! {
        #[test]
        fn every_place_comes_back(created_at_ms in 0..i64::MAX, order_id in "\\PC{1,128}") {
            let place = Place { created_at_ms, order_id };
            prop_assert_eq!(place_of(&token_of(&place)), Some(place));
        }

        #[test]
        fn no_token_panics(token in ".*") {
            let _ = place_of(&token);
        }
    }
}
