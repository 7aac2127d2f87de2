//! From a figure to SVG: panels above each other, on one axis of time.
//!
//! Every figure is drawn twice for a page, wide and narrow: a wide drawing scaled down to a
//! phone has letters that nobody can read. The style sheet shows the one that fits.

use super::{
    axis,
    figure::{Figure, Lines, Mark, Panel, Scale, Series, Stack, Strip},
    style::{self, Tone},
    svg::Svg,
};

/// Room for the names of the shades.
const TOP: f64 = 22.0;
/// Room for the labels of the time axis.
const BOTTOM: f64 = 22.0;
/// One row of a panel's title and legend.
const HEAD: f64 = 24.0;
/// Between panels.
const GAP: f64 = 12.0;
/// About the width of a letter; drawing happens without knowing the font.
const LETTER: f64 = 6.6;

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
    Drawing::new(figure, WIDE).finish(&style::standalone_rules(), 12.0)
}

struct Drawing<'a> {
    figure: &'a Figure,
    frame: Frame,
    svg: Svg,
}

impl<'a> Drawing<'a> {
    fn new(figure: &'a Figure, frame: Frame) -> Self {
        Self {
            figure,
            frame,
            svg: Svg::default(),
        }
    }

    fn finish(mut self, style: &str, padding: f64) -> String {
        let figure = self.figure;
        let heights: Vec<f64> = figure
            .panels
            .iter()
            .map(|panel| self.height(panel))
            .collect();
        let bottom = TOP + heights.iter().sum::<f64>() + GAP * figure.panels.len() as f64;
        let (width, height) = (self.frame.width, bottom + BOTTOM);

        if padding > 0.0 {
            self.svg.rect("card", 0.0, 0.0, width, height);
        }
        self.shades(bottom);
        let mut y = TOP;
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
                self.svg.rect("shade", left, 0.0, right - left, bottom);
            }
            if index > 0 {
                self.svg.line("border", (left, 0.0), (left, bottom));
            }
            let number = (index + 1).to_string();
            let label = if self.frame.numbered {
                &number
            } else {
                &shade.label
            };
            if letters(label) <= right - left {
                self.svg
                    .text("small", "middle", (left + right) / 2.0, 15.0, label);
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

    /// Entries behind the title, and in rows below it where they do not fit.
    /// Gives their places, and how many rows there are.
    fn legend_layout(&self, title: &str, entries: &[(String, Tone)]) -> (Vec<(f64, usize)>, usize) {
        let mut x = self.frame.left + letters(title) + 22.0;
        let mut row = 0;
        let mut places = Vec::new();
        for (name, _) in entries {
            let width = letters(name) + 30.0;
            if x + width > self.frame.width && x > self.frame.left {
                x = self.frame.left;
                row += 1;
            }
            places.push((x, row));
            x += width;
        }
        (places, row + 1)
    }

    fn legend_rows(&self, title: &str, entries: &[(String, Tone)]) -> usize {
        self.legend_layout(title, entries).1
    }

    /// Draws title and legend; gives where the plot begins.
    fn head(&mut self, title: &str, entries: &[(String, Tone)], top: f64) -> f64 {
        self.svg
            .text("title", "start", self.frame.left, top + 14.0, title);
        let (places, rows) = self.legend_layout(title, entries);
        for ((name, tone), (x, row)) in entries.iter().zip(places) {
            let y = top + 14.0 + row as f64 * HEAD;
            let class = format!("area {}", tone.name());
            self.svg.rect(&class, x, y - 8.0, 12.0, 8.0);
            self.svg.text("small", "start", x + 16.0, y, name);
        }
        top + rows as f64 * HEAD
    }

    /// Lines across, and what they stand for.
    fn scale(&mut self, scale: Scale, top: f64, height: f64) {
        let (left, right) = (self.frame.left, self.frame.left + self.plot_width());
        for (value, label) in scale.ticks() {
            let y = top + height * (1.0 - scale.position(value));
            self.svg.line("grid", (left, y), (right, y));
            self.svg.text("small", "end", left - 6.0, y + 4.0, &label);
        }
    }

    fn marks(&mut self, marks: &[Mark], scale: Scale, top: f64, height: f64) {
        let (left, right) = (self.frame.left, self.frame.left + self.plot_width());
        for mark in marks {
            let y = top + height * (1.0 - scale.position(mark.value));
            self.svg.line("mark", (left, y), (right, y));
            self.svg
                .text("mark-label", "start", left + 4.0, y - 4.0, &mark.label);
        }
    }

    fn lines(&mut self, lines: &Lines, top: f64) {
        let top = self.head(&lines.title, &names(&lines.series), top);
        let height = self.frame.lines;
        self.scale(lines.scale, top, height);
        self.marks(&lines.marks, lines.scale, top, height);
        for series in &lines.series {
            let place = |&(at, value): &(f64, Option<f64>)| {
                let y = top + height * (1.0 - lines.scale.position(value?));
                Some((self.x(at), y))
            };
            let points: Vec<_> = series.points.iter().map(place).collect();
            let class = format!("line {}", series.tone.name());
            self.svg.path(&class, points.into_iter());
        }
    }

    fn stack(&mut self, stack: &Stack, top: f64) {
        let top = self.head(&stack.title, &names(&stack.layers), top);
        let height = self.frame.stack;
        let scale = Scale::Linear {
            max: stack.max,
            unit: "",
        };
        self.scale(scale, top, height);
        let moments = stack.layers.iter().map(|layer| layer.points.len()).min();
        let mut floor = vec![0.0; moments.unwrap_or(0)];
        for layer in &stack.layers {
            let ceiling: Vec<f64> = layer
                .points
                .iter()
                .zip(&floor)
                .map(|((_, value), below)| below + value.unwrap_or(0.0))
                .collect();
            let place = |level: &[f64]| -> Vec<(f64, f64)> {
                let moments = layer.points.iter().map(|(at, _)| self.x(*at));
                let levels = level
                    .iter()
                    .map(|level| top + height * (1.0 - scale.position(*level)));
                moments.zip(levels).collect()
            };
            let outline = place(&ceiling)
                .into_iter()
                .chain(place(&floor).into_iter().rev());
            let class = format!("area {}", layer.tone.name());
            self.svg
                .area(&class, outline.collect::<Vec<_>>().into_iter());
            floor = ceiling;
        }
    }

    fn strip(&mut self, strip: &Strip, top: f64) {
        let top = self.head(&strip.title, &strip.legend, top);
        for segment in &strip.segments {
            let (left, right) = (self.x(segment.start), self.x(segment.end));
            let class = format!("area {}", segment.tone.name());
            self.svg
                .rect(&class, left, top, right - left, self.frame.strip);
            if letters(&segment.label) + 8.0 <= right - left {
                let middle = (left + right) / 2.0;
                let baseline = top + self.frame.strip / 2.0 + 4.0;
                self.svg
                    .text("on-tone", "middle", middle, baseline, &segment.label);
            }
        }
    }
}

fn names(series: &[Series]) -> Vec<(String, Tone)> {
    let name = |series: &Series| (series.name.clone(), series.tone);
    series.iter().map(name).collect()
}

fn letters(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Segment, Shade};

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
