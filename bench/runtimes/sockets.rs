//! The behaviour of monoio 0.2.4's drivers with sockets in an unexpected state. Every experiment consists of a few
//! sockets on one runtime.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, Canceller};
use rustix::net::RecvFlags;

use crate::now;
use crate::runtime::{self, Io};

/// Bytes of a message and of its answer.
const SMALL: usize = 64;
/// Bytes that a flood writes at once.
const CHUNK: usize = 65_536;

/// How often `readable` completes within 100 ms after one byte came and was received at once.
pub(crate) fn readable_after_own_receive(io: Io, relaxed: bool) -> io::Result<usize> {
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let (mut near, far) = UnixStream::pair()?;
        let receiver = far.try_clone()?;
        let far = monoio::net::UnixStream::from_std(far)?;
        near.write_all(&[1])?;
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let end = now() + Duration::from_millis(100);
        let observe = monoio::spawn(async move {
            while now() < end && far.readable(relaxed).await.is_ok() {
                counted.set(counted.get() + 1);
                let _ = rustix::net::recv(&receiver, &mut [0_u8; SMALL], RecvFlags::DONTWAIT);
            }
        });
        drop(monoio::time::timeout(Duration::from_millis(150), observe).await);
        drop(near);
        Ok(count.get())
    })
}

/// The longest round trip of one client beside two that send without pause, with and without a yield after a receive that
/// did not have to wait. The receive buffer has 8 KiB.
pub(crate) fn round_trip_beside_two_floods(io: Io, yields: bool) -> io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let end = now() + Duration::from_secs(1);
    let floods: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || -> io::Result<()> {
                let mut socket = TcpStream::connect(address)?;
                socket.write_all(b"f")?;
                let chunk = vec![0; CHUNK];
                while now() < end {
                    socket.write_all(&chunk)?;
                }
                Ok(())
            })
        })
        .collect();
    let victim = thread::spawn(move || -> io::Result<Duration> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"v")?;
        let mut longest = Duration::ZERO;
        while now() < end {
            let start = now();
            socket.write_all(&[1; SMALL])?;
            socket.read_exact(&mut [0; SMALL])?;
            longest = longest.max(start.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        Ok(longest)
    });
    let (mut runtime, io) = runtime::build(io)?;
    listener.set_nonblocking(io == Io::Epoll)?;
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        let mut connections = Vec::new();
        for _ in 0..3 {
            let (stream, _) = listener.accept().await?;
            connections.push(monoio::spawn(receive(stream, yields)));
        }
        for connection in connections {
            connection.await;
        }
        io::Result::Ok(())
    })?;
    for flood in floods {
        // The flood may be cut off at the end.
        drop(flood.join());
    }
    victim.join().map_err(|_| io::Error::other("the client's thread panicked"))?
}

/// Echoes to a connection whose first byte is `v`, only receives from others.
async fn receive(mut stream: monoio::net::TcpStream, yields: bool) {
    let mut buffer = vec![0; 8192];
    let mut first = true;
    let mut victim = false;
    loop {
        let mut at_once = true;
        let (result, returned) = {
            let mut read = pin!(stream.read(buffer));
            poll_fn(|context| match read.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(output),
                Poll::Pending => {
                    at_once = false;
                    Poll::Pending
                }
            })
            .await
        };
        buffer = returned;
        let Ok(length @ 1..) = result else { return };
        victim |= first && buffer[0] == b'v';
        let answer = if victim { buffer[usize::from(first)..length].to_vec() } else { Vec::new() };
        first = false;
        if !answer.is_empty() && stream.write_all(answer).await.0.is_err() {
            return;
        }
        if yields && at_once {
            // A task that does nothing is a sufficient partner here.
            monoio::spawn(async {}).await;
        }
    }
}

