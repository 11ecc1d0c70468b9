//! Topic names and topic filters: syntax, and matching one name against one filter. Knows no subscription. The engine's
//! tree finds all filters that match a name.

use core::str::Split;

use crate::malformed::Malformed;

/// Maximum bytes of a topic name or filter [MQTT-4.7.3-3].
const TOPIC_BYTES_MAX: usize = 65_535;

/// The prefix of a shared subscription [MQTT-4.8.2-1].
const SHARE_PREFIX: &str = "$share/";

/// The name that a message is published to: not empty, no wildcard, no U+0000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Takes `text` as a topic name.
    ///
    /// # Errors
    /// If it is empty [MQTT-4.7.3-1], longer than 65 535 bytes [MQTT-4.7.3-3], or contains U+0000 [MQTT-4.7.3-2] or a
    /// wildcard [MQTT-3.3.2-2].
    #[inline]
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed::TopicNameEmpty);
        }
        refuse_too_long(text)?;
        if holds_null_or_wildcard(text.as_bytes()) {
            return Err(if text.as_bytes().contains(&0) {
                Malformed::TextHasNull
            } else {
                Malformed::TopicNameHasWildcard
            });
        }
        Ok(Self(text))
    }

    /// The whole name.
    #[must_use]
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels, from the left; they can be empty.
    #[must_use]
    #[inline]
    pub fn levels(self) -> Split<'a, char> {
        self.0.split('/')
    }
}

/// The filter of a subscription: levels, some of them perhaps wildcards, and optionally a share name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a> {
    text: &'a str,
    /// Start of the filter: 0, or the position after `$share/name/`.
    filter_at: usize,
    has_wildcard: bool,
}

impl<'a> TopicFilter<'a> {
    /// Parses `text` as a topic filter in any version. It is a shared one if it starts with `$share/`.
    ///
    /// # Errors
    /// If it is empty [MQTT-4.7.3-1], longer than 65 535 bytes [MQTT-4.7.3-3] or contains U+0000 [MQTT-4.7.3-2]. If a
    /// wildcard is not a level of its own [MQTT-4.7.1-2] or `#` is not the last level [MQTT-4.7.1-1]. If a shared filter
    /// has an invalid share name or no filter after it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed::TopicFilterEmpty);
        }
        refuse_too_long(text)?;
        if text.as_bytes().contains(&0) {
            return Err(Malformed::TextHasNull);
        }
        let filter_at = match text.strip_prefix(SHARE_PREFIX) {
            Some(share) => SHARE_PREFIX.len() + shared_filter_at(share)?,
            None => 0,
        };
        let has_wildcard = wildcards(&text[filter_at..])?;
        Ok(Self { text, filter_at, has_wildcard })
    }

    /// Parses a text returned by [`TopicFilter::filter`]. A leading `$share/` does not make it a shared filter, because
    /// any filter may follow a share name [MQTT-4.8.2-1].
    ///
    /// # Errors
    /// If a wildcard is misplaced [MQTT-4.7.1-1] [MQTT-4.7.1-2].
    pub fn parse_unshared(text: &'a str) -> Result<Self, Malformed> {
        Ok(Self { text, filter_at: 0, has_wildcard: wildcards(text)? })
    }

    /// The whole text, including `$share/name/`. UNSUBSCRIBE compares this text [MQTT-3.10.4-1].
    #[must_use]
    #[inline]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The share name of a shared subscription.
    #[must_use]
    pub fn share_name(&self) -> Option<&'a str> {
        let share_name_end = self.filter_at.checked_sub(1)?;
        self.text.get(SHARE_PREFIX.len()..share_name_end)
    }

    /// The filter that topic names are matched against, without `$share/name/`.
    #[must_use]
    #[inline]
    pub fn filter(&self) -> &'a str {
        &self.text[self.filter_at..]
    }

    /// The filter's levels, from the left; they can be empty.
    #[must_use]
    #[inline]
    pub fn levels(&self) -> Split<'a, char> {
        self.filter().split('/')
    }

    /// Whether the filter contains `+` or `#`.
    #[must_use]
    #[inline]
    pub const fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    /// Whether a message published to `topic` matches this subscription. A leading wildcard does not match names that
    /// begin with `$` [MQTT-4.7.2-1]; nothing is normalised [MQTT-4.7.3-4].
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let filter = self.filter();
        if !self.has_wildcard {
            return filter == topic;
        }
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in filter.split('/') {
            match level {
                "#" => return true,
                "+" => {
                    if topic_levels.next().is_none() {
                        return false;
                    }
                }
                exact => {
                    if topic_levels.next() != Some(exact) {
                        return false;
                    }
                }
            }
        }
        topic_levels.next().is_none()
    }
}

