//! Comments and documents as paragraphs and sentences, and the share of sentences that begin with a question word.
//! A sentence begins with its subject here; one that begins with `What`, `Who` or `Those` has to be read twice.

use crate::figure::Figure;
use crate::sources::{Source, sources};

const QUESTION_WORDS: [&str; 7] = ["What", "Who", "Whoever", "Whose", "Whom", "Those", "Whatever"];

/// A run of text without a break, and the line where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paragraph {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The share of each area, in percent.
pub(crate) fn figures() -> Vec<Figure> {
    let code = |folders: &[&str]| counted(&sources(folders, "rs"), comments);
    let share = |name, (all, found): (usize, Vec<String>)| Figure::ratio(name, found.len(), all, 100, found);
    vec![
        share("src: % of sentences that begin with What, Who, Those", code(&["src"])),
        share("shards: % of sentences that begin with What, …", code(&["shards"])),
        share("tests, bench: % that begin with What, …", code(&["tests", "bench"])),
        share("documents: % that begin with What, …", counted(&documents(), prose)),
    ]
}

/// Every document of the repository.
pub(crate) fn documents() -> Vec<Source> {
    sources(&[""], "md")
}

/// How many sentences there are, and those that begin with a question word and are no question.
fn counted(files: &[Source], split: fn(&str) -> Vec<Paragraph>) -> (usize, Vec<String>) {
    let mut all = 0;
    let mut found = Vec::new();
    for file in files {
        for paragraph in split(&file.text) {
            for sentence in sentences(&paragraph.text) {
                all += 1;
                if begins_with_a_question_word(sentence) {
                    found.push(format!("{}:{}: {sentence}", file.path, paragraph.line));
                }
            }
        }
    }
    (all, found)
}

fn begins_with_a_question_word(sentence: &str) -> bool {
    let first = sentence.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    QUESTION_WORDS.contains(&first) && !sentence.ends_with('?')
}

/// Comments of one kind on lines that follow one another, joined; an empty line, a list item and a code block end one.
pub(crate) fn comments(text: &str) -> Vec<Paragraph> {
    let mut paragraphs = Paragraphs::default();
    let mut kind = "";
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let found = ["//!", "///", "//"].into_iter().find(|kind| line.starts_with(kind)).unwrap_or("");
        if found != kind {
            paragraphs.end();
            paragraphs.is_code = false;
        }
        kind = found;
        if !kind.is_empty() {
            paragraphs.line(at + 1, &line[kind.len()..]);
        }
    }
    paragraphs.end();
    paragraphs.done
}

/// Text of a document: paragraphs, headings, list items and the cells of tables.
pub(crate) fn prose(text: &str) -> Vec<Paragraph> {
    let mut paragraphs = Paragraphs::default();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if !paragraphs.is_code && (trimmed.starts_with('|') || trimmed.starts_with('#')) {
            paragraphs.end();
            for cell in trimmed.trim_start_matches('#').split('|') {
                paragraphs.line(at + 1, cell);
                paragraphs.end();
            }
        } else {
            paragraphs.line(at + 1, line);
        }
    }
    paragraphs.end();
    paragraphs.done
}

#[derive(Default)]
struct Paragraphs {
    open: Option<Paragraph>,
    done: Vec<Paragraph>,
    is_code: bool,
}

impl Paragraphs {
    fn line(&mut self, number: usize, line: &str) {
        let text = line.trim();
        if text.starts_with("```") {
            self.end();
            self.is_code = !self.is_code;
            return;
        }
        if self.is_code || text.is_empty() {
            self.end();
            return;
        }
        let item = ["- ", "* "].into_iter().find_map(|mark| text.strip_prefix(mark));
        if item.is_some() {
            self.end();
        }
        let text = item.unwrap_or(text);
        match &mut self.open {
            Some(open) => {
                open.text.push(' ');
                open.text.push_str(text);
            }
            None => self.open = Some(Paragraph { line: number, text: text.to_owned() }),
        }
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }
}

/// Sentences of English: they begin with a letter or with what is marked as code or emphasised.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut from = 0;
    for (at, mark) in text.char_indices() {
        let rest = &text[at + mark.len_utf8()..];
        let ends = matches!(mark, '.' | '!' | '?')
            && rest.starts_with(' ')
            && rest.trim_start().starts_with(|c: char| c.is_uppercase() || matches!(c, '`' | '[' | '*'));
        if ends || rest.is_empty() {
            let sentence = text[from..at + mark.len_utf8()].trim().trim_matches('*');
            if sentence.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '`' | '[')) {
                found.push(sentence);
            }
            from = at + mark.len_utf8();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_comment_are_one_paragraph() {
        let text = "//! One sentence\n//! on two lines. Another.\n//!\n//! Apart.\nfn a() {} // no\n    /// Doc.\n    // Why.\n/// ```\n/// What code;\n/// ```\n";
        let found: Vec<(usize, String)> =
            comments(text).into_iter().map(|found| (found.line, found.text)).collect();
        let expected = [(1, "One sentence on two lines. Another."), (4, "Apart."), (6, "Doc."), (7, "Why.")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        let two = "//! The code.\n//! ```\n//! What code;\n//! ```\n// What stands after it.\n";
        assert_eq!(comments(two).len(), 2);
    }

    #[test]
    fn documents_are_read_without_their_code() {
        let text = "# A heading\n\nText that\ngoes on. It ends.\n```sh\nWhat code\n```\n| One | Two |\n|---|---|\n- an item\n- another\n";
        let found: Vec<String> = prose(text).into_iter().map(|found| found.text).collect();
        assert_eq!(
            found,
            ["A heading", "Text that goes on. It ends.", "One", "Two", "---", "---", "an item", "another"]
        );
    }

    #[test]
    fn sentences_end_before_a_capital() {
        let text = "It runs on 1.5 cores, e.g. here. `send` does. **Bold** one! Whoever reads?";
        let expected = ["It runs on 1.5 cores, e.g. here.", "`send` does.", "Bold** one!", "Whoever reads?"];
        assert_eq!(sentences(text), expected);
    }

    #[test]
    fn sentences_that_begin_with_a_question_word_are_found() {
        let file = |text: &str| Source { path: "a.rs".to_owned(), text: text.to_owned() };
        let text = "// What waits here is sent. Whatsoever is fine. Those\n// that fail count. What now? The one who asks.\n";
        let (all, found) = counted(&[file(text)], comments);
        assert_eq!(all, 5);
        assert_eq!(found, ["a.rs:1: What waits here is sent.", "a.rs:1: Those that fail count."]);
    }
}
