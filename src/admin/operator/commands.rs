//! The commands of the operator that ask the running broker, or change something there.

use std::path::Path;

use clap::Subcommand;

use super::bans::BanArguments;
use super::client::{ask, not_understood, print};
use super::clients::{ClientsArguments, ListArguments};
use super::draining::DrainArguments;
use super::output::{Form, Watch};
use super::topics::{PublishArguments, RetainedCommand};
use super::trace::TraceArguments;
use super::{Answer, Request, bans, clients, draining, reload, statistics, topics, trace};
use crate::error::StartupError;

/// A question to the running broker, or a change there.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorSubcommand {
    /// List the clients that are connected to the running broker of this data directory
    Clients(ClientsArguments),
    /// Show a client of the running broker: its connection, its session, what waits for it, and why its last connection ended
    Client {
        /// Identifier of the client
        client_id: String,
        #[command(flatten)]
        form: Form,
    },
    /// List the subscriptions of the running broker, or those of one client
    Subscriptions {
        /// Identifier of the client
        client_id: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// List the sessions of the running broker that are offered the messages of a topic, with the filters that match
    Topics {
        /// The topic
        topic: String,
        #[command(flatten)]
        form: Form,
    },
    /// List the retained messages of the running broker, read one, or remove one
    #[command(subcommand)]
    Retained(RetainedCommand),
    /// Publish a message on the running broker, as nobody and under no rules
    Publish(PublishArguments),
    /// List the last 10,000 connections that were closed or refused by the running broker, and why; the newest last
    Closed {
        /// Only those of the client with this identifier
        client_id: Option<String>,
        #[command(flatten)]
        list: ListArguments,
    },
    /// List the clients of the running broker for which the most bytes wait, 20 unless --limit says otherwise
    Slow {
        #[command(flatten)]
        list: ListArguments,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show the counters of the running broker: connections, messages, drops, memory and shards
    Stats {
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        watch: Watch,
    },
    /// Change the least severe level that the running broker logs, until its next start
    LogLevel {
        /// The level
        #[arg(value_parser = ["debug", "info", "warn", "error", "off"])]
        level: String,
    },
    /// Have the running broker read its configuration and its files again, as SIGHUP does
    ///
    /// Everything is checked first: a fault changes nothing, and is named with its file, line and remedy.
    Reload {
        /// Tell what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Take the last reload back: rules, limits and log level as they were before; up to five of them, one by one
    Rollback {
        #[command(flatten)]
        form: Form,
    },
    /// Show the packets of a client, or of a topic, while the running broker receives and sends them
    ///
    /// A trace is bounded in time, packets and memory, and tells what it had to leave out. Payloads are shown on demand only, passwords never.
    Trace(TraceArguments),
    /// Have the running broker refuse clients, send those that it has elsewhere, and end
    ///
    /// Clients of MQTT 5.0 are referred to another server, if there is one. A client for which messages wait is left alone until it has
    /// them. The drain goes on if this command is interrupted; --cancel ends it. The broker then ends with exit code 0, which a service
    /// manager may answer by a start: see --stay.
    Drain(DrainArguments),
    /// Ban new connections of an address, of a user or of a client from the running broker
    ///
    /// Users and clients are banned on listeners that judge their clients: by a method of authentication, or to count their connections.
    /// Elsewhere a client may take any name, so its address is the one to ban. Connections that are open stay; disconnect ends one.
    Ban(BanArguments),
}

impl OperatorSubcommand {
    /// Runs the command against the broker that runs with `data_dir`.
    ///
    /// # Errors
    /// If no broker runs there, if it does not answer, or if it does not have what is asked for.
    pub(crate) fn run(&self, data_dir: &Path) -> Result<(), StartupError> {
        match self {
            Self::Clients(arguments) => clients::list(data_dir, arguments),
            Self::Client { client_id, form } => clients::show(data_dir, client_id, *form),
            Self::Subscriptions { client_id, form } => {
                topics::subscriptions(data_dir, client_id.as_deref(), *form)
            }
            Self::Topics { topic, form } => topics::receivers(data_dir, topic, *form),
            Self::Retained(command) => topics::retained(data_dir, command),
            Self::Publish(arguments) => topics::publish(data_dir, arguments),
            Self::Closed { client_id, list } => clients::closed(data_dir, client_id.as_deref(), list),
            Self::Slow { list, watch } => clients::slow(data_dir, list, *watch),
            Self::Stats { form, watch } => statistics::show(data_dir, *form, *watch),
            Self::LogLevel { level } => match ask(data_dir, &Request::LogLevel { level: level.clone() })? {
                Answer::Done => {
                    print(&format!("the log has level {level} until the next start"));
                    Ok(())
                }
                _ => Err(not_understood(data_dir)),
            },
            Self::Reload { dry_run, form } => reload::reload(data_dir, *dry_run, *form),
            Self::Rollback { form } => reload::roll_back(data_dir, *form),
            Self::Trace(arguments) => trace::run(data_dir, arguments),
            Self::Drain(arguments) => draining::run(data_dir, arguments),
            Self::Ban(arguments) => bans::ban(data_dir, arguments),
        }
    }
}
