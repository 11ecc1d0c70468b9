//! CPU time of the longest step under the worst inputs that the default limits allow. One engine without sockets, so that a run repeats
//! to the byte: each input is played several times, each step counts with its shortest time, and then the longest step is printed.
//!
//! `cargo run --release -p mqtt-broker-engine --example steps [--full]`, or `tests/overload/run steps`, which judges the figures.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{
    Action, Actions, Admission, Arrival, ClosedBy, ConnectionId, Consumed, Engine, Entropy, Event, Instant,
    Lend, Limits,
};

/// Runs of each input.
const RUNS: usize = 4;
/// Bytes of one receive.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A host that does as it is told and measures every call.
struct Host {
    engine: Engine,
    actions: Actions,
    now_ms: u64,
    /// Connections whose bytes wait for credit.
    rest: BTreeMap<(u32, u32), (ConnectionId, Vec<u8>)>,
    flushes: Vec<ConnectionId>,
    /// CPU time of each step since [`Host::measure`].
    times: Vec<Duration>,
}

#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::new(seconds, u32::try_from(nanoseconds).expect("less than a second"))
}

/// Elsewhere it only plays the inputs.
#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

impl Host {
    fn new() -> Self {
        let (limits, entropy) = (Limits::default(), Entropy(7));
        Self {
            engine: Engine::new(limits, entropy, Instant::from_ms(1)),
            actions: Actions::new(),
            now_ms: 1,
            rest: BTreeMap::new(),
            flushes: Vec::new(),
            times: Vec::new(),
        }
    }

    fn measure(&mut self) {
        self.times.clear();
    }

    fn step(&mut self, event: Event<'_>) -> Consumed {
        let now = Instant::from_ms(self.now_ms);
        let start = cpu_time();
        let consumed = self.engine.step(now, event, &mut self.actions);
        self.times.push(cpu_time().saturating_sub(start));
        self.carry_out();
        consumed
    }

    fn carry_out(&mut self) {
        let actions: Vec<Action> = self.actions.drain().collect();
        for action in actions {
            match action {
                Action::Flush(id) => self.flushes.push(id),
                Action::Persist(batch) => {
                    let _nothing = self.step(Event::durable(batch));
                }
                Action::Peek(id) => {
                    let _nothing = self.step(Event::Peeked { connection: id, has_bytes: false });
                }
                // Bytes that wait are offered in every turn.
                _ => {}
            }
        }
    }

    fn offer(&mut self, id: ConnectionId, bytes: &[u8]) {
        let consumed = self.step(Event::Received { connection: id, bytes }).bytes;
        if consumed < bytes.len() {
            self.rest.insert((id.slot(), id.generation()), (id, bytes[consumed..].to_vec()));
        }
    }

    /// Turns until nothing is left to do.
    fn settle(&mut self) {
        loop {
            for (id, bytes) in core::mem::take(&mut self.rest).into_values() {
                self.offer(id, &bytes);
            }
            let is_due = self.engine.next_deadline().is_some_and(|due| due.as_ms() <= self.now_ms);
            if is_due {
                let _nothing = self.step(Event::Tick);
            }
            let flushes = core::mem::take(&mut self.flushes);
            for &id in &flushes {
                self.flush(id);
            }
            if !is_due && flushes.is_empty() && self.rest.is_empty() {
                return;
            }
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        while let Lend::Chunk(chunk) = self.engine.lend(id) {
            let (now, length) = (Instant::from_ms(self.now_ms), chunk.as_bytes().len());
            let start = cpu_time();
            self.engine.give_back(now, id, chunk, length, &mut self.actions);
            self.times.push(cpu_time().saturating_sub(start));
            self.carry_out();
        }
    }

    fn connect(&mut self, name: &str, options: &Options<'_>) -> ConnectionId {
        let arrival = Arrival::new(self.engine.counters().connections_accepted);
        let id = self.engine.accept(Instant::from_ms(self.now_ms), Admission::Serve, arrival, 0);
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        let will_flags = if options.will.is_some() { 0b0000_1100 } else { 0 };
        body.extend([5, will_flags | u8::from(options.clean) << 1]);
        body.extend(options.keep_alive_s.to_be_bytes());
        body.extend([5, 0x11]);
        body.extend(options.expiry_s.to_be_bytes());
        text(&mut body, name.as_bytes());
        if let Some(topic) = options.will {
            // Its delay is ten seconds.
            body.extend([5, 0x18, 0, 0, 0, 10]);
            text(&mut body, topic.as_bytes());
            text(&mut body, b"gone");
        }
        self.offer(id, &packet(0x10, &body));
        self.settle();
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filters: &[String], qos: u8) {
        let mut body = vec![0, 1, 0];
        for filter in filters {
            text(&mut body, filter.as_bytes());
            body.push(qos);
        }
        self.receive(id, &packet(0x82, &body));
    }

    fn unsubscribe(&mut self, id: ConnectionId, filters: &[String]) {
        let mut body = vec![0, 2, 0];
        for filter in filters {
            text(&mut body, filter.as_bytes());
        }
        self.receive(id, &packet(0xA2, &body));
    }

    /// Bytes come as the broker receives them.
    fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        for piece in bytes.chunks(RECEIVE_BYTES) {
            self.offer(id, piece);
            self.settle();
        }
    }

