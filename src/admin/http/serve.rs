//! Accepting connections of a service, and HTTP on each of them.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as BoundListener};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::pulse::LOOKS_EVERY;
use super::routes::respond;
use super::tool::Peer;
use super::{CONNECTIONS_MAX, Shared, Sources};
use crate::net::accept_backoff::ACCEPT_PAUSE;
use crate::net::tls::{HandshakeEnd, ListenerTls};

/// Time for a handshake of TLS, and for the head of a request. A connection without a request ends by it as well.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// The longest life of a connection, so that none holds its place for ever.
pub(super) const LIFE_MAX: Duration = Duration::from_mins(10);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A socket and the answers that it serves.
pub(super) struct Service {
    pub(super) socket: BoundListener,
    pub(super) tls: Option<Shared<ListenerTls>>,
    pub(super) surface: Surface,
}

/// The part of all answers that a service has.
#[derive(Debug)]
pub(super) enum Surface {
    /// Everything.
    Admin {
        /// Names in the header Host beside addresses and "localhost".
        hosts: Box<[String]>,
        /// Whether metrics need no token: on this machine.
        is_open: bool,
    },
    /// Health and metrics.
    Probes,
}

/// Serves for ever.
pub(super) async fn all(services: Vec<Service>, sources: Shared<Sources>) {
    for service in services {
        tokio::spawn(one(service, Shared::clone(&sources)));
    }
    let mut looks = interval(LOOKS_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        sources.pulse.look(&sources.metrics.view().turns());
    }
}

async fn one(service: Service, sources: Shared<Sources>) {
    let Service { socket, tls, surface } = service;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            warn!(%error, "the admin thread cannot accept connections");
            return;
        }
    };
    let (surface, places) = (Shared::new(surface), Shared::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let Ok((stream, peer)) = socket.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Shared::clone(&places).try_acquire_owned() else {
            debug!(%peer, "a connection to the admin thread was closed: there are too many");
            continue;
        };
        let (surface, sources, tls) = (Shared::clone(&surface), Shared::clone(&sources), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, peer, surface, sources).await,
                Some(tls) => {
                    let opened = timeout(HEAD_WITHIN, TlsAcceptor::from(tls.current()).accept(stream)).await;
                    match opened {
                        Ok(Ok(stream)) => {
                            tls.count_handshake(HandshakeEnd::Full);
                            serve(stream, peer, surface, sources).await;
                        }
                        Ok(Err(error)) => {
                            tls.count_handshake(HandshakeEnd::Failed);
                            debug!(%peer, %error, "TLS with an operator has failed");
                        }
                        Err(_) => tls.count_handshake(HandshakeEnd::Failed),
                    }
                }
            }
            drop(place);
        });
    }
}

/// Serves one connection to its end.
async fn serve<S>(stream: S, peer: SocketAddr, surface: Shared<Surface>, sources: Shared<Sources>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let (surface, sources) = (Shared::clone(&surface), Shared::clone(&sources));
        async move { Ok::<_, Infallible>(respond(request, &surface, &sources).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_header_size(HEAD_BYTES_MAX);
    // A connection that becomes WebSocket goes on elsewhere.
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Ok(Err(error)) = timeout(LIFE_MAX, connection).await {
        debug!(%error, "a connection to the admin thread has failed");
    }
}
