//! Hints for operators who come from mosquitto: for each of its keys and flags, the setting that takes its place.
//! Its file has lines such as `listener 1883`, which are no TOML, so a whole file of them is answered line by line.

use super::SETTINGS;

/// Keys of mosquitto 2 and their equivalents, as a sentence without its full stop. Keys that both have are not listed.
const KEYS: &[(&str, &str)] = &[
    (
        "listener",
        "write port = 1883 and bind = [\"ADDRESS\"], or a table [[listener]] with these keys for each of several",
    ),
    ("bind_address", "write bind = [\"ADDRESS\"]"),
    ("bind_interface", "write bind = [\"ADDRESS\"] with the addresses of the interface"),
    ("socket_domain", "bind chooses: \"0.0.0.0\" is IPv4, \"::\" is IPv6"),
    ("protocol", "write [[listener]] with [listener.websocket] for MQTT over WebSocket"),
    ("allow_anonymous", "write anonymous = true or false"),
    ("password_file", ACCESS),
    ("acl_file", ACCESS),
    ("psk_file", ACCESS),
    ("plugin", ACCESS),
    ("global_plugin", ACCESS),
    ("auth_plugin", ACCESS),
    (
        "per_listener_settings",
        "methods are configured once, and each [[listener]] says by auth which of them it asks; leave it out",
    ),
    ("cafile", TLS),
    ("capath", TLS),
    ("certfile", TLS),
    ("keyfile", TLS),
    ("tls_version", TLS),
    ("ciphers", TLS),
    ("require_certificate", TLS),
    ("crlfile", TLS),
    ("dhparamfile", TLS),
    ("persistence", "subscriptions are always kept, in data_dir; messages live in memory"),
    ("persistence_location", "write data_dir = \"DIRECTORY\""),
    ("persistence_file", "the files in data_dir have fixed names; leave it out"),
    ("autosave_interval", "subscriptions are written within a second of a change; leave it out"),
    ("autosave_on_changes", "subscriptions are written within a second of a change; leave it out"),
    (
        "persistent_client_expiration",
        "write default_session_expiry_s = SECONDS and session_expiry_s_max = SECONDS",
    ),
    ("max_inflight_messages", "write inflight_max = N, and receive_maximum = N for the other direction"),
    ("max_inflight_bytes", "write inflight_max = N, which counts messages"),
    ("max_queued_messages", "write queue_messages_max = N"),
    ("max_queued_bytes", "write queue_bytes_max = N"),
    ("queue_qos0_messages", "write queue_qos0_offline = true or false"),
    ("max_keepalive", "write keep_alive_s_max = SECONDS"),
    ("max_packet_size", "write packet_bytes_max = N"),
    ("message_size_limit", "write packet_bytes_max = N, which counts the whole packet"),
    ("memory_limit", "write memory_bytes_max = N"),
    ("max_qos", "write maximum_qos = N"),
    ("max_topic_alias", "write topic_alias_maximum = N"),
    ("max_topic_alias_broker", "write topic_alias_outgoing_max = N"),
    ("allow_zero_length_clientid", "write assigned_client_ids = true or false"),
    ("sys_interval", "write sys_interval_s = SECONDS"),
    ("log_dest", "standard output always has the log; log_dir = \"DIRECTORY\" writes files as well"),
    ("log_type", "write log_level = \"LEVEL\""),
    ("log_timestamp", "every line has the time in UTC; leave it out"),
    ("log_timestamp_format", "every line has the time in UTC; leave it out"),
    ("connection_messages", "write connection_log = \"all\" or \"none\""),
    ("set_tcp_nodelay", "it is always on; leave it out"),
    ("user", "start the broker as that user; the systemd unit has User="),
    ("pid_file", "the file broker.lock in data_dir has the number of the process; leave it out"),
    ("include_dir", "there is one configuration file"),
    ("connection", NO_BRIDGE),
    ("address", NO_BRIDGE),
    ("addresses", NO_BRIDGE),
    ("topic", NO_BRIDGE),
    ("mount_point", "topics have the same names for all clients; leave it out"),
];

