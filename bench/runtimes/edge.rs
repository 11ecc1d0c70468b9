//! A broker without a runtime, as small as a comparison allows: QoS 0 of MQTT 3.1.1, filters without wildcards in a hash map, one thread.
//! Only its way of waiting, receiving and sending changes, so that the cost of a way can be told from the cost of a broker. Serves `mixed`,
//! `pairs` and `fan_out` of `bench/load`.

mod edge_table;
mod mqtt;

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::epoll;

use crate::edge_table::{Received, Table};

/// Entries of the submission queue: a turn may submit a poll or a send for each connection.
const ENTRIES: u32 = 4096;
const COMPLETION_ENTRIES: u32 = 32_768;
/// Buffers of the ring of [`Way::Buffers`], and the bytes of each. Fewer buffers run out in bursts.
const BUFFERS: u16 = 4096;
const BUFFER_BYTES: usize = 2048;
/// The kind of event, in the upper half of a completion's user data; the lower half is the connection.
const ACCEPTED: u64 = 1 << 32;
const READABLE: u64 = 2 << 32;
const SENT: u64 = 3 << 32;
const IGNORED: u64 = 4 << 32;
const TIME_IS_UP: u64 = 5 << 32;
/// `MSG_WAITALL`: send everything, so that a connection's bytes stay in order. `MSG_NOSIGNAL`: no signal if the peer is gone.
const SEND_FLAGS: i32 = 0x100 | 0x4000;

/// The way of waiting, receiving and sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A poll for each receive, recv(2), send(2): monoio's way.
    OneShot,
    /// One poll for the life of a connection, recv(2), send(2).
    Multishot,
    /// One receive for the life of a connection, into buffers of the ring; sends are submitted.
    Buffers,
    /// epoll, edge-triggered, recv(2), send(2).
    Epoll,
}

/// Serves until `--seconds-max` have passed.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum)]
    way: Way,
    /// Port on 127.0.0.1; 0 selects a free one, which the first line of output names.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The server ends by itself after this time.
    #[arg(long, default_value_t = 60)]
    seconds_max: u64,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    rustix::net::listen(&listener, 4096)?;
    // Accepted sockets inherit this option.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    let mut output = io::stdout();
    writeln!(output, "listening on {} by {:?}", listener.local_addr()?, arguments.way)?;
    output.flush()?;
    let time = Duration::from_secs(arguments.seconds_max);
    match arguments.way {
        Way::Epoll => serve_epoll(&listener, time),
        way => Ring::new(way)?.serve(&listener, time),
    }
}

fn serve_epoll(listener: &TcpListener, time: Duration) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, epoll::EventData::new_u64(ACCEPTED), epoll::EventFlags::IN)?;
    let timer = rustix::time::timerfd_create(
        rustix::time::TimerfdClockId::Monotonic,
        rustix::time::TimerfdFlags::empty(),
    )?;
    let after = rustix::time::Timespec {
        tv_sec: i64::try_from(time.as_secs()).map_err(io::Error::other)?,
        tv_nsec: 0,
    };
    let once = rustix::time::Itimerspec { it_interval: rustix::time::Timespec::default(), it_value: after };
    rustix::time::timerfd_settime(&timer, rustix::time::TimerfdTimerFlags::empty(), &once)?;
    epoll::add(&poll, &timer, epoll::EventData::new_u64(TIME_IS_UP), epoll::EventFlags::IN)?;
    let mut table = Table::default();
    let mut events = Vec::with_capacity(ENTRIES as usize);
    let no_time = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        events.clear();
        let wait = table.has_dirty().then_some(&no_time);
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), wait) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            match event.data.u64() {
                ACCEPTED => {
                    while let Ok((stream, _)) = listener.accept() {
                        let number = u64::from(table.insert(stream.into()));
                        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                        epoll::add(
                            &poll,
                            table.socket(number_of(number)),
                            epoll::EventData::new_u64(number),
                            flags,
                        )?;
                    }
                }
                TIME_IS_UP => return Ok(()),
                // Only the next bytes make another event, so everything is received now.
                number => while table.receive(number_of(number)) == Received::Full {},
            }
        }
        table.flush();
    }
}

