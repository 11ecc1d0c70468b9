//! mosquitto's file of rules.
//!
//! As mosquitto reads it: a line "user NAME" begins the lines of a user; topic lines before the first are for clients without a user;
//! pattern lines are for everybody, wherever they stand. Unlike there, a deny wins against every grant, that of a pattern against
//! a topic line too, and a leading wildcard of a deny covers topics that begin with `$`.

use core::fmt;

use crate::builder::{RoleId, RuleFault, RulesBuilder};
use crate::level::Level;
use crate::rules::{Kind, Origin};

/// A line that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclFault {
    /// The line, from 1.
    pub line: u32,
    /// The reason.
    pub problem: AclProblem,
}

/// The reason why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclProblem {
    /// It begins with neither `user`, `topic` nor `pattern`.
    Keyword,
    /// `user` without a name.
    UserMissing,
    /// `topic` or `pattern` without a topic.
    TopicMissing,
    /// Neither `read`, `write`, `readwrite` nor `deny` stands before the topic.
    Access,
    /// The topic is no filter.
    Filter(RuleFault),
}

impl fmt::Display for AclProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword => f.write_str("the line must begin with user, topic or pattern"),
            Self::UserMissing => f.write_str("a name must follow user"),
            Self::TopicMissing => f.write_str("a topic must follow"),
            Self::Access => {
                f.write_str("before the topic must stand read, write, readwrite, deny or nothing")
            }
            Self::Filter(fault) => fault.fmt(f),
        }
    }
}

impl RulesBuilder {
    /// Adds the lines of an `acl_file`; `file` is the caller's number for it.
    ///
    /// # Errors
    /// The first line that cannot be read. The builder then has the lines before it, and is of no use.
    pub fn add_acl_file(&mut self, text: &str, file: u32) -> Result<(), AclFault> {
        let mut user: Option<RoleId> = None;
        let mut everybody: Option<RoleId> = None;
        for (line, text) in (1..).zip(text.lines()) {
            let fault = |problem| AclFault { line, problem };
            let text = text.trim_end();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (keyword, rest) = first_word(text);
            let origin = Origin { file, line };
            match keyword {
                "user" if rest.is_empty() => return Err(fault(AclProblem::UserMissing)),
                "user" => user = Some(self.role_of_acl(rest)),
                "topic" => {
                    let role = *user.get_or_insert_with(|| self.role_of_acl(""));
                    self.add_line(role, rest, (origin, Level::literal)).map_err(fault)?;
                }
                "pattern" => {
                    let role = *everybody.get_or_insert_with(|| self.role_of_everybody());
                    self.add_line(role, rest, (origin, Level::with_placeholders)).map_err(fault)?;
                }
                _ => return Err(fault(AclProblem::Keyword)),
            }
        }
        Ok(())
    }

    /// Adds the rest of a line after `topic` or `pattern`.
    fn add_line(
        &mut self,
        role: RoleId,
        line: &str,
        how: (Origin, fn(&str) -> Level),
    ) -> Result<(), AclProblem> {
        if line.is_empty() {
            return Err(AclProblem::TopicMissing);
        }
        // A line of one word is a topic, whatever the word: a topic may be called `read`.
        let (access, filter) = match first_word(line) {
            (word, "") => ("readwrite", word),
            two => two,
        };
        let kinds: &[Kind] = match access {
            "read" => &[Kind::Subscribe],
            "write" => &[Kind::Publish],
            "readwrite" => &[Kind::Subscribe, Kind::Publish],
            "deny" => &[Kind::Deny],
            _ => return Err(AclProblem::Access),
        };
        for &kind in kinds {
            self.add_rule(role, kind, filter, how).map_err(AclProblem::Filter)?;
        }
        Ok(())
    }
}

/// The first word, and the text after the blanks that follow it. Topics and names may contain blanks.
fn first_word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}
