//! Shapes and text as SVG, escaped.

use std::fmt::{self, Write as _};

/// Text that means itself, in HTML and SVG, inside elements and attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // XML has no way to write most control characters, and nobody can read them.
                control if control.is_control() => f.write_str(" ")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A drawing under way. Classes are literals: colours and fonts are the style sheet's.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    pub(super) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"/>"#,
            width.max(0.0),
            height.max(0.0)
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(format_args!(
            r#"<path class="{class}" d="M{:.1} {:.1}L{:.1} {:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// One line through these points; an interruption starts anew.
    pub(super) fn path(&mut self, class: &str, points: impl Iterator<Item = Option<(f64, f64)>>) {
        let mut data = String::new();
        let mut pen_down = false;
        for point in points {
            if let Some((x, y)) = point {
                let command = if pen_down { 'L' } else { 'M' };
                let _ = write!(data, "{command}{x:.1} {y:.1}");
            }
            pen_down = point.is_some();
        }
        self.push(format_args!(r#"<path class="{class}" d="{data}"/>"#));
    }

    /// A closed shape.
    pub(super) fn area(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let mut data = String::new();
        for (index, (x, y)) in points.enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{x:.1} {y:.1}");
        }
        self.push(format_args!(r#"<path class="{class}" d="{data}Z"/>"#));
    }

    /// `anchor` says which point of the text stands at `x`: start, middle or end.
    pub(super) fn text(&mut self, class: &str, anchor: &str, x: f64, y: f64, text: &str) {
        self.push(format_args!(
            r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{}</text>"#,
            Escaped(text)
        ));
    }

    /// The drawing, with what is read aloud in place of it.
    pub(super) fn finish(self, width: f64, height: f64, title: &str, style: &str) -> String {
        let title = Escaped(title);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{title}">{style}{}</svg>"#,
            self.body
        )
    }

    fn push(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut svg = Svg::default();
        svg.text(
            "a",
            "start",
            0.0,
            0.0,
            "</text><script>alert('1' & \"2\")</script>\u{0}",
        );
        let drawing = svg.finish(10.0, 10.0, "\" onload=\"x", "");
        assert!(!drawing.contains("<script") && !drawing.contains("\" onload"));
        assert!(
            drawing.contains("&lt;/text&gt;&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)")
        );
        assert!(!drawing.contains('\u{0}'));
    }

    #[test]
    fn a_line_is_interrupted_where_there_is_no_value() {
        let mut svg = Svg::default();
        let points = [Some((0.0, 1.0)), Some((1.0, 1.0)), None, Some((3.0, 1.0))];
        svg.path("a", points.into_iter());
        assert!(svg.body.contains("M0.0 1.0L1.0 1.0M3.0 1.0"));
    }
}
