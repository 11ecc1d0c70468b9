//! Retained replays: pages of this shard's store, and pages requested from and answered to other shards.

use bytes::Bytes;

use super::Rooms;
use crate::mesh::Mesh;
use crate::mesh::message::ShardMessage;
use crate::message::forwarded::{ForwardedPublish, PublisherName};
use crate::message::origin::Origins;
use crate::message::user_name::UserName;
use crate::retained::replay::{PageQuery, Progress};
use crate::turn::Turn;

impl Rooms {
    /// Lets the replays of a few sessions go on, each by one page at a time, until the step has done its share of work.
    pub(super) fn run_replays(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() {
            match self.retained.run_next(turn, &mut self.delivery) {
                None => return,
                Some(Progress::Page) => {}
                Some(Progress::Query(query)) => self.send_query(&query),
            }
        }
    }

    fn send_query(&mut self, query: &PageQuery) {
        let (topic, is_seen) = query.start();
        let request = ShardMessage::PageRequest {
            replay: query.id(),
            filter: query.filter(),
            topic,
            is_seen,
            required: Origins::List(query.required()),
        };
        self.mesh.send(query.target(), &request, None);
    }

    /// Answers requests of other shards, each with one page, until the step has done its share of work.
    pub(super) fn answer_page_requests(&mut self, turn: &mut Turn<'_>) {
        let Self { delivery, retained, mesh, .. } = self;
        while !turn.is_spent() {
            let Some(mut request) = retained.pop_page_request() else { return };
            let (target, id) = (request.source(), request.id());
            // The log of the other shard must not have a message that this one may lose.
            let until = mesh.stored_until();
            if until.is_some() {
                delivery.connections.await_batch();
            }
            let send = |mesh: &mut Mesh, message: &ShardMessage<'_>, shared: Option<&Bytes>| match until {
                Some(until) => mesh.send_when(target, message, shared, (until, None)),
                None => mesh.send(target, message, shared),
            };
            let (found, after) = request.answer(turn, retained.store(), delivery.sessions.users());
            for key in found {
                turn.spend(1);
                if retained.store_mut().remove_if_expired(turn, delivery.retention(), key) {
                    continue;
                }
                let message = delivery.messages.view(key);
                let Some(entry) = retained.store().get(message.topic) else { continue };
                let answer = ForwardedPublish {
                    publisher: PublisherName::new(entry.publisher(), UserName::NOBODY),
                    ..ForwardedPublish::of(message, entry.origin())
                };
                let shared = delivery.messages.shared_payload(key);
                send(mesh, &ShardMessage::Retained(id, answer), shared);
            }
            send(mesh, &ShardMessage::PageEnd(id, after), None);
        }
    }
}
