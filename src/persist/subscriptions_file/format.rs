//! The format of `subscriptions.json`: parsing bytes to sessions and writing sessions to bytes.
//!
//! The member `subscriptions` has exactly the form that it has in the file of the replaced product. Everything else that is kept of a
//! session stands in a second member, `sessions`, so that a reader of the first alone is not disturbed. A file without the
//! second is read as well.

use std::fmt;
use std::io::{self, Write};

use engine::{SessionExpiry, SessionRecord, SubscriptionRecord};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;
use wire::TopicFilter;

/// The largest Subscription Identifier, four bytes as a variable byte integer [MQTT-3.8.2].
const IDENTIFIER_MAX: u32 = 268_435_455;

/// An entry as it is written.
#[derive(Serialize)]
pub(crate) struct Written<'a> {
    topic_filter: &'a str,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_identifier: Option<u32>,
}

impl<'a> From<&'a SubscriptionRecord> for Written<'a> {
    fn from(record: &'a SubscriptionRecord) -> Self {
        Self {
            topic_filter: &record.topic_filter,
            qos: record.qos,
            no_local: record.no_local,
            retain_as_published: record.retain_as_published,
            retain_handling: record.retain_handling,
            subscription_identifier: record.subscription_identifier,
        }
    }
}

/// An entry of the file before its values are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    topic_filter: String,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    no_local: bool,
    #[serde(default)]
    retain_as_published: bool,
    #[serde(default)]
    retain_handling: u8,
    #[serde(default)]
    subscription_identifier: Option<u32>,
}

/// An entry of the file after its values were checked.
#[derive(Deserialize)]
#[serde(try_from = "Unchecked")]
pub(crate) struct Read(SubscriptionRecord);

impl Read {
    pub(crate) fn into_record(self) -> SubscriptionRecord {
        self.0
    }
}

impl TryFrom<Unchecked> for Read {
    type Error = String;

    fn try_from(entry: Unchecked) -> Result<Self, String> {
        if let Err(malformed) = TopicFilter::parse(&entry.topic_filter) {
            return Err(format!("{:?} is not a topic filter: {malformed}", entry.topic_filter));
        }
        if entry.qos > 2 {
            return Err(format!("qos must be 0, 1 or 2, not {}", entry.qos));
        }
        if entry.retain_handling > 2 {
            return Err(format!("retain_handling must be 0, 1 or 2, not {}", entry.retain_handling));
        }
        let identifier = entry.subscription_identifier;
        if let Some(number) = identifier
            && !(1..=IDENTIFIER_MAX).contains(&number)
        {
            return Err(format!("subscription_identifier must be from 1 to {IDENTIFIER_MAX}, not {number}"));
        }
        Ok(Self(SubscriptionRecord {
            topic_filter: entry.topic_filter,
            qos: entry.qos,
            no_local: entry.no_local,
            retain_as_published: entry.retain_as_published,
            retain_handling: entry.retain_handling,
            subscription_identifier: identifier,
        }))
    }
}

/// The entry of a session, beside its subscriptions.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionEntry {
    /// Session Expiry Interval in seconds; 4294967295 never ends.
    expiry_s: u32,
    /// Seconds of it that passed without a connection before the file was written.
    #[serde(default, skip_serializing_if = "is_zero")]
    offline_s: u32,
    /// The user that it belongs to; without one it belongs to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Parses the whole file.
///
/// # Errors
/// The first error, with its line and column.
pub(super) fn parse(json: &[u8]) -> Result<Vec<SessionRecord>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(deserialize_with = "sessions")]
        subscriptions: Vec<SessionRecord>,
        #[serde(default, deserialize_with = "entries")]
        sessions: Vec<(String, SessionEntry)>,
    }
    let Document { subscriptions: mut records, sessions } = serde_json::from_slice(json)?;
    for (client_id, SessionEntry { expiry_s, offline_s, user }) in sessions {
        // An operator may have removed the subscriptions of a client, and with them the session.
        if let Ok(at) = records.binary_search_by(|record| record.client_id.cmp(&client_id)) {
            records[at].expiry = Some(SessionExpiry { interval_s: expiry_s, passed_s: offline_s });
            records[at].user = user;
        }
    }
    Ok(records)
}

fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, SessionEntry)>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, SessionEntry)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "client identifiers, each with the expiry and the user of its session")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut entries = Vec::new();
            while let Some((client_id, entry)) = map.next_entry::<String, SessionEntry>()? {
                if entry.expiry_s == 0 {
                    return Err(M::Error::custom("expiry_s must be at least 1"));
                }
                entries.push((client_id, entry));
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(Entries)
}

