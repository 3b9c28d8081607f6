//! A table for people: columns two spaces apart, in colours, and on a terminal no wider than it.
//!
//! A last column that does not fit is continued below itself, or below the row if there is no room beside the others.

use std::io::{self, Write};
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use rustix::termios::tcgetwinsize;

use super::diff::Color;
use super::output;
use super::problem::Problem;
use domain::printable::Printable;

/// Least width of a last column beside the others.
const NARROWEST: usize = 36;
/// Indentation of a last column below its row.
const INDENT: usize = 4;

/// The width of the terminal that standard output is; `None` for a file or pipe.
pub(super) fn width() -> Option<usize> {
    columns_of(&io::stdout())
}

/// The width of the terminal that a stream is.
pub(super) fn columns_of(stream: &impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Prints a text with colours when they are asked for.
pub(super) fn print(text: &str, color: Color) -> Result<(), Problem> {
    let choice = match color {
        Color::Auto => AutoStream::choice(&io::stdout()),
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let mut out = AutoStream::new(io::stdout(), choice);
    output::written(out.write_all(text.as_bytes()))
}

/// A cell and its style.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell; its text becomes one line without control characters.
    pub(super) fn new(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: Printable(text.as_ref()).to_string(),
            style,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// The rows as lines of at most `width` characters.
pub(super) fn table(rows: &[Vec<Cell>], width: Option<usize>) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column = |number: usize| {
        let cells = rows.iter().filter_map(|row| row.get(number));
        cells.map(Cell::width).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count.saturating_sub(1)).map(column).collect();
    let beside = widths.iter().map(|width| width + 2).sum();
    rows.iter()
        .map(|row| line(row, &widths, (beside, width)))
        .collect()
}

fn line(row: &[Cell], widths: &[usize], (beside, width): (usize, Option<usize>)) -> String {
    let Some((last, cells)) = row.split_last() else {
        return "\n".to_owned();
    };
    let head = |(cell, width): (&Cell, &usize)| {
        let (style, room) = (cell.style, width - cell.width().min(*width));
        format!("{style}{}{style:#}{:room$}  ", cell.text, "")
    };
    let mut out: String = cells.iter().zip(widths).map(head).collect();
    let own = width.map(|width| width.saturating_sub(beside));
    let (indent, own) = match (own, width) {
        (Some(own), Some(width)) if own < NARROWEST.min(last.width()) => {
            out = format!("{}\n{:INDENT$}", out.trim_end(), "");
            (INDENT, Some(width.saturating_sub(INDENT).max(1)))
        }
        (own, _) => (beside, own),
    };
    let style = last.style;
    for (number, text) in wrapped(&last.text, own).iter().enumerate() {
        if number > 0 {
            out.push_str(&format!("\n{:indent$}", ""));
        }
        out.push_str(&format!("{style}{text}{style:#}"));
    }
    format!("{}\n", out.trim_end())
}

/// The text in lines of at most `width` characters where it has spaces.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("a first line");
        match line.is_empty() {
            true => line.push_str(word),
            false if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&[&str]]) -> Vec<Vec<Cell>> {
        let cell = |text: &&str| Cell::new(text, Style::new());
        let row = |row: &&[&str]| row.iter().map(cell).collect();
        texts.iter().map(row).collect()
    }

    #[test]
    fn a_last_column_is_continued_below_itself_or_below_its_row() {
        let words = "a text of several words that is longer than the terminal is wide";
        let rows = rows(&[&["HEAD", "TEXT"], &["x", words]]);
        assert_eq!(table(&rows, None), format!("HEAD  TEXT\nx     {words}\n"));
        let beside = table(&rows, Some(44));
        let wanted = "HEAD  TEXT\nx     a text of several words that is longer\n      than the terminal is wide\n";
        assert_eq!(beside, wanted);
        let below = table(&rows, Some(30));
        let wanted = "HEAD  TEXT\nx\n    a text of several words\n    that is longer than the\n    terminal is wide\n";
        assert_eq!(below, wanted);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_if_its_words_are_not() {
        let words = "word ".repeat(60);
        let rows = rows(&[&["0000:01:00.0", "devices/hostdev", &words]]);
        for width in 30..120 {
            let longest = table(&rows, Some(width));
            let longest = longest.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{longest:?} for {width}");
        }
    }

    #[test]
    fn a_cell_is_one_line_without_control_characters() {
        let text = table(&rows(&[&["a\nb\u{1b}[31m", "c"]]), None);
        assert_eq!(text, "a\\u{a}b\\u{1b}[31m  c\n");
    }
}
