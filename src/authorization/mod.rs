//! The rules about topics, built from the configuration and from mosquitto's file of rules, for the shards.
//! Invariant: a fault of either file refuses all of it, with its line. So no rule is left out that an operator has written.

pub(crate) mod command;
mod lines;
pub(crate) mod watch;

use std::fs;
use std::path::PathBuf;

use engine::SharedRules;
use rules::{Access, Kind, Origin as Place, RulesBuilder};

use crate::auth::OPERATORS_ROLE;
use crate::config::rules::{RoleConfig, RuleDefault, RulesConfig};
use crate::config::{ConfigError, Effective, Origin, reason};
use lines::Lines;

/// The numbers of the files in the origins of rules.
const CONFIGURATION: u32 = 0;
const ACL_FILE: u32 = 1;

/// The rules, and the files that they are written in.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The rules.
    pub(crate) rules: rules::Rules,
    files: [PathBuf; 2],
}

impl Loaded {
    /// The rules, for all shards.
    pub(crate) fn share(self) -> SharedRules {
        SharedRules::new(self.rules)
    }

    /// The file of an origin.
    fn file(&self, place: Place) -> &PathBuf {
        &self.files[place.file as usize]
    }
}

/// The files that the rules of a configuration are written in.
pub(crate) fn files(effective: &Effective) -> Vec<PathBuf> {
    let rules = effective.config.rules.as_ref();
    let acl_file = rules.and_then(|rules| rules.table.acl_file.as_ref()).map(|file| file.to_path_buf());
    effective.file.iter().cloned().chain(acl_file).collect()
}

/// Builds the rules of a configuration; `None` if it has no table of rules, roles or users, so that everything is allowed.
///
/// # Errors
/// All faults of the configuration's rules, or the first of mosquitto's file.
pub(crate) fn load(effective: &Effective) -> Result<Option<Loaded>, Vec<ConfigError>> {
    let Some(config) = &effective.config.rules else { return Ok(None) };
    let file = effective.file.clone().unwrap_or_default();
    let lines = Lines::of(&fs::read_to_string(&file).unwrap_or_default());
    let default = match config.table.default {
        RuleDefault::Deny => Access::Deny,
        RuleDefault::Allow => Access::Allow,
    };
    let mut builder = RulesBuilder::new(default);
    let mut errors = Vec::new();
    for (name, role) in &config.roles {
        add_role(&mut builder, (name, role), &lines, |key, sentence| {
            errors.push(fault(effective, &format!("[role.{name}]"), key, &sentence));
        });
    }
    add_operators(&mut builder);
    add_users(&mut builder, config, |header, key, sentence| {
        errors.push(fault(effective, header, key, &sentence));
    });
    let acl_file = config.table.acl_file.as_ref().map(|file| file.to_path_buf());
    if let Some(file) = &acl_file {
        errors.extend(add_acl_file(&mut builder, file.clone()).err());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Some(Loaded { rules: builder.build(), files: [file, acl_file.unwrap_or_default()] }))
}

fn texts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn add_role(
    builder: &mut RulesBuilder,
    (name, role): (&str, &RoleConfig),
    lines: &Lines,
    mut refuse: impl FnMut(&'static str, String),
) {
    let id = builder.role(name);
    let lists = [
        ("publish", Kind::Publish, &role.publish),
        ("subscribe", Kind::Subscribe, &role.subscribe),
        ("deny", Kind::Deny, &role.deny),
    ];
    for (key, kind, filters) in lists {
        for (at, filter) in filters.iter().enumerate() {
            let place = Place { file: CONFIGURATION, line: lines.line(name, key, at) };
            if let Err(fault) = builder.add(id, kind, filter, place) {
                refuse(key, format!("{filter:?}: {fault}"));
            }
        }
    }
    if let Some(shares) = &role.shares {
        builder.set_shares(id, &texts(shares));
    }
}

/// The role of operators' own clients, which may do everything that no role of everybody denies.
fn add_operators(builder: &mut RulesBuilder) {
    let id = builder.role(OPERATORS_ROLE);
    let place = Place { file: CONFIGURATION, line: 0 };
    for (kind, filter) in [(Kind::Publish, "#"), (Kind::Subscribe, "#"), (Kind::Subscribe, "$SYS/#")] {
        builder.add(id, kind, filter, place).expect("these are filters");
    }
}

/// Gives users their roles.
fn add_users(
    builder: &mut RulesBuilder,
    config: &RulesConfig,
    mut refuse: impl FnMut(&str, &'static str, String),
) {
    let table = &config.table;
    if let Err(fault) = builder.everybody(&texts(&table.roles)) {
        refuse("[rules]", "roles", fault.to_string());
    }
    if let Err(fault) = builder.user("", &texts(&table.roles_anonymous)) {
        refuse("[rules]", "roles_anonymous", fault.to_string());
    }
    for (name, user) in &config.users {
        if let Err(fault) = builder.user(name, &texts(&user.roles)) {
            refuse(&format!("[user.{name}]"), "roles", fault.to_string());
        }
    }
}

fn add_acl_file(builder: &mut RulesBuilder, file: PathBuf) -> Result<(), ConfigError> {
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::Unreadable { file, reason: reason(&error) }),
    };
    builder.add_acl_file(&text, ACL_FILE).map_err(|fault| ConfigError::Stated {
        origin: Origin::File { file, line: fault.line as usize },
        sentence: fault.problem.to_string(),
    })
}

/// A fault of a key, at the line of the key.
fn fault(effective: &Effective, header: &str, key: &'static str, sentence: &str) -> ConfigError {
    let table = effective.tables().iter().find(|table| table.header == header);
    let row = table.and_then(|table| table.rows.iter().find(|(name, ..)| *name == key));
    let origin = row.map_or(Origin::Default, |(.., origin)| origin.clone());
    let name = header.trim_matches(['[', ']']);
    ConfigError::Stated { origin, sentence: format!("{name}.{key}: {sentence}") }
}