fn sessions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SessionRecord>, D::Error> {
    struct Sessions;

    impl<'de> Visitor<'de> for Sessions {
        type Value = Vec<SessionRecord>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "client identifiers, each with a list of subscriptions")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut sessions: Vec<SessionRecord> = Vec::new();
            while let Some((client_id, entries)) = map.next_entry::<String, Vec<Read>>()? {
                if client_id.is_empty() {
                    return Err(M::Error::custom("a client identifier must not be empty"));
                }
                let subscriptions = entries.into_iter().map(|Read(record)| record).collect();
                sessions.push(SessionRecord { client_id, user: None, expiry: None, subscriptions });
            }
            // Sorted in the order of writing. Two entries for one client are an error, because one of them would be
            // lost silently.
            sessions.sort_by(|a, b| a.client_id.cmp(&b.client_id));
            if let Some(pair) = sessions.windows(2).find(|pair| pair[0].client_id == pair[1].client_id) {
                return Err(M::Error::custom(format!("client {:?} is listed twice", pair[0].client_id)));
            }
            Ok(sessions)
        }
    }

    deserializer.deserialize_map(Sessions)
}

/// Writes the whole file, two lines for each session, in the given order.
///
/// # Errors
/// Any error of `target`.
pub(super) fn write<'a>(
    target: &mut impl Write,
    sessions: impl Iterator<Item = &'a SessionRecord> + Clone,
) -> io::Result<()> {
    target.write_all(b"{\"subscriptions\": {")?;
    for (at, session) in sessions.clone().enumerate() {
        let entries: Vec<Written<'_>> = session.subscriptions.iter().map(Written::from).collect();
        write_line(target, at, &session.client_id, &entries)?;
    }
    target.write_all(b"\n}, \"sessions\": {")?;
    let expiries = sessions.filter_map(|session| Some((session, session.expiry?)));
    for (at, (session, expiry)) in expiries.enumerate() {
        let user = session.user.clone();
        let entry = SessionEntry { expiry_s: expiry.interval_s, offline_s: expiry.passed_s, user };
        write_line(target, at, &session.client_id, &entry)?;
    }
    target.write_all(b"\n}}\n")
}

/// Writes line `at` of an object, counted from 0: a client identifier and its value.
fn write_line(target: &mut impl Write, at: usize, client_id: &str, value: &impl Serialize) -> io::Result<()> {
    target.write_all(if at == 0 { b"\n" } else { b",\n" })?;
    write_value(target, client_id)?;
    target.write_all(b": ")?;
    write_value(target, value)
}

fn write_value(target: &mut impl Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(target, Spaced)).map_err(io::Error::from)
}

