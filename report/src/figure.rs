//! What is to be drawn: panels above each other on one axis of time.

use super::{draw, style::Tone};

/// Several panels that share their time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it shows, in a few words; read aloud in place of the drawing.
    pub title: String,
    /// Where the time axis ends, in seconds.
    pub seconds: f64,
    /// Stretches of time with names, in order.
    pub shades: Vec<Shade>,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// A named stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Shade {
    /// What it is called.
    pub label: String,
    /// Where it begins, in seconds.
    pub start: f64,
    /// Where it ends, in seconds.
    pub end: f64,
    /// Whether its background is shaded.
    pub dark: bool,
}

/// One drawing of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Panel {
    /// Values over time.
    Lines(Lines),
    /// Values over time that add up.
    Stack(Stack),
    /// States over time.
    Strip(Strip),
}

/// Values over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// What the values are.
    pub title: String,
    /// How they are laid out.
    pub scale: Scale,
    /// Drawn in this order: the last one is on top.
    pub series: Vec<Series>,
    /// Values worth comparing with.
    pub marks: Vec<Mark>,
}

/// How values are laid out from bottom to top.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From zero to this value, which is followed by this unit.
    Linear {
        /// The top.
        max: f64,
        /// Written behind the values.
        unit: &'static str,
    },
    /// Milliseconds, each step ten times the one below.
    LogMillis {
        /// The bottom.
        min: f64,
        /// The top.
        max: f64,
    },
}

/// One line, or one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
    /// Seconds and values; where there is no value, the line is interrupted.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A value worth comparing with: a line across.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What it is.
    pub label: String,
    /// Where it is.
    pub value: f64,
}

/// Values over time that add up.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// What the values are.
    pub title: String,
    /// The top.
    pub max: f64,
    /// From bottom to top. All have their points at the same moments.
    pub layers: Vec<Series>,
}

/// States over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Whose states.
    pub title: String,
    /// The states, in order.
    pub segments: Vec<Segment>,
    /// What the colours mean.
    pub legend: Vec<(String, Tone)>,
}

/// One state.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Where it begins, in seconds.
    pub start: f64,
    /// Where it ends, in seconds.
    pub end: f64,
    /// Its name.
    pub label: String,
    /// Its colour.
    pub tone: Tone,
}

impl Figure {
    /// A file of its own, with its own background: legible on light and dark pages.
    pub fn standalone_svg(&self) -> String {
        draw::standalone(self)
    }
}
