//! A storm of connections: a fleet that comes back at once, with a log line for each client that comes and goes.
//! As in the storms of logins, the broker has one shard and the first core, which goes before everybody else as its neighbour does, and
//! the clients run on the others when nobody else wants to.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::Scale;
use crate::cores::{in_the_background, leave_the_first_core, let_shards_go_first};
use crate::figure::Figure;
use crate::harness::broker::{Broker, Setup};
use crate::harness::machine::raise_descriptor_limit;
use crate::harness::packet::{Connect, Version};
use crate::harness::time::now;
use crate::meter::{cpu_time, ms};
use crate::neighbour::{Neighbour, percentile};

/// Connections in a second.
const RATE: u32 = 10_000;

/// Threads that connect.
const THREADS: u32 = 2;

/// Ten thousand clients a second connect and leave without DISCONNECT, with the log of connections and without it.
pub(crate) fn connection_storm(scale: Scale) -> Vec<Figure> {
    raise_descriptor_limit();
    let seconds = scale.pick(1, 5);
    let mut figures = Vec::new();
    let without = storm("none", seconds, &mut figures);
    let with = storm("all", seconds, &mut figures);
    figures.push(Figure::at_most(
        "p99 of a neighbour with the log of connections over without, half a millisecond allowed for noise",
        with / (without + 0.5),
        "",
        2.0,
    ));
    figures
}

/// The 99th percentile of a neighbour's latency during a storm, in milliseconds.
fn storm(lines: &str, seconds: u32, figures: &mut Vec<Figure>) -> f64 {
    let flags =
        ["--shards", "1", "--stats-interval", "0", "--max-connections", "60000", "--connection-log", lines];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let (process, address) = (broker.process().id(), broker.address());
    leave_the_first_core();
    let_shards_go_first(process);
    let quiet =
        ms(percentile(&Neighbour::measure(address, "quiet", Duration::from_secs(seconds.into())), 99));
    let neighbour = Neighbour::start(address, "beside");
    let (start, cpu_before) = (now(), cpu_time(process));
    let threads: Vec<_> =
        (0..THREADS).map(|thread| in_the_background(move || connect(address, thread, seconds))).collect();
    let sockets: Vec<Vec<TcpStream>> =
        threads.into_iter().map(|thread| thread.join().expect("the broker accepts")).collect();
    let (took, cpu) = (now() - start, cpu_time(process).saturating_sub(cpu_before));
    let busy = ms(percentile(&neighbour.stop(), 99));
    drop(sockets);
    let rate = f64::from(RATE * seconds) / took.as_secs_f64();
    figures.push(Figure::told(format!("connections in a second, connection_log = {lines}"), rate, ""));
    figures.push(Figure::told(
        "CPU time of the broker for each",
        ms(cpu) * 1e3 / f64::from(RATE * seconds),
        "µs",
    ));
    figures.push(Figure::told("p99 of a quiet neighbour", quiet, "ms"));
    figures.push(Figure::told("p99 of a neighbour beside the storm", busy, "ms"));
    let name = "p99 beside the storm over a quiet one, half a millisecond allowed for noise";
    figures.push(Figure::at_most(name, busy / (quiet + 0.5), "", 2.0));
    busy
}

/// Connects this thread's share of the clients, evenly spread. Half of them stay; the others vanish at once.
fn connect(address: SocketAddr, thread: u32, seconds: u32) -> Vec<TcpStream> {
    let share = RATE / THREADS * seconds;
    let interval = Duration::from_secs(seconds.into()) / share;
    let start = now();
    let mut sockets = Vec::new();
    for number in 0..share {
        let due = interval * number;
        if let Some(early) = due.checked_sub(now() - start) {
            thread::sleep(early);
        }
        let mut socket = TcpStream::connect(address).expect("the broker accepts");
        let client_id = format!("storm-{thread}-{number}");
        // The broker may have refused it; the log tells.
        let _ = socket.write_all(&Connect::new(Version::V5, &client_id).encode());
        if number % 2 == 0 {
            sockets.push(socket);
        }
    }
    sockets
}
