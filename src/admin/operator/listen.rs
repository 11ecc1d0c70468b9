//! The broker's end: a thread that hears one operator after the other.
//! Decides nothing: what is asked goes to the main thread as an order, and its answer back.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{debug, warn};

use super::Order;
use super::line::{self, Answer, REQUEST_BYTES_MAX, Request};
use super::way::{self, Listener, Stream};
use crate::net::accept_backoff::{REST, Refusals};
use crate::process::clock;

/// How long an operator may take to ask, a shard to answer, and the operator to hear it: each less than whoever asks
/// waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What operators ask, as long as this lives.
#[derive(Debug)]
pub(crate) struct Orders {
    receiver: Receiver<Order>,
    /// Kept, so that a thread that ended or never began is one that asks nothing.
    _sender: Sender<Order>,
    /// `None`: nobody can ask.
    place: Option<PathBuf>,
}

impl Orders {
    /// Where they arrive.
    pub(crate) fn receiver(&self) -> &Receiver<Order> {
        &self.receiver
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            way::remove(place);
        }
    }
}

/// Listens for `data_dir`, which this process holds. A broker serves without it, too: what keeps it from listening is
/// a warning.
pub(crate) fn listen(data_dir: &Path) -> Orders {
    let (sender, receiver) = bounded(1);
    let place = way::place(data_dir);
    match start(&place, sender.clone()) {
        Ok(()) => Orders { receiver, _sender: sender, place: Some(place) },
        Err(error) => {
            let place = place.display();
            warn!(%place, %error, "`mqtt-broker disconnect` will not find this broker");
            Orders { receiver, _sender: sender, place: None }
        }
    }
}

fn start(place: &Path, orders: Sender<Order>) -> io::Result<()> {
    let listener = Listener::bind(place)?;
    thread::Builder::new().name("operator".to_owned()).spawn(move || serve(listener, &orders))?;
    Ok(())
}

fn serve(mut listener: Listener, orders: &Sender<Order>) {
    let refusals = Refusals::default();
    loop {
        match listener.accept() {
            Ok(mut stream) => {
                if let Err(error) = hear(&mut stream, orders) {
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
fn hear(stream: &mut Stream, orders: &Sender<Order>) -> io::Result<()> {
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
