//! The names of clients that are known before their CONNECT, by a certificate or by the proxy that has verified it, and their addresses.

use std::net::SocketAddr;

use engine::ConnectionId;

use super::{Endpoint, Host, Socket};
use crate::config::listener::ClientIdFrom;
use crate::config::{Config, ListenerConfig};
use crate::net::addresses::Network;
use crate::net::layers::Client;
use crate::net::listen::ListenerNumber;
use crate::net::tls::PeerCertificate;

/// The name in a certificate that gives a client its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamePart {
    CommonName,
    UserName,
}

/// The name that gives clients their identifiers, by listener. **Lives on:** every shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientIds(Vec<Option<NamePart>>);

impl ClientIds {
    /// The names that the configured listeners take identifiers from.
    pub(crate) fn of(config: &Config) -> Self {
        Self(config.listeners.iter().map(Self::part).collect())
    }

    /// Adds the listener with the next number.
    pub(crate) fn add(&mut self, listener: &ListenerConfig) {
        self.0.push(Self::part(listener));
    }

    fn part(listener: &ListenerConfig) -> Option<NamePart> {
        match listener.tls.as_ref()?.client_id_from {
            ClientIdFrom::Cn => Some(NamePart::CommonName),
            // Elsewhere the name in a certificate is not the user's.
            ClientIdFrom::Username if listener.knows_by_certificate() => Some(NamePart::UserName),
            ClientIdFrom::Username | ClientIdFrom::Connect => None,
        }
    }

    fn of_listener(&self, listener: ListenerNumber) -> Option<NamePart> {
        self.0.get(listener.index()).copied().flatten()
    }
}

impl<T: Endpoint> Host<T> {
    /// A trusted proxy has named the client behind it.
    pub(in crate::backend) fn set_client(&self, socket: &Socket<T>, client: Client) {
        if let Some(peer) = client.peer {
            self.set_peer(socket, peer);
        }
        if let Some(name) = client.name {
            self.peers.borrow_mut().set_name(socket.id.slot(), name);
        }
    }

    /// Tells the engine the address of a client, for the rates of its listener. Like the limits by address, these know no address of this
    /// machine and of a trusted proxy.
    pub(super) fn tell_address(&self, id: ConnectionId, listener: ListenerNumber, peer: Option<SocketAddr>) {
        if let Some(address) = self.permits.concerned(listener, peer) {
            self.engine.borrow_mut().set_address(id, Network::of(address).number());
        }
    }

    /// The certificate of a client, as its listener reads it: its own, or the one that a proxy has verified.
    pub(super) fn certificate_of(&self, socket: &Socket<T>) -> Option<PeerCertificate> {
        match self.peers.borrow().name(socket.id.slot()) {
            Some(name) => {
                Some(PeerCertificate { username: Some(name.into()), common_name: Some(name.into()) })
            }
            None => socket.endpoint.peer_certificate(),
        }
    }

    /// Tells the engine the name that gives a client its identifier, before its CONNECT.
    pub(in crate::backend) fn identify(&self, socket: &Socket<T>) {
        let Some(part) = self.client_ids.borrow().of_listener(socket.listener) else { return };
        let mut engine = self.engine.borrow_mut();
        if !engine.awaits_connect(socket.id) {
            return;
        }
        let certificate = self.certificate_of(socket);
        let name = certificate.and_then(|certificate| match part {
            NamePart::CommonName => certificate.common_name,
            NamePart::UserName => certificate.username,
        });
        if let Some(name) = name {
            engine.identify(socket.id, &name);
        }
    }
}
