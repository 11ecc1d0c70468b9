//! The lines of `mosquitto.conf` about the whole broker, as flat keys.

use super::super::SETTINGS;
use super::super::settings::Config;
use super::super::value::{Given, quote};
use super::{Answer, Import};

/// Levels of mosquitto's log, from the least severe, and ours.
pub(super) const LEVELS: [(&[&str], &str); 5] = [
    (&["debug", "all", "subscribe", "unsubscribe", "websockets", "internal"], "debug"),
    (&["information", "notice"], "info"),
    (&["warning"], "warn"),
    (&["error"], "error"),
    (&["none"], "off"),
];

/// Keys whose value is one of ours: theirs, ours, and our value for their 0 where that is no limit.
const NUMBERS: &[(&str, &str, Option<&str>)] = &[
    ("max_inflight_messages", "inflight_max", Some("65535")),
    ("max_queued_messages", "queue_messages_max", Some("100000000")),
    ("max_queued_bytes", "queue_bytes_max", Some("9223372036854775807")),
    ("max_keepalive", "keep_alive_s_max", None),
    ("max_packet_size", "packet_bytes_max", Some("268435460")),
    ("message_size_limit", "packet_bytes_max", Some("268435460")),
    ("memory_limit", "memory_bytes_max", None),
    ("max_topic_alias", "topic_alias_maximum", None),
    ("sys_interval", "sys_interval_s", None),
];

/// Keys that are true or false in both.
const TRUTHS: &[(&str, &str)] = &[
    ("queue_qos0_messages", "queue_qos0_offline"),
    ("retain_available", "retain_available"),
    ("allow_zero_length_clientid", "assigned_client_ids"),
];

/// Keys that need no line here.
const NEEDLESS: &[(&str, &str)] = &[
    ("persistence", "subscriptions of persistent sessions are always kept, in data_dir"),
    (
        "persistence_location",
        "the state of this broker is its own, in data_dir; retained messages are not read from mosquitto's",
    ),
    ("persistence_file", "the files in data_dir have fixed names"),
    ("autosave_interval", "subscriptions are written within a second of a change"),
    ("autosave_on_changes", "subscriptions are written within a second of a change"),
    ("log_timestamp", "every line has the time in UTC"),
    ("log_timestamp_format", "every line has the time in UTC"),
    ("set_tcp_nodelay", "it is always on"),
    ("user", "start the broker as that user; the systemd unit has User="),
    ("pid_file", "broker.lock in data_dir has the number of the process"),
    ("check_retain_source", "the source of a retained message is always checked"),
    ("allow_duplicate_messages", "a message is delivered once for each session, whatever its subscriptions"),
    ("websockets_log_level", "log_level is for everything"),
    ("websockets_headers_size", "the bound is 8 KiB"),
    ("max_topic_alias_broker", "the broker sets no aliases by default"),
];

impl Import<'_> {
    /// Takes a line about the whole broker.
    pub(super) fn general(&mut self, key: &str, value: &str) -> Answer {
        if let Some((_, ours, unlimited)) = NUMBERS.iter().find(|(theirs, ..)| *theirs == key) {
            let value = if value == "0" { unlimited.unwrap_or(value) } else { value };
            return self.set(ours, value);
        }
        if let Some((_, ours)) = TRUTHS.iter().find(|(theirs, _)| *theirs == key) {
            return self.set(ours, value);
        }
        if let Some((_, reason)) = NEEDLESS.iter().find(|(theirs, _)| *theirs == key) {
            return Answer::Needless(reason);
        }
        match key {
            "persistent_client_expiration" => match seconds(value) {
                Some(seconds) => {
                    let _ = self.set("session_expiry_s_max", &seconds.to_string());
                    self.set("default_session_expiry_s", &seconds.to_string())
                }
                None => Answer::Lost("it is no time such as 14d".to_owned()),
            },
            "connection_messages" => self.set("connection_log", if value == "true" { "all" } else { "none" }),
            "log_dest" => self.log_destination(value),
            "log_type" => match LEVELS.iter().position(|(words, _)| words.contains(&value)) {
                Some(level) => {
                    self.log_level = Some(self.log_level.map_or(level, |least| least.min(level)));
                    Answer::Taken(format!(
                        "log_level = {}, if no other line asks for more",
                        quote(LEVELS[level].1)
                    ))
                }
                None => Answer::Lost("there is no such level".to_owned()),
            },
            "log_facility" => {
                Answer::Lost("the log goes to standard output, which the service manager collects".to_owned())
            }
            "clientid_prefixes" => Answer::Lost("write rules with %c instead".to_owned()),
            "auto_id_prefix" => Answer::Lost("assigned identifiers have a form of their own".to_owned()),
            "upgrade_outgoing_qos" => {
                Answer::Lost("a message has the lesser QoS of publisher and subscriber".to_owned())
            }
            "max_inflight_bytes" => Answer::Lost("inflight_max counts messages".to_owned()),
            "retry_interval" => {
                Answer::Needless("messages are sent again when a client comes back, as the standard says")
            }
            _ => Answer::Lost("it has no equal here".to_owned()),
        }
    }

    fn log_destination(&mut self, value: &str) -> Answer {
        match value.split(' ').next().unwrap_or_default() {
            "stdout" | "stderr" | "file" => Answer::Needless(
                "the log goes to standard output; log_dir = \"DIRECTORY\" writes files as well",
            ),
            "syslog" | "android" | "dlt" => {
                Answer::Needless("the log goes to standard output, which the service manager collects")
            }
            "none" => self.set("log_level", "off"),
            "topic" => Answer::Lost("the log is no topic; statistics are below $SYS/broker/".to_owned()),
            _ => Answer::Lost("there is no such destination".to_owned()),
        }
    }

    /// Sets our key, if its value is allowed.
    fn set(&mut self, key: &'static str, value: &str) -> Answer {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).expect("one of our own keys");
        let mut config = Config::default();
        if !(setting.store)(&mut config, &Given::Flag(&[value.to_owned()])) {
            return Answer::Lost(format!("{key} must be {}", (setting.allowed)()));
        }
        let rendered = (setting.render)(&config);
        self.general.retain(|(given, _)| *given != key);
        self.general.push((key, rendered.clone()));
        Answer::Taken(format!("{key} = {rendered}"))
    }
}

/// Seconds of a time such as `14d`.
fn seconds(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        'm' => 2_592_000,
        'y' => 31_536_000,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    Some(u32::try_from(number.saturating_mul(unit)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_ours_exists() {
        let ours = NUMBERS.iter().map(|(_, ours, _)| *ours).chain(TRUTHS.iter().map(|(_, ours)| *ours));
        for key in ours {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!((seconds("14d"), seconds("2w")), (Some(1_209_600), Some(1_209_600)));
        assert_eq!(seconds("1000y"), Some(u32::MAX));
        for text in ["", "d", "14", "14x", "é"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