    fn hang_up(&mut self, id: ConnectionId) {
        let _nothing = self.step(Event::Closed { connection: id, by: ClosedBy::Peer });
    }
}

struct Options<'a> {
    clean: bool,
    keep_alive_s: u16,
    expiry_s: u32,
    will: Option<&'a str>,
}

const PLAIN: Options<'_> = Options { clean: true, keep_alive_s: 0, expiry_s: 0, will: None };
const KEPT: Options<'_> = Options { clean: false, expiry_s: 1_000, ..PLAIN };

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
    out.extend_from_slice(text);
}

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128).expect("seven bits");
        length /= 128;
        out.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn publish(topic: &str, payload: &[u8], qos: u8, retain: bool) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    if qos > 0 {
        body.extend([0, 9]);
    }
    body.push(0);
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1 | u8::from(retain), &body)
}

fn filters(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("building/{number}/+/sensor")).collect()
}

/// `count` connections, each with a subscription to `filter`.
fn crowd(
    host: &mut Host,
    count: usize,
    options: &Options<'_>,
    filter: impl Fn(usize) -> String,
) -> Vec<ConnectionId> {
    let join = |number: usize| {
        let id = host.connect(&format!("client-{number}"), options);
        host.subscribe(id, &[filter(number)], 1);
        id
    };
    (0..count).map(join).collect()
}

fn long_subscribe(host: &mut Host, count: usize) {
    let id = host.connect("a", &PLAIN);
    host.measure();
    host.subscribe(id, &filters(count), 1);
}

fn long_unsubscribe(host: &mut Host, count: usize) {
    let id = host.connect("a", &PLAIN);
    host.subscribe(id, &filters(count), 1);
    host.measure();
    host.unsubscribe(id, &filters(count));
}

/// Three sessions with 9,000 subscriptions each end in one turn.
fn ends(host: &mut Host, count: usize) {
    let clients = ["a", "b", "c"].map(|name| {
        let id = host.connect(name, &PLAIN);
        host.subscribe(id, &filters(count), 1);
        id
    });
    host.measure();
    for id in clients {
        host.hang_up(id);
    }
    host.settle();
}

fn fan_out(host: &mut Host, count: usize) {
    crowd(host, count, &PLAIN, |_| "news".to_owned());
    let publisher = host.connect("publisher", &PLAIN);
    host.measure();
    for qos in [0, 1] {
        host.receive(publisher, &publish("news", &[b'x'; 100], qos, false));
    }
}

fn overlapping_fan_out(host: &mut Host, count: usize) {
    for (number, id) in crowd(host, count, &PLAIN, |_| "news/+".to_owned()).into_iter().enumerate() {
        host.subscribe(id, &[["news/#", "#"][number % 2].to_owned()], 0);
    }
    let publisher = host.connect("publisher", &PLAIN);
    host.measure();
    host.receive(publisher, &publish("news/x", &[b'x'; 100], 1, false));
}

