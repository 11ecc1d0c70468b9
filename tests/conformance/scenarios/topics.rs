//! Topic names and filters: valid ones, matching, and that nothing is normalised.

use super::refusal::{
    closes_or_fails, connect_with_will_to, publish_bytes, refuses_connect, subscribe_bytes, unsubscribe_bytes,
};
use crate::harness::packet::Publish;
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

/// Publishes to an invalid topic name: the broker closes, or in 5.0 refuses it with a reason code; nobody receives it.
fn refuses_name(on: &Target, watcher: &mut Peer, name: &[u8], end: &str) {
    let mut peer = on.client("a");
    peer.send_ignoring_errors(&publish_bytes(on.version, name));
    match peer.next_or_close() {
        None => {}
        Some(Received::PubAck { reason, .. }) if on.version.is_v5() => {
            assert!(matches!(reason, 0x80 | 0x83 | 0x87 | 0x90), "{name:02x?}: reason code {reason:#04x}");
        }
        Some(Received::Disconnect { reason, .. }) => {
            assert!(matches!(reason, 0x81 | 0x82 | 0x90), "{name:02x?}: reason code {reason:#04x}");
            assert_eq!(peer.next_or_close(), None, "{name:02x?}: the connection ends");
        }
        Some(other) => panic!("{name:02x?}: answered with {other:?}"),
    }
    on.client("a").publish(&Publish::new(end, 1, b"end"));
    assert_eq!(watcher.next_message().text(), "end", "{name:02x?} was forwarded");
    refuses_connect(on, "a will", &connect_with_will_to(on.version, &on.name("w"), name));
}

/// SUBSCRIBE and UNSUBSCRIBE with an invalid filter: the broker closes, or answers with a failure code.
fn refuses_filter(on: &Target, filter: &[u8]) {
    let what = String::from_utf8_lossy(filter).into_owned();
    let allowed = [0x81, 0x82, 0x8F];
    closes_or_fails(on, &what, &subscribe_bytes(on.version, 1, &[(filter, 1)]), &allowed);
    closes_or_fails(on, &what, &unsubscribe_bytes_of_one(on, filter), &allowed);
}

fn unsubscribe_bytes_of_one(on: &Target, filter: &[u8]) -> Vec<u8> {
    unsubscribe_bytes(on.version, 1, &[filter])
}

fn watcher(on: &Target, filter: &str) -> Peer {
    let mut watcher = on.client("watch");
    watcher.subscribe(filter, 1);
    watcher
}

pub(crate) fn no_wildcards_in_names(on: &Target) {
    let scope = on.name("");
    let mut watcher = watcher(on, &format!("{scope}/#"));
    let end = on.name("/end");
    for form in ["/+", "/#", "/a/+/b", "/a+", "/+a", "/a#", "/#/a", "/a/b/#", "+", "#"] {
        refuses_name(on, &mut watcher, format!("{scope}{form}").as_bytes(), &end);
    }
    for name in ["+", "#", "/#", "+/+"] {
        refuses_name(on, &mut watcher, name.as_bytes(), &end);
    }
}

/// Subscribes to a filter in the scope of `on` and asserts which of its topics arrive.
fn assert_matches(on: &Target, filter: &str, matching: &[&str], others: &[&str]) {
    let (mut peer, mut publisher) = (on.client("s"), on.client("p"));
    let end = on.name("~end");
    peer.subscribe(&end, 1);
    assert_eq!(peer.subscribe(&on.name(filter), 1), 1, "{filter} is a filter");
    for topic in matching {
        publisher.publish(&Publish::new(&on.name(topic), 1, b"m"));
        assert_eq!(peer.next_message().topic, on.name(topic), "{filter} matches {topic}");
    }
    for topic in others {
        publisher.publish(&Publish::new(&on.name(topic), 1, b"m"));
    }
    publisher.publish(&Publish::new(&end, 1, b"end"));
    let message = peer.next_message();
    assert_eq!(message.text(), "end", "{filter} does not match {}", message.topic);
}

