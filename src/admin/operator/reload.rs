//! `mqtt-broker reload`, `mqtt-broker rollback` and `config diff`: the configuration of the running broker and of its file.

use std::fmt::Write as _;
use std::path::Path;

use super::client::{ask, not_understood};
use super::output::{Form, Watch, json};
use super::{Answer, Request};
use crate::config::diff::Difference;
use crate::error::StartupError;

/// Has the broker that runs with `data_dir` read its configuration again, or tell what would change.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if its configuration has a fault.
pub(crate) fn reload(data_dir: &Path, is_dry: bool, form: Form) -> Result<(), StartupError> {
    let verb = if is_dry { "would change" } else { "changed" };
    show(data_dir, &Request::Reload { is_dry }, verb, form)
}

/// Has the broker that runs with `data_dir` take its last reload back.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if there is nothing to take back.
pub(super) fn roll_back(data_dir: &Path, form: Form) -> Result<(), StartupError> {
    show(data_dir, &Request::RollBack {}, "changed", form)
}

fn show(data_dir: &Path, request: &Request, verb: &str, form: Form) -> Result<(), StartupError> {
    let answer = ask(data_dir, request)?;
    let text = match &answer {
        Answer::Reloaded { generation, differences, listeners } if form.json => json(&serde_json::json!({
            "generation": generation, "differences": differences, "listeners": listeners
        })),
        Answer::Reloaded { generation, differences, listeners } => {
            lines(*generation, differences, listeners, verb)
        }
        Answer::Faults(faults) => {
            return Err(StartupError::NotFound {
                sentence: format!("nothing was changed: {}", faults.join("; ")),
            });
        }
        Answer::Busy => {
            return Err(StartupError::NotFound {
                sentence: "the broker is too busy to answer; try again".to_owned(),
            });
        }
        _ => return Err(not_understood(data_dir)),
    };
    Watch { watch: None }.repeat(|| Ok(text.clone()))
}

fn lines(generation: u64, differences: &[Difference], listeners: &[String], verb: &str) -> String {
    let mut text = format!("generation {generation}\n");
    for Difference { key, before, after, origin, is_live } in differences {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        let effect = if *is_live { verb } else { "needs a restart" };
        let _ = writeln!(text, "{effect}: {key} from {} to {} ({origin})", value(before), value(after));
    }
    for name in listeners {
        let _ = writeln!(text, "{verb}: certificates or lists of the listener {name}, for new connections");
    }
    if differences.is_empty() && listeners.is_empty() {
        text.push_str("no key differs\n");
    }
    text
}
