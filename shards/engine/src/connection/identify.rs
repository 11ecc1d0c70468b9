//! Client identifiers that a listener takes from elsewhere: from a certificate, a proxy, or the user name of CONNECT.
//!
//! Invariant: the identifier is decided before the shard of its session is chosen, by the same inputs on both shards.

use alloc::boxed::Box;

use wire::packet::Connect;

use super::{Connections, Phase};
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::limits::{ClientIdSource, Limits};

impl Connections {
    /// Takes the name of a client that is known before its CONNECT. A name that is too long for an identifier is none; a
    /// connection that has ended, or sent its CONNECT, is left alone.
    pub(crate) fn identify(&mut self, limits: &Limits, id: ConnectionId, name: &str) {
        if !self.get(id).is_some_and(|connection| matches!(connection.phase, Phase::Fresh(_))) {
            return;
        }
        let is_usable = name.len() <= usize::from(limits.client_id_bytes_max);
        self.identities.insert(id, if is_usable { name.into() } else { Box::default() });
    }

    /// Forgets the name of a client: its CONNECT is here.
    pub(crate) fn forget_identity(&mut self, id: ConnectionId) {
        self.identities.forget(id);
    }

    /// The client identifier that the listener gives to a client in place of its own; `None` if the client's own one stands.
    ///
    /// # Errors
    /// The client has no name that could be its identifier, or an identifier that is not its name.
    pub(crate) fn given_client_id(
        &self,
        limits: &Limits,
        id: ConnectionId,
        connect: &Connect<'_>,
    ) -> Result<Option<Box<str>>, Cause> {
        let Some(connection) = self.get(id) else { return Ok(None) };
        let listener = limits.of_listener(connection.listener);
        let name = match listener.client_id_source {
            ClientIdSource::Connect => return Ok(None),
            ClientIdSource::UserName => self.identities.of(id).or(connect.user_name),
            ClientIdSource::Identity => self.identities.of(id),
        };
        let is_usable =
            |name: &&str| !name.is_empty() && name.len() <= usize::from(limits.client_id_bytes_max);
        let name = name.filter(is_usable).ok_or(Cause::ClientNameMissing)?;
        if connect.client_id == name {
            return Ok(None);
        }
        if connect.client_id.is_empty() || listener.replaces_client_id {
            return Ok(Some(name.into()));
        }
        Err(Cause::ClientIdNotName)
    }
}