/// How often `accept` fails within 50 ms on a listener in non-blocking mode that nobody connects to.
pub(crate) fn accept_on_a_non_blocking_listener(io: Io) -> io::Result<usize> {
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let listener = monoio::net::TcpListener::from_std(listener)?;
        let failures = Rc::new(Cell::new(0));
        let counted = Rc::clone(&failures);
        let accepting = monoio::spawn(async move {
            while listener.accept().await.is_err() {
                counted.set(counted.get() + 1);
            }
        });
        drop(monoio::time::timeout(Duration::from_millis(50), accepting).await);
        Ok(failures.get())
    })
}

/// How many accept tasks on one listener end within 200 ms on request: by a `Canceller`, or by `shutdown(2)`.
pub(crate) fn accept_tasks_that_stop(io: Io, tasks: usize, by_shutdown: bool) -> io::Result<usize> {
    let (mut runtime, io) = runtime::build(io)?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(io == Io::Epoll)?;
        let handle = listener.try_clone()?;
        let listener = Rc::new(monoio::net::TcpListener::from_std(listener)?);
        let canceller = Canceller::new();
        let ended = Rc::new(Cell::new(0));
        for _ in 0..tasks {
            let (listener, ended, cancel) = (Rc::clone(&listener), Rc::clone(&ended), canceller.handle());
            drop(monoio::spawn(async move {
                drop(listener.cancelable_accept(cancel).await);
                ended.set(ended.get() + 1);
            }));
        }
        monoio::time::sleep(Duration::from_millis(20)).await;
        if by_shutdown {
            rustix::net::shutdown(&handle, rustix::net::Shutdown::Both)?;
        } else {
            drop(canceller.cancel());
        }
        monoio::time::sleep(Duration::from_millis(200)).await;
        Ok(ended.get())
    })
}

/// Whether `shutdown(2)` ends a task that waits for readability.
pub(crate) fn shutdown_ends_a_waiting_task(io: Io) -> io::Result<bool> {
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let (near, far) = UnixStream::pair()?;
        let handle = far.try_clone()?;
        let far = monoio::net::UnixStream::from_std(far)?;
        let waiting = monoio::spawn(async move { far.readable(false).await.is_ok() });
        monoio::time::sleep(Duration::from_millis(10)).await;
        handle.shutdown(Shutdown::Both)?;
        let ended = monoio::time::timeout(Duration::from_millis(200), waiting).await;
        drop(near);
        Ok(ended.is_ok_and(|readable| readable))
    })
}

/// Descriptors still open after a runtime was dropped on which ten tasks waited for readability.
pub(crate) fn descriptors_left_by_a_dropped_runtime(io: Io) -> io::Result<usize> {
    let (mut runtime, _) = runtime::build(io)?;
    let mut peers = Vec::new();
    let before = open_descriptors()?;
    runtime.block_on(async {
        for _ in 0..10 {
            let (near, far) = UnixStream::pair()?;
            peers.push(near);
            let far = monoio::net::UnixStream::from_std(far)?;
            drop(monoio::spawn(async move { drop(far.readable(false).await) }));
        }
        monoio::time::sleep(Duration::from_millis(10)).await;
        io::Result::Ok(())
    })?;
    drop(runtime);
    drop(peers);
    // The ring or the epoll descriptor was open at `before` and should be closed by now.
    Ok((open_descriptors()? + 1).saturating_sub(before))
}

