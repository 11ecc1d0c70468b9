//! The layers in front of MQTT beside TLS: the header of the PROXY protocol, which comes before TLS, and WebSocket, which comes
//! within it. Both begin with bytes of their own; afterwards the first is gone, and the second is a codec.
//!
//! Invariant: a connection whose WebSocket is open has no more than the codec itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use websocket::{End, Rules, WebSocket};

use crate::config::{ListenerConfig, ProxyProtocol};
use crate::net::tls::{Shared, usable_name};
use crate::net::{proxy, upgrade};

// Every connection with layers has one.
const _: () = assert!(size_of::<Front>() <= 32);

/// The rules of a listener for what comes before MQTT.
#[derive(Debug, Default)]
pub(crate) struct FrontRules {
    requires_proxy: bool,
    trusted_proxies: Vec<IpNet>,
    proxy_identity: bool,
    websocket: Option<WebSocketRules>,
}

#[derive(Debug)]
struct WebSocketRules {
    path: String,
    origins: Vec<String>,
    forwarded_for: bool,
}

/// The client as a trusted proxy names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address, if the proxy knows one.
    pub(crate) peer: Option<SocketAddr>,
    /// The name of its certificate, if the listener takes that from proxies.
    pub(crate) name: Option<Box<str>>,
}

/// **Lives on:** the shard of its connection. It moves with it.
#[derive(Debug, Default)]
pub(super) enum Front {
    /// Nothing stands before MQTT, or nothing any more.
    #[default]
    None,
    Opening(Box<Opening>),
    Open(WebSocket),
}

/// A connection that has to begin.
#[derive(Debug)]
pub(super) struct Opening {
    rules: Shared<FrontRules>,
    /// The peer of the socket, or the client that a PROXY header has named.
    peer: Option<SocketAddr>,
    /// The part of a PROXY header that came; `None` where there is none to come.
    proxy: Option<Vec<u8>>,
    head: upgrade::Head,
}

/// A request that is granted.
struct Opened {
    answer: Vec<u8>,
    client: Option<Client>,
}

/// The result of bytes within WebSocket.
pub(super) struct Understood {
    /// Where the payload stands among them.
    pub(super) payload: Range<usize>,
    /// An answer to the opening request, to be sent before anything else.
    pub(super) answer: Vec<u8>,
    pub(super) client: Option<Client>,
    /// The peer's violation, after the payload.
    pub(super) fault: Option<io::Error>,
}

