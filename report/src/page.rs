//! From sections to HTML: one file, no script, nothing fetched.

use std::fmt::Write as _;

use super::{
    draw,
    figure::Figure,
    style::{self, Tone},
    svg::Escaped,
};

/// A page, section by section. All text is escaped.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    body: String,
}

/// Rows of cells under a head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// One for each cell of a row.
    pub head: Vec<Column>,
    /// From top to bottom.
    pub rows: Vec<Vec<Cell>>,
    /// On a phone, whether each row becomes a card with its first cell as the heading. Other
    /// tables can be moved sideways.
    pub cards: bool,
}

/// What the cells of a column have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Numbers stand to the right, so that their digits stand below each other.
    pub number: bool,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// A mark in this colour in front of it.
    pub tone: Option<Tone>,
}

impl Column {
    /// A column of words.
    pub fn words(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            number: false,
        }
    }

    /// A column of figures.
    pub fn figures(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            number: true,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            tone: None,
        }
    }
}

impl Cell {
    /// With a mark in front of it.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone: Some(tone),
        }
    }
}

impl Page {
    /// With nothing on it but its title.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// The one thing to know, in large letters, and a sentence about it.
    pub fn banner(&mut self, tone: Tone, headline: &str, sentence: &str) {
        self.push(format_args!(
            "<section class=\"card banner {}\"><p class=\"what\">{}</p><h1>{}</h1><p>{}</p></section>",
            tone.name(),
            Escaped(&self.title.clone()),
            Escaped(headline),
            Escaped(sentence)
        ));
    }

    /// Begins a section. Everything up to the next one belongs to it.
    pub fn section(&mut self, heading: &str) {
        self.push(format_args!("<h2>{}</h2>", Escaped(heading)));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.push(format_args!("<p>{}</p>", Escaped(text)));
    }

    /// A table.
    pub fn table(&mut self, table: &Table) {
        let class = if table.cards { "cards" } else { "sideways" };
        let mut html = format!("<div class=\"card {class}\"><table><thead><tr>");
        for column in &table.head {
            let class = if column.number {
                " class=\"number\""
            } else {
                ""
            };
            let _ = write!(html, "<th{class}>{}</th>", Escaped(&column.name));
        }
        html.push_str("</tr></thead><tbody>");
        for row in &table.rows {
            html.push_str("<tr>");
            for (column, cell) in table.head.iter().zip(row) {
                // On a card, a name with nothing beside it says nothing.
                let class = match (column.number, cell.text.is_empty()) {
                    (_, true) => " class=\"blank\"",
                    (true, false) => " class=\"number\"",
                    (false, false) => "",
                };
                let name = Escaped(&column.name);
                let _ = write!(html, "<td{class} data-name=\"{name}\"><span>");
                if let Some(tone) = cell.tone {
                    let _ = write!(html, "<i class=\"dot {}\"></i>", tone.name());
                }
                let _ = write!(html, "{}</span></td>", Escaped(&cell.text));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table></div>");
        self.body.push_str(&html);
    }

    /// A figure, and a sentence about how to read it.
    pub fn figure(&mut self, figure: &Figure, caption: &str) {
        let key: Vec<String> = figure
            .shades
            .iter()
            .enumerate()
            .map(|(index, shade)| format!("{} {}", index + 1, shade.label))
            .collect();
        self.push(format_args!(
            "<figure class=\"card\"><div class=\"wide\">{}</div><div class=\"narrow\">{}<p class=\"key\">{}</p></div>\
             <figcaption>{}</figcaption></figure>",
            draw::embedded(figure, draw::WIDE),
            draw::embedded(figure, draw::NARROW),
            Escaped(&key.join(" · ")),
            Escaped(caption)
        ));
    }

    /// Names and what they stand for.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        let mut html = String::from("<dl class=\"card\">");
        for (name, value) in facts {
            let _ = write!(
                html,
                "<div><dt>{}</dt><dd>{}</dd></div>",
                Escaped(name),
                Escaped(value)
            );
        }
        html.push_str("</dl>");
        self.body.push_str(&html);
    }

    /// The whole file.
    pub fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <link rel=\"icon\" href=\"data:,\"><title>{}</title>\n<style>{}{}{}</style></head>\n\
             <body><main>{}</main></body></html>\n",
            Escaped(&self.title),
            style::variables(),
            style::drawing_rules(),
            style::PAGE,
            self.body
        )
    }

    fn push(&mut self, html: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(html);
        self.body.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<img src=x onerror=\"alert('1')\">&";

    #[test]
    fn nothing_that_is_put_on_a_page_can_become_markup() {
        let mut page = Page::new(EVIL);
        page.banner(Tone::Good, EVIL, EVIL);
        page.section(EVIL);
        page.text(EVIL);
        page.facts(&[(EVIL.to_owned(), EVIL.to_owned())]);
        page.table(&Table {
            head: vec![Column::words(EVIL), Column::figures(EVIL)],
            rows: vec![vec![Cell::toned(EVIL, Tone::Bad), EVIL.into()]],
            cards: true,
        });
        let html = page.html();
        assert!(!html.contains("<img") && !html.contains("onerror=\""));
        assert_eq!(html.matches("&lt;img src=x onerror=&quot;").count(), 14);
    }

    #[test]
    fn a_page_fetches_nothing() {
        let mut page = Page::new("t");
        page.figure(
            &Figure {
                title: "f".to_owned(),
                seconds: 1.0,
                shades: Vec::new(),
                panels: Vec::new(),
            },
            "c",
        );
        let html = page.html();
        // The one address on it is the name of SVG itself.
        assert_eq!(
            html.matches("http").count(),
            html.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!html.contains("<script") && !html.contains("@import"));
        assert_eq!(html.matches("<svg").count(), 2);
    }
}
