//! The rules about topics: `[rules]`, `[role.NAME]` and `[user.NAME]`.

use std::collections::BTreeMap;

use super::list::FilePath;
use super::table::{Complete, GivenTable, table};
use super::value::{ANY, between, word_fields};

table! {
    /// Rules about topics. Without any rule or role, every client may publish and subscribe to everything.
    RulesTable {
        /// A file of rules in mosquitto's form.
        acl_file: Option<FilePath> = None, ANY, "\"acl\"";
        /// The decision about a topic that no rule names: `"deny"` or `"allow"`.
        default: RuleDefault = RuleDefault::Deny, ANY, "\"deny\"";
        /// Roles of every client, and of those without a name.
        roles: Vec<String> = Vec::new(), between(1, 256), "[]";
        /// Roles of clients without a name alone.
        roles_anonymous: Vec<String> = Vec::new(), between(1, 256), "[]";
        /// The answer to a message that may not be published: `"refuse"` (0x87; before MQTT 5.0 it is acknowledged and counted), or
        /// `"disconnect"`.
        denied_publish: DeniedPublish = DeniedPublish::Refuse, ANY, "\"refuse\"";
        /// The answer to a subscription that may receive nothing: `"refuse"` (0x87; before MQTT 5.0 0x80), or `"accept"`, as
        /// mosquitto does.
        denied_subscribe: DeniedSubscribe = DeniedSubscribe::Refuse, ANY, "\"refuse\"";
    }
}

table! {
    /// A role. In a topic filter, %u is the user name and %c the client identifier.
    RoleConfig {
        /// Topics that may be published to.
        publish: Vec<String> = Vec::new(), between(1, 65_535), "[\"devices/%u/up/#\"]";
        /// Topics that may be received.
        subscribe: Vec<String> = Vec::new(), between(1, 65_535), "[\"devices/%u/down/#\", \"fleet/+/news\"]";
        /// Topics that may be neither published to nor received, whatever any role allows.
        deny: Vec<String> = Vec::new(), between(1, 65_535), "[\"devices/+/secret/#\"]";
        /// Groups of shared subscriptions that may be joined. The default is every group.
        shares: Option<Vec<String>> = None, between(1, 65_535), "[\"workers\"]";
    }
}

table! {
    /// The roles of a user, beside those of every client.
    UserConfig {
        /// The roles.
        roles: Vec<String> = Vec::new(), between(1, 256), "[\"example\"]";
    }
}

/// The decision about a topic that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleDefault {
    /// It may not be used.
    Deny,
    /// It may be used.
    Allow,
}

/// The answer to a message that may not be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeniedPublish {
    /// Refuse the message.
    Refuse,
    /// Close the connection.
    Disconnect,
}

/// The answer to a subscription that may receive nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeniedSubscribe {
    /// Refuse it.
    Refuse,
    /// Accept it; it receives nothing.
    Accept,
}

word_fields! {
    RuleDefault, "RULE": { Deny = "deny", Allow = "allow", }
    DeniedPublish, "ANSWER": { Refuse = "refuse", Disconnect = "disconnect", }
    DeniedSubscribe, "ANSWER": { Refuse = "refuse", Accept = "accept", }
}

/// All rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RulesConfig {
    /// `[rules]`.
    pub(crate) table: RulesTable,
    /// `[role.NAME]`, by name.
    pub(crate) roles: BTreeMap<String, RoleConfig>,
    /// `[user.NAME]`, by name.
    pub(crate) users: BTreeMap<String, UserConfig>,
}

impl Complete for RulesTable {}

impl Complete for RoleConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        for (key, filters) in
            [("publish", &self.publish), ("subscribe", &self.subscribe), ("deny", &self.deny)]
        {
            for filter in filters {
                // Placeholders are whole texts in a level, so a filter is judged with them.
                if wire::TopicFilter::parse_unshared(filter).is_err() {
                    given.refuse(key, &format!("must have topic filters alone, and {filter:?} is none"));
                }
            }
        }
    }
}

impl Complete for UserConfig {}
