//! `mqtt-broker subscriptions`, `topics`, `retained` and `publish`: who subscribes to what, who receives a topic, and messages.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::client::{ask, ask_about, collect, no_session, not_understood, print};
use super::output::{Form, Table, Watch, bytes, cell, json, rows};
use super::request::PAYLOAD_BYTES_MAX;
use super::{Answer, ReceiverRow, Request, RetainedRow, SubscriptionRow};
use crate::error::StartupError;

/// Attempts to read a list that changes while it is read.
const ATTEMPTS: u32 = 5;

/// A question about retained messages, or the removal of one.
#[derive(Debug, Subcommand)]
pub(crate) enum RetainedCommand {
    /// List retained messages by topic
    List {
        /// Only topics that this filter matches; the broker's own match a filter that begins with $SYS
        #[arg(default_value = "#")]
        filter: String,
        #[command(flatten)]
        form: Form,
    },
    /// Print the payload of a topic's retained message
    Get {
        /// The topic
        topic: String,
        #[command(flatten)]
        form: Form,
    },
    /// Remove the retained message of a topic; subscribers are sent a message without a payload, as if a client had done it
    Clear {
        /// The topic
        topic: String,
    },
}

/// A message to publish.
#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// The topic
    topic: String,
    /// The payload; without it, and without --file, it is read from standard input
    #[arg(conflicts_with = "payload_file")]
    message: Option<String>,
    /// Read the payload from this file
    #[arg(long = "file", value_name = "FILE", id = "payload_file")]
    file: Option<PathBuf>,
    /// The quality of service: 0, 1 or 2
    #[arg(long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Retain the message
    #[arg(long)]
    retain: bool,
}

/// Lists the subscriptions of a client, or of all.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if there is no session of the client.
pub(super) fn subscriptions(
    data_dir: &Path,
    client_id: Option<&str>,
    form: Form,
) -> Result<(), StartupError> {
    let mut listed = match client_id {
        Some(client_id) => of_client(data_dir, client_id)?,
        None => {
            collect((0, 0), |(shard, from)| match ask(data_dir, &Request::Subscriptions { shard, from })? {
                Answer::Subscriptions { rows, next } => Ok((rows, next)),
                _ => Err(not_understood(data_dir)),
            })?
        }
    };
    let key = |row: &SubscriptionRow| (row.client.clone(), row.filter.clone());
    listed.sort_by_cached_key(key);
    let text = rows(form, &listed, |listed| {
        let titles =
            ["client", "qos", "no local", "retain as published", "retain handling", "identifier", "filter"];
        let mut table = Table::new(&titles);
        for row in listed {
            let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
            table.row([
                cell(Some(&row.client)),
                row.qos.to_string(),
                yes(row.no_local),
                yes(row.retain_as_published),
                row.retain_handling.to_string(),
                row.identifier.map_or("-".to_owned(), |identifier| identifier.to_string()),
                cell(Some(&row.filter)),
            ]);
        }
        table
    });
    show(&text)
}

fn of_client(data_dir: &Path, client_id: &str) -> Result<Vec<SubscriptionRow>, StartupError> {
    for _ in 0..ATTEMPTS {
        let mut has_changed = false;
        let listed = collect(None, |from| {
            let request = Request::SubscriptionsOf { client_id: client_id.to_owned(), from };
            match ask_about(data_dir, client_id, &request)? {
                Some(Answer::Subscriptions { rows, next }) => Ok((rows, next.map(|(_, at)| Some(at)))),
                Some(Answer::Changed) => {
                    has_changed = true;
                    Ok((Vec::new(), None))
                }
                Some(Answer::NoSession) | None => Err(no_session(client_id)),
                Some(_) => Err(not_understood(data_dir)),
            }
        })?;
        if !has_changed {
            return Ok(listed);
        }
    }
    let sentence =
        format!("the subscriptions of the client {client_id:?} change while they are read; try again");
    Err(StartupError::NotFound { sentence })
}

/// Lists the sessions that are offered the messages of a topic.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if the topic is none.
pub(super) fn receivers(data_dir: &Path, topic: &str, form: Form) -> Result<(), StartupError> {
    let mut receivers = collect((0, (0, 0, 0)), |(shard, from)| {
        match ask(data_dir, &Request::Receivers { shard, topic: topic.to_owned(), from })? {
            Answer::Receivers { rows, next } => Ok((rows, next)),
            Answer::NotUnderstood => Err(not_a_topic(topic)),
            _ => Err(not_understood(data_dir)),
        }
    })?;
    let key = |row: &ReceiverRow| (row.group.clone(), row.filter.clone(), row.client.clone());
    receivers.sort_by_cached_key(key);
    let text = rows(form, &receivers, |receivers| {
        let mut table = Table::new(&["client", "user", "connected", "qos", "group", "receives", "filter"]);
        for row in receivers {
            let share = match (row.may_read, &row.group) {
                (false, _) => "no: the rules forbid it",
                (true, None) => "each",
                (true, Some(_)) => "one of its group each",
            };
            table.row([
                cell(Some(&row.client)),
                cell(row.user.as_deref()),
                if row.connected { "yes" } else { "no" }.to_owned(),
                row.qos.to_string(),
                cell(row.group.as_deref()),
                share.to_owned(),
                cell(Some(&row.filter)),
            ]);
        }
        table
    });
    show(&text)
}

