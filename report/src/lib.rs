//! Pages with plots, each one self-contained file that works from `file://`.
//!
//! Knows nothing of what was measured, or how: it draws named series over time, with the stretches of time
//! shaded and named, and puts them on a page with tables.
//!
//! | file | what for |
//! | --- | --- |
//! | [`figure`] | what is to be drawn, as data |
//! | `axis` | where ticks stand and what they say |
//! | `svg` | shapes and text, escaped |
//! | `draw` | from a figure to SVG |
//! | `style` | colours, light and dark |
//! | [`page`] | from sections to HTML |
//! | [`words`] | figures as people read them |

pub mod figure;
pub mod page;
pub mod words;

mod axis;
mod draw;
mod style;
mod svg;

pub use figure::{Figure, Lines, Mark, Panel, Scale, Segment, Series, Shade, Stack, Strip};
pub use page::{Cell, Column, Page, Table};
pub use style::Tone;