pub(crate) fn the_multi_level_wildcard_is_last_and_alone(on: &Target) {
    for filter in
        ["a#", "#a", "##", "a/#/b", "#/", "#/b", "a/b#", "a/#b", "+#", "#+", "a/+#", "a/#/", "#/#", "/#/#"]
    {
        refuses_filter(on, filter.as_bytes());
    }
    let below = ["/sport/tennis", "/sport/tennis/ranking", "/sport/tennis/a/b", "/sport/tennis/"];
    assert_matches(
        on,
        "/sport/tennis/#",
        &below,
        &["/sport/tenni", "/sport", "/sport/tenniss", "/Sport/tennis"],
    );
    assert_matches(on, "/#", &["", "/", "/a", "//", "/a/b/c/d"], &["x", "x/a"]);
    assert_matches(on, "/+/a/#", &["/x/a", "/x/a/b/c", "//a/"], &["/a", "/a/x", "/x/y/a"]);
    let topic = on.name("/t");
    let mut everything = on.client("e");
    everything.subscribe("#", 0);
    on.client("p").publish(&Publish::new(&topic, 0, b"m"));
    everything
        .await_packet("message of #", |packet| matches!(packet, Received::Publish(m) if m.topic == topic));
}

pub(crate) fn the_single_level_wildcard_is_a_level(on: &Target) {
    for filter in ["a+", "+a", "++", "a/+b", "a/b+/c", "a/b+", "+/a+", "a++/b", "+a/#", "/+/+x"] {
        refuses_filter(on, filter.as_bytes());
    }
    assert_matches(on, "/+", &["/a", "/", "/\u{1F600}"], &["", "/a/b", "/a/", "//"]);
    assert_matches(on, "/+/c", &["/a/c", "//c"], &["/c", "/a/b/c", "/a/c/", "/a/C"]);
    assert_matches(on, "/+/+", &["/a/b", "//", "/a/"], &["/a", "/a/b/c"]);
    let topic = on.name("");
    let mut publisher = on.client("p");
    for (filter, topic) in [
        (format!("+/{topic}"), format!("first/{topic}")),
        (format!("/+/{topic}"), format!("/x/{topic}")),
        (format!("+/{topic}/+/#"), format!("/{topic}/y")),
    ] {
        let mut peer = on.client("s");
        peer.subscribe(&filter, 1);
        publisher.publish(&Publish::new(&topic, 1, b"m"));
        assert_eq!(peer.next_message().topic, topic);
    }
}

pub(crate) fn leading_wildcards_match_no_dollar_topics(on: &Target) {
    let scope = on.name("");
    let mut publisher = on.client("p");
    let hidden = [format!("$d/{scope}"), format!("$/{scope}"), format!("$SYSx/{scope}")];
    let seen = format!("d/{scope}");
    // Retained messages too.
    for topic in &hidden {
        publisher.publish(&Publish::new(topic, 1, b"hidden").retained());
    }
    for filter in [format!("+/{scope}"), format!("+/{scope}/#"), "+/+".to_owned(), "#".to_owned()] {
        let mut peer = on.client("s");
        peer.subscribe(&filter, 0);
        for topic in &hidden {
            publisher.publish(&Publish::new(topic, 0, b"hidden"));
        }
        publisher.publish(&Publish::new(&seen, 0, b"seen"));
        let what = "the message that is not hidden";
        peer.await_packet(what, |packet| matches!(packet, Received::Publish(m) if m.topic == seen));
        for packet in peer.waiting() {
            let Received::Publish(message) = packet else { continue };
            assert!(!message.topic.starts_with('$'), "{filter} matched {}", message.topic);
            let is_ours = message.topic.ends_with(&scope) && message.payload == b"hidden";
            assert!(!is_ours, "{filter} matched a message that begins with $");
        }
    }
    for topic in &hidden {
        publisher.publish(&Publish::new(topic, 1, b"").retained());
    }
}

