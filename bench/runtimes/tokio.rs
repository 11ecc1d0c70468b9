//! The server of `bench/runtimes` on tokio's current-thread runtime, built like the broker's backend: receives on
//! readiness into one buffer, and one flusher sends once for each connection and turn. Takes the flags that
//! `runtimes-client` gives every server.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Bytes of the buffer that all connections share.
const SHARED_BUFFER_BYTES: usize = 8192;

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
    #[arg(long, value_enum, default_value_t = Scenario::Echo)]
    scenario: Scenario,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The server ends by itself after this time.
    #[arg(long, default_value_t = 60)]
    seconds_max: u64,
}

struct Connection {
    stream: TcpStream,
    /// Bytes to send. Unbounded here because the client's window bounds them.
    outbox: RefCell<Vec<u8>>,
    /// It is on the flusher's list, or waits for writability.
    dirty: Cell<bool>,
}

/// **Lives on:** the one thread. **Sees:** every connection.
struct Server {
    scenario: Scenario,
    connections: RefCell<Vec<Rc<Connection>>>,
    dirty: RefCell<Vec<Rc<Connection>>>,
    flusher: Cell<Option<Waker>>,
    buffer: RefCell<[u8; SHARED_BUFFER_BYTES]>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: arguments.core });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, serve(&arguments))
}

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut output = io::stdout();
    writeln!(output, "listening on {} with tokio", listener.local_addr()?)?;
    output.flush()?;
    let server = Rc::new(Server {
        scenario: arguments.scenario,
        connections: RefCell::default(),
        dirty: RefCell::default(),
        flusher: Cell::new(None),
        buffer: RefCell::new([0; SHARED_BUFFER_BYTES]),
    });
    drop(spawn_local(flush(Rc::clone(&server))));
    drop(spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_ok() {
                drop(spawn_local(receive_until_closed(Rc::clone(&server), stream)));
            }
        }
    }));
    tokio::time::sleep(Duration::from_secs(arguments.seconds_max)).await;
    Ok(())
}

async fn receive_until_closed(server: Rc<Server>, stream: TcpStream) {
    let connection = Rc::new(Connection { stream, outbox: RefCell::default(), dirty: Cell::new(false) });
    server.connections.borrow_mut().push(Rc::clone(&connection));
    while connection.stream.readable().await.is_ok() {
        let mut buffer = server.buffer.borrow_mut();
        match connection.stream.try_read(&mut *buffer) {
            Ok(0) => break,
            Ok(length) => server.handle(&connection, &buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    server.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
}

impl Server {
    fn handle(&self, source: &Rc<Connection>, bytes: &[u8]) {
        match self.scenario {
            Scenario::Echo => self.append(source, bytes),
            Scenario::FanOut => {
                for target in self.connections.borrow().iter().filter(|target| !Rc::ptr_eq(source, target)) {
                    self.append(target, bytes);
                }
            }
        }
    }

    fn append(&self, target: &Rc<Connection>, bytes: &[u8]) {
        target.outbox.borrow_mut().extend_from_slice(bytes);
        if !target.dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(target));
            if let Some(flusher) = self.flusher.take() {
                flusher.wake();
            }
        }
    }
}

/// Woken by the first connection made dirty in a turn, and therefore runs after every runnable task.
async fn flush(server: Rc<Server>) {
    let mut batch = Vec::new();
    loop {
        poll_fn(|context| {
            if !server.dirty.borrow().is_empty() {
                return Poll::Ready(());
            }
            server.flusher.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        batch.append(&mut server.dirty.borrow_mut());
        for connection in batch.drain(..) {
            if !sent_all(&connection) {
                drop(spawn_local(async move {
                    while !sent_all(&connection) && connection.stream.writable().await.is_ok() {}
                }));
            }
        }
    }
}

/// Sends the outbox; `false` if the socket became full. A closed connection needs no more.
fn sent_all(connection: &Connection) -> bool {
    let mut outbox = connection.outbox.borrow_mut();
    match connection.stream.try_write(&outbox) {
        Ok(length) if length < outbox.len() => {
            outbox.drain(..length);
            return false;
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
        Ok(_) | Err(_) => outbox.clear(),
    }
    connection.dirty.set(false);
    true
}
