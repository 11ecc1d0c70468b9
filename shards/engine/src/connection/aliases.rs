//! The topic aliases of all connections: set, lent and forgotten.
//!
//! Invariant: the table counts the bytes of all aliases, so every change of one goes through this file or counts what it adds.

use alloc::boxed::Box;
use core::num::NonZeroU16;

use super::topic_alias::{IncomingAliases, OutgoingAliases};
use super::{Connection, Connections};
use crate::base::ids::ConnectionId;
use crate::limits::Limits;

/// The aliases of a connection, in both directions. Most connections have none, and a pointer for them.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    incoming: Option<IncomingAliases>,
    outgoing: Option<OutgoingAliases>,
}

impl Connection {
    /// The aliases set towards its client, if it permits some.
    pub(super) fn aliases_out(&self) -> Option<&OutgoingAliases> {
        self.aliases.as_ref()?.outgoing.as_ref()
    }

    pub(super) fn aliases_out_mut(&mut self) -> Option<&mut OutgoingAliases> {
        self.aliases.as_mut()?.outgoing.as_mut()
    }

    /// Bytes of the aliases that its client set.
    pub(super) fn alias_in_bytes(&self) -> u64 {
        self.aliases
            .as_ref()
            .and_then(|aliases| aliases.incoming.as_ref())
            .map_or(0, |aliases| aliases.bytes_held())
    }

    /// Bytes of the aliases set towards its client.
    pub(super) fn alias_out_bytes(&self) -> u64 {
        self.aliases_out().map_or(0, |aliases| aliases.bytes_held())
    }
}

impl Connections {
    /// Bytes of all aliases that clients set, and of all that were set towards them.
    pub(crate) fn alias_bytes(&self) -> (u64, u64) {
        (self.alias_in_bytes, self.alias_out_bytes)
    }

    /// Permits aliases towards a client, up to `alias_max`.
    pub(super) fn begin_aliases_out(&mut self, id: ConnectionId, alias_max: u16) {
        let connection = self.current(id);
        assert!(connection.aliases_out().is_none());
        let aliases = OutgoingAliases::new(alias_max);
        let bytes = aliases.bytes_held();
        connection.aliases.get_or_insert_default().outgoing = Some(aliases);
        self.alias_out_bytes += bytes;
    }

    /// Sets an alias of a client. `false` if its topics would be longer than `Limits::alias_bytes_max` together.
    pub(crate) fn set_alias(
        &mut self,
        limits: &Limits,
        id: ConnectionId,
        alias: NonZeroU16,
        topic: &str,
    ) -> bool {
        let connection = self.current(id);
        let before = connection.alias_in_bytes();
        let aliases = connection.aliases.get_or_insert_default().incoming.get_or_insert_default();
        let is_set = aliases.set(alias, topic, limits.alias_bytes_max);
        let after = connection.alias_in_bytes();
        self.alias_in_bytes = self.alias_in_bytes - before + after;
        is_set
    }

    /// Takes the topic of a client's alias out, to be put back once the message is routed; `None` if not set.
    pub(crate) fn lend_alias(&mut self, id: ConnectionId, alias: NonZeroU16) -> Option<Box<str>> {
        self.current(id).aliases.as_mut()?.incoming.as_mut()?.lend(alias)
    }

    /// Puts a topic back. A connection that was closed meanwhile has no aliases any more.
    pub(crate) fn give_back_alias(&mut self, id: ConnectionId, alias: NonZeroU16, topic: Box<str>) {
        if let Some(aliases) = self.current(id).aliases.as_mut().and_then(|aliases| aliases.incoming.as_mut())
        {
            aliases.give_back(alias, topic);
        }
    }

    /// Forgets the aliases of a connection.
    pub(super) fn forget_aliases(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id.key()) else { return };
        if connection.aliases.is_none() {
            return;
        }
        let (incoming, outgoing) = (connection.alias_in_bytes(), connection.alias_out_bytes());
        connection.aliases = None;
        assert!(self.alias_in_bytes >= incoming && self.alias_out_bytes >= outgoing);
        self.alias_in_bytes -= incoming;
        self.alias_out_bytes -= outgoing;
    }
}
