//! The Prometheus text format, as far as reading single values needs it.
//!
//! Lines that cannot be read are passed over: a page is somebody else's, and one odd line in
//! it is no reason to lose the others.

/// One value of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line<'a> {
    /// The metric, with suffixes such as `_total` and `_sum`.
    pub(crate) name: &'a str,
    /// The value.
    pub(crate) value: f64,
    labels: &'a str,
}

impl<'a> Line<'a> {
    /// The value of a label, as it is written (escapes stay escaped).
    pub(crate) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            if key.trim_matches([',', ' ']) == name {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
    }
}

/// The values of a page, in order.
pub(crate) fn lines(page: &str) -> impl Iterator<Item = Line<'_>> {
    page.lines().filter_map(line)
}

fn line(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => {
            let end = closing_brace(inside)?;
            (&inside[..end], &inside[end + 1..])
        }
        None => ("", rest),
    };
    // A timestamp may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Line {
        name,
        value,
        labels,
    })
}

/// Where the quote is that ends a label's value.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let found = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// Where the brace is that ends the labels: one inside a value does not.
fn closing_brace(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let next = rest.find(['"', '}'])?;
        if rest.as_bytes()[next] == b'}' {
            return Some(at + next);
        }
        let value = &rest[next + 1..];
        at += next + 1 + closing_quote(value)? + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, f64)> {
        lines(text).map(|line| (line.name, line.value)).collect()
    }

    #[test]
    fn values_are_read_with_and_without_labels_and_timestamps() {
        let page =
            "# HELP up Is it.\n# TYPE up gauge\nup 1\n\nx{a=\"b\"} 2.5e3 1700000000\ny -Inf\n";
        assert_eq!(
            read(page),
            [("up", 1.0), ("x", 2500.0), ("y", f64::NEG_INFINITY)]
        );
    }

    #[test]
    fn a_label_is_found_among_others() {
        let line = line(r#"m{first="1", second="2",third=""} 7"#).unwrap();
        assert_eq!(line.label("first"), Some("1"));
        assert_eq!(line.label("second"), Some("2"));
        assert_eq!(line.label("third"), Some(""));
        assert_eq!(line.label("fourth"), None);
    }

    #[test]
    fn braces_and_quotes_inside_a_value_do_not_end_it() {
        let line = line(r#"m{path="/a}\"{b\\",next="n"} 1"#).unwrap();
        assert_eq!(line.label("path"), Some(r#"/a}\"{b\\"#));
        assert_eq!(line.label("next"), Some("n"));
        assert_eq!(line.value, 1.0);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_passed_over() {
        let page = "good 1\nm{a=\"b\nm{a=\"b\"\nname\nm{} \nbad NaN?\n{} 1\nlast 2\n";
        let names: Vec<_> = lines(page).map(|line| line.name).collect();
        assert_eq!(names, ["good", "", "last"]);
    }
}
