//! The last lines of the log, in memory, for operators who look at them from elsewhere.
//!
//! Invariants: at most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes are kept, the newest ones; they come from the thread that writes the
//! log, so no shard waits for a reader.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::admin::operator::{LogLine, Page};

#[expect(
    clippy::disallowed_types,
    reason = "one ring that a thread of the log writes and the main thread reads"
)]
type Shared = std::sync::Arc<std::sync::Mutex<Ring>>;

/// Lines that are kept.
const LINES_MAX: usize = 2_000;

/// Bytes of all lines that are kept.
const BYTES_MAX: usize = 256 * 1_024;

/// Bytes of a line; the rest is cut.
const LINE_BYTES_MAX: usize = 4 * 1_024;

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    /// The number of the first line.
    first: u64,
}

/// The last lines. **Lives on:** the thread that writes the log, and the main thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogTail(Shared);

impl LogTail {
    /// The lines from this number on, a page of them, and the number of the next one.
    pub(crate) fn from(&self, from: u64) -> (Vec<LogLine>, u64) {
        let ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut page = Page::default();
        let end = ring.first + ring.lines.len() as u64;
        // A number of another run of the broker may be above the end.
        let begin = if from > end { ring.first } else { from.max(ring.first) };
        for (number, line) in (begin..end).zip(ring.lines.range(at(begin - ring.first)..)) {
            if !page.take(line.len(), || LogLine { number, line: line.clone() }) {
                return (page.into_rows(), number);
            }
        }
        (page.into_rows(), end)
    }

    /// Takes lines in.
    fn push(&self, lines: &str) {
        let mut ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let line = shown(line);
            ring.bytes += line.len();
            ring.lines.push_back(line);
            while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
                let Some(gone) = ring.lines.pop_front() else { break };
                ring.bytes -= gone.len();
                ring.first += 1;
            }
        }
    }
}

fn at(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// A line without the sequences that colour it on a terminal, and cut if it is long.
fn shown(line: &str) -> String {
    let mut shown = String::with_capacity(line.len().min(LINE_BYTES_MAX + '…'.len_utf8()));
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        if next == '\u{1b}' {
            // `ESC [`, parameters, and a letter.
            rest.by_ref().skip(1).find(|one| ('@'..='~').contains(one));
        } else if shown.len() + next.len_utf8() > LINE_BYTES_MAX {
            shown.push('…');
            break;
        } else {
            shown.push(next);
        }
    }
    shown
}

/// An output of the log whose lines the tail keeps as well.
#[derive(Debug)]
pub(crate) struct Tee<W> {
    pub(crate) output: W,
    pub(crate) tail: LogTail,
}

impl<W: Write> Write for Tee<W> {
    /// Writes all of it. The tail has it even if the output takes nothing.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.tail.push(&String::from_utf8_lossy(lines));
        self.output.write_all(lines)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rows: &[LogLine]) -> Vec<&str> {
        rows.iter().map(|row| &*row.line).collect()
    }

    #[test]
    fn lines_are_read_on_from_where_the_last_answer_ended() {
        let mut tee = Tee { output: Vec::new(), tail: LogTail::default() };
        let tail = tee.tail.clone();
        assert_eq!(tail.from(0), (Vec::new(), 0));
        tee.write_all(b"\x1b[2mone\x1b[0m \x1b[32m INFO\x1b[0m\n").unwrap();
        tee.write_all(b"two\nthree\n").unwrap();
        let (rows, next) = tail.from(0);
        assert_eq!((texts(&rows), next), (vec!["one  INFO", "two", "three"], 3));
        assert_eq!(tail.from(next), (Vec::new(), 3));
        tee.write_all("vier\n".as_bytes()).unwrap();
        assert_eq!(texts(&tail.from(next).0), ["vier"]);
        assert_eq!(tail.from(1_000).0.len(), 4, "a number of another run begins anew");
        assert!(tee.output.starts_with(b"\x1b[2mone"), "the output has its colours");
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_in_bytes_and_a_long_line_is_cut() {
        let tail = LogTail::default();
        (0..LINES_MAX + 10).for_each(|number| tail.push(&format!("{number}\n")));
        let (rows, next) = tail.from(0);
        assert_eq!((&*rows[0].line, rows[0].number), ("10", 10));
        assert!(next < tail.from(u64::MAX - 1).1 + 10 && rows.len() == 256, "a page at a time");
        (0..100).for_each(|_| tail.push(&"ä".repeat(10_000)));
        let ring = tail.0.lock().unwrap();
        assert!(ring.bytes <= BYTES_MAX && ring.lines.len() < 100);
        assert!(ring.lines[0].len() <= LINE_BYTES_MAX + 3 && ring.lines[0].ends_with('…'));
        assert_eq!(ring.bytes, ring.lines.iter().map(String::len).sum::<usize>());
    }
}
