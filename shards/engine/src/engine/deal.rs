//! The state of all shards, dealt anew among another number of them: the objects of checkpoints, each for the shard that is the home of
//! its client or its topic then, with numbers of another log.
//!
//! Invariant: nothing that a client can tell is changed. Deliveries keep their place in the sequence of their session, and so their
//! Packet Identifiers. The price: a subscription that is owed retained messages of which it had some is owed all of them.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::Engine;
use super::checkpoint::CheckpointCursor;
use super::recover::RecoverFault;
use crate::base::time::Instant;
use crate::mesh::topology::Topology;
use crate::record::{Body, DeliveryBody, DeliveryList, Fields, Malformed, StoredBody, WILL, first_number};

/// Bytes of a slice.
const SLICE_BYTES_MAX: usize = 1024 * 1024;

/// What takes a record for a shard: its number, the kind and the body.
type Take<'a> = &'a mut dyn FnMut(u16, u8, &[u8]) -> Result<(), RecoverFault>;

/// A session of which objects are dealt.
#[derive(Clone, Copy, Debug)]
struct Dealt {
    former: u64,
    shard: u16,
    number: u64,
}

/// The numbers that were given out among another number of shards.
#[derive(Debug)]
pub struct Dealing {
    topology: Topology,
    /// Numbers are those of this start, which has written nothing else there.
    start: NonZeroU32,
    /// By shard: the last number.
    drawn: Vec<u64>,
    session: Option<Dealt>,
    /// The body of the will of the session that follows.
    will: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Engine {
    /// Gives each object of a checkpoint of this shard to the shard that it belongs to by `dealing`, which takes it by
    /// [`Engine::recover_object`].
    ///
    /// # Errors
    /// Those of `take`.
    ///
    /// # Panics
    /// Unless [`Engine::may_checkpoint`], and if messages are on their way to other shards.
    pub fn deal(&self, now: Instant, dealing: &mut Dealing, take: Take<'_>) -> Result<(), RecoverFault> {
        assert!(self.open_transfer_count() == 0);
        let mut slice = Vec::new();
        let mut cursor = Some(CheckpointCursor::default());
        while let Some(at) = cursor.take() {
            slice.clear();
            cursor = self.checkpoint(now, at, SLICE_BYTES_MAX, &mut slice);
            let mut objects = Fields::new(&slice);
            while !objects.is_empty() {
                let object = objects.bytes().map_err(|fault| malformed(0, fault))?;
                let (&kind, body) = object.split_first().ok_or_else(|| malformed(0, Malformed))?;
                let decoded = Body::decode(kind, body).map_err(|fault| malformed(kind, fault))?;
                dealing.deal(kind, &decoded, body, take)?;
            }
        }
        Ok(())
    }
}

fn malformed(kind: u8, Malformed: Malformed) -> RecoverFault {
    RecoverFault::new(kind, "is no object of a checkpoint")
}

impl Dealing {
    /// Deals among the shards of `topology`, with numbers of `start`.
    #[must_use]
    pub fn new(topology: Topology, start: NonZeroU32) -> Self {
        let drawn = vec![first_number(start); topology.shard_count.into()];
        Self { topology, start, drawn, session: None, will: None, body: Vec::new() }
    }

    fn draw(&mut self, shard: u16) -> u64 {
        let drawn = &mut self.drawn[usize::from(shard)];
        *drawn += 1;
        assert!(*drawn <= last_number(self.start));
        *drawn
    }

    fn deal(
        &mut self,
        kind: u8,
        object: &Body<'_>,
        bytes: &[u8],
        take: Take<'_>,
    ) -> Result<(), RecoverFault> {
        match *object {
            Body::Will { .. } => self.will = Some(bytes.to_vec()),
            Body::Session { .. } => return self.deal_session(kind, object, take),
            // What follows makes them needless.
            Body::LookedUp { .. } | Body::Taken { .. } | Body::Crossed { .. } => {}
            Body::Message { stored: Some(stored), content: Some(content), .. } => {
                let shard = self.topology.home_of_topic(content.texts().0);
                let number = self.draw(shard);
                let stored = Some(StoredBody::new(stored.author(), (shard, number)));
                let mut dealt = *object;
                if let Body::Message { number: own, stored: place, .. } = &mut dealt {
                    (*own, *place) = (number, stored);
                }
                return self.give(shard, &dealt, take);
            }
            Body::Message { deliveries, .. } => {
                let mut list = Vec::new();
                for delivery in deliveries.iter() {
                    let (session, place) = delivery.of();
                    let dealt = self.dealt(kind, session)?;
                    DeliveryBody::new((dealt.number, place), delivery.qos(), *delivery.terms())
                        .encode(&mut list);
                }
                let mut dealt = *object;
                if let Body::Message { deliveries, .. } = &mut dealt {
                    *deliveries = DeliveryList::of(&list);
                }
                let shard = self.session.map_or(0, |session| session.shard);
                return self.give(shard, &dealt, take);
            }
            _ => return self.deal_part(kind, *object, take),
        }
        Ok(())
    }

    /// A part of a session.
    fn deal_part(&mut self, kind: u8, mut object: Body<'_>, take: Take<'_>) -> Result<(), RecoverFault> {
        let last = last_number(self.start);
        if let Body::Subscribed { look_up_since: Some(since), .. } = &mut object {
            // All of them were published before.
            *since = last;
        }
        let (Body::Subscribed { session, .. }
        | Body::Received { session, .. }
        | Body::Detached { session, .. }
        | Body::Accepted { session, .. }
        | Body::Numbered { session, .. }) = &mut object
        else {
            return Err(malformed(kind, Malformed));
        };
        let dealt = self.dealt(kind, *session)?;
        *session = dealt.number;
        self.give(dealt.shard, &object, take)
    }

    fn deal_session(&mut self, kind: u8, object: &Body<'_>, take: Take<'_>) -> Result<(), RecoverFault> {
        let mut object = *object;
        let Body::Session { number, client_id, will, .. } = &mut object else {
            return Err(malformed(kind, Malformed));
        };
        let shard = self.topology.home_of_client(client_id);
        let dealt = Dealt { former: *number, shard, number: self.draw(shard) };
        *number = dealt.number;
        self.session = Some(dealt);
        if *will != 0 {
            *will = self.draw(shard);
            let bytes = self.will.take().ok_or_else(|| malformed(kind, Malformed))?;
            let mut body = Body::decode(WILL, &bytes).map_err(|fault| malformed(kind, fault))?;
            if let Body::Will { number, .. } = &mut body {
                *number = *will;
            }
            self.give(shard, &body, take)?;
        }
        self.give(shard, &object, take)
    }

    fn dealt(&self, kind: u8, session: u64) -> Result<Dealt, RecoverFault> {
        self.session.filter(|dealt| dealt.former == session).ok_or_else(|| malformed(kind, Malformed))
    }

    fn give(&mut self, shard: u16, object: &Body<'_>, take: Take<'_>) -> Result<(), RecoverFault> {
        self.body.clear();
        let kind = object.encode(&mut self.body);
        take(shard, kind, &self.body)
    }
}

/// The last number that a start can give out.
fn last_number(start: NonZeroU32) -> u64 {
    first_number(start.saturating_add(1)) - 1
}