pub(crate) fn names_and_filters_have_a_character(on: &Target) {
    let end = on.name("/end");
    let mut watcher = watcher(on, &end);
    refuses_name(on, &mut watcher, b"", &end);
    refuses_filter(on, b"");
    assert_matches(on, "/", &["/"], &["", "//"]);
    // A single one is enough; other clients may use the same.
    let mut peer = on.client("s");
    let text = on.name("one");
    for topic in ["/", "x", " ", "\u{e4}"] {
        peer.subscribe(topic, 0);
        on.client("p").publish(&Publish::new(topic, 0, text.as_bytes()));
        peer.await_packet(
            "message",
            |p| matches!(p, Received::Publish(m) if m.topic == topic && m.text() == text),
        );
        peer.unsubscribe(&[topic]);
    }
}

pub(crate) fn no_null_in_names_and_filters(on: &Target) {
    let end = on.name("/end");
    let mut watcher = watcher(on, &on.name("/#"));
    for form in ["\0", "/\0", "/a\0b", "/a/\0/b", "\0/a"] {
        let text = on.name(form);
        refuses_name(on, &mut watcher, text.as_bytes(), &end);
        refuses_filter(on, text.as_bytes());
        refuses_filter(on, format!("{text}/#").as_bytes());
    }
    refuses_name(on, &mut watcher, b"\0", &end);
    refuses_filter(on, b"\0");
}

pub(crate) fn the_longest_names_and_filters_are_whole(on: &Target) {
    let longest = {
        let scope = on.name("/");
        scope.clone() + &"x".repeat(65_535 - scope.len())
    };
    let (prefix, end) = (&longest[..65_534], on.name("~end"));
    let (mut peer, mut publisher) = (on.client("s"), on.client("p"));
    peer.subscribe(&longest, 1);
    peer.subscribe(&end, 1);
    publisher.publish(&Publish::new(prefix, 1, b"shorter"));
    publisher.publish(&Publish::new(&longest, 1, b"whole"));
    let message = peer.next_message();
    assert_eq!(message.text(), "whole");
    assert!(message.topic == longest, "all 65,535 bytes arrive as they were sent");
    peer.unsubscribe(&[&longest]);
    publisher.publish(&Publish::new(&longest, 1, b"gone"));
    publisher.publish(&Publish::new(&end, 1, b"end"));
    assert_eq!(peer.next_message().text(), "end");
}

pub(crate) fn nothing_is_normalized(on: &Target) {
    // Each would match another one if it were folded, composed, trimmed, cleaned or substituted.
    let forms = [
        "/ACCOUNTS",
        "/Accounts",
        "/accounts",
        "/accounts/",
        "//accounts",
        "/accounts ",
        "/ accounts",
        "/./accounts",
        "/x/../accounts",
        "/accounts\u{200B}",
        "/\u{FEFF}accounts",
        "/%61ccounts",
        "/acc\u{43E}unts",
        "/\u{E9}",
        "/e\u{301}",
        "/\u{2126}",
        "/\u{3A9}",
        "/\u{FF21}",
        "/A",
        "/\u{FB01}",
        "/fi",
        "/\u{DF}",
        "/ss",
        "/\u{130}",
        "/i",
        "/\\",
        "/?",
        "/*",
        "/\u{FFFD}",
        "/\u{10FFFF}",
        "/\u{E000}",
        "/\u{7F}",
        "/\u{1}",
        "/\t",
    ];
    let (mut peer, mut publisher) = (on.client("s"), on.client("p"));
    let end = on.name("~end");
    peer.subscribe(&end, 1);
    for filter in forms {
        // The standard allows brokers to refuse control characters and non-characters.
        let is_optional = filter.chars().any(|c| c.is_control() || c == '\u{10FFFF}');
        if is_optional {
            continue;
        }
        peer.subscribe(&on.name(filter), 0);
        for topic in forms.iter().filter(|form| !form.chars().any(|c| c.is_control() || c == '\u{10FFFF}')) {
            publisher.publish(&Publish::new(&on.name(topic), 0, b"m"));
        }
        publisher.publish(&Publish::new(&end, 1, b"end"));
        let (first, last) = (peer.next_message(), peer.next_message());
        assert_eq!((first.topic, last.text().as_str()), (on.name(filter), "end"), "what {filter:?} matches");
        peer.unsubscribe(&[&on.name(filter)]);
    }
}
