//! From a figure to SVG: panels above each other, on one axis of time.
//!
//! Every figure is drawn twice for a page, wide and narrow: a wide drawing scaled down to a
//! phone has letters that nobody can read. The style sheet shows the one that fits.

mod panels;

use super::{
    axis,
    figure::{Figure, Panel},
    style,
    svg::Svg,
};
use panels::names;

/// Room for the heading of a drawing that stands alone.
const HEADING: f64 = 30.0;
/// Room for the names of the shades.
const TOP: f64 = 22.0;
/// Room for the labels of the time axis.
const BOTTOM: f64 = 22.0;
/// One row of a panel's title and legend.
const HEAD: f64 = 24.0;
/// Between panels.
const GAP: f64 = 12.0;
/// About the width of a letter in small text; drawing happens without knowing the font.
const LETTER: f64 = 6.2;

/// The sizes that differ between a wide drawing and a narrow one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    width: f64,
    left: f64,
    right: f64,
    lines: f64,
    stack: f64,
    strip: f64,
    /// Shades have numbers in place of names that would not fit.
    numbered: bool,
}

pub(super) const WIDE: Frame = Frame {
    width: 1040.0,
    left: 52.0,
    right: 12.0,
    lines: 168.0,
    stack: 128.0,
    strip: 18.0,
    numbered: false,
};

pub(super) const NARROW: Frame = Frame {
    width: 372.0,
    left: 48.0,
    right: 6.0,
    lines: 150.0,
    stack: 120.0,
    strip: 16.0,
    numbered: true,
};

/// For a page, whose style sheet has the colours.
pub(super) fn embedded(figure: &Figure, frame: Frame) -> String {
    Drawing::new(figure, frame).finish("", 0.0)
}

/// With its own colours and its own background.
pub(super) fn standalone(figure: &Figure) -> String {
    Drawing::new(figure, WIDE).finish(&style::standalone_rules(), HEADING)
}

struct Drawing<'a> {
    figure: &'a Figure,
    frame: Frame,
    top: f64,
    svg: Svg,
}

impl<'a> Drawing<'a> {
    fn new(figure: &'a Figure, frame: Frame) -> Self {
        Self {
            figure,
            frame,
            top: 0.0,
            svg: Svg::default(),
        }
    }

    /// `heading` is the room above everything for the figure's title.
    fn finish(mut self, style: &str, heading: f64) -> String {
        self.top = heading;
        let figure = self.figure;
        let heights: Vec<f64> = figure
            .panels
            .iter()
            .map(|panel| self.height(panel))
            .collect();
        let bottom = heading + TOP + heights.iter().sum::<f64>() + GAP * figure.panels.len() as f64;
        let (width, height) = (self.frame.width, bottom + BOTTOM);

        if heading > 0.0 {
            self.svg.rect("card", 0.0, 0.0, width, height);
            self.svg
                .text("heading", "start", self.frame.left, 21.0, &figure.title);
        }
        self.shades(bottom);
        let mut y = heading + TOP;
        for (panel, height) in figure.panels.iter().zip(&heights) {
            y += GAP;
            match panel {
                Panel::Lines(lines) => self.lines(lines, y),
                Panel::Stack(stack) => self.stack(stack, y),
                Panel::Strip(strip) => self.strip(strip, y),
            }
            y += height;
        }
        self.time_axis(bottom);
        self.svg.finish(width, height, &figure.title, style)
    }

    fn plot_width(&self) -> f64 {
        self.frame.width - self.frame.left - self.frame.right
    }

    /// Where a moment stands.
    fn x(&self, seconds: f64) -> f64 {
        let end = self.figure.seconds.max(f64::EPSILON);
        self.frame.left + (seconds / end).clamp(0.0, 1.0) * self.plot_width()
    }

    fn height(&self, panel: &Panel) -> f64 {
        let (legend, plot) = match panel {
            Panel::Lines(lines) => (
                self.legend_rows(&lines.title, &names(&lines.series)),
                self.frame.lines,
            ),
            Panel::Stack(stack) => (
                self.legend_rows(&stack.title, &names(&stack.layers)),
                self.frame.stack,
            ),
            Panel::Strip(strip) => (
                self.legend_rows(&strip.title, &strip.legend),
                self.frame.strip,
            ),
        };
        legend as f64 * HEAD + plot
    }

