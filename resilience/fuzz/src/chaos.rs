//! The text of `CHAOS`.

use user_service::chaos::Chaos;

/// Checks one text: it is refused with a reason, or what it means is written
/// out as text that means the same.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let chaos: Chaos = match text.parse() {
        Ok(chaos) => chaos,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = chaos.to_string();
    match written.parse::<Chaos>() {
        Ok(again) => {
            assert_eq!(again, chaos, "{text:?} is written as {written:?}");
            assert_eq!(again.to_string(), written);
        }
        Err(error) => panic!("{text:?} is written as {written:?}, which {error}"),
    }
}