fn open_descriptors() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Connections that still echo after their descriptor moved from the accepting runtime to another thread's runtime.
pub(crate) fn handed_over(io: Io) -> io::Result<usize> {
    const CONNECTIONS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (to_home, from_edge) = mpsc::channel::<OwnedFd>();
    let home = thread::spawn(move || -> io::Result<()> {
        let (mut runtime, _) = runtime::build(io)?;
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for descriptor in from_edge {
                let mut stream = monoio::net::TcpStream::from_std(TcpStream::from(descriptor))?;
                tasks.push(monoio::spawn(async move {
                    let (result, buffer) = stream.read(vec![0; SMALL]).await;
                    if result.is_ok() {
                        drop(stream.write_all(buffer).await);
                    }
                }));
            }
            for task in tasks {
                task.await;
            }
            Ok(())
        })
    });
    let client = thread::spawn(move || -> io::Result<usize> {
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut socket = TcpStream::connect(address)?;
            socket.write_all(&[1; SMALL])?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            sockets.push(socket);
        }
        // The accepting runtime answers the first message, like CONNECT; the home runtime echoes the second.
        for socket in &mut sockets {
            socket.write_all(&[2; SMALL])?;
        }
        let echoed = |socket: &mut TcpStream| socket.read_exact(&mut [0; SMALL]).is_ok();
        Ok(sockets.iter_mut().map(echoed).filter(|echoed| *echoed).count())
    });
    let (mut runtime, actual) = runtime::build(io)?;
    listener.set_nonblocking(actual == Io::Epoll)?;
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().await?;
            let (result, _) = stream.read(vec![0; SMALL]).await;
            result?;
            to_home.send(into_descriptor(stream)).map_err(io::Error::other)?;
        }
        io::Result::Ok(())
    })?;
    drop(to_home);
    home.join().map_err(|_| io::Error::other("the home's thread panicked"))??;
    client.join().map_err(|_| io::Error::other("the client's thread panicked"))?
}

/// Takes the stream out of the runtime. Panics inside monoio if an operation on it is still in flight.
fn into_descriptor(stream: monoio::net::TcpStream) -> OwnedFd {
    let raw = stream.into_raw_fd();
    #[expect(unsafe_code, reason = "monoio has no safe way from a stream to an owned descriptor")]
    // SAFETY: `into_raw_fd` gave up the ownership, and nothing else holds the descriptor.
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}

/// Whether leaving the runtime with a dropped, unfinished `readable` ends the process (tried in a separate process).
pub(crate) fn leaving_with_a_poll_in_flight_aborts(io: Io) -> io::Result<bool> {
    let flag = format!("{io:?}").to_lowercase();
    let output = Command::new(std::env::current_exe()?).args(["--leave-in-flight", &flag]).output()?;
    Ok(!output.status.success())
}

/// The child process of [`leaving_with_a_poll_in_flight_aborts`].
pub(crate) fn leave_in_flight(io: Io) -> io::Result<()> {
    let (mut runtime, actual) = runtime::build(io)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(actual == Io::Epoll)?;
    runtime.block_on(async {
        let stream = monoio::net::TcpStream::from_std(socket)?;
        drop(monoio::time::timeout(Duration::from_millis(10), stream.readable(false)).await);
        let descriptor = into_descriptor(stream);
        drop(client);
        rustix::net::recv(descriptor.as_fd(), &mut [0_u8; 1], RecvFlags::empty())?;
        Ok(())
    })
}

/// How long 2,000 clients that connect as fast as possible wait for the last accept, with this many accept tasks.
pub(crate) fn accept_storm(io: Io, tasks: usize) -> io::Result<Duration> {
    const CONNECTIONS: usize = 2000;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // std's backlog of 128 would be the bottleneck: a full one costs each client a second.
    rustix::net::listen(&listener, 4096)?;
    let address = listener.local_addr()?;
    let (mut runtime, actual) = runtime::build(io)?;
    listener.set_nonblocking(actual == Io::Epoll)?;
    let client = thread::spawn(move || -> io::Result<Vec<TcpStream>> {
        (0..CONNECTIONS).map(|_| TcpStream::connect(address)).collect()
    });
    let elapsed = runtime.block_on(async {
        let start = now();
        let listener = Rc::new(monoio::net::TcpListener::from_std(listener)?);
        let accepted = Rc::new(Cell::new(0));
        for _ in 0..tasks {
            let (listener, accepted) = (Rc::clone(&listener), Rc::clone(&accepted));
            drop(monoio::spawn(async move {
                let mut streams = Vec::new();
                while let Ok(stream) = listener.accept().await {
                    streams.push(stream);
                    accepted.set(accepted.get() + 1);
                }
            }));
        }
        while accepted.get() < CONNECTIONS && start.elapsed() < Duration::from_secs(10) {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        io::Result::Ok(start.elapsed())
    })?;
    client.join().map_err(|_| io::Error::other("the client's thread panicked"))??;
    Ok(elapsed)
}