/// A space after each colon and comma, as in the file of the replaced product.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, target: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { target.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, target: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { target.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, target: &mut W) -> io::Result<()> {
        target.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic_filter: &str) -> SubscriptionRecord {
        SubscriptionRecord {
            topic_filter: topic_filter.to_owned(),
            qos: 0,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            subscription_identifier: None,
        }
    }

    fn session(client_id: &str, subscriptions: Vec<SubscriptionRecord>) -> SessionRecord {
        SessionRecord { client_id: client_id.to_owned(), user: None, expiry: None, subscriptions }
    }

    fn expiring(record: SessionRecord, interval_s: u32, passed_s: u32) -> SessionRecord {
        SessionRecord { expiry: Some(SessionExpiry { interval_s, passed_s }), ..record }
    }

    fn written(sessions: &[SessionRecord]) -> String {
        let mut target = Vec::new();
        write(&mut target, sessions.iter()).unwrap();
        String::from_utf8(target).unwrap()
    }

    #[test]
    fn the_file_has_the_form_it_was_promised() {
        let identified = SubscriptionRecord { qos: 2, subscription_identifier: Some(7), ..record("b/+") };
        let sessions = [
            expiring(session("one \"quoted\"", vec![record("a/#"), identified]), 3_600, 7),
            SessionRecord { user: Some("ann".to_owned()), ..expiring(session("two", vec![]), u32::MAX, 0) },
        ];
        assert_eq!(
            written(&sessions),
            "{\"subscriptions\": {\n\
             \"one \\\"quoted\\\"\": [\
             {\"topic_filter\": \"a/#\", \"qos\": 0, \"no_local\": false, \"retain_as_published\": false, \
             \"retain_handling\": 0}, \
             {\"topic_filter\": \"b/+\", \"qos\": 2, \"no_local\": false, \"retain_as_published\": false, \
             \"retain_handling\": 0, \"subscription_identifier\": 7}],\n\
             \"two\": []\n}, \"sessions\": {\n\
             \"one \\\"quoted\\\"\": {\"expiry_s\": 3600, \"offline_s\": 7},\n\
             \"two\": {\"expiry_s\": 4294967295, \"user\": \"ann\"}\n}}\n"
        );
    }

    #[test]
    fn written_sessions_are_read_back() {
        let all = SubscriptionRecord {
            topic_filter: "$share/group/ä/\u{1F980}/\\\"".to_owned(),
            qos: 1,
            no_local: true,
            retain_as_published: true,
            retain_handling: 2,
            subscription_identifier: Some(IDENTIFIER_MAX),
        };
        let first = expiring(session("\u{1}\n", vec![all.clone(), record("#")]), 1, u32::MAX);
        let first = SessionRecord { user: Some("\"ann\"".to_owned()), ..first };
        let sessions = [first, session("b", vec![all])];
        assert_eq!(parse(written(&sessions).as_bytes()).unwrap(), sessions);
        assert_eq!(parse(written(&[]).as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_file_of_the_replaced_product_is_read() {
        let json = r#"{"subscriptions": {"sensor": [{"topic_filter": "a/#", "qos": 0, "no_local": false,
            "retain_as_published": false, "retain_handling": 0}]}}"#;
        assert_eq!(parse(json.as_bytes()).unwrap(), [session("sensor", vec![record("a/#")])]);
    }

    /// A reader that knows the file of the replaced product alone takes `subscriptions` and nothing else.
    #[test]
    fn the_subscriptions_have_the_form_of_the_replaced_product() {
        let sessions = [expiring(session("sensor", vec![record("a/#")]), 60, 0)];
        let value: serde_json::Value = serde_json::from_str(&written(&sessions)).unwrap();
        let theirs = r#"{"sensor": [{"topic_filter": "a/#", "qos": 0, "no_local": false, "retain_as_published": false,
            "retain_handling": 0}]}"#;
        assert_eq!(value["subscriptions"], serde_json::from_str::<serde_json::Value>(theirs).unwrap());
    }

    #[test]
    fn sessions_are_found_in_any_order_and_without_subscriptions_left_out() {
        let json = r#"{"sessions": {"b": {"expiry_s": 5, "offline_s": 2}, "gone": {"expiry_s": 1}},
            "subscriptions": {"b": [], "a": []}}"#;
        assert_eq!(
            parse(json.as_bytes()).unwrap(),
            [session("a", vec![]), expiring(session("b", vec![]), 5, 2)]
        );
        for (wrong, part) in [
            (r#"{"a": {"expiry_s": 0}}"#, "expiry_s must be at least 1"),
            (r#"{"a": {"offline_s": 1}}"#, "expiry_s"),
            (r#"{"a": {"expiry_s": 1, "ofline_s": 1}}"#, "ofline_s"),
            ("[]", "client identifiers"),
        ] {
            let json = format!(r#"{{"subscriptions": {{"a": []}}, "sessions": {wrong}}}"#);
            let sentence = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(sentence.contains(part) && sentence.contains("line 1"), "{sentence}");
        }
    }

    #[test]
    fn an_impossible_entry_is_refused_with_its_position() {
        let check = |entries: &str, part: &str| {
            let sentence =
                parse(format!("{{\"subscriptions\": {entries}}}").as_bytes()).unwrap_err().to_string();
            assert!(
                sentence.contains(part) && sentence.contains("line 1"),
                "{part:?} is missing in: {sentence}"
            );
        };
        check(r#"{"c": [{"topic_filter": "a", "qos": 3}]}"#, "qos must be 0, 1 or 2, not 3");
        check(
            r#"{"c": [{"topic_filter": "a", "retain_handling": 3}]}"#,
            "retain_handling must be 0, 1 or 2, not 3",
        );
        check(r#"{"c": [{"topic_filter": "a", "subscription_identifier": 0}]}"#, "not 0");
        check(
            r#"{"c": [{"topic_filter": "a", "subscription_identifier": 268435456}]}"#,
            "subscription_identifier must be from 1 to 268435455, not 268435456",
        );
        check(r#"{"c": [{"topic_filter": ""}]}"#, "topic filter");
        check(r#"{"c": [{"topic_filter": "a/#/b"}]}"#, "\"a/#/b\" is not a topic filter");
        check(r#"{"c": [{"qos": 0}]}"#, "topic_filter");
        check(r#"{"c": [{"topic_filter": "a", "gos": 0}]}"#, "gos");
        check(r#"{"": []}"#, "client identifier");
        check(r#"{"c": [], "d": [], "c": []}"#, "twice");
        check("[]", "client identifiers");
    }
}