#[inline]
fn refuse_too_long(text: &str) -> Result<(), Malformed> {
    if text.len() > TOPIC_BYTES_MAX {
        return Err(Malformed::TopicTooLong { size_bytes: u32::try_from(text.len()).unwrap_or(u32::MAX) });
    }
    Ok(())
}

/// Whether `bytes` contain 0, `+` or `#`. Checks eight bytes at a time, because every message passes here.
#[inline]
fn holds_null_or_wildcard(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The two wildcards, 0x2B and 0x23, differ only in this bit.
    const WILDCARD_BIT: u64 = u64::from_ne_bytes([b'+' ^ b'#'; 8]);
    const WILDCARDS: u64 = u64::from_ne_bytes([b'+' | b'#'; 8]);
    const _: () = assert!((b'+' ^ b'#').is_power_of_two());

    // Nonzero exactly if a byte of the word is 0: only such a byte borrows through its high bit.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    let refused = |word: u64| zeros(word) | zeros((word | WILDCARD_BIT) ^ WILDCARDS);

    // The last eight bytes overlap the chunks before them, so that no tail remains for a byte-by-byte loop.
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'));
    };
    let (chunks, _) = bytes.as_chunks();
    let last = refused(u64::from_ne_bytes(*last));
    chunks.iter().fold(last, |seen, chunk| seen | refused(u64::from_ne_bytes(*chunk))) != 0
}

/// Position of the filter in `name/filter`.
fn shared_filter_at(share: &str) -> Result<usize, Malformed> {
    let (share_name, filter) = share.split_once('/').ok_or(Malformed::SharedFilterMissing)?;
    if share_name.is_empty() || share_name.contains(['+', '#']) {
        return Err(Malformed::ShareNameInvalid);
    }
    if filter.is_empty() {
        return Err(Malformed::SharedFilterMissing);
    }
    Ok(share_name.len() + 1)
}

