//! Colours, light and dark, and what is drawn in which.
//!
//! On a page they are CSS variables. A drawing that stands alone has them written out:
//! viewers that draw SVG without a browser know no variables.

use std::fmt::Write as _;

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Worse than that.
    Worse,
    /// What the page is about.
    Main,
    /// The same, less important.
    MainSoft,
    /// The same, least important.
    MainFaint,
    /// What it is compared with.
    Other,
    /// Neither good nor bad.
    Neutral,
}

impl Tone {
    const ALL: [Self; 9] = [
        Self::Good,
        Self::Warn,
        Self::Bad,
        Self::Worse,
        Self::Main,
        Self::MainSoft,
        Self::MainFaint,
        Self::Other,
        Self::Neutral,
    ];

    /// The name of its class and of its variable.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Worse => "worse",
            Self::Main => "main",
            Self::MainSoft => "main-soft",
            Self::MainFaint => "main-faint",
            Self::Other => "other",
            Self::Neutral => "neutral",
        }
    }
}

/// Every colour, on a light and on a dark page.
///
/// Told apart by people who do not see red and green alike: those that stand side by side
/// differ in lightness too.
const COLOURS: [(&str, &str, &str); 16] = [
    ("page", "#f4f5f8", "#0e1219"),
    ("card", "#ffffff", "#171d27"),
    ("ink", "#1b2330", "#e6eaf2"),
    ("muted", "#5a6576", "#98a4b8"),
    ("grid", "#e2e6ed", "#2a3342"),
    ("shade", "#8a94a8", "#8a97b0"),
    ("mark", "#8a3ffc", "#be95ff"),
    ("good", "#2f9e5b", "#3fae6c"),
    ("warn", "#f0b23a", "#f2b84b"),
    ("bad", "#c9302c", "#ee5d58"),
    ("worse", "#5b1a6e", "#c78bdc"),
    ("main", "#1b4fd6", "#a6c1ff"),
    ("main-soft", "#5f8df2", "#5f8df2"),
    ("main-faint", "#a9c4fb", "#4468bd"),
    ("other", "#d9660b", "#ff9d4d"),
    ("neutral", "#a3adbd", "#5d6a80"),
];

/// The variables of a page.
pub(super) fn variables() -> String {
    let block = |pick: fn(&(&str, &'static str, &'static str)) -> &'static str| {
        COLOURS.iter().fold(String::new(), |mut block, colour| {
            let _ = write!(block, "--{}:{};", colour.0, pick(colour));
            block
        })
    };
    let light = block(|colour| colour.1);
    let dark = block(|colour| colour.2);
    format!(
        ":root{{color-scheme:light dark;{light}}}\
         @media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
}

/// The rules for drawings on a page.
pub(super) fn drawing_rules() -> String {
    rules(|name| format!("var(--{name})"))
}

/// The rules for a drawing that stands alone.
pub(super) fn standalone_rules() -> String {
    let find = |wanted: &str| COLOURS.iter().find(|colour| colour.0 == wanted);
    let light = rules(|name| find(name).map_or("#000", |colour| colour.1).to_owned());
    let dark = rules(|name| find(name).map_or("#fff", |colour| colour.2).to_owned());
    format!("<style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>")
}

fn rules(colour: impl Fn(&str) -> String) -> String {
    let mut rules = String::new();
    let _ = write!(
        rules,
        "text{{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;\
         fill:{ink}}}\
         .heading{{font-size:15px;font-weight:600}}.title{{font-weight:600}}.small{{font-size:11px;fill:{muted}}}\
         .mark-label{{font-size:11px;fill:{mark}}}.on-tone{{font-size:11px;fill:#fff}}\
         .card{{fill:{card}}}.shade{{fill:{shade};fill-opacity:.13}}\
         .border{{stroke:{shade};stroke-opacity:.35;fill:none}}\
         .grid{{stroke:{grid};fill:none}}\
         .mark{{stroke:{mark};stroke-dasharray:5 4;fill:none}}\
         .line{{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}}",
        ink = colour("ink"),
        muted = colour("muted"),
        mark = colour("mark"),
        card = colour("card"),
        shade = colour("shade"),
        grid = colour("grid"),
    );
    for tone in Tone::ALL {
        let (name, value) = (tone.name(), colour(tone.name()));
        let _ = write!(
            rules,
            ".line.{name}{{stroke:{value}}}.area.{name}{{fill:{value}}}"
        );
    }
    rules
}

/// Everything else on a page: type, spacing, tables.
pub(super) const PAGE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tone_has_its_colour() {
        for tone in Tone::ALL {
            assert!(
                COLOURS.iter().any(|colour| colour.0 == tone.name()),
                "{tone:?}"
            );
        }
    }

    #[test]
    fn a_drawing_that_stands_alone_needs_no_variables() {
        let rules = standalone_rules();
        assert!(!rules.contains("var("));
        assert!(rules.contains("prefers-color-scheme:dark"));
    }
}