const ACCESS: &str =
    "`mqtt-broker config import FILE` writes [auth.password], [rules] and their files from mosquitto's";
const TLS: &str = "`mqtt-broker config import FILE` writes a table [listener.tls] from mosquitto's listener";
const NO_BRIDGE: &str = "this broker opens no bridge; let the bridge of the other broker connect to it";

/// Flags of mosquitto and their equivalents, as a sentence without its full stop.
const FLAGS: &[(&str, &str)] = &[
    ("-p", "write --port N"),
    ("-c", "write --config FILE; the file is TOML, and `mqtt-broker config default` prints one"),
    ("-v", "write --log-level debug; -V and --version print the version"),
    ("--verbose", "write --log-level debug"),
    ("-q", "write --log-level off"),
    ("--quiet", "write --log-level off"),
    (
        "-d",
        "leave it out: the broker stays in front, and systemd or `nohup mqtt-broker &` runs it in the background",
    ),
    (
        "--daemon",
        "leave it out: the broker stays in front, and systemd or `nohup mqtt-broker &` runs it in the background",
    ),
    ("--test-config", "write `mqtt-broker config check FILE`"),
];

/// The equivalent of a key of mosquitto's file.
pub(super) fn key(key: &str) -> Option<&'static str> {
    let mut keys = KEYS.iter();
    keys.find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
}

/// The equivalent of a flag of mosquitto.
pub(crate) fn flag(flag: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(theirs, _)| *theirs == flag).map(|(_, ours)| *ours)
}

/// The lines of `text` in the form of mosquitto's file: a key of it or of ours, and its value after a space. Each with its number,
/// its key and a hint.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str, String)> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let (word, value) = line.split_once([' ', '\t'])?;
        let value = value.trim();
        if value.starts_with('=') {
            return None;
        }
        let hint = match key(word) {
            Some(hint) => hint.to_owned(),
            None => format!(
                "write {word} = {}",
                as_toml(SETTINGS.iter().find(|setting| setting.key == word)?, value)
            ),
        };
        Some((at + 1, word, hint))
    })
}

/// The value of a line as this broker's file has it, or a placeholder where it is not allowed here.
fn as_toml(setting: &super::Setting, value: &str) -> String {
    let mut config = super::Config::default();
    let given = super::value::Given::Flag(&[value.to_owned()]);
    if (setting.store)(&mut config, &given) {
        (setting.render)(&config)
    } else {
        setting.value_name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hint_names_a_key_that_does_not_exist() {
        let ours = |word: &str| SETTINGS.iter().any(|setting| setting.key == word);
        for (theirs, hint) in KEYS {
            assert!(!ours(theirs), "{theirs} is a key of both");
            for (before, _) in hint.match_indices(" = ") {
                let word = hint[..before].rsplit([' ', '(']).next().unwrap_or_default();
                assert!(ours(word), "{word}: {hint}");
            }
        }
        for (_, hint) in FLAGS {
            let flag = hint.split_whitespace().find_map(|word| word.strip_prefix("--"));
            let is_known =
                |flag: &str| flag == "config" || SETTINGS.iter().any(|setting| setting.flag() == flag);
            assert!(flag.is_none_or(is_known), "{hint}");
        }
    }

    #[test]
    fn each_line_of_a_mosquitto_file_has_its_answer() {
        let text = "# comment\nlistener 1883 0.0.0.0\nport 1884\nmax_connections -1\nport = 1\nfoo bar\n\nallow_anonymous true\n";
        let answers: Vec<(usize, &str, String)> = lines(text).collect();
        assert_eq!(
            answers.iter().map(|(line, word, _)| (*line, *word)).collect::<Vec<_>>(),
            [(2, "listener"), (3, "port"), (4, "max_connections"), (8, "allow_anonymous")]
        );
        assert_eq!(answers[1].2, "write port = 1884");
        assert_eq!(answers[2].2, "write max_connections = N");
        assert!(answers[3].2.contains("anonymous = true"));
    }
}
