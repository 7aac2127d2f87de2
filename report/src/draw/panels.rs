//! One panel at a time: its title, its legend, and what is in it.

use super::{Drawing, HEAD, letters};
use crate::{
    figure::{Lines, Mark, Scale, Series, Stack, Strip},
    style::Tone,
};

/// About the width of a letter in a title.
const TITLE_LETTER: f64 = 7.4;

impl Drawing<'_> {
    /// Entries behind the title, and in rows below it where they do not fit.
    /// Gives their places, and how many rows there are.
    fn legend_layout(&self, title: &str, entries: &[(String, Tone)]) -> (Vec<(f64, usize)>, usize) {
        let mut x = self.frame.left + title.chars().count() as f64 * TITLE_LETTER + 14.0;
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

    pub(super) fn legend_rows(&self, title: &str, entries: &[(String, Tone)]) -> usize {
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

    pub(super) fn lines(&mut self, lines: &Lines, top: f64) {
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

    pub(super) fn stack(&mut self, stack: &Stack, top: f64) {
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

    pub(super) fn strip(&mut self, strip: &Strip, top: f64) {
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

/// What a legend says of lines and layers.
pub(super) fn names(series: &[Series]) -> Vec<(String, Tone)> {
    let name = |series: &Series| (series.name.clone(), series.tone);
    series.iter().map(name).collect()
}
