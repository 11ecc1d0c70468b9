//! `mqtt-broker clients`, `client`, `slow` and `closed`: who is connected, with which session, and why connections ended.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::client::{ask, ask_about, collect, no_session, not_understood};
use super::output::{Form, Table, Watch, bytes, cell, json, moment, rows, span};
use super::{Answer, ClientFilter, ClientRow, Request};
use crate::error::StartupError;
use crate::observe::closings::Closed;
use crate::process::clock;

/// Rows that are printed of a list, unless more are asked for.
const SLOW_MAX: usize = 20;

/// The clients that are meant, and their order.
#[derive(Debug, Args)]
pub(crate) struct ClientsArguments {
    /// Only clients from this address, or from a network such as 10.1.2.0/24
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<String>,
    /// Only clients of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only clients of the listener with this name
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Only clients whose identifier begins so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// The order: numbers from the highest down, and times from the latest back
    #[arg(long, value_enum, default_value = "client")]
    sort: Sort,
    /// Print so many rows at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    watch: Watch,
}

/// The column that decides the order.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Client,
    User,
    Address,
    Since,
    Subscriptions,
    Inflight,
    Queued,
    Waiting,
    Dropped,
}

/// Rows of a list.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print so many rows at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    form: Form,
}

fn address(text: &str) -> Result<String, String> {
    let is_valid = text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("not an address such as 10.1.2.3 or 10.1.2.0/24".to_owned())
    }
}

/// Lists the clients of the broker that runs with `data_dir`.
///
/// # Errors
/// If no broker runs there, or if it does not answer.
pub(super) fn list(data_dir: &Path, arguments: &ClientsArguments) -> Result<(), StartupError> {
    let ClientsArguments { address, user, listener, prefix, sort, limit, form, watch } = arguments;
    let only = ClientFilter {
        address: address.clone(),
        user: user.clone(),
        listener: listener.clone(),
        prefix: prefix.clone(),
        is_waited_for: false,
    };
    watch.repeat(|| {
        let mut clients = read(data_dir, &only)?;
        order(&mut clients, *sort);
        clients.truncate(limit.unwrap_or(usize::MAX));
        Ok(rows(*form, &clients, table))
    })
}

/// Lists the clients for which the most bytes wait.
///
/// # Errors
/// If no broker runs there, or if it does not answer.
pub(super) fn slow(data_dir: &Path, arguments: &ListArguments, watch: Watch) -> Result<(), StartupError> {
    let only = ClientFilter { is_waited_for: true, ..ClientFilter::default() };
    watch.repeat(|| {
        let mut clients = read(data_dir, &only)?;
        order(&mut clients, Sort::Waiting);
        clients.truncate(arguments.limit.unwrap_or(SLOW_MAX));
        Ok(rows(arguments.form, &clients, table))
    })
}

fn read(data_dir: &Path, only: &ClientFilter) -> Result<Vec<ClientRow>, StartupError> {
    collect((0, 0), |(shard, from)| {
        match ask(data_dir, &Request::Clients { shard, from, only: only.clone() })? {
            Answer::Clients { rows, next } => Ok((rows, next)),
            _ => Err(not_understood(data_dir)),
        }
    })
}

fn order(clients: &mut [ClientRow], sort: Sort) {
    clients.sort_by(|one, other| one.client.cmp(&other.client));
    let lost = |row: &ClientRow| row.dropped.values().sum::<u64>();
    let ip = |row: &ClientRow| {
        row.peer.as_ref().and_then(|peer| peer.parse::<std::net::SocketAddr>().ok()).map(|peer| peer.ip())
    };
    match sort {
        Sort::Client => {}
        Sort::User => clients.sort_by(|one, other| one.user.cmp(&other.user)),
        Sort::Address => clients.sort_by_key(ip),
        Sort::Since => clients.sort_by_key(|row| Reverse(row.since_us)),
        Sort::Subscriptions => clients.sort_by_key(|row| Reverse(row.subscriptions)),
        Sort::Inflight => clients.sort_by_key(|row| Reverse(row.inflight)),
        Sort::Queued => clients.sort_by_key(|row| Reverse(row.queued)),
        Sort::Waiting => clients.sort_by_key(|row| Reverse(row.waiting_bytes)),
        Sort::Dropped => clients.sort_by_key(|row| Reverse(lost(row))),
    }
}

fn table(clients: &[ClientRow]) -> Table {
    let titles = [
        "client",
        "user",
        "address",
        "listener",
        "version",
        "since",
        "subscriptions",
        "inflight",
        "queued",
        "waiting",
        "dropped",
    ];
    let mut table = Table::new(&titles);
    for row in clients {
        table.row([
            cell(Some(&row.client)),
            cell(row.user.as_deref()),
            cell(row.peer.as_deref()),
            cell(row.listener.as_deref()),
            cell(row.version.as_deref()),
            moment(row.since_us),
            row.subscriptions.to_string(),
            row.inflight.to_string(),
            row.queued.to_string(),
            bytes(row.waiting_bytes),
            row.dropped.values().sum::<u64>().to_string(),
        ]);
    }
    table
}

