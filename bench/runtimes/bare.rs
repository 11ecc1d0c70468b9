//! The minimum cost of such a server: one ring, no runtime, no task, no copy, one `io_uring_enter` for all ready
//! operations. Echoes and fans out like the other servers of `bench/runtimes`. With `--scenario mqtt` it acts as a broker
//! for `bench/load` as far as bytes can be forwarded undecoded, so that a broker's cost can be compared with that of its
//! system calls alone.

mod mqtt;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::mqtt::Request;

/// Entries of the submission queue: a turn may submit a send for each connection.
const ENTRIES: u32 = 4096;
const COMPLETION_ENTRIES: u32 = 32_768;
/// Bytes of each of a connection's two receive buffers.
const BUFFER_BYTES: usize = 8192;
/// The kind of event, in the upper half of a completion's user data; the lower half is the connection.
const ACCEPTED: u64 = 1 << 32;
const RECEIVED: u64 = 2 << 32;
const SENT: u64 = 3 << 32;
const CLOSED: u64 = 4 << 32;
const TIME_IS_UP: u64 = 5 << 32;
const GIVEN_UP: u64 = 6 << 32;

/// `MSG_WAITALL`: send everything, so that a connection's bytes stay in order. `MSG_NOSIGNAL`: no signal if the peer is
/// gone.
const SEND_FLAGS: i32 = 0x100 | 0x4000;

/// The handling of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Back to the sender.
    Echo,
    /// To every other connection.
    FanOut,
    /// Answers CONNECT and SUBSCRIBE. All other bytes of a client go undecoded to the subscribers of the topic of its
    /// first PUBLISH. QoS 0, one topic for each client, at most one filter without wildcards, one publisher for each
    /// subscriber.
    Mqtt,
}

/// Serves until `--seconds-max` have passed.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Scenario::Echo)]
    scenario: Scenario,
    /// Port on 127.0.0.1; 0 selects a free one, which the first line of output names.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The server ends by itself after this time.
    #[arg(long, default_value_t = 60)]
    seconds_max: u64,
}

/// The use of a connection's bytes.
enum Role {
    /// Nothing was received yet.
    Fresh,
    /// Its first PUBLISH determines the target of all of its bytes, if it publishes at all.
    Client,
    /// The target of its bytes is known.
    Source,
}

struct Connection {
    descriptor: types::Fd,
    role: Role,
    /// Its subscription; empty for none.
    filter: Vec<u8>,
    /// Used in turn: the next bytes may arrive while the last ones are being sent.
    buffers: [Box<[u8]>; 2],
    /// The targets of its bytes.
    targets: Vec<usize>,
    /// Outstanding sends of its bytes.
    sending_count: usize,
    /// Received while sends were outstanding: the buffer, and the number of bytes.
    held: Option<(usize, usize)>,
    /// The buffer of the current receive.
    receiving: usize,
}

/// **Lives on:** the one thread. **Sees:** every connection.
struct Server {
    ring: IoUring,
    scenario: Scenario,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// By filter.
    subscribers: BTreeMap<Vec<u8>, Vec<usize>>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: arguments.core });
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    rustix::net::listen(&listener, 4096)?;
    // Accepted sockets inherit this option.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    let mut output = io::stdout();
    writeln!(output, "listening on {} with a bare ring", listener.local_addr()?)?;
    output.flush()?;
    let ring = IoUring::builder()
        .setup_cqsize(COMPLETION_ENTRIES)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES)?;
    let mut server = Server {
        ring,
        scenario: arguments.scenario,
        connections: Vec::new(),
        free: Vec::new(),
        subscribers: BTreeMap::new(),
    };
    server.serve(&listener, Duration::from_secs(arguments.seconds_max))
}

