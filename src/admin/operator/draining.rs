//! `mqtt-broker drain`: begins, shows or cancels the drain of the running broker, and waits for its end.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::client::{ask, not_understood};
use super::output::{Form, json};
use super::{Answer, Request};
use crate::drain::{DrainPhase, DrainRow, DrainTerms};
use crate::error::StartupError;
use crate::process::data_dir;

/// Time between two looks at the broker.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The drain that is meant.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// Clients that are sent away in a second, at most
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Server that clients of MQTT 5.0 are referred to, such as mqtt2.example.com:1883 [default: that of the configuration]
    #[arg(long, value_name = "HOST")]
    reference: Option<String>,
    /// Seconds in which clients are still let in, while /readyz tells load balancers already
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,
    /// Seconds after which clients are sent away although messages wait for them or are not acknowledged
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u32,
    /// Have the broker run on without clients, to be stopped or to be taken back by --cancel
    #[arg(long)]
    stay: bool,
    /// Let clients in again
    #[arg(long, conflicts_with_all = ["rate", "reference", "wait", "timeout", "stay", "status"])]
    cancel: bool,
    /// Show how far the drain has come, and begin none
    #[arg(long, conflicts_with_all = ["rate", "reference", "wait", "timeout", "stay"])]
    status: bool,
    #[command(flatten)]
    form: Form,
}

/// Begins, shows or cancels a drain of the broker that runs with `data_dir`. A drain that is begun is shown until it is over.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if somebody cancels the drain.
pub(super) fn run(data_dir: &Path, arguments: &DrainArguments) -> Result<(), StartupError> {
    if arguments.cancel {
        return show(data_dir, &Request::CancelDrain {}, arguments.form).map(drop);
    }
    if arguments.status {
        return show(data_dir, &Request::DrainState {}, arguments.form).map(drop);
    }
    let DrainArguments { rate, wait, timeout, stay, .. } = *arguments;
    if timeout < wait {
        let sentence = "--timeout is shorter than --wait; give it the time of both".to_owned();
        return Err(StartupError::NotFound { sentence });
    }
    let reference = arguments.reference.clone();
    let terms = DrainTerms { rate, reference, wait_s: wait, timeout_s: timeout, stays: stay };
    let mut row = show(data_dir, &Request::Drain(terms), arguments.form)?;
    while row.phase != DrainPhase::Drained {
        thread::sleep(LOOKS_EVERY);
        // A broker that stops answers nobody.
        let Ok(Answer::Drain(now)) = ask(data_dir, &Request::DrainState {}) else { break };
        if now != row {
            print(&now, arguments.form);
        }
        if now.phase == DrainPhase::Off {
            return Err(StartupError::NotFound { sentence: "the drain was cancelled".to_owned() });
        }
        row = now;
    }
    while !row.stays && data_dir::is_held(data_dir) {
        thread::sleep(LOOKS_EVERY);
    }
    if !row.stays && !arguments.form.json {
        super::client::print("the broker has ended");
    }
    Ok(())
}

fn show(data_dir: &Path, request: &Request, form: Form) -> Result<DrainRow, StartupError> {
    match ask(data_dir, request)? {
        Answer::Drain(row) => {
            print(&row, form);
            Ok(row)
        }
        _ => Err(not_understood(data_dir)),
    }
}

fn print(row: &DrainRow, form: Form) {
    let text = if form.json { json(row) } else { line(row) };
    let mut output = io::stdout().lock();
    // A closed standard output leaves no reader for the line; the drain goes on.
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

fn line(row: &DrainRow) -> String {
    let DrainRow { phase, clients, clients_at_start, passed_s, timeout_s, stays } = row;
    match phase {
        DrainPhase::Off => format!("not draining: {clients} clients\n"),
        DrainPhase::Waiting => {
            format!("waiting: {clients} clients, still let in; {passed_s} of {timeout_s} s\n")
        }
        DrainPhase::SendingAway => {
            format!("draining: {clients} of {clients_at_start} clients left; {passed_s} of {timeout_s} s\n")
        }
        DrainPhase::Overdue => {
            format!("the time is over: {clients} of {clients_at_start} clients left\n")
        }
        DrainPhase::Drained if *stays => "drained: the broker runs on without clients\n".to_owned(),
        DrainPhase::Drained => "drained: the broker ends\n".to_owned(),
    }
}