    fn shades(&mut self, bottom: f64) {
        for (index, shade) in self.figure.shades.iter().enumerate() {
            let (left, right) = (self.x(shade.start), self.x(shade.end));
            if shade.dark {
                self.svg
                    .rect("shade", left, self.top, right - left, bottom - self.top);
            }
            if index > 0 {
                self.svg.line("border", (left, self.top), (left, bottom));
            }
            let number = (index + 1).to_string();
            let label = if self.frame.numbered {
                &number
            } else {
                &shade.label
            };
            if letters(label) <= right - left {
                self.svg.text(
                    "small",
                    "middle",
                    (left + right) / 2.0,
                    self.top + 15.0,
                    label,
                );
            }
        }
    }

    fn time_axis(&mut self, bottom: f64) {
        let most = (self.plot_width() / 60.0) as usize;
        for (at, label) in axis::seconds(self.figure.seconds, most.max(2)) {
            let x = self.x(at);
            self.svg.line("grid", (x, bottom), (x, bottom + 4.0));
            // The last label must not stick out.
            let room = self.frame.width - x < letters(&label) / 2.0;
            let anchor = if room { "end" } else { "middle" };
            self.svg.text("small", anchor, x, bottom + 16.0, &label);
        }
    }
}

fn letters(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        figure::{Lines, Mark, Scale, Segment, Series, Shade, Stack, Strip},
        style::Tone,
    };

    fn series(name: &str, values: &[Option<f64>]) -> Series {
        let points = values.iter().enumerate();
        Series {
            name: name.to_owned(),
            tone: Tone::Main,
            points: points.map(|(at, value)| (at as f64, *value)).collect(),
        }
    }

    fn figure() -> Figure {
        let shade = |label: &str, start, end, dark| Shade {
            label: label.to_owned(),
            start,
            end,
            dark,
        };
        Figure {
            title: "what happened".to_owned(),
            seconds: 4.0,
            shades: vec![
                shade("before", 0.0, 2.0, false),
                shade("<fault>", 2.0, 4.0, true),
            ],
            panels: vec![
                Panel::Lines(Lines {
                    title: "share".to_owned(),
                    scale: Scale::Linear {
                        max: 100.0,
                        unit: " %",
                    },
                    series: vec![series("a", &[Some(0.0), None, Some(100.0), Some(400.0)])],
                    marks: vec![Mark {
                        label: "limit".to_owned(),
                        value: 50.0,
                    }],
                }),
                Panel::Stack(Stack {
                    title: "calls".to_owned(),
                    max: 10.0,
                    layers: vec![
                        series("b", &[Some(3.0), Some(4.0)]),
                        series("c", &[Some(2.0), None]),
                    ],
                }),
                Panel::Strip(Strip {
                    title: "state".to_owned(),
                    segments: vec![Segment {
                        start: 0.0,
                        end: 4.0,
                        label: "shut".to_owned(),
                        tone: Tone::Good,
                    }],
                    legend: vec![("shut".to_owned(), Tone::Good)],
                }),
            ],
        }
    }

    #[test]
    fn a_figure_has_all_its_panels_and_its_names_are_escaped() {
        let drawing = embedded(&figure(), WIDE);
        for text in [
            "share",
            "limit",
            "calls",
            "state",
            "shut",
            "&lt;fault&gt;",
            "100 %",
            "4 s",
        ] {
            assert!(
                drawing.contains(&format!(">{text}</text>")),
                "{text} in {drawing}"
            );
        }
        assert!(!drawing.contains("<fault>") && !drawing.contains("NaN"));
        assert!(!drawing.contains("<style>"));
    }

    #[test]
    fn a_narrow_figure_has_numbers_for_names() {
        let drawing = embedded(&figure(), NARROW);
        assert!(drawing.contains(">1</text>") && drawing.contains(">2</text>"));
        assert!(!drawing.contains("before"));
    }

    #[test]
    fn layers_stand_on_each_other() {
        let drawing = embedded(&figure(), WIDE);
        // At the first moment: 3 of 10, then 2 more, over a height of 128.
        let top = TOP + GAP + HEAD + WIDE.lines + GAP + HEAD;
        let [first, second] =
            [0.7, 0.5].map(|part| format!("M52.0 {:.1}L", top + part * WIDE.stack));
        assert!(
            drawing.contains(&first) && drawing.contains(&second),
            "{drawing}"
        );
    }

    #[test]
    fn nothing_at_all_can_be_drawn_too() {
        let empty = Figure {
            title: String::new(),
            seconds: 0.0,
            shades: Vec::new(),
            panels: Vec::new(),
        };
        for drawing in [embedded(&empty, NARROW), standalone(&empty)] {
            assert!(drawing.starts_with("<svg") && !drawing.contains("NaN"));
        }
    }

    #[test]
    fn a_drawing_that_stands_alone_has_its_own_background() {
        let drawing = standalone(&figure());
        assert!(drawing.contains("<style>") && drawing.contains(r#"<rect class="card" x="0.0""#));
    }
}
