//! When a change of a key takes effect, and when a change of the file that it names does.
//!
//! Invariant: every key has a class; one that is not named here needs a restart.

use std::fmt;

/// When a change takes effect. A change that is live does so on SIGHUP, and within a minute without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// While the broker runs.
    Live,
    /// While the broker runs, for the connections that begin afterwards.
    LiveForNew,
    /// After a restart; a change in the file that the key names, while the broker runs.
    LiveContent,
    /// After a restart.
    Restart,
}

/// Keys by their path, or tables with all of their keys.
const CLASSES: &[(&str, Class)] = &[
    ("role", Class::Live),
    ("user", Class::Live),
    ("rules.acl_file", Class::Live),
    ("rules.default", Class::Live),
    ("rules.roles", Class::Live),
    ("rules.roles_anonymous", Class::Live),
    ("rules.denied_publish", Class::Live),
    ("rules.denied_subscribe", Class::Live),
    ("log_level", Class::Live),
    ("queue_messages_max", Class::Live),
    ("queue_bytes_max", Class::Live),
    ("queue_full", Class::Live),
    ("queue_qos0_offline", Class::Live),
    ("keep_alive_s_max", Class::Live),
    ("connect_timeout_s", Class::Live),
    ("default_session_expiry_s", Class::Live),
    ("session_expiry_s_max", Class::Live),
    ("sessions_max", Class::Live),
    ("subscriptions_per_session_max", Class::Live),
    ("match_nodes_max", Class::Live),
    ("topic_levels_max", Class::Live),
    ("retained_messages_max", Class::Live),
    ("retained_bytes_max", Class::Live),
    ("publish_rate", Class::LiveForNew),
    ("publish_bytes_rate", Class::LiveForNew),
    ("burst_s", Class::LiveForNew),
    ("on_rate", Class::LiveForNew),
    ("bind", Class::LiveForNew),
    ("port", Class::LiveForNew),
    ("anonymous", Class::LiveForNew),
    ("listener", Class::LiveForNew),
    ("bans", Class::Live),
    ("auth.password.file", Class::LiveContent),
    ("auth.scram.file", Class::LiveContent),
    ("auth.jwt.keys", Class::LiveContent),
];

impl Class {
    /// The class of the key at `path`, whose tables stand before it: `listener.tls.crl`, or `role.NAME.deny`.
    pub(crate) fn of(path: &str) -> Self {
        let named = CLASSES.iter().find(|(named, _)| {
            path.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        named.map_or(Self::Restart, |(_, class)| *class)
    }

    /// Whether a reload puts a change into force.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveForNew)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Live => "live",
            Self::LiveForNew => "live, for new connections",
            Self::LiveContent => "restart; content of the file: live",
            Self::Restart => "restart",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_class_of_its_path_or_of_its_table() {
        for (path, class) in [
            ("port", Class::LiveForNew),
            ("rules.default", Class::Live),
            ("rules.denied_publish", Class::Live),
            ("session_owner", Class::Restart),
            ("rules.roles_anonymous", Class::Live),
            ("role.a.b.publish", Class::Live),
            ("roles", Class::Restart),
            ("burst_s", Class::LiveForNew),
            ("listener.burst_s", Class::LiveForNew),
            ("bans.ban_s", Class::Live),
            ("user.alice.roles", Class::Live),
            ("listener.tls.crl", Class::LiveForNew),
            ("read_buffer_bytes", Class::Restart),
        ] {
            assert_eq!(Class::of(path), class, "{path}");
        }
    }
}
