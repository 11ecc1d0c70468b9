//! The thread that accepts on one listener until the shard stops. It passes each connection to the shard as an event.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use engine::Refused;
use socket2::{SockAddr, Socket, Type};

use super::connection::ThreadEvent;
use super::inbox::InboxSender;
use super::spawn;
use crate::net::accept_backoff::{ACCEPT_PAUSE, ErrorLog};
use crate::net::listen::{ListenerNumber, Listening};
use crate::net::permits::ConnectionPermits;
use crate::observe::connection_log::{ConnectionLog, Place};
use crate::process::clock::Clock;

/// Time limit for the connection that wakes a blocked accept. On one machine it takes no time.
const WAKE_TIMEOUT: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_types, reason = "a flag that the shard sets and the accepting thread reads")]
type Shared<T> = std::sync::Arc<T>;

/// **Lives on:** the shard. Stops the thread that accepts.
pub(super) struct Acceptor {
    stopping: Shared<AtomicBool>,
    address: SockAddr,
}

impl Acceptor {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(
        listening: Listening,
        permits: ConnectionPermits,
        inbox: InboxSender,
        refusals: Refusals,
    ) -> io::Result<Self> {
        let (stopping, address) = (Shared::new(AtomicBool::new(false)), listening.socket.local_addr()?);
        let seen = Shared::clone(&stopping);
        spawn("accept", move || run(&listening, &permits, &inbox, &seen, refusals))?;
        Ok(Self { stopping, address })
    }

    /// Ends the thread, and with it the listener. No system call interrupts a blocked accept on every system, but a
    /// connection does.
    pub(super) fn stop(self) {
        self.stopping.store(true, Relaxed);
        let mut address = self.address;
        if let Some(mut network) = address.as_socket() {
            match network.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => network.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => network.set_ip(Ipv6Addr::LOCALHOST.into()),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
            address = network.into();
        }
        let _ = Socket::new(address.domain(), Type::STREAM, None)
            .and_then(|socket| socket.connect_timeout(&address, WAKE_TIMEOUT));
    }
}

/// Connections that are closed at once, because not even a refusal has a permit: logged by the thread that
/// accepts, since an event for the shard needs a permit as its bound.
pub(super) struct Refusals {
    pub(super) log: ConnectionLog,
    pub(super) clock: Clock,
}

impl Refusals {
    fn now_ms(&self) -> u64 {
        self.clock.now().as_ms()
    }

    fn log(&mut self, listener: ListenerNumber, peer: Option<SocketAddr>, refused: Refused) {
        let now_ms = self.now_ms();
        self.log.turned_away(now_ms, Place { peer, listener }, refused);
        self.log.tell_suppressed(now_ms);
    }
}

fn run(
    &Listening { number, ref socket, .. }: &Listening,
    permits: &ConnectionPermits,
    inbox: &InboxSender,
    stopping: &AtomicBool,
    mut refusals: Refusals,
) {
    let error_log = ErrorLog::default();
    loop {
        match socket.accept() {
            _ if stopping.load(Relaxed) => return,
            Ok((stream, peer)) => {
                error_log.succeeded();
                let (stream, peer) = (stream.into(), peer.as_socket());
                let permit = match permits.acquire(0, number, peer, refusals.now_ms()) {
                    Ok(permit) => permit,
                    // The reserve for refusals is used up as well.
                    Err(refused) => {
                        refusals.log(number, peer, refused);
                        continue;
                    }
                };
                if inbox.send(ThreadEvent::Accepted { stream, listener: number, peer, permit }).is_err() {
                    permits.release(permit.admission, number, peer);
                    return;
                }
            }
            Err(refused) => {
                if error_log.must_pause(refused) {
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}
