//! `mqtt-broker trace`: the packets of a client, or of a topic, while they go by.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::client::{ask, not_understood};
use super::output::{Form, cell, json};
use super::refusals::utc;
use super::{Answer, Request};
use crate::error::StartupError;
use crate::observe::packet_trace::{PAYLOAD_BYTES_MAX, TraceRow, TraceTarget};
use crate::process::clock;

/// Time between two questions to the broker.
const ASKS_EVERY: Duration = Duration::from_millis(200);

/// The packets that are meant.
#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// Identifier of the client, connected or not
    #[arg(required_unless_present = "topic")]
    client_id: Option<String>,
    /// The PUBLISH packets of this topic, or of those that a filter matches, of all clients
    #[arg(long, value_name = "FILTER", conflicts_with = "client_id")]
    topic: Option<String>,
    /// Seconds after which it ends
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Packets after which it ends
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Show the first bytes of each payload too, 256 unless another number is given
    #[arg(long, value_name = "BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    payload: Option<u32>,
    #[command(flatten)]
    form: Form,
}

/// Prints packets of the broker that runs with `data_dir` while they go by.
///
/// # Errors
/// If no broker runs there, if it does not answer, if it follows too much already, or if the filter is none.
pub(super) fn run(data_dir: &Path, arguments: &TraceArguments) -> Result<(), StartupError> {
    let target = match (&arguments.client_id, &arguments.topic) {
        (Some(client_id), _) => TraceTarget::Client(client_id.clone()),
        (None, topic) => TraceTarget::Topic(topic.clone().unwrap_or_default()),
    };
    let shards = match (&target, ask(data_dir, &Request::Statistics {})?) {
        (TraceTarget::Client(_), _) => 1,
        (TraceTarget::Topic(_), Answer::Statistics(statistics)) => statistics.shards.len(),
        _ => return Err(not_understood(data_dir)),
    };
    let payload_bytes_max = arguments.payload.map_or(0, |bytes| bytes as usize);
    let end = clock::read() + Duration::from_secs(arguments.seconds.into());
    let mut places: Vec<Place> = (0..shards).map(|_| Place::default()).collect();
    let mut left = arguments.count as usize;
    loop {
        let mut rows = Vec::new();
        for (shard, place) in (0..).zip(&mut places) {
            let request =
                Request::Trace { shard, target: target.clone(), payload_bytes_max, from: place.next };
            rows.extend(place.take(data_dir, ask(data_dir, &request)?)?);
        }
        rows.sort_by_key(|row| row.at_us);
        let is_read = print(&rows[..rows.len().min(left)], arguments.form);
        left = left.saturating_sub(rows.len());
        if left == 0 || !is_read || clock::read() >= end {
            break;
        }
        thread::sleep(ASKS_EVERY);
    }
    let sum = |of: fn(&Place) -> u64| places.iter().map(of).sum::<u64>();
    let (dropped, left_out) = (sum(|place| place.dropped), sum(|place| place.left_out));
    if dropped + left_out > 0 {
        // A closed standard error leaves no reader for the line.
        let _ = writeln!(
            io::stderr(),
            "{dropped} packets came faster than they were read; {left_out} were too long to be shown, or not seen from their beginning"
        );
    }
    Ok(())
}

/// The place in the trace of one shard.
#[derive(Default)]
struct Place {
    next: Option<u64>,
    dropped: u64,
    left_out: u64,
}

impl Place {
    fn take(&mut self, data_dir: &Path, answer: Answer) -> Result<Vec<TraceRow>, StartupError> {
        let refuse = |sentence: &str| Err(StartupError::NotFound { sentence: sentence.to_owned() });
        match answer {
            Answer::Trace { rows, dropped, left_out, next } => {
                self.next = Some(next);
                self.dropped += dropped;
                self.left_out = left_out;
                Ok(rows)
            }
            Answer::Busy => {
                refuse("the broker is too busy, or four traces are under way there; try again later")
            }
            Answer::NotUnderstood => refuse("the topic is no topic filter"),
            _ => Err(not_understood(data_dir)),
        }
    }
}

/// Prints rows; `false` if nobody reads them.
fn print(rows: &[TraceRow], form: Form) -> bool {
    let text: String = rows.iter().map(|row| if form.json { json(row) } else { line(row) }).collect();
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok()
}

fn line(row: &TraceRow) -> String {
    let TraceRow { at_us, client, direction, packet, bytes, .. } = row;
    let mut parts =
        vec![utc(*at_us), format!("{direction:3}"), cell(Some(client)), format!("{packet} {bytes} B")];
    let mut add =
        |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name}={value}")));
    add("topic", row.topic.as_ref().map(|topic| cell(Some(topic))));
    add("alias", row.alias.map(|alias| alias.to_string()));
    add("qos", row.qos.map(|qos| qos.to_string()));
    add("retain", row.retain.filter(|retain| *retain).map(|_| "true".to_owned()));
    add("dup", row.dup.filter(|dup| *dup).map(|_| "true".to_owned()));
    add("id", row.packet_id.map(|id| id.to_string()));
    add("reason", row.reason.map(|reason| format!("{reason:#04x}")));
    add("payload_bytes", row.payload_bytes.map(|bytes| bytes.to_string()));
    add("payload_base64", row.payload.clone());
    add("detail", row.detail.as_ref().map(|detail| format!("{detail:?}")));
    parts.join(" ") + "\n"
}
