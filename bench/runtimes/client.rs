//! The load: starts one server, keeps a window of messages in flight on every connection, and prints the server's cost as
//! one line of JSON. One thread, epoll, no library between it and the sockets, so that it is cheap.

mod process;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustix::event::{Timespec, epoll};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::process::Usage;

const MESSAGE_BYTES: usize = 64;
const READ_BUFFER_BYTES: usize = 65_536;
/// The server ends by itself after this time, even if this program is killed before it can end it.
const SERVER_SECONDS_MAX: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Every connection gets back what it sent.
    Echo,
    /// The first connection's messages reach all others; a message counts once per receiver.
    FanOut,
    /// This many connections at a time are opened, get one message back and are closed again; a cycle of one counts as a
    /// message.
    Churn,
    /// Connections that sent one message each and then stay silent: the memory of one.
    Idle,
}

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Load::Echo)]
    load: Load,
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages of 64 bytes in flight per connection, or per publisher.
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// Milliseconds before the measurement starts.
    #[arg(long, default_value_t = 300)]
    warm_up_ms: u64,
    /// Milliseconds measured.
    #[arg(long, default_value_t = 1500)]
    measure_ms: u64,
    /// Core to run on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Counts the server's system calls with `perf`, which slows it: not together with CPU times.
    #[arg(long)]
    count_syscalls: bool,
    /// Path of the server.
    #[arg(long)]
    server: PathBuf,
    /// Flags for the server.
    #[arg(last = true)]
    server_flags: Vec<String>,
}

/// The server, killed when the measurement ends in any way.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Peer {
    socket: TcpStream,
    /// Bytes of a message not yet complete.
    partial_bytes: usize,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: arguments.core });
    let (server, address) = start_server(&arguments)?;
    let result = match arguments.load {
        Load::Idle => measure_memory(&arguments, &server, address)?,
        Load::Churn => measure_churn(&arguments, &server, address)?,
        Load::Echo | Load::FanOut => measure_cpu(&arguments, &server, address)?,
    };
    writeln!(io::stdout(), "{result}")
}

fn start_server(arguments: &Arguments) -> io::Result<(Server, SocketAddr)> {
    let scenario = if arguments.load == Load::FanOut { "fan-out" } else { "echo" };
    let mut child = Command::new(&arguments.server)
        .args(["--scenario", scenario, "--seconds-max", &SERVER_SECONDS_MAX.to_string()])
        .args(&arguments.server_flags)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
    address.map(|address| (server, address)).ok_or_else(|| io::Error::other("the server printed no address"))
}

fn measure_memory(
    arguments: &Arguments,
    server: &Server,
    address: SocketAddr,
) -> io::Result<serde_json::Value> {
    let before = Usage::of(server.0.id())?;
    let mut peers = Vec::with_capacity(arguments.connections);
    let start = now();
    for _ in 0..arguments.connections {
        peers.push(TcpStream::connect(address)?);
    }
    let connected = start.elapsed();
    let mut message = [7; MESSAGE_BYTES];
    for peer in &mut peers {
        peer.write_all(&message)?;
        peer.read_exact(&mut message)?;
    }
    std::thread::sleep(Duration::from_millis(200));
    let after = Usage::of(server.0.id())?;
    let resident = after.resident_anonymous_bytes.saturating_sub(before.resident_anonymous_bytes);
    Ok(json!({
        "load": "idle", "connections": arguments.connections, "server": arguments.server_flags.join(" "),
        "resident_bytes_per_connection": resident / arguments.connections as u64,
        "accept_server_us_per_connection": micros(after.cpu.saturating_sub(before.cpu)) / float(arguments.connections),
        "connect_ms": connected.as_millis(),
    }))
}

fn measure_churn(
    arguments: &Arguments,
    server: &Server,
    address: SocketAddr,
) -> io::Result<serde_json::Value> {
    churn(arguments.connections, address, now() + Duration::from_millis(arguments.warm_up_ms))?;
    let (before, start) = (Usage::of(server.0.id())?, now());
    let cycles = churn(arguments.connections, address, start + Duration::from_millis(arguments.measure_ms))?;
    let (after, elapsed) = (Usage::of(server.0.id())?, start.elapsed());
    let each = |amount: f64| amount / float(cycles);
    Ok(json!({
        "load": "churn", "connections": arguments.connections, "server": arguments.server_flags.join(" "),
        "messages": cycles,
        "messages_per_second": float(cycles) / elapsed.as_secs_f64(),
        "server_us_per_message": each(micros(after.cpu.saturating_sub(before.cpu))),
        "server_user_us_per_message": each(micros(after.user.saturating_sub(before.user))),
        "server_system_us_per_message": each(micros(after.system.saturating_sub(before.system))),
        "server_switches_per_message": each(float(after.switches - before.switches)),
    }))
}

/// Runs cycles until `end`. A source address blocks the port of a closed connection for a while, so each batch uses
/// another one.
fn churn(connections: usize, address: SocketAddr, end: Instant) -> io::Result<usize> {
    let mut cycles = 0;
    let mut message = [7; MESSAGE_BYTES];
    let mut batch: Vec<TcpStream> = Vec::with_capacity(connections);
    for source in (1..=200).cycle() {
        if now() >= end {
            break;
        }
        for _ in 0..connections {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from(([127, 0, 1, source], 0)).into())?;
            socket.connect(&address.into())?;
            let mut socket = TcpStream::from(socket);
            socket.write_all(&message)?;
            batch.push(socket);
        }
        for mut socket in batch.drain(..) {
            socket.read_exact(&mut message)?;
            socket.shutdown(Shutdown::Write)?;
            if socket.read(&mut message)? > 0 {
                return Err(io::Error::other("more came back than was sent"));
            }
            cycles += 1;
        }
    }
    Ok(cycles)
}

