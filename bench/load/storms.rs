//! Loads without a steady stream: connection cycles, idle connections, retained messages, persistent sessions.

use std::io::{self, Read, Write};

use std::thread;
use std::time::{Duration, Instant};

use wire::QoS;

use crate::client::{self, Client, Identity, Opening, Stamp, Template};
use crate::clock::now;
use crate::ledger::{Ledger, Totals};
use crate::process::Usage;
use crate::run::Way;

/// Unacknowledged publishes of one connection while it fills stores and queues.
const WINDOW: u64 = 64;
/// Maximum time for the expected deliveries.
const PATIENCE: Duration = Duration::from_mins(1);

/// Cycles of connect, CONNECT, CONNACK, DISCONNECT, close: `count` threads, each with one connection at a time.
///
/// # Errors
/// If the broker refuses or closes early.
pub(crate) fn churn(way: Way, count: usize, end: Instant) -> io::Result<u64> {
    let threads: Vec<_> = (0..count)
        .map(|number| {
            thread::spawn(move || -> io::Result<u64> {
                let mut cycles = 0;
                let name = format!("churn-{number}");
                let identity = identity(way, &name, number);
                let mut packet = Vec::new();
                client::encode_connect(&identity, &mut packet);
                let mut answer = [0; 256];
                while now() < end {
                    // The broker closes first, so that ports are free again at once.
                    let mut stream = client::connect(way.broker, number)?;
                    stream.write_all(&packet)?;
                    let length = stream.read(&mut answer)?;
                    let accepted = length >= 4 && answer[0] == 0x20 && answer[3] == 0;
                    if !accepted {
                        return Err(io::Error::other("the broker refused a connection of the storm"));
                    }
                    stream.write_all(&[0xE0, 0])?;
                    // Wait until the broker has closed as well.
                    while stream.read(&mut answer)? > 0 {}
                    cycles += 1;
                }
                Ok(cycles)
            })
        })
        .collect();
    let mut cycles = 0;
    for thread in threads {
        cycles += thread.join().map_err(|_| io::Error::other("a thread of the storm panicked"))??;
    }
    Ok(cycles)
}

/// `count` silent connections with one subscription each. Returns the resident bytes for each, after each of `rounds`
/// rounds of connecting and disconnecting all: the first figure is the size, the last ones show growth.
///
/// # Errors
/// If the broker refuses, or the process is gone.
pub(crate) fn idle(way: Way, count: usize, rounds: usize, pid: u32) -> io::Result<(Vec<f64>, Vec<f64>)> {
    let (mut held, mut left) = (Vec::new(), Vec::new());
    let before = settled(pid)?;
    for _ in 0..rounds {
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let mut openings = Vec::with_capacity(Opening::AT_ONCE);
            for number in clients.len()..count.min(clients.len() + Opening::AT_ONCE) {
                let name = format!("idle-{number}");
                let filters = [format!("idle/{number}/state")];
                openings.push(Opening::start(&identity(way, &name, number), &filters, QoS::AtMostOnce)?);
            }
            for opening in openings {
                clients.push(opening.finish(&mut |_| {})?);
            }
        }
        held.push(per_connection(settled(pid)?, before, count));
        drop(clients);
        left.push(per_connection(settled(pid)?, before, count));
    }
    Ok((held, left))
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
fn per_connection(bytes: u64, before: u64, count: usize) -> f64 {
    (bytes as f64 - before as f64) / count.max(1) as f64
}

/// Resident bytes, once they stay the same for a quarter of a second.
fn settled(pid: u32) -> io::Result<u64> {
    let mut last = Usage::of(pid)?.resident_bytes;
    for _ in 0..80 {
        thread::sleep(Duration::from_millis(250));
        let bytes = Usage::of(pid)?.resident_bytes;
        if bytes == last {
            break;
        }
        last = bytes;
    }
    Ok(last)
}

/// Stores `count` retained messages, then subscribes to all of them repeatedly until `end`. Returns the deliveries; calls
/// `measure` once the store is full.
///
/// # Errors
/// If the broker refuses, closes or does not deliver in time.
pub(crate) fn retained(
    way: Way,
    count: usize,
    end: impl FnOnce() -> io::Result<Instant>,
) -> io::Result<Totals> {
    let name = "retainer".to_owned();
    let mut publisher = Client::open(&identity(way, &name, 0), &[], QoS::AtLeastOnce, &mut |_| {})?;
    let mut sent = 0_u64;
    for number in 0..count {
        let topic = format!("retained/{}/{number}", number % 100);
        let mut template = Template::new(way.version, &topic, QoS::AtLeastOnce, true, way.payload_bytes);
        let stream = u32::try_from(number).map_err(io::Error::other)?;
        publisher.publish(&mut template, Stamp { stream, sequence: 0, due_ns: 0 });
        sent += 1;
        await_acknowledged(&mut publisher, sent.saturating_sub(WINDOW))?;
    }
    await_acknowledged(&mut publisher, sent)?;
    let end = end()?;
    let mut totals = Totals::default();
    let mut round = 0;
    while now() < end {
        let name = format!("newcomer-{round}");
        let mut ledger = Ledger::new(1, false);
        ledger.expect(count as u64);
        let mut on_payload = |payload: &[u8]| {
            if let Some(stamp) = Stamp::read(payload) {
                ledger.arrive(0, stamp.stream, stamp.sequence);
            }
        };
        let filters = ["retained/#".to_owned()];
        let mut client = Client::open(&identity(way, &name, 1), &filters, QoS::AtMostOnce, &mut on_payload)?;
        receive_all(&mut client, &mut ledger)?;
        totals.expected += ledger.totals().expected;
        totals.delivered += ledger.totals().delivered;
        totals.duplicated += ledger.totals().duplicated;
        round += 1;
    }
    Ok(totals)
}

