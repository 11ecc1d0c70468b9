//! One level of a rule: a text, a wildcard, or a text in which names are put.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// The names that the placeholders of a rule stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// The client identifier, for `%c`.
    pub client_id: &'a str,
    /// The user, for `%u`; empty for a client without one.
    pub user: &'a str,
}

/// A part of a level with placeholders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Text(Box<str>),
    ClientId,
    User,
}

/// The order puts texts before patterns, and `+` last, as the trie has its children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Text(Box<str>),
    /// At least one of the pieces is a placeholder.
    Pattern(Box<[Piece]>),
    Single,
}

impl Level {
    /// Takes a level as text, whatever it contains.
    pub(crate) fn literal(text: &str) -> Self {
        if text == "+" { Self::Single } else { Self::Text(text.into()) }
    }

    /// Takes `%c` and `%u` as placeholders. Another `%` is text.
    pub(crate) fn with_placeholders(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text_from = 0;
        for (at, pair) in text.as_bytes().windows(2).enumerate() {
            let placeholder = match pair {
                b"%c" => Piece::ClientId,
                b"%u" => Piece::User,
                _ => continue,
            };
            if at > text_from {
                pieces.push(Piece::Text(text[text_from..at].into()));
            }
            pieces.push(placeholder);
            text_from = at + 2;
        }
        if pieces.is_empty() {
            return Self::literal(text);
        }
        if text_from < text.len() {
            pieces.push(Piece::Text(text[text_from..].into()));
        }
        Self::Pattern(pieces.into_boxed_slice())
    }

    pub(crate) fn uses(&self, placeholder: &Piece) -> bool {
        matches!(self, Self::Pattern(pieces) if pieces.contains(placeholder))
    }

    /// Whether the text of the level is a name from its first byte on, or a wildcard: it then names no topic that begins with `$`.
    pub(crate) fn begins_open(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Pattern(pieces) => !matches!(pieces.first(), Some(Piece::Text(_))),
            Self::Single => true,
        }
    }

    /// Whether the level, with these names in it, is exactly `level`. With an empty name it is nothing.
    pub(crate) fn is(&self, names: Names<'_>, level: &str) -> bool {
        match self {
            Self::Text(text) => **text == *level,
            Self::Pattern(pieces) => pattern_is(pieces, names, level),
            Self::Single => false,
        }
    }

    /// Whether the level, with these names in it, begins with `$`.
    pub(crate) fn begins_with_dollar(&self, names: Names<'_>) -> bool {
        match self {
            Self::Text(text) => text.starts_with('$'),
            Self::Pattern(pieces) => {
                pieces.first().is_some_and(|piece| text_of(piece, names).starts_with('$'))
            }
            Self::Single => false,
        }
    }

    /// Whether some level can be this one: not with an empty name.
    pub(crate) fn is_possible(&self, names: Names<'_>) -> bool {
        match self {
            Self::Pattern(pieces) => pieces.iter().all(|piece| !text_of(piece, names).is_empty()),
            Self::Text(_) | Self::Single => true,
        }
    }
}

fn pattern_is(pieces: &[Piece], names: Names<'_>, level: &str) -> bool {
    let mut rest = level;
    for piece in pieces {
        let text = text_of(piece, names);
        if text.is_empty() {
            return false;
        }
        let Some(after) = rest.strip_prefix(text) else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn text_of<'a>(piece: &'a Piece, names: Names<'a>) -> &'a str {
    match piece {
        Piece::Text(text) => text,
        Piece::ClientId => names.client_id,
        Piece::User => names.user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names { client_id: "c1", user: "u1" };

    #[test]
    fn placeholders_are_found_anywhere_in_a_level() {
        let check = |text: &str, level: &str, expected: bool| {
            let parsed = Level::with_placeholders(text);
            assert!(matches!(parsed, Level::Pattern(_)), "{text}");
            assert_eq!(parsed.is(NAMES, level), expected, "{text} {level}");
        };
        check("%c", "c1", true);
        check("%c", "c12", false);
        check("%c", "%c", false);
        check("dev-%u", "dev-u1", true);
        check("dev-%u", "dev-", false);
        check("%u.in", "u1.in", true);
        check("%u%c", "u1c1", true);
        check("a%u-%cb", "au1-c1b", true);
        check("a%u-%cb", "au1-c1", false);
        check("%%c", "%c1", true);
    }

    #[test]
    fn other_percent_signs_are_text() {
        for text in ["100%", "%", "%x", "% c", "%%", "c%"] {
            assert_eq!(Level::with_placeholders(text), Level::Text(text.into()));
        }
        assert_eq!(Level::with_placeholders("+"), Level::Single);
        assert_eq!(Level::literal("%c"), Level::Text("%c".into()));
    }

    #[test]
    fn an_empty_name_is_no_level() {
        let nobody = Names { client_id: "c1", user: "" };
        for (text, level) in [("%u", ""), ("a%u", "a"), ("%u%c", "c1")] {
            let parsed = Level::with_placeholders(text);
            assert!(!parsed.is(nobody, level) && !parsed.is_possible(nobody), "{text}");
            assert!(parsed.is_possible(NAMES));
        }
    }
}
