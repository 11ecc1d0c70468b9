//! The server of `bench/runtimes` on glommio: receives 64-byte messages and sends them on through the runtime's sockets,
//! with a reader and a writer task for each connection. Takes the flags that `runtimes-client` gives every server.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};

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
    /// Bytes of each connection's receive buffer.
    #[arg(long, default_value_t = 8192)]
    own_buffer_bytes: usize,
    /// The server ends by itself after this time.
    #[arg(long, default_value_t = 60)]
    seconds_max: u64,
}

/// Bytes to be sent on one connection. Unbounded here because the client's window bounds them.
#[derive(Default)]
struct Outbox {
    bytes: RefCell<Vec<u8>>,
    writer: Cell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Outbox {
    fn push(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

/// glommio's errors may contain values that cannot move between threads, but `std`'s errors must be able to.
fn to_io_error(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

type Everyone = Rc<RefCell<Vec<Rc<Outbox>>>>;

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let builder = LocalExecutorBuilder::new(Placement::Fixed(arguments.core));
    let executor = builder.make().map_err(to_io_error)?;
    executor.run(serve(arguments))
}

async fn serve(arguments: Arguments) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(to_io_error)?;
    let address = listener.local_addr().map_err(to_io_error)?;
    let mut output = io::stdout();
    writeln!(output, "listening on {address} with glommio")?;
    output.flush()?;
    let (scenario, buffer_bytes) = (arguments.scenario, arguments.own_buffer_bytes);
    glommio::spawn_local(async move {
        let everyone = Everyone::default();
        while let Ok(stream) = listener.accept().await {
            accepted(stream, scenario, buffer_bytes, &everyone);
        }
    })
    .detach();
    glommio::timer::sleep(Duration::from_secs(arguments.seconds_max)).await;
    Ok(())
}

fn accepted(stream: TcpStream, scenario: Scenario, buffer_bytes: usize, everyone: &Everyone) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (reader, writer) = futures_lite::io::split(stream);
    let outbox = Rc::<Outbox>::default();
    everyone.borrow_mut().push(Rc::clone(&outbox));
    glommio::spawn_local(write_for_ever(writer, Rc::clone(&outbox))).detach();
    let everyone = Rc::clone(everyone);
    glommio::spawn_local(async move {
        receive(reader, scenario, buffer_bytes, &outbox, &everyone).await;
        outbox.closed.set(true);
        outbox.wake();
        everyone.borrow_mut().retain(|other| !Rc::ptr_eq(other, &outbox));
    })
    .detach();
}

async fn receive(
    mut reader: ReadHalf<TcpStream>,
    scenario: Scenario,
    buffer_bytes: usize,
    own: &Rc<Outbox>,
    everyone: &Everyone,
) {
    let mut buffer = vec![0; buffer_bytes];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        match scenario {
            Scenario::Echo => own.push(&buffer[..length]),
            Scenario::FanOut => {
                for outbox in everyone.borrow().iter().filter(|outbox| !Rc::ptr_eq(outbox, own)) {
                    outbox.push(&buffer[..length]);
                }
            }
        }
    }
}

async fn write_for_ever(mut writer: WriteHalf<TcpStream>, outbox: Rc<Outbox>) {
    let mut bytes = Vec::new();
    while !outbox.closed.get() {
        poll_fn(|context| {
            if !outbox.bytes.borrow().is_empty() || outbox.closed.get() {
                return Poll::Ready(());
            }
            outbox.writer.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        std::mem::swap(&mut bytes, &mut outbox.bytes.borrow_mut());
        if writer.write_all(&bytes).await.is_err() {
            outbox.closed.set(true);
        }
        bytes.clear();
    }
}