fn group(host: &mut Host, count: usize, options: &Options<'_>, goes: bool) {
    let members = crowd(host, count, options, |_| "$share/g/jobs".to_owned());
    if goes {
        for id in members {
            host.hang_up(id);
        }
    }
    let publisher = host.connect("publisher", &PLAIN);
    host.measure();
    host.receive(publisher, &publish("jobs", b"x", 1, false));
}

/// The delays of all wills end together.
fn wills(host: &mut Host, count: usize) {
    let watcher = host.connect("watcher", &PLAIN);
    host.subscribe(watcher, &["wills/+".to_owned()], 1);
    let options = Options { will: Some("wills/x"), ..KEPT };
    let mortals: Vec<_> =
        (0..count).map(|number| host.connect(&format!("mortal-{number}"), &options)).collect();
    for id in mortals {
        host.hang_up(id);
    }
    host.measure();
    host.now_ms += 11_000;
    host.settle();
    assert!(host.engine.counters().messages_sent > 1_000, "the wills are published");
}

fn keep_alives(host: &mut Host, count: usize) {
    let options = Options { keep_alive_s: 10, ..PLAIN };
    for number in 0..count {
        host.connect(&format!("client-{number}"), &options);
    }
    host.measure();
    host.now_ms += 16_000;
    host.settle();
    assert_eq!(host.engine.attached_count(), 0, "all are closed");
}

fn retained(host: &mut Host, count: usize) {
    let publisher = host.connect("publisher", &PLAIN);
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(publish(&format!("house/{number}/temperature"), b"21.5", 0, true));
    }
    host.receive(publisher, &bytes);
    let client = host.connect("a", &PLAIN);
    host.measure();
    host.subscribe(client, &["#".to_owned()], 0);
}

fn short_publishes(host: &mut Host, _count: usize) {
    let subscriber = host.connect("s", &PLAIN);
    host.subscribe(subscriber, &["t".to_owned()], 0);
    let publisher = host.connect("publisher", &PLAIN);
    let bytes = publish("t", b"", 0, false).repeat(RECEIVE_BYTES / 6);
    host.measure();
    host.receive(publisher, &bytes);
}

/// A session with a full window and a full queue is taken over, and then its end.
fn full_session(host: &mut Host, count: usize) {
    let client = host.connect("a", &KEPT);
    host.subscribe(client, &["t".to_owned()], 1);
    let publisher = host.connect("publisher", &PLAIN);
    let bytes = publish("t", &[b'x'; 20], 1, false).repeat(count);
    // Nothing is acknowledged, so the window fills and then the queue.
    host.receive(publisher, &bytes);
    host.measure();
    host.connect("a", &KEPT);
    host.connect("a", &PLAIN);
    host.settle();
}

fn stop(host: &mut Host, count: usize) {
    for number in 0..count {
        host.connect(&format!("client-{number}"), &KEPT);
    }
    host.measure();
    let _nothing = host.step(Event::Stop);
    host.settle();
}

