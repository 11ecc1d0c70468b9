//! The bytes that the host holds beside its engine, added up once a turn and told to it.

use std::cell::Cell;
use std::rc::Rc;

use engine::{Engine, HostMemory};

use super::socket::Socket;
use super::{Endpoint, Host};
use crate::process::held_bytes;

impl<T: Endpoint> Host<T> {
    /// Publishes the counters and what this shard takes, and tells the engine what the host and the other shards take.
    pub(super) fn weigh(&self, engine: &mut Engine) {
        let connections = u64::from(engine.connection_count());
        let slots = self.sockets.borrow().len() * size_of::<Option<Rc<Socket<T>>>>();
        let held = slots + self.kept_bytes.get() + self.log.borrow().memory_bytes();
        let mut host = HostMemory {
            connections: connections * T::CONNECTION_BYTES + held as u64,
            authentications: 0,
            lanes: self.lanes.memory_bytes() + self.journal_bytes(),
        };
        if self.number == 0 {
            host.connections += self.permits.memory_bytes() as u64 + held_bytes::OPERATORS.bytes();
            host.authentications += held_bytes::AUTHENTICATION.bytes();
            host.lanes += held_bytes::LANES.bytes();
        }
        engine.set_host_memory(host);
        let held = engine.memory_use();
        self.gauges.update(engine, &held, self.turns.get());
        if self.lanes.shard_count() > 1 {
            engine.set_elsewhere(self.memory.exchange(&held, connections));
        }
        self.memory.report(self.number, engine);
    }

    /// The count of bytes that the host holds for connections, to be changed by their layers.
    pub(in crate::backend) fn kept_bytes(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.kept_bytes)
    }

    /// The host begins to keep received bytes that the engine has not consumed.
    pub(in crate::backend) fn keep(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() + bytes);
    }

    /// The host keeps these bytes no longer.
    pub(in crate::backend) fn let_go(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() - bytes);
    }
}