fn measure_cpu(arguments: &Arguments, server: &Server, address: SocketAddr) -> io::Result<serde_json::Value> {
    let mut swarm = Swarm::connect(arguments, address)?;
    swarm.start()?;
    swarm.run(Duration::from_millis(arguments.warm_up_ms))?;
    let identifier = server.0.id();
    let measure = Duration::from_millis(arguments.measure_ms);
    let counter = if arguments.count_syscalls { Some(count_syscalls(identifier, measure)?) } else { None };
    let (before, messages_before, start) = (Usage::of(identifier)?, swarm.messages, now());
    swarm.run(measure)?;
    let (after, messages, elapsed) =
        (Usage::of(identifier)?, swarm.messages - messages_before, start.elapsed());
    if messages == 0 {
        return Err(io::Error::other("no message came back"));
    }
    let per_message = |amount: f64| amount / float(messages);
    let syscalls = counter.map(read_syscalls).transpose()?.map(|count| per_message(float(count)));
    Ok(json!({
        "load": if arguments.load == Load::Echo { "echo" } else { "fan_out" },
        "connections": arguments.connections, "window": arguments.window, "server": arguments.server_flags.join(" "),
        "messages": messages,
        "messages_per_second": float(messages) / elapsed.as_secs_f64(),
        "server_us_per_message": per_message(micros(after.cpu.saturating_sub(before.cpu))),
        "server_user_us_per_message": per_message(micros(after.user.saturating_sub(before.user))),
        "server_system_us_per_message": per_message(micros(after.system.saturating_sub(before.system))),
        "server_switches_per_message": per_message(float(after.switches - before.switches)),
        "server_syscalls_per_message": syscalls,
    }))
}

/// All connections of the load.
struct Swarm {
    fan_out: bool,
    window: usize,
    peers: Vec<Peer>,
    poll: rustix::fd::OwnedFd,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    /// Messages received.
    messages: usize,
    /// Messages the publisher sent.
    published: usize,
}

impl Swarm {
    fn connect(arguments: &Arguments, address: SocketAddr) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut peers = Vec::with_capacity(arguments.connections);
        for index in 0..arguments.connections {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            epoll::add(&poll, &socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            peers.push(Peer { socket, partial_bytes: 0 });
        }
        // The server's accepts are asynchronous: wait until it knows all connections before messages fan out.
        std::thread::sleep(Duration::from_millis(100));
        Ok(Self {
            fan_out: arguments.load == Load::FanOut,
            window: arguments.window,
            peers,
            poll,
            buffer: vec![0; READ_BUFFER_BYTES],
            payload: vec![7; READ_BUFFER_BYTES.max(arguments.window * MESSAGE_BYTES)],
            messages: 0,
            published: 0,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        if self.fan_out {
            return self.publish();
        }
        for peer in &mut self.peers {
            peer.socket.write_all(&self.payload[..self.window * MESSAGE_BYTES])?;
        }
        Ok(())
    }

    fn run(&mut self, duration: Duration) -> io::Result<()> {
        let end = now() + duration;
        let mut events = Vec::with_capacity(256);
        while now() < end {
            events.clear();
            let patience = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let spare: &mut [MaybeUninit<epoll::Event>] = events.spare_capacity_mut();
            let (ready, _) = epoll::wait(&self.poll, spare, Some(&patience))?;
            for event in ready {
                let index = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                self.receive(index)?;
            }
            if self.fan_out {
                self.publish()?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        let length = peer.socket.read(&mut self.buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let total_bytes = peer.partial_bytes + length;
        let complete = total_bytes / MESSAGE_BYTES;
        peer.partial_bytes = total_bytes % MESSAGE_BYTES;
        self.messages += complete;
        if !self.fan_out && complete > 0 {
            peer.socket.write_all(&self.payload[..complete * MESSAGE_BYTES])?;
        }
        Ok(())
    }

    /// Fills the publisher's window up once half of it has reached every receiver.
    fn publish(&mut self) -> io::Result<()> {
        let receivers = (self.peers.len() - 1).max(1);
        let in_flight = self.published - self.messages / receivers;
        if in_flight * 2 <= self.window {
            let room = self.window - in_flight;
            self.peers[0].socket.write_all(&self.payload[..room * MESSAGE_BYTES])?;
            self.published += room;
        }
        Ok(())
    }
}

fn count_syscalls(identifier: u32, duration: Duration) -> io::Result<Child> {
    Command::new("perf")
        .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &identifier.to_string(), "--"])
        .args(["sleep", &duration.as_secs_f64().to_string()])
        .stderr(Stdio::piped())
        .spawn()
}

fn read_syscalls(mut counter: Child) -> io::Result<usize> {
    let mut text = String::new();
    if let Some(mut output) = counter.stderr.take() {
        output.read_to_string(&mut text)?;
    }
    counter.wait()?;
    text.split(',').next().and_then(|count| count.trim().parse().ok()).ok_or_else(|| io::Error::other(text))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn now() -> Instant {
    Instant::now()
}
