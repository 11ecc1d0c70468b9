//! Readings of a shard that change nothing: gauges, totals, and the questions of its host.

use alloc::boxed::Box;

use wire::Assembler;
use wire::packet::Connect;

use super::{Engine, Rooms};
use crate::base::ids::ConnectionId;
use crate::connection::arrival::Arrival;
use crate::connection::authenticate::AuthenticationStep;
use crate::connection::{Connection, Phase};
use crate::counters::Counters;
use crate::memory::{Elsewhere, HostMemory, MemoryLevel, MemoryReport, MemoryUse};

impl Engine {
    /// The step of authentication that [`crate::Action::Authenticate`] named; `None` once it was judged or the connection
    /// has ended.
    #[must_use]
    pub fn authentication_step(&self, id: ConnectionId, step: u64) -> Option<AuthenticationStep<'_>> {
        self.rooms.delivery.connections.authentication_step(id, step)
    }

    /// Whether every other shard knows everything that this one announced, and this one everything that their logs had. At start, connections are
    /// accepted once all shards are settled, so that no restored subscription misses a message.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let mesh = &self.rooms.mesh;
        mesh.is_whole() && mesh.announced() <= mesh.acknowledged_by_all()
    }

    /// Whether nothing is on its way from here to other shards. While all shards are quiet and all lanes are
    /// empty, everything that was forwarded has arrived.
    #[must_use]
    pub fn is_outbound_empty(&self) -> bool {
        let Rooms { retained, shared, mesh, backlog, .. } = &self.rooms;
        mesh.outbound().waiting_count() == 0
            && backlog.is_empty()
            && retained.has_no_ready_request()
            && shared.reassignment_count() == 0
    }

    /// Messages on their way from the log of this shard to others, which have not settled them.
    #[must_use]
    pub fn open_transfer_count(&self) -> usize {
        self.rooms.mesh.transfers().open_count()
    }

    /// Units of work that the last [`Engine::step`] or [`Engine::give_back`] did: a unit is a delivery, or as much as that
    /// takes. Bounded by about twice `Limits::step_work_max`, which a simulator checks.
    #[must_use]
    pub fn step_work(&self) -> u32 {
        self.step_work
    }

    /// Whether an item of a data lane may be fed now. While a long fan-out is under way, the host leaves data lanes as they
    /// are, and until every shard has announced what its log had; control lanes it drains always. An item that is fed nevertheless waits.
    #[must_use]
    pub fn takes_data(&self) -> bool {
        self.rooms.mesh.is_whole() && self.rooms.backlog.takes_data()
    }

    /// Announcements of `source` taken in so far: the host publishes the number towards it.
    #[must_use]
    pub fn announcements_seen(&self, source: u16) -> u64 {
        self.rooms.mesh.seen(source)
    }

    /// The connection that the session of a client identifier has now.
    #[must_use]
    pub fn connection_of(&self, client_id: &str) -> Option<ConnectionId> {
        let sessions = &self.rooms.delivery.sessions;
        sessions.get(sessions.find(client_id)?)?.connection()
    }

    /// The name of the user that the session of a client identifier belongs to, "" for nobody; `None` if there is no session.
    #[must_use]
    pub fn owner_of(&self, client_id: &str) -> Option<&str> {
        let sessions = &self.rooms.delivery.sessions;
        let session = sessions.find(client_id)?;
        Some(sessions.users().name_of(sessions.user_of(session)).name())
    }

    /// The connection that a CONNECT would take over. Its host receives once from its socket first, so that no DISCONNECT or message
    /// that was sent before is overtaken on the way between two shards. `bytes` of the connection `id` begin with the whole
    /// CONNECT. `None` if there is none, or if bytes of it wait for credit.
    #[must_use]
    pub fn rival(&self, id: ConnectionId, bytes: &[u8]) -> Option<ConnectionId> {
        let mut assembler = Assembler::new();
        let frame = assembler.next(&mut &bytes[..], self.limits.packet_bytes_max).ok()??;
        let connect = Connect::decode(frame.body).ok()?;
        let connections = &self.rooms.delivery.connections;
        let given = connections.given_client_id(&self.limits, id, &connect).ok()?;
        let connection = self.connection_of(given.as_deref().unwrap_or(connect.client_id))?;
        let takes_bytes = connections.get(connection).is_some_and(Connection::takes_bytes);
        takes_bytes.then_some(connection)
    }

    /// Whether a connection has not sent its CONNECT.
    #[must_use]
    pub fn awaits_connect(&self, id: ConnectionId) -> bool {
        let connection = self.rooms.delivery.connections.get(id);
        connection.is_some_and(|connection| matches!(connection.phase(), Phase::Fresh(_)))
    }

    /// The place of a connection among those that all shards accepted, for its hand-over.
    #[must_use]
    pub fn arrival_of(&self, id: ConnectionId) -> Option<Arrival> {
        self.rooms.delivery.connections.get(id).map(Connection::arrival)
    }

    /// Totals since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Network connections that have not ended.
    #[must_use]
    pub fn connection_count(&self) -> u32 {
        self.rooms.delivery.connections.len()
    }

    /// Sessions, with and without a connection.
    #[must_use]
    pub fn session_count(&self) -> u32 {
        self.rooms.delivery.sessions.len()
    }

    /// Messages that wait for clients, queued or in flight, each once for each session. Every session is looked at, so this is a
    /// question for the end of a shard.
    #[must_use]
    pub fn pending_count(&self) -> u64 {
        let sessions = self.rooms.delivery.sessions.iter();
        let living = sessions.filter(|(_, session)| !session.has_ended());
        living.map(|(_, session)| session.messages().count() as u64).sum()
    }

    /// Subscriptions of all sessions.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.rooms.topics.subscription_count()
    }

    /// Bytes of the topic tree and of everything in it, by capacity: filters, subscriptions, groups, tables and caches.
    #[must_use]
    pub fn subscription_bytes(&self) -> u64 {
        self.rooms.topics.bytes_held()
    }

    /// Subscriptions that are shared.
    #[must_use]
    pub fn shared_subscription_count(&self) -> usize {
        self.rooms.topics.shared_count()
    }

    /// Sessions with a connection.
    #[must_use]
    pub fn attached_count(&self) -> u32 {
        self.rooms.delivery.sessions.attached_count()
    }

    /// Messages held, and their bytes: queued, in flight and retained ones, each once.
    #[must_use]
    pub fn store(&self) -> (u32, u64) {
        let messages = &self.rooms.delivery.messages;
        (messages.len(), messages.bytes_held())
    }

    /// Retained messages of clients.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.rooms.retained.store().count_of_clients()
    }

    /// Bytes held, of everything that the ceiling counts.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_use().total()
    }

    /// Bytes held, by kind.
    #[must_use]
    pub fn memory_use(&self) -> MemoryUse {
        self.rooms.memory_use(&self.timers, &self.held)
    }

    /// Where the memory of the process stands between its marks.
    #[must_use]
    pub fn memory_level(&self) -> MemoryLevel {
        self.rooms.pressure.level()
    }

    /// The last report about memory that was not taken: there is one when the level has changed, and one a minute while memory is short.
    pub fn take_memory_report(&mut self) -> Option<Box<MemoryReport>> {
        self.rooms.shedding.take_report()
    }

    /// Takes the use of memory by the other shards of the process, which counts against the same ceiling. So a shard that has nothing to
    /// do notices as well that memory is short.
    pub fn set_elsewhere(&mut self, elsewhere: Elsewhere) {
        if self.rooms.pressure.set_elsewhere(elsewhere) {
            self.rooms.weigh_outside(&self.limits, &self.timers, &self.held);
        }
    }

    /// The host holds so many bytes: they count as the engine's own.
    pub fn set_host_memory(&mut self, host: HostMemory) {
        self.rooms.host = host;
    }

    /// Grows whenever the result of [`Engine::export`] has changed.
    #[must_use]
    pub fn records_version(&self) -> u64 {
        self.rooms.delivery.sessions.records_version()
    }
}
