//! The server under measurement: one pinned thread that receives, forwards and sends bytes, in every combination of
//! interface, way of receiving and way of sending. It does not parse MQTT, so that the rows differ only in I/O.

mod connection;
mod receive;
mod runtime;
mod turn;

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::connection::Connection;
use crate::receive::Receive;
use crate::runtime::Io;
use crate::turn::{Send, Turn};

/// Bytes of one message; a scenario handles messages one by one, as a broker would.
const MESSAGE_BYTES: usize = 64;
/// Accepts kept outstanding: one completes per connection, so a storm needs several.
const ACCEPT_TASKS: usize = 8;

/// The handling of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Back to the sender.
    Echo,
    /// To every other connection.
    FanOut,
}

/// Serves until `--seconds-max` have passed.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Io::Auto)]
    io: Io,
    #[arg(long, value_enum, default_value_t = Receive::Ready)]
    receive: Receive,
    #[arg(long, value_enum, default_value_t = Send::Direct)]
    send: Send,
    #[arg(long, value_enum, default_value_t = Scenario::Echo)]
    scenario: Scenario,
    /// Port on 127.0.0.1; 0 selects a free one, which the first line of output names.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Bytes of an own receive buffer; the shared one has 8 KiB.
    #[arg(long, default_value_t = 8192)]
    own_buffer_bytes: usize,
    /// The server ends by itself after this time.
    #[arg(long, default_value_t = 60)]
    seconds_max: u64,
}

/// **Lives on:** the one thread. **Sees:** every connection.
pub(crate) struct Shard {
    scenario: Scenario,
    send: Send,
    pub(crate) receive: Receive,
    pub(crate) own_buffer_bytes: usize,
    pub(crate) turn: Rc<Turn>,
    connections: RefCell<Vec<Rc<Connection>>>,
    pub(crate) shared: receive::SharedBuffer,
    pub(crate) received_bytes: Cell<u64>,
}

impl Shard {
    /// Handles `bytes` according to the scenario.
    pub(crate) fn handle(&self, source: &Rc<Connection>, bytes: &[u8]) {
        self.received_bytes.set(self.received_bytes.get() + bytes.len() as u64);
        match self.scenario {
            Scenario::Echo => {
                append(source, bytes);
                self.turn.mark_dirty(source);
            }
            Scenario::FanOut => {
                for target in self.connections.borrow().iter() {
                    if !Rc::ptr_eq(source, target) {
                        append(target, bytes);
                        self.turn.mark_dirty(target);
                    }
                }
            }
        }
    }
}

/// One copy per message, as in routing.
fn append(target: &Connection, bytes: &[u8]) {
    let mut outbox = target.outbox.borrow_mut();
    for message in bytes.chunks(MESSAGE_BYTES) {
        outbox.extend_from_slice(message);
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: arguments.core });
    let (mut runtime, io) = runtime::build(arguments.io)?;
    if arguments.receive == Receive::Lent && io != Io::Epoll {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "--receive lent needs --io epoll"));
    }
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    // epoll needs a non-blocking listener; io_uring gets a blocking one, like the sockets that monoio accepts there.
    listener.set_nonblocking(io == Io::Epoll)?;
    let address = listener.local_addr()?;
    let mut output = io::stdout();
    writeln!(output, "listening on {address} with {io:?}")?;
    output.flush()?;
    runtime.block_on(serve(listener, &arguments))
}

async fn serve(listener: TcpListener, arguments: &Arguments) -> io::Result<()> {
    let shard = Rc::new(Shard {
        scenario: arguments.scenario,
        send: arguments.send,
        receive: arguments.receive,
        own_buffer_bytes: arguments.own_buffer_bytes,
        turn: Rc::new(Turn::new(arguments.send)),
        connections: RefCell::default(),
        shared: receive::SharedBuffer::new(),
        received_bytes: Cell::new(0),
    });
    drop(monoio::spawn(Rc::clone(&shard.turn).flush()));
    let listener = Rc::new(monoio::net::TcpListener::from_std(listener)?);
    for _ in 0..ACCEPT_TASKS {
        drop(monoio::spawn(accept(Rc::clone(&shard), Rc::clone(&listener))));
    }
    monoio::time::sleep(Duration::from_secs(arguments.seconds_max)).await;
    Ok(())
}

async fn accept(shard: Rc<Shard>, listener: Rc<monoio::net::TcpListener>) {
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let connection = Rc::new(Connection::new(stream));
        shard.connections.borrow_mut().push(Rc::clone(&connection));
        if shard.send == Send::Writer {
            drop(monoio::spawn(turn::write_for_ever(Rc::clone(&connection))));
        }
        drop(monoio::spawn(receive_until_closed(Rc::clone(&shard), connection)));
    }
}

async fn receive_until_closed(shard: Rc<Shard>, connection: Rc<Connection>) {
    match shard.receive {
        Receive::Ready => receive::when_ready(&shard, &connection).await,
        Receive::Own => receive::into_own_buffer(&shard, &connection).await,
        Receive::Lent => receive::into_lent_buffer(&shard, &connection).await,
    }
    connection.closed.set(true);
    if let Some(writer) = connection.writer.take() {
        writer.wake();
    }
    shard.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
}
