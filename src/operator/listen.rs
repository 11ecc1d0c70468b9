//! The broker's end: a thread that hears one operator after the other.
//! Decides nothing: what is asked goes to the main thread as an order, and its answer back.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::{debug, warn};

use super::Order;
use super::line::{self, Answer, FILE, REQUEST_BYTES_MAX, Request};
use crate::backend::{REST, Refusals};
use crate::clock;

/// How long an operator may take to ask, a shard to answer, and the operator to hear it: each less than whoever asks
/// waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Operators who may wait while another one is heard; one more is refused by the system.
const WAITING_MAX: i32 = 16;

/// What operators ask, as long as this lives.
#[derive(Debug)]
pub(crate) struct Orders {
    receiver: Receiver<Order>,
    /// Kept, so that a thread that ended or never began is one that asks nothing.
    _sender: Sender<Order>,
    /// `None`: nobody can ask.
    socket: Option<PathBuf>,
}

impl Orders {
    /// Where they arrive.
    pub(crate) fn receiver(&self) -> &Receiver<Order> {
        &self.receiver
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // The next start replaces what could not be removed.
            let _ = fs::remove_file(socket);
        }
    }
}

/// Listens below `data_dir`, which this process holds. A broker serves without it, too: what keeps it from listening is
/// a warning.
pub(crate) fn listen(data_dir: &Path) -> Orders {
    let (sender, receiver) = bounded(1);
    let socket = data_dir.join(FILE);
    match start(&socket, sender.clone()) {
        Ok(()) => Orders { receiver, _sender: sender, socket: Some(socket) },
        Err(error) => {
            let socket = socket.display();
            warn!(%socket, %error, "`mqtt-broker disconnect` will not find this broker: no socket for it");
            Orders { receiver, _sender: sender, socket: None }
        }
    }
}

fn start(path: &Path, orders: Sender<Order>) -> io::Result<()> {
    let listener = bind(path)?;
    thread::Builder::new().name("operator".to_owned()).spawn(move || serve(&listener, &orders))?;
    Ok(())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // The data directory is ours, so whoever listened there is gone.
    if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so at no moment can anyone else.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(WAITING_MAX)?;
    Ok(socket.into())
}

fn serve(listener: &UnixListener, orders: &Sender<Order>) {
    let refusals = Refusals::default();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = hear(&stream, orders) {
                    debug!(%error, "an operator was not answered");
                }
            }
            Err(refused) => {
                if refusals.must_rest(refused) {
                    thread::sleep(REST);
                }
            }
        }
    }
}

/// One conversation.
fn hear(stream: &UnixStream, orders: &Sender<Order>) -> io::Result<()> {
    let answer = match line::read(stream, REQUEST_BYTES_MAX, clock::read() + PATIENCE) {
        Ok(Request::Disconnect { client_id }) => disconnect(client_id, orders),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::NotUnderstood,
        Err(error) => return Err(error),
    };
    line::write(stream, &answer, PATIENCE)
}

fn disconnect(client_id: String, orders: &Sender<Order>) -> Answer {
    let (answer, answered) = bounded(1);
    // A main thread that stops takes none any more.
    if orders.send_timeout(Order { client_id, answer }, PATIENCE).is_err() {
        return Answer::Busy;
    }
    match answered.recv_timeout(PATIENCE) {
        Ok(true) => Answer::Disconnected,
        Ok(false) => Answer::NotConnected,
        Err(_) => Answer::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_socket_is_its_owners_alone_and_goes_with_its_value() {
        let scratch = Scratch::new("operator_mode");
        let path = scratch.path().join(FILE);
        let orders = listen(scratch.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(orders);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_another_file_left_alone() {
        let scratch = Scratch::new("operator_stale");
        let path = scratch.path().join(FILE);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && UnixStream::connect(&path).is_err(), "it is stale");
        let orders = listen(scratch.path());
        UnixStream::connect(&path).unwrap();
        drop(orders);
        fs::write(&path, "mine").unwrap();
        drop(listen(scratch.path()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_asked_is_not_waited_for() {
        let (orders, asked) = bounded(1);
        drop(asked);
        assert_eq!(disconnect("a".to_owned(), &orders), Answer::Busy);
        let (orders, asked) = bounded(1);
        let shard = thread::spawn(move || drop(asked.recv()));
        assert_eq!(disconnect("a".to_owned(), &orders), Answer::Busy);
        shard.join().unwrap();
    }
}