/// The longest step of an input, with the shortest time of each step over all runs.
fn longest(play: impl Fn(&mut Host)) -> (Duration, usize) {
    let mut shortest: Vec<Duration> = Vec::new();
    for _ in 0..RUNS {
        let mut host = Host::new();
        play(&mut host);
        if shortest.is_empty() {
            shortest = core::mem::take(&mut host.times);
        }
        for (known, time) in shortest.iter_mut().zip(&host.times) {
            *known = (*known).min(*time);
        }
    }
    (shortest.iter().max().copied().unwrap_or_default(), shortest.len())
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn report(name: &str, play: impl Fn(&mut Host)) {
    let (time, steps) = longest(play);
    println!("{}\t{steps}\t{name}", time.as_micros());
}

/// Filters of a packet, and of a client, where tables are filled.
const PACKET_FILTERS: usize = 10;
const CLIENT_FILTERS: usize = 10_000;

/// Tables of connections, sessions, client identifiers and timers grow.
fn many_sessions(host: &mut Host, count: usize) {
    let options = Options { keep_alive_s: 60, ..PLAIN };
    host.measure();
    for number in 0..count {
        host.connect(&format!("client-{number}"), &options);
    }
}

/// Tables of filters, nodes, edges, groups and subscriptions grow. The `#` of the filter is a number.
fn many_filters(host: &mut Host, count: usize, filter: &str) {
    let clients: Vec<_> = (0..count.div_ceil(CLIENT_FILTERS))
        .map(|number| host.connect(&format!("client-{number}"), &PLAIN))
        .collect();
    let filters: Vec<String> =
        (0..count).map(|number| filter.replacen('#', &number.to_string(), 1)).collect();
    host.measure();
    for (client, filters) in clients.into_iter().zip(filters.chunks(CLIENT_FILTERS)) {
        for filters in filters.chunks(PACKET_FILTERS) {
            host.subscribe(client, filters, 1);
        }
    }
}

/// The list of members of one filter or group grows.
fn many_members(host: &mut Host, count: usize, filter: &str) {
    let clients: Vec<_> =
        (0..count).map(|number| host.connect(&format!("client-{number}"), &PLAIN)).collect();
    host.measure();
    for client in clients {
        host.subscribe(client, &[filter.to_owned()], 1);
    }
}

/// The stores of retained messages and of all messages grow.
fn many_retained(host: &mut Host, count: usize) {
    let publisher = host.connect("publisher", &PLAIN);
    host.measure();
    for number in 0..count {
        host.receive(publisher, &publish(&format!("house/{number}/temperature"), b"21.5", 0, true));
    }
}

/// Every table grows to more entries than a table of a million has room for.
fn report_growth(count: usize, is_full: bool) {
    report(&format!("growth to {count} sessions"), |host| many_sessions(host, count));
    report(&format!("growth to {count} filters with wildcards"), |host| {
        many_filters(host, count, "house/#/+/temperature");
    });
    report(&format!("growth to {count} members of a group"), |host| {
        many_members(host, count, "$share/g/news");
    });
    if is_full {
        report(&format!("growth to {count} filters without wildcards"), |host| {
            many_filters(host, count, "house/#/temperature");
        });
        report(&format!("growth to {count} subscribers of a filter"), |host| {
            many_members(host, count, "news");
        });
        report(&format!("growth to {count} groups of a filter"), |host| {
            many_filters(host, count, "$share/g#/news");
        });
        report(&format!("growth to {count} retained messages"), |host| many_retained(host, count));
    }
}

fn main() {
    let is_full = std::env::args().any(|argument| argument == "--full");
    let many = if is_full { 10_000 } else { 3_000 };
    let packet_kib = filters(8_000).iter().map(|filter| filter.len() + 3).sum::<usize>() / 1_024;
    report(&format!("SUBSCRIBE of 8,000 filters, {packet_kib} KiB"), |host| long_subscribe(host, 8_000));
    report(&format!("UNSUBSCRIBE of 8,000 filters, {packet_kib} KiB"), |host| long_unsubscribe(host, 8_000));
    report("end of three sessions with 9,000 subscriptions each", |host| ends(host, 9_000));
    report(&format!("fan-out to {many}"), |host| fan_out(host, many));
    report(&format!("fan-out to {many} by overlapping filters"), |host| overlapping_fan_out(host, many));
    report(&format!("group of {many} members, all online"), |host| group(host, many, &PLAIN, false));
    report(&format!("group of {many} members, all offline"), |host| group(host, many, &KEPT, true));
    report("4,000 wills due at once", |host| wills(host, 4_000));
    report(&format!("{many} keep alives due at once"), |host| keep_alives(host, many));
    report(&format!("subscription to # over {} retained", many * 10), |host| retained(host, many * 10));
    report("64 KiB of publishes without payload", |host| short_publishes(host, 0));
    report("take-over and end of a session with 10,000 queued", |host| full_session(host, 11_024));
    report(&format!("stop with {many} connections"), |host| stop(host, many));
    report_growth(if is_full { 1_000_000 } else { 150_000 }, is_full);
    if is_full {
        report("fan-out to 100,000", |host| fan_out(host, 100_000));
    }
}
