//! The process is stopped (SIGSTOP) for longer than the keep alive of its clients, as by a debugger, a frozen control group or a
//! virtual machine that is moved.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, PINGREQ, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::time::now;

/// The reason code of a client that was silent for too long.
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
/// Rounds of PINGREQ during the stop.
const ROUNDS: u32 = 4;
/// Clients that come back during the stop, before their will is due.
const RETURNING: usize = 20;

/// The size of one run.
#[derive(Clone, Copy)]
struct Size {
    clients: usize,
    silent: usize,
    keep_alive_s: u16,
    stop: Duration,
}

/// The outcome on one backend.
struct Outcome {
    io: Io,
    closed: usize,
    wills_of_the_living: usize,
    silent_left: usize,
    silent_closed_after: Duration,
    sessions_lost: usize,
}

/// No client that pings is closed because the broker stood still, on every backend.
pub(crate) fn stopped_process(scale: Scale) -> Vec<Figure> {
    let seconds = Duration::from_secs;
    let size = Size {
        clients: scale.pick(200, 2_000),
        silent: scale.pick(10, 100),
        keep_alive_s: scale.pick(2, 10),
        stop: scale.pick(seconds(4), seconds(20)),
    };
    let runs: Vec<_> = Io::EACH.map(|io| thread::spawn(move || run(io, size))).into();
    let outcomes = runs.into_iter().map(|run| run.join().expect("a run ends with its outcome"));
    outcomes.flat_map(|outcome| outcome.figures(size)).collect()
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn figures(self, size: Size) -> Vec<Figure> {
        let name = |what: &str| format!("{}: {what}", self.io.flag());
        let count = |what: &str, value: usize| Figure::at_most(name(what), value as f64, "", 0.0);
        vec![
            count(&format!("closed of {} that ping", size.clients), self.closed),
            count("wills of clients that ping or are back in time", self.wills_of_the_living),
            count("sessions lost of clients that are back in time", self.sessions_lost),
            count(&format!("open of {} that are silent", size.silent), self.silent_left),
            Figure::at_most(
                name("time until the silent ones were closed"),
                self.silent_closed_after.as_secs_f64(),
                "s",
                4.0,
            ),
        ]
    }
}

fn client(address: SocketAddr, name: &str, size: Size) -> Peer {
    let topic = format!("will/{name}");
    let mut connect = Connect::new(Version::V5, name).with_will(&topic, b"gone", Properties::new());
    connect.keep_alive_s = size.keep_alive_s;
    Peer::connect(address, &connect)
}

/// A client with a session and a will, both of which end during the stop.
fn returning(address: SocketAddr, number: usize, size: Size) -> Peer {
    let (name, topic) = (format!("returning-{number}"), format!("will/returning-{number}"));
    let ends_after_s = u32::from(size.keep_alive_s);
    let delay = Properties::new().four(property::WILL_DELAY_INTERVAL, ends_after_s);
    let mut connect = Connect::persistent(Version::V5, &name).with_will(&topic, b"gone", delay);
    connect.properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, ends_after_s);
    let mut peer = Peer::open(address, Version::V5);
    peer.send(&connect.encode());
    peer
}

fn run(io: Io, size: Size) -> Outcome {
    let flags = ["--shards", "2", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { io, flags: &flags, ..Setup::default() });
    let address = broker.address();
    let mut watcher = Peer::connect(address, &Connect::new(Version::V5, "watcher"));
    watcher.subscribe("will/#", 0);
    let mut clients: Vec<Peer> =
        (0..size.clients).map(|number| client(address, &format!("pings-{number}"), size)).collect();
    let mut silent: Vec<Peer> =
        (0..size.silent).map(|number| client(address, &format!("silent-{number}"), size)).collect();
    for number in 0..RETURNING {
        let mut peer = returning(address, number, size);
        assert_eq!(peer.await_connack(), 0);
        peer.ping();
        peer.vanish();
    }
    clients.iter_mut().chain(&mut silent).for_each(Peer::ping);

    broker.process().signal(Signal::STOP);
    // They are back before their wills are due, and the broker does not know yet.
    let mut back: Vec<Peer> = (0..RETURNING).map(|number| returning(address, number, size)).collect();
    // One receive does not take this.
    let large = Publish::new("large", 0, &vec![0; 100_000]).encode(Version::V5);
    for round in 0..ROUNDS {
        for (number, peer) in clients.iter_mut().enumerate() {
            if round == 0 && number < 10 {
                peer.send(&large);
            }
            peer.send(&PINGREQ);
        }
        thread::sleep(size.stop / ROUNDS);
    }
    broker.process().signal(Signal::CONT);

    let end_of_stop = now();
    let reasons = silent.iter_mut().map(Peer::await_close);
    let silent_left = reasons.filter(|reason| *reason != Some(KEEP_ALIVE_TIMEOUT)).count();
    let silent_closed_after = now() - end_of_stop;
    let closed = clients.iter_mut().map(is_closed).filter(|is_closed| *is_closed).count();
    let resumes = back.iter_mut().map(|peer| peer.await_connack() == 0 && peer.session_present);
    let sessions_lost = resumes.filter(|is_resumed| !is_resumed).count();
    let wills = wills(&mut watcher);
    let wills_of_the_living = wills.iter().filter(|topic| !topic.starts_with("will/silent-")).count();
    broker.stop();
    Outcome { io, closed, wills_of_the_living, silent_left, silent_closed_after, sessions_lost }
}

/// Whether the broker has closed a client: otherwise it answers all its PINGREQs and one more.
fn is_closed(peer: &mut Peer) -> bool {
    peer.send_ignoring_errors(&PINGREQ);
    for _ in 0..=ROUNDS {
        if peer.next_or_close() != Some(Received::PingResp) {
            return true;
        }
    }
    false
}

/// The topics of the wills that were published.
fn wills(watcher: &mut Peer) -> Vec<String> {
    watcher.settle();
    let waiting = watcher.waiting().iter();
    let topics = waiting.filter_map(|packet| match packet {
        Received::Publish(message) => Some(message.topic.clone()),
        _ => None,
    });
    topics.collect()
}