/// Whether the filter has wildcards; an error if one is misplaced.
fn wildcards(filter: &str) -> Result<bool, Malformed> {
    if !filter.contains(['+', '#']) {
        return Ok(false);
    }
    let mut ended = false;
    for level in filter.split('/') {
        let is_misplaced = ended || (level.len() > 1 && level.contains(['+', '#']));
        if is_misplaced {
            return Err(Malformed::TopicFilterWildcardMisplaced);
        }
        ended = level == "#";
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn topic_names_with_forbidden_characters_are_refused() {
        let check =
            |text: &str, expected| assert_eq!(TopicName::parse(text).map(TopicName::as_str), expected);
        for good in ["a", "/", "//", "/finance", "a b/c", "$SYS/x", "\u{FEFF}", "ä/ö"] {
            check(good, Ok(good));
        }
        check("", Err(Malformed::TopicNameEmpty));
        check("a/+", Err(Malformed::TopicNameHasWildcard));
        check("a/b#", Err(Malformed::TopicNameHasWildcard));
        check("a\0", Err(Malformed::TextHasNull));
        check("#\0", Err(Malformed::TextHasNull));
        let longest: String = core::iter::repeat_n('a', 65_536).collect();
        check(&longest, Err(Malformed::TopicTooLong { size_bytes: 65_536 }));
        check(&longest[1..], Ok(&longest[1..]));
    }

    #[test]
    fn the_scan_finds_a_forbidden_byte_at_every_position() {
        for length in 0..=40 {
            for other in [b'a', b'"', b'*', b'!', b'$', 0x01, 0x08, 0x7F, 0x80, 0xAB, 0xA3, 0xFF] {
                let mut bytes = alloc::vec![other; length];
                assert!(!holds_null_or_wildcard(&bytes), "{other:#04x}");
                for place in 0..length {
                    for byte in 0..=u8::MAX {
                        bytes[place] = byte;
                        let expected = matches!(byte, 0 | b'+' | b'#');
                        assert_eq!(
                            holds_null_or_wildcard(&bytes),
                            expected,
                            "{byte:#04x} at {place} of {length}"
                        );
                    }
                    bytes[place] = other;
                }
            }
        }
    }

    #[test]
    fn levels_may_be_empty() {
        assert!(TopicName::parse("/a//").unwrap().levels().eq(["", "a", "", ""]));
        assert!(TopicFilter::parse("$share/g/+/a").unwrap().levels().eq(["+", "a"]));
    }

    #[test]
    fn filters_are_refused_for_misplaced_wildcards() {
        for good in ["#", "+", "a/#", "+/+/#", "/+", "a/+/b", "$SYS/#", "a//b", "/", "$share", "$shared/a"] {
            let filter = TopicFilter::parse(good).unwrap();
            assert_eq!((filter.as_str(), filter.filter(), filter.share_name()), (good, good, None));
            assert_eq!(filter.has_wildcard(), good.contains(['+', '#']), "{good}");
        }
        for bad in ["#/", "#/a", "a#", "a/b#", "a/#/b", "+a", "a+", "a/+b/c", "##", "++", "+#", "$share/g/a#"]
        {
            assert_eq!(TopicFilter::parse(bad), Err(Malformed::TopicFilterWildcardMisplaced), "{bad}");
        }
        assert_eq!(TopicFilter::parse(""), Err(Malformed::TopicFilterEmpty));
        assert_eq!(TopicFilter::parse("a\0"), Err(Malformed::TextHasNull));
        let longest: String = core::iter::repeat_n('a', 65_536).collect();
        assert_eq!(TopicFilter::parse(&longest), Err(Malformed::TopicTooLong { size_bytes: 65_536 }));
    }

    #[test]
    fn shared_filters_have_a_name_and_a_filter() {
        let check = |text, name, filter| {
            let parsed = TopicFilter::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.share_name(), parsed.filter()), (text, Some(name), filter));
        };
        check("$share/group/a/b", "group", "a/b");
        check("$share/g//", "g", "/");
        check("$share/g/#", "g", "#");
        check("$share/$/$share/h/a", "$", "$share/h/a");
        let nested = TopicFilter::parse_unshared("$share/+").unwrap();
        assert_eq!((nested.share_name(), nested.filter(), nested.has_wildcard()), (None, "$share/+", true));
        assert!(nested.matches("$share/a") && !nested.matches("a"));
        assert_eq!(TopicFilter::parse_unshared("$share/#/a"), Err(Malformed::TopicFilterWildcardMisplaced));
        for bad in ["$share/", "$share/g", "$share/g/"] {
            assert_eq!(TopicFilter::parse(bad), Err(Malformed::SharedFilterMissing), "{bad}");
        }
        for bad in ["$share//a", "$share/+/a", "$share/#/a", "$share/a+/b"] {
            assert_eq!(TopicFilter::parse(bad), Err(Malformed::ShareNameInvalid), "{bad}");
        }
    }

    #[test]
    fn filters_match_the_examples_of_the_standard() {
        let check = |filter: &str, topics: &[&str], expected: bool| {
            let parsed = TopicFilter::parse(filter).unwrap();
            for topic in topics {
                assert_eq!(parsed.matches(topic), expected, "{filter} {topic}");
            }
        };
        check(
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"],
            true,
        );
        check(
            "sport/tennis/player1/#",
            &["sport/tennis", "sport/tennis/player2", "sport/tennis/player11"],
            false,
        );
        check("sport/#", &["sport", "sport/"], true);
        check("#", &["a", "/", "a/b/c", "a/$x"], true);
        check("sport/tennis/+", &["sport/tennis/player1", "sport/tennis/"], true);
        check("sport/tennis/+", &["sport/tennis", "sport/tennis/player1/ranking"], false);
        check("sport/+", &["sport/"], true);
        check("sport/+", &["sport"], false);
        check("+/+", &["/finance"], true);
        check("/+", &["/finance"], true);
        check("+", &["/finance", "$SYS"], false);
        check("#", &["$SYS/a", "$"], false); // [MQTT-4.7.2-1]
        check("+/monitor/Clients", &["$SYS/monitor/Clients"], false);
        check("$SYS/#", &["$SYS", "$SYS/a"], true);
        check("$SYS/monitor/+", &["$SYS/monitor/Clients"], true);
        check("$share/g/#", &["$SYS/a"], false);
        check("$share/g/a/+", &["a/b"], true);
        check("a", &["A", "a/", "/a", "b"], false);
        check("a", &["a"], true);
    }
}