impl Server {
    fn serve(&mut self, listener: &TcpListener, time: Duration) -> io::Result<()> {
        let time = types::Timespec::from(time);
        self.push(&opcode::Timeout::new(&raw const time).build().user_data(TIME_IS_UP))?;
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPTED);
        self.push(&accept)?;
        let mut batch = Vec::with_capacity(COMPLETION_ENTRIES as usize);
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                submitted => submitted?,
            };
            batch.extend(
                self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())),
            );
            for (user_data, result, flags) in batch.drain(..) {
                let number = usize::try_from(user_data & u64::from(u32::MAX)).map_err(io::Error::other)?;
                match user_data & !u64::from(u32::MAX) {
                    ACCEPTED => {
                        self.accepted(checked(result)?)?;
                        if !cqueue::more(flags) {
                            self.push(&accept)?;
                        }
                    }
                    RECEIVED => self.received(number, result)?,
                    SENT => self.sent(number)?,
                    CLOSED => self.free.push(number),
                    GIVEN_UP => {}
                    _ => return Ok(()),
                }
            }
        }
    }

    fn accepted(&mut self, descriptor: i32) -> io::Result<()> {
        let number = self.free.pop().unwrap_or(self.connections.len());
        if number == self.connections.len() {
            self.connections.push(None);
        }
        let buffers = [0, 1].map(|_| vec![0; BUFFER_BYTES].into_boxed_slice());
        let role = if self.scenario == Scenario::Mqtt { Role::Fresh } else { Role::Source };
        let others = || self.connections.iter().enumerate().filter(|(_, other)| other.is_some());
        let targets = match self.scenario {
            Scenario::Echo => vec![number],
            Scenario::FanOut => others().map(|(other, _)| other).collect(),
            Scenario::Mqtt => Vec::new(),
        };
        if self.scenario == Scenario::FanOut {
            for other in self.connections.iter_mut().flatten() {
                other.targets.push(number);
            }
        }
        self.connections[number] = Some(Connection {
            descriptor: types::Fd(descriptor),
            role,
            filter: Vec::new(),
            buffers,
            targets,
            sending_count: 0,
            held: None,
            receiving: 0,
        });
        self.receive(number)
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let connection = self.connections[number].as_mut().expect("only a connected client receives");
        let buffer = &mut connection.buffers[connection.receiving];
        let receive = opcode::Recv::new(connection.descriptor, buffer.as_mut_ptr(), length(buffer.len()))
            .build()
            .user_data(RECEIVED | number as u64);
        self.push(&receive)
    }

    fn received(&mut self, number: usize, result: i32) -> io::Result<()> {
        // A peer whose connection was reset is gone as well.
        let Ok(bytes @ 1..) = usize::try_from(result) else { return self.close(number) };
        let connection = self.connections[number].as_mut().expect("a receive was outstanding");
        let buffer = connection.receiving;
        connection.receiving = 1 - buffer;
        match &connection.role {
            Role::Source => self.pass_on(number, buffer, bytes),
            Role::Fresh | Role::Client => self.read(number, buffer, bytes),
        }
    }

    /// Sends the received bytes to all targets and receives into the other buffer meanwhile.
    fn pass_on(&mut self, number: usize, buffer: usize, bytes: usize) -> io::Result<()> {
        let connection = self.connections[number].as_mut().expect("it received");
        if connection.sending_count > 0 {
            connection.held = Some((buffer, bytes));
            return Ok(());
        }
        let source = connection.buffers[buffer].as_ptr();
        let targets = std::mem::take(&mut connection.targets);
        connection.sending_count = targets.len();
        for &target in &targets {
            // A target that has left receives nothing.
            let Some(descriptor) = self.connections[target].as_ref().map(|target| target.descriptor) else {
                self.connections[number].as_mut().expect("it received").sending_count -= 1;
                continue;
            };
            let send = opcode::Send::new(descriptor, source, length(bytes))
                .flags(SEND_FLAGS)
                .build()
                .user_data(SENT | number as u64);
            self.push(&send)?;
        }
        self.connections[number].as_mut().expect("it received").targets = targets;
        self.receive(number)
    }

    fn sent(&mut self, number: usize) -> io::Result<()> {
        let Some(connection) = self.connections[number].as_mut() else { return Ok(()) };
        connection.sending_count -= 1;
        if connection.sending_count == 0
            && let Some((buffer, bytes)) = connection.held.take()
        {
            return self.pass_on(number, buffer, bytes);
        }
        Ok(())
    }

    /// Decodes the packets of an MQTT client before its bytes can be forwarded undecoded.
    fn read(&mut self, number: usize, buffer: usize, bytes: usize) -> io::Result<()> {
        let connection = self.connections[number].as_mut().expect("it received");
        let request = mqtt::parse(&connection.buffers[buffer][..bytes]);
        match (&connection.role, request) {
            (Role::Fresh, Some(Request::Connects)) => {
                connection.role = Role::Client;
                self.answer(number, buffer, &mqtt::CONNACK)
            }
            (Role::Fresh, Some(Request::Subscribes { topic, packet_id })) => {
                connection.role = Role::Client;
                connection.filter.clone_from(&topic);
                self.subscribers.entry(topic).or_default().push(number);
                self.answer(number, buffer, &mqtt::acknowledged(packet_id))
            }
            (Role::Client, Some(Request::Publishes { topic })) => {
                connection.role = Role::Source;
                connection.targets = self.subscribers.get(&topic).cloned().unwrap_or_default();
                self.pass_on(number, buffer, bytes)
            }
            // Packets that need a real broker are not supported.
            (Role::Fresh | Role::Client | Role::Source, _) => self.close(number),
        }
    }

    fn answer(&mut self, number: usize, buffer: usize, answer: &[u8]) -> io::Result<()> {
        let connection = self.connections[number].as_mut().expect("it received");
        connection.buffers[buffer][..answer.len()].copy_from_slice(answer);
        connection.sending_count += 1;
        let bytes = connection.buffers[buffer].as_ptr();
        let send = opcode::Send::new(connection.descriptor, bytes, length(answer.len()))
            .flags(SEND_FLAGS)
            .build()
            .user_data(SENT | number as u64);
        self.push(&send)?;
        self.receive(number)
    }

    fn close(&mut self, number: usize) -> io::Result<()> {
        let Some(connection) = self.connections[number].take() else { return Ok(()) };
        if let Some(subscribers) = self.subscribers.get_mut(&connection.filter) {
            subscribers.retain(|&subscriber| subscriber != number);
        }
        if self.scenario == Scenario::FanOut {
            for other in self.connections.iter_mut().flatten() {
                other.targets.retain(|&target| target != number);
            }
        }
        if connection.sending_count > 0 {
            // A send still reads from these buffers and refers to this number. Both are leaked, since a load closes
            // connections only at its end.
            std::mem::forget(connection.buffers);
            return self.push(&opcode::Close::new(connection.descriptor).build().user_data(GIVEN_UP));
        }
        self.push(&opcode::Close::new(connection.descriptor).build().user_data(CLOSED | number as u64))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            #[expect(unsafe_code, reason = "the kernel reads and writes through the pointers of an entry")]
            // SAFETY: pointers are to a connection's buffers, which stay in place until its sends are done and its
            // receive has ended, or are leaked; or to a time value that outlives the loop that submitted it.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("no longer than a buffer")
}
