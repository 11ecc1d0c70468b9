//! The output of the operator's commands: tables for people, one JSON object a line for scripts.
//! Invariant: whatever a peer has chosen as a name, a terminal obeys nothing of it, no text spans two lines or looks like two columns,
//! and JSON carries it exactly.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::refusals::utc;
use crate::error::StartupError;

/// Characters of a text in a table; the rest is cut.
const CELL_CHARACTERS_MAX: usize = 48;

/// The form of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// Print JSON, one object a line, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whether the output is repeated.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Watch {
    /// Print again every two seconds, or as many as are given, until it is interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watch: Option<u32>,
}

impl Watch {
    /// Prints the text that `show` makes, again and again if so asked, as long as somebody reads it.
    pub(super) fn repeat(
        self,
        mut show: impl FnMut() -> Result<String, StartupError>,
    ) -> Result<(), StartupError> {
        let is_screen = self.watch.is_some() && io::stdout().is_terminal();
        loop {
            let text = show()?;
            // The cursor goes home, and everything behind it is erased.
            let text = if is_screen { format!("\u{1b}[H\u{1b}[2J{text}") } else { text };
            let mut output = io::stdout().lock();
            let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
            drop(output);
            match self.watch {
                // A closed output has no reader for the next one.
                Some(seconds) if written.is_ok() => thread::sleep(Duration::from_secs(seconds.into())),
                Some(_) | None => return Ok(()),
            }
        }
    }
}

/// Rows of texts below their titles.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| title.to_uppercase()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The lines, each column as wide as its longest text.
    pub(super) fn lines(&self) -> String {
        let columns = self.rows[0].len();
        let width = |at: usize| {
            let widths = self.rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.chars().count()));
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Rows as JSON, or as the table that is made of them.
pub(super) fn rows<R: Serialize>(form: Form, rows: &[R], table: impl FnOnce(&[R]) -> Table) -> String {
    if form.json { rows.iter().map(json).collect() } else { table(rows).lines() }
}

/// One object on a line of its own. Characters that a terminal might obey are escaped.
pub(super) fn json(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_default();
    let mut line = String::with_capacity(plain.len() + 1);
    for character in plain.chars() {
        if is_harmless(character) {
            line.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push('\n');
    line
}

/// A text of a peer as a cell: as it is, if it is one plain word, or else in quotes and with escapes. Nothing is `-`.
pub(super) fn cell(text: Option<&str>) -> String {
    let Some(text) = text else { return "-".to_owned() };
    let is_plain = |character: char| {
        is_harmless(character) && !character.is_whitespace() && !matches!(character, '"' | '\\' | '…')
    };
    if !matches!(text, "" | "-") && text.chars().all(is_plain) {
        return cut(text.chars());
    }
    let escaped: String = text
        .chars()
        .map(|character| {
            if is_harmless(character) && !matches!(character, '"' | '\\') {
                character.to_string()
            } else {
                character.escape_default().to_string()
            }
        })
        .collect();
    format!("\"{}\"", cut(escaped.chars()))
}

fn cut(mut characters: impl Iterator<Item = char>) -> String {
    let mut text: String = characters.by_ref().take(CELL_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        text.pop();
        text.push('…');
    }
    text
}

/// A character that is seen where it stands: no control, no mark of direction, nothing without a width.
fn is_harmless(character: char) -> bool {
    character == ' ' || matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1
}

/// A moment, to the second; `-` if there is none.
pub(super) fn moment(unix_us: Option<u64>) -> String {
    let Some(unix_us) = unix_us else { return "-".to_owned() };
    let exact = utc(unix_us);
    exact.split_once('.').map_or(exact.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// `3d 04:05:06`.
pub(super) fn span(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest % 3_600 / 60, rest % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

/// `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut tenths, mut unit) = (count, 0, 0);
    while whole >= 1_024 && unit + 1 < UNITS.len() {
        tenths = whole % 1_024 * 10 / 1_024;
        whole /= 1_024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{tenths} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_a_name_and_json_has_it_exactly() {
        for (text, shown) in [
            ("sensor-1/β", "sensor-1/β"),
            ("two words", "\"two words\""),
            ("", "\"\""),
            ("-", "\"-\""),
            (
                "a\u{1b}[2J\u{9b}x\n\r\u{202e}\u{200b}\u{7f}",
                "\"a\\u{1b}[2J\\u{9b}x\\n\\r\\u{202e}\\u{200b}\\u{7f}\"",
            ),
            ("q\"\\", "\"q\\\"\\\\\""),
        ] {
            assert_eq!(cell(Some(text)), shown);
            let line = json(&text);
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
            assert!(line.trim_end_matches('\n').chars().all(is_harmless), "{line}");
        }
        assert_eq!(cell(None), "-");
        assert_eq!(serde_json::from_str::<String>(&json(&"\u{e0001}")).unwrap(), "\u{e0001}");
        assert_eq!(cell(Some(&"x".repeat(49))), format!("{}…", "x".repeat(47)));
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_text() {
        let mut table = Table::new(&["a", "long title"]);
        table.row(["β".to_owned(), "1".to_owned()]);
        table.row(["two".to_owned(), "-".to_owned()]);
        assert_eq!(table.lines(), "A    LONG TITLE\nβ    1\ntwo  -\n");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(
            [0, 1_023, 1_024, 1_600, 5 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]
        );
        assert_eq!([0, 86_399, 90_061].map(span), ["00:00:00", "23:59:59", "1d 01:01:01"]);
        assert_eq!(moment(Some(1_796_000_000_250_000)), "2026-11-30T00:53:20Z");
    }
}