/// `count` sessions subscribe and disconnect, `messages` of QoS 1 are published for each, and then each reconnects to
/// receive them. Calls `measured` before the first message is published.
///
/// # Errors
/// If the broker refuses, closes or does not deliver in time.
pub(crate) fn persistent(
    way: Way,
    count: usize,
    messages: u64,
    measured: impl FnOnce() -> io::Result<()>,
) -> io::Result<Totals> {
    let names: Vec<String> = (0..count).map(|number| format!("keeper-{number}")).collect();
    let persistent_identity = |number: usize| Identity {
        expiry_s: 3_600,
        clean_start: false,
        ..identity(way, &names[number], number)
    };
    for number in 0..count {
        let filters = [format!("kept/{number}")];
        let _gone = Client::open(&persistent_identity(number), &filters, QoS::AtLeastOnce, &mut |_| {})?;
    }
    measured()?;
    let mut publisher = Client::open(&identity(way, "filler", 0), &[], QoS::AtLeastOnce, &mut |_| {})?;
    let mut sent = 0_u64;
    for number in 0..count {
        let topic = format!("kept/{number}");
        let mut template = Template::new(way.version, &topic, QoS::AtLeastOnce, false, way.payload_bytes);
        let stream = u32::try_from(number).map_err(io::Error::other)?;
        for sequence in 0..messages {
            publisher.publish(&mut template, Stamp { stream, sequence, due_ns: 0 });
            sent += 1;
            await_acknowledged(&mut publisher, sent.saturating_sub(WINDOW))?;
        }
    }
    await_acknowledged(&mut publisher, sent)?;
    let mut totals = Totals::default();
    for number in 0..count {
        let mut ledger = Ledger::new(1, true);
        ledger.expect(messages);
        let mut on_payload = |payload: &[u8]| {
            if let Some(stamp) = Stamp::read(payload) {
                ledger.arrive(0, stamp.stream, stamp.sequence);
            }
        };
        let mut client = Client::open(&persistent_identity(number), &[], QoS::AtLeastOnce, &mut on_payload)?;
        receive_all(&mut client, &mut ledger)?;
        let one = ledger.totals();
        totals.expected += one.expected;
        totals.delivered += one.delivered;
        totals.duplicated += one.duplicated;
        totals.reordered += one.reordered;
    }
    Ok(totals)
}

/// Receives on one connection until all expected deliveries have arrived.
fn receive_all(client: &mut Client, ledger: &mut Ledger) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let last = now() + PATIENCE;
    while ledger.totals().lost() > 0 && now() < last {
        wait_readable(client)?;
        let mut on_payload = |payload: &[u8]| {
            if let Some(stamp) = Stamp::read(payload) {
                ledger.arrive(0, stamp.stream, stamp.sequence);
            }
        };
        while client.receive(&mut buffer, &mut on_payload)? {}
        client.flush()?;
    }
    Ok(())
}

/// Keeps a publisher's window: waits until this many of its messages are acknowledged.
fn await_acknowledged(client: &mut Client, count: u64) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let last = now() + PATIENCE;
    client.flush()?;
    while client.acknowledged < count {
        if now() > last {
            return Err(io::Error::other("the broker does not acknowledge"));
        }
        wait_readable(client)?;
        while client.receive(&mut buffer, &mut |_| {})? {}
        client.flush()?;
    }
    Ok(())
}

/// Sleeps until the socket is readable, a tenth of a second at most.
fn wait_readable(client: &Client) -> io::Result<()> {
    let mut descriptors =
        [rustix::event::PollFd::new(&client.transport.socket, rustix::event::PollFlags::IN)];
    let tenth = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    rustix::event::poll(&mut descriptors, Some(&tenth))?;
    Ok(())
}

fn identity(way: Way, name: &str, number: usize) -> Identity<'_> {
    let Way { broker, version, keep_alive_s, websocket, tls, .. } = way;
    Identity { broker, version, name, number, expiry_s: 0, clean_start: true, keep_alive_s, websocket, tls }
}