/// Shows everything about a client.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if the client is not known.
pub(super) fn show(data_dir: &Path, client_id: &str, form: Form) -> Result<(), StartupError> {
    let request = Request::Client { client_id: client_id.to_owned() };
    let (session, last_end) = match ask_about(data_dir, client_id, &request)? {
        Some(Answer::Client { session, last_end }) => (session, last_end),
        Some(Answer::NoSession) | None => return Err(no_session(client_id)),
        Some(_) => return Err(not_understood(data_dir)),
    };
    let text = if form.json {
        json(&serde_json::json!({ "client": client_id, "session": session, "last_end": last_end }))
    } else {
        detail(client_id, session.as_deref(), last_end.as_deref())
    };
    Watch { watch: None }.repeat(|| Ok(text.clone()))
}

fn detail(client_id: &str, session: Option<&ClientRow>, last_end: Option<&Closed>) -> String {
    let mut facts = vec![("client", cell(Some(client_id)))];
    match session {
        None => facts.push(("session", "none".to_owned())),
        Some(row) => {
            let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
            let age = row.since_us.map(|since| clock::unix_us().saturating_sub(since) / 1_000_000);
            let connected = if row.connected { "yes" } else { "no" };
            let expiry = match row.expiry_s {
                0 => "ends with its connection".to_owned(),
                u32::MAX => "never ends".to_owned(),
                seconds => format!("{} after its connection", span(seconds.into())),
            };
            facts.extend([
                ("user", cell(row.user.as_deref())),
                ("connected", connected.to_owned()),
                ("address", cell(row.peer.as_deref())),
                ("listener", cell(row.listener.as_deref())),
                ("version", cell(row.version.as_deref())),
                (
                    "since",
                    moment(row.since_us) + &age.map_or(String::new(), |age| format!(" ({})", span(age))),
                ),
                ("keep alive", row.keep_alive_s.map_or("-".to_owned(), |seconds| format!("{seconds} s"))),
                ("packets received", number(row.packets_received.map(u64::from))),
                ("session", expiry),
                ("shard", row.shard.to_string()),
                ("subscriptions", row.subscriptions.to_string()),
                ("in flight", row.inflight.to_string()),
                ("queued", row.queued.to_string()),
                ("waiting", bytes(row.waiting_bytes)),
                ("matched", row.matched.to_string()),
                ("delivered", row.delivered.to_string()),
            ]);
            let dropped: Vec<String> =
                row.dropped.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
            facts.push(("dropped", if dropped.is_empty() { "0".to_owned() } else { dropped.join(" ") }));
        }
    }
    let end = last_end.map_or("not remembered".to_owned(), |end| {
        let verb = if end.was_let_in { "closed" } else { "refused" };
        format!(
            "{} {verb} by={} reason={} {}",
            moment(Some(end.at_us)),
            end.by,
            end.reason,
            cell(Some(&end.why))
        )
    });
    facts.push(("last end", end));
    let mut text = String::new();
    for (name, value) in facts {
        let _ = writeln!(text, "{name:<16}  {value}");
    }
    text
}

/// Lists the last ends of connections, the newest last; only those of `client_id`, if there is one.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if none of this client is remembered.
pub(super) fn closed(
    data_dir: &Path,
    client_id: Option<&str>,
    arguments: &ListArguments,
) -> Result<(), StartupError> {
    let client = client_id.map(str::to_owned);
    let mut ends = collect((0, None), |(shard, before)| {
        match ask(data_dir, &Request::Closed { shard, before, client_id: client.clone() })? {
            Answer::Closed { rows, next } => Ok((rows, next)),
            _ => Err(not_understood(data_dir)),
        }
    })?;
    if let (Some(client_id), true) = (client_id, ends.is_empty()) {
        let sentence = format!("none of the last ends of connections was of the client {client_id:?}");
        return Err(StartupError::NotFound { sentence });
    }
    ends.sort_by_key(|end: &Closed| end.at_us);
    ends.drain(..ends.len().saturating_sub(arguments.limit.unwrap_or(usize::MAX)));
    let text = rows(arguments.form, &ends, |ends| {
        let titles =
            ["time", "end", "client", "user", "address", "listener", "by", "reason", "lasted", "why"];
        let mut table = Table::new(&titles);
        for end in ends {
            table.row([
                moment(Some(end.at_us)),
                if end.was_let_in { "closed" } else { "refused" }.to_owned(),
                cell(end.client.as_deref()),
                cell(end.user.as_deref()),
                cell(end.peer.as_deref()),
                cell(end.listener.as_deref()),
                end.by.clone(),
                end.reason.clone(),
                span(end.lasted_ms / 1_000),
                end.why.clone(),
            ]);
        }
        table
    });
    Watch { watch: None }.repeat(|| Ok(text.clone()))
}