/// Lists or reads retained messages, or removes one.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if there is no such message.
pub(super) fn retained(data_dir: &Path, command: &RetainedCommand) -> Result<(), StartupError> {
    match command {
        RetainedCommand::List { filter, form } => {
            let mut listed = collect((0, None), |(shard, after)| {
                match ask(data_dir, &Request::Retained { shard, filter: filter.clone(), after })? {
                    Answer::Retained { rows, next } => Ok((rows, next)),
                    Answer::NotUnderstood => Err(not_a_filter(filter)),
                    _ => Err(not_understood(data_dir)),
                }
            })?;
            listed.sort_by(|one: &RetainedRow, other| one.topic.cmp(&other.topic));
            show(&rows(*form, &listed, retained_table))
        }
        RetainedCommand::Get { topic, form } => get(data_dir, topic, *form),
        RetainedCommand::Clear { topic } => {
            match ask(data_dir, &Request::ClearRetained { topic: topic.clone() })? {
                Answer::Done => {
                    print(&format!("the retained message of {topic:?} was removed"));
                    Ok(())
                }
                Answer::NoMessage => Err(no_message(topic)),
                Answer::NotUnderstood => Err(not_a_topic(topic)),
                _ => Err(not_understood(data_dir)),
            }
        }
    }
}

fn retained_table(listed: &[RetainedRow]) -> Table {
    let mut table = Table::new(&["bytes", "qos", "expires in", "user", "topic"]);
    for row in listed {
        table.row([
            row.payload_bytes.to_string(),
            row.qos.to_string(),
            row.expires_in_s.map_or("-".to_owned(), |seconds| format!("{seconds} s")),
            cell(row.user.as_deref()),
            cell(Some(&row.topic)),
        ]);
    }
    table
}

fn get(data_dir: &Path, topic: &str, form: Form) -> Result<(), StartupError> {
    let (row, payload) = match ask(data_dir, &Request::RetainedMessage { topic: topic.to_owned() })? {
        Answer::RetainedMessage { row, payload } => (row, payload),
        Answer::NoMessage => return Err(no_message(topic)),
        _ => return Err(not_understood(data_dir)),
    };
    if form.json {
        return show(&json(&serde_json::json!({ "message": row, "payload_base64": payload })));
    }
    let Some(payload) = payload.and_then(|payload| STANDARD.decode(payload).ok()) else {
        let sentence = format!(
            "the retained message of {topic:?} has {}, more than this command reads; subscribe to it",
            bytes(row.payload_bytes as u64)
        );
        return Err(StartupError::NotFound { sentence });
    };
    // The payload is data, exactly as it was published, for a file or a pipe.
    let _ = io::stdout().lock().write_all(&payload);
    Ok(())
}

/// Publishes a message.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if it refuses the message.
pub(super) fn publish(data_dir: &Path, arguments: &PublishArguments) -> Result<(), StartupError> {
    let PublishArguments { topic, message, file, qos, retain } = arguments;
    let limit = PAYLOAD_BYTES_MAX as u64 + 1;
    let payload = match (message, file) {
        (Some(message), _) => message.clone().into_bytes(),
        (None, Some(file)) => fs::read(file).map_err(|error| {
            StartupError::system(format!("read the payload from {}", file.display()), error)
        })?,
        (None, None) => {
            let mut payload = Vec::new();
            let read = io::stdin().lock().take(limit).read_to_end(&mut payload);
            read.map_err(|error| StartupError::system("read the payload from standard input", error))?;
            payload
        }
    };
    if payload.len() > PAYLOAD_BYTES_MAX {
        let sentence =
            format!("the payload has more than {}, which this command does not publish", bytes(limit - 1));
        return Err(StartupError::NotFound { sentence });
    }
    let payload = STANDARD.encode(payload);
    let request = Request::Publish { topic: topic.clone(), payload, qos: *qos, retain: *retain };
    match ask(data_dir, &request)? {
        Answer::Done => Ok(()),
        Answer::NotUnderstood => Err(not_a_topic(topic)),
        Answer::Refused => Err(StartupError::NotFound {
            sentence: "the broker refused the message: memory or retained messages are at their limit, or its topic has too \
                       many levels"
                .to_owned(),
        }),
        _ => Err(not_understood(data_dir)),
    }
}

fn show(text: &str) -> Result<(), StartupError> {
    Watch { watch: None }.repeat(|| Ok(text.to_owned()))
}

fn no_message(topic: &str) -> StartupError {
    StartupError::NotFound { sentence: format!("there is no retained message of {topic:?}") }
}

fn not_a_topic(topic: &str) -> StartupError {
    let sentence =
        format!("{topic:?} is no topic of clients: it has no wildcard, is not empty, and is not below $SYS");
    StartupError::NotFound { sentence }
}

fn not_a_filter(filter: &str) -> StartupError {
    StartupError::NotFound { sentence: format!("{filter:?} is no topic filter") }
}