/// **Lives on:** the one thread. **Sees:** every connection.
struct Ring {
    #[expect(clippy::struct_field_names, reason = "it is the ring itself")]
    ring: IoUring,
    way: Way,
    table: Table,
    buffers: Option<Buffers>,
    /// Submitted sends that are not complete.
    sending_count: usize,
}

impl Ring {
    fn new(way: Way) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETION_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)?;
        let buffers = if way == Way::Buffers { Some(Buffers::register(&ring)?) } else { None };
        Ok(Self { ring, way, table: Table::default(), buffers, sending_count: 0 })
    }

    fn serve(&mut self, listener: &TcpListener, time: Duration) -> io::Result<()> {
        let time = types::Timespec::from(time);
        self.push(&opcode::Timeout::new(&raw const time).build().user_data(TIME_IS_UP))?;
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPTED);
        self.push(&accept)?;
        let mut batch = Vec::with_capacity(COMPLETION_ENTRIES as usize);
        loop {
            // A socket that took not everything is tried again in each turn. A submitted send completes in the call that submits
            // it, so one event more is waited for.
            let wanted = if self.table.has_dirty() { 0 } else { self.sending_count + 1 };
            match self.ring.submit_and_wait(wanted) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                submitted => submitted?,
            };
            batch.extend(
                self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())),
            );
            for (user_data, result, flags) in batch.drain(..) {
                let number = number_of(user_data);
                match user_data & !u64::from(u32::MAX) {
                    ACCEPTED => {
                        self.accepted(result)?;
                        if !cqueue::more(flags) {
                            self.push(&accept)?;
                        }
                    }
                    READABLE => self.readable(number, result, flags)?,
                    SENT => {
                        self.sending_count -= 1;
                        self.table.sent(number);
                    }
                    TIME_IS_UP => return Ok(()),
                    _ => {}
                }
            }
            if self.way == Way::Buffers {
                self.submit_sends()?;
            } else {
                self.table.flush();
            }
        }
    }

    fn accepted(&mut self, result: i32) -> io::Result<()> {
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        #[expect(unsafe_code, reason = "a ring returns its descriptors only as numbers")]
        // SAFETY: the completion of an accept gives the descriptor to us and to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        let number = self.table.insert(socket);
        self.watch(number)
    }

    /// Waits for the next bytes of a connection.
    fn watch(&mut self, number: u32) -> io::Result<()> {
        let descriptor = types::Fd(self.table.socket(number).as_raw_fd());
        let readable = u32::from(rustix::event::PollFlags::IN.bits());
        let entry = match self.way {
            Way::OneShot | Way::Epoll => opcode::PollAdd::new(descriptor, readable).build(),
            Way::Multishot => opcode::PollAdd::new(descriptor, readable).multi(true).build(),
            Way::Buffers => opcode::RecvMulti::new(descriptor, Buffers::GROUP).build(),
        };
        self.push(&entry.user_data(READABLE | u64::from(number)))
    }

    fn readable(&mut self, number: u32, result: i32, flags: u32) -> io::Result<()> {
        let mut received = Received::Some;
        if let Some(buffers) = &mut self.buffers {
            let buffer = cqueue::buffer_select(flags);
            // No buffer was free, or the peer is gone.
            received = match (usize::try_from(result), buffer) {
                (Ok(length @ 1..), Some(buffer)) => self.table.take(number, buffers.bytes(buffer, length)),
                _ if result == -rustix::io::Errno::NOBUFS.raw_os_error() => Received::Some,
                _ => self.table.remove(number),
            };
            if let Some(buffer) = buffer {
                buffers.give_back(buffer);
            }
        } else if self.table.is_open(number) {
            received = self.table.receive(number);
            // Only the next bytes make another event, so everything is received now.
            while received == Received::Full && self.way == Way::Multishot {
                received = self.table.receive(number);
            }
        }
        match received {
            Received::End if self.way == Way::Multishot => {
                // The poll would keep the socket open.
                let poll = READABLE | u64::from(number);
                self.push(&opcode::AsyncCancel::new(poll).build().user_data(IGNORED))
            }
            Received::End => Ok(()),
            Received::Some | Received::Full if cqueue::more(flags) || !self.table.is_open(number) => Ok(()),
            Received::Some | Received::Full => self.watch(number),
        }
    }

    fn submit_sends(&mut self) -> io::Result<()> {
        while let Some((number, bytes)) = self.table.next_send() {
            let descriptor = types::Fd(self.table.socket(number).as_raw_fd());
            let length = u32::try_from(bytes.1).map_err(io::Error::other)?;
            let send = opcode::Send::new(descriptor, bytes.0, length).flags(SEND_FLAGS).build();
            self.push(&send.user_data(SENT | u64::from(number)))?;
            self.sending_count += 1;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            #[expect(unsafe_code, reason = "the kernel reads through the pointers of an entry")]
            // SAFETY: pointers are to the bytes that a connection sends, which stay in place until the send is complete, or to a time
            // value that outlives the loop that submitted it.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// The buffers that the kernel receives into, and the ring by which they are given to it. Never freed: the kernel writes to them as long as
/// the process lives.
struct Buffers {
    entries: &'static [Page],
    bytes: &'static mut [u8],
    tail: u16,
}

/// A page of the ring of buffers, which has to begin at one.
#[repr(C, align(4096))]
struct Page([[AtomicU64; 2]; 256]);

const TAIL_MASK: u64 = 0xFFFF << 48;

impl Buffers {
    const GROUP: u16 = 1;

    fn register(ring: &IoUring) -> io::Result<Self> {
        let page = || Page([const { [const { AtomicU64::new(0) }; 2] }; 256]);
        let entries: Vec<_> = std::iter::repeat_with(page).take(usize::from(BUFFERS) / 256).collect();
        let entries = entries.leak();
        let bytes = vec![0; usize::from(BUFFERS) * BUFFER_BYTES].leak();
        #[expect(unsafe_code, reason = "the kernel reads the ring and writes to its buffers")]
        // SAFETY: both are leaked, and the entries have the number and the alignment that the kernel asks for.
        unsafe {
            ring.submitter().register_buf_ring(entries.as_ptr() as u64, BUFFERS, Self::GROUP)?;
        }
        let mut buffers = Self { entries, bytes, tail: 0 };
        for number in 0..BUFFERS {
            buffers.give_back(number);
        }
        Ok(buffers)
    }

    fn bytes(&self, number: u16, length: usize) -> &[u8] {
        let start = usize::from(number) * BUFFER_BYTES;
        &self.bytes[start..start + length]
    }

    /// Returns a buffer to the kernel.
    fn give_back(&mut self, number: u16) {
        let place = usize::from(self.tail % BUFFERS);
        let address = self.bytes.as_ptr() as u64 + u64::from(number) * BUFFER_BYTES as u64;
        let entry = &self.entries[place / 256].0[place % 256];
        // An entry is an address, a length of 32 bits, the number of the buffer, and 16 bits that only the first entry uses: for the tail
        // of the ring.
        entry[0].store(address, Relaxed);
        let tail = entry[1].load(Relaxed) & TAIL_MASK;
        entry[1].store(tail | u64::from(number) << 32 | BUFFER_BYTES as u64, Relaxed);
        self.tail = self.tail.wrapping_add(1);
        let first = &self.entries[0].0[0][1];
        first.store(first.load(Relaxed) & !TAIL_MASK | u64::from(self.tail) << 48, Release);
    }
}

fn number_of(user_data: u64) -> u32 {
    u32::try_from(user_data & u64::from(u32::MAX)).expect("the lower half")
}