impl FrontRules {
    /// The rules of a listener; `None` if its connections begin with MQTT, or TLS alone.
    pub(crate) fn of(listener: &ListenerConfig) -> Option<Shared<Self>> {
        let requires_proxy = listener.proxy_protocol == ProxyProtocol::Require;
        let websocket = listener.websocket.as_ref().map(|settings| WebSocketRules {
            path: settings.path.clone(),
            origins: settings.origins.clone(),
            forwarded_for: settings.forwarded_for,
        });
        (requires_proxy || websocket.is_some()).then(|| {
            Shared::new(Self {
                requires_proxy,
                trusted_proxies: listener.trusted_proxies.clone(),
                proxy_identity: listener.proxy_identity,
                websocket,
            })
        })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

impl Front {
    /// A connection from which nothing was received. Its `peer` is unknown on a unix socket, whose mode says who may connect.
    pub(super) fn begin(rules: &Shared<FrontRules>, peer: Option<SocketAddr>) -> Self {
        Self::Opening(Box::new(Opening {
            rules: Shared::clone(rules),
            peer,
            proxy: rules.requires_proxy.then(Vec::new),
            head: upgrade::Head::default(),
        }))
    }

    /// Whether packets of MQTT can pass.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Opening(_))
    }

    /// Whether a PROXY header has to come first.
    pub(super) fn awaits_proxy(&self) -> bool {
        matches!(self, Self::Opening(opening) if opening.proxy.is_some())
    }

    /// Takes bytes in as long as a PROXY header has to come. Returns how many of them belong to it and the client that it names, once
    /// it is whole; the others stand behind it.
    pub(super) fn take_proxy(&mut self, bytes: &[u8]) -> io::Result<Option<(usize, Client)>> {
        let Self::Opening(opening) = self else { return Ok(Some((0, Client::default()))) };
        let Some(kept) = &mut opening.proxy else { return Ok(Some((0, Client::default()))) };
        if opening.peer.is_some_and(|peer| !opening.rules.trusts(peer.ip())) {
            return Err(fault(&"the peer is no trusted proxy"));
        }
        let before = kept.len();
        kept.extend_from_slice(bytes);
        let header = match proxy::read(kept) {
            Ok(Some(header)) => header,
            // A header is refused before so many are kept.
            Ok(None) => return Ok(None),
            Err(refusal) => return Err(fault(&refusal)),
        };
        opening.proxy = None;
        let name = header.common_name.filter(|_| opening.rules.proxy_identity);
        let name = name.and_then(|name| usable_name(&name));
        opening.peer = header.peer.or(opening.peer);
        let client = Client { peer: header.peer, name };
        if opening.rules.websocket.is_none() {
            *self = Self::None;
        }
        Ok(Some((header.bytes - before, client)))
    }

    /// Takes in bytes that came out of TLS, or of the socket where there is none, and unmasks them in place.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> Understood {
        let understood = |payload, fault| Understood { payload, answer: Vec::new(), client: None, fault };
        match self {
            Self::None => understood(0..bytes.len(), None),
            Self::Open(connection) => {
                let received = connection.receive(Rules::BINARY, bytes);
                let violation = match received.end {
                    Some(End::Violated(violation)) => Some(fault(&violation)),
                    Some(End::Closed(_)) | None => None,
                };
                understood(received.payload, violation)
            }
            Self::Opening(opening) => match opening.upgrade(bytes) {
                Ok(None) => understood(0..0, None),
                Ok(Some(Opened { answer, client })) => {
                    *self = Self::Open(WebSocket::default());
                    Understood { payload: 0..0, answer, client, fault: None }
                }
                Err(refusal) => {
                    let answer = refusal.answer();
                    Understood { payload: 0..0, answer, client: None, fault: Some(fault(&refusal)) }
                }
            },
        }
    }

    /// Whether the peer has closed, or violated the rules of frames.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Open(connection) if connection.has_ended())
    }

    /// Whether a control frame waits to be sent.
    pub(super) fn is_due(&self) -> bool {
        matches!(self, Self::Open(connection) if connection.is_due())
    }

    /// Bytes that it holds beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Open(connection) => connection.heap_bytes(),
            Self::Opening(opening) => {
                let proxy_bytes = opening.proxy.as_ref().map_or(0, Vec::capacity);
                size_of::<Opening>() + proxy_bytes + opening.head.heap_bytes()
            }
        }
    }
}

impl Opening {
    fn upgrade(&mut self, bytes: &[u8]) -> Result<Option<Opened>, upgrade::Refusal> {
        let Some(rules) = &self.rules.websocket else { return Err(upgrade::Refusal::NotGet) };
        let accepted =
            self.head.take(bytes, upgrade::Rules { path: &rules.path, origins: &rules.origins })?;
        let Some(accepted) = accepted else { return Ok(None) };
        let client = self.peer.filter(|_| rules.forwarded_for).and_then(|peer| {
            let is_trusted = |address| self.rules.trusts(address);
            let address = upgrade::client_address(&accepted.forwarded_for, peer.ip(), is_trusted);
            let forwarded = SocketAddr::new(address, peer.port());
            (address != peer.ip()).then_some(Client { peer: Some(forwarded), name: None })
        });
        Ok(Some(Opened { answer: accepted.answer, client }))
    }
}

fn fault(why: &impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}
