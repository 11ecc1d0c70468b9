//! `mqtt-broker rules`: asks the rules of a configuration about a topic, without a broker.

use std::io::{self, Write as _};
use std::path::Path;

use clap::{Subcommand, ValueEnum};
use rules::{Coverage, Decision, Kind, NameFault, Names, RuleView};
use wire::{TopicFilter, TopicName};

use super::{Loaded, load, texts};
use crate::config::{Effective, GivenFlag};
use crate::error::StartupError;

/// Subcommands of `mqtt-broker rules`.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Tell whether a client may publish or subscribe to a topic, and the rule that decides; exit code 1 if it may not
    Check {
        /// The user; '' for a client without one
        user: String,
        /// The client identifier
        client_id: String,
        /// The action
        #[arg(value_enum)]
        action: Action,
        /// The topic, or the topic filter of a subscription
        topic: String,
        /// A role that a token gives the client, beside those of its user; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
}

/// An action that rules decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Send messages to a topic
    Publish,
    /// Receive messages
    Subscribe,
}

/// Runs the subcommand. `file` and `flags` are those that the broker would start with.
///
/// # Errors
/// The errors of the configuration, an argument that is no topic, and [`StartupError::Refused`] after a refusal was printed.
pub(crate) fn run(
    command: &RulesCommand,
    file: Option<&Path>,
    flags: &[GivenFlag],
) -> Result<(), StartupError> {
    let RulesCommand::Check { user, client_id, action, topic, roles } = command;
    let loaded = Effective::load(file, flags).and_then(|effective| load(&effective));
    let loaded = loaded.map_err(StartupError::Configuration)?;
    let (is_allowed, sentence) = match &loaded {
        None => (true, "there are no rules, so everything is allowed".to_owned()),
        Some(loaded) => check(loaded, Names { client_id, user }, (*action, topic), roles)?,
    };
    // A reader that closes early has read enough.
    let verdict = if is_allowed { "allow" } else { "deny" };
    let _ = writeln!(io::stdout().lock(), "{verdict}: {sentence}");
    if is_allowed { Ok(()) } else { Err(StartupError::Refused) }
}

/// Whether it is allowed, and the reason.
fn check(
    loaded: &Loaded,
    names: Names<'_>,
    (action, topic): (Action, &str),
    claimed: &[String],
) -> Result<(bool, String), StartupError> {
    let rules = &loaded.rules;
    let set = match rules.set_of(Some(names.user), &texts(claimed)) {
        Ok(set) => set,
        Err(fault) => return Ok((false, format!("CONNECT is refused: the client has {fault}"))),
    };
    if let Err(fault) = rules.check_names(set, names) {
        return Ok((false, format!("CONNECT is refused with 0x85: {}", of_names(fault))));
    }
    let decision = match action {
        Action::Publish => {
            TopicName::parse(topic).map_err(|_| not_a("topic", topic))?;
            rules.explain_publish(set, names, topic)
        }
        Action::Subscribe => {
            let filter = TopicFilter::parse(topic).map_err(|_| not_a("topic filter", topic))?;
            if let Some(group) = filter.share_name().filter(|group| !rules.may_join(set, names, group)) {
                return Ok((false, format!("no role of the client has the group {group:?} in its shares")));
            }
            rules.explain_filter(set, names, &filter)
        }
    };
    Ok((decision.coverage != Coverage::Disjoint, of_decision(loaded, &decision)))
}

fn not_a(kind: &'static str, text: &str) -> StartupError {
    StartupError::Argument { text: text.to_owned(), kind }
}

fn of_names(fault: NameFault) -> &'static str {
    match fault {
        NameFault::ClientId => "a rule has %c, and the client identifier contains /, + or #",
        NameFault::User => {
            "a rule has %u, and the user contains /, + or #; or a deny has %u, and the client has no user"
        }
    }
}

fn of_decision(loaded: &Loaded, decision: &Decision<'_>) -> String {
    let rule = decision.rule.map(|rule| of_rule(loaded, &rule));
    match (decision.coverage, rule, decision.rule.map(|rule| rule.kind)) {
        (Coverage::Covered | Coverage::Disjoint, Some(rule), _) => rule,
        (Coverage::Covered, None, _) => "no rule names it, and the default is allow".to_owned(),
        (Coverage::Disjoint, None, _) => "no rule allows it, and the default is deny".to_owned(),
        (Coverage::Partial, Some(rule), Some(Kind::Deny)) => {
            format!("in part, without the topics of {rule}; each message is checked")
        }
        (Coverage::Partial, rule, _) => {
            format!("in part, such as by {}; each message is checked", rule.unwrap_or_default())
        }
    }
}

fn of_rule(loaded: &Loaded, rule: &RuleView<'_>) -> String {
    let kind = match rule.kind {
        Kind::Publish => "publish",
        Kind::Subscribe => "subscribe",
        Kind::Deny => "deny",
    };
    let file = loaded.file(rule.origin).display();
    format!("{kind} {:?} of role {:?} ({file}, line {})", rule.filter, rule.role, rule.origin.line)
}
