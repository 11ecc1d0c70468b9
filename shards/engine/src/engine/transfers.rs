//! Transfers between the logs of shards: messages that leave with a number, are taken in once, and are settled.

use core::num::NonZeroU64;

use wire::QoS;

use super::Rooms;
use crate::action::Batch;
use crate::base::shard_set::ShardSet;
use crate::mesh::message::ShardMessage;
use crate::mesh::{Mesh, UNKNOWN};
use crate::message::forwarded::{ForwardedPublish, GroupKeys, PublisherName};
use crate::message::origin::Origin;
use crate::message::user_name::UserName;
use crate::publish::fan_out::FanOut;
use crate::record::{Body, Purpose, Recorder, TargetBody, TargetList};
use crate::turn::Turn;

/// The way of a message to another shard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// The log of this shard has it under this number, and sends it again after a crash. It leaves once that batch is durable.
    Transfer(NonZeroU64, Batch),
    /// No log has it on its way.
    Plain,
    /// No log has it, but the receiver may have it only once this batch is durable.
    Behind(Batch),
}

/// Sends the message of a fan-out to another shard. [`Rooms::open_transfer`] follows the last one.
#[inline]
pub(super) fn cross(
    turn: &mut Turn<'_>,
    mesh: &mut Mesh,
    target: u16,
    message: &mut ShardMessage<'_>,
    way: Way,
    fan_out: &FanOut<'_>,
) {
    if matches!(way, Way::Plain) && !mesh.outbound().holds_any() {
        mesh.send_now(target, message, fan_out.shared());
    } else {
        cross_behind(turn, mesh, target, message, way, fan_out);
    }
}

#[inline(never)]
fn cross_behind(
    turn: &mut Turn<'_>,
    mesh: &mut Mesh,
    target: u16,
    message: &mut ShardMessage<'_>,
    way: Way,
    fan_out: &FanOut<'_>,
) {
    let shared = fan_out.shared();
    match way {
        Way::Plain => {
            // A home is sent updates in their order. Of a message that came from elsewhere the publisher is not known.
            mesh.send_past(target, message, shared, (fan_out.publisher(), fan_out.message().retain));
        }
        Way::Behind(until) => mesh.send_when(target, message, shared, (until, None)),
        Way::Transfer(number, until) => {
            let is_returned = matches!(message, ShardMessage::Returned(_));
            let (ShardMessage::Publish(publish) | ShardMessage::Returned(publish)) = message else {
                unreachable!("only publishes cross");
            };
            publish.transfer = Some(number);
            if let Some(recorder) = turn.recorder() {
                recorder.add_target(&target_of(target, publish, is_returned));
            }
            mesh.send_when(target, message, shared, (until, fan_out.publisher()));
        }
    }
}

impl Rooms {
    /// Whether messages of this QoS may have to survive on their way to other shards.
    #[inline]
    pub(super) fn may_transfer(turn: &Turn<'_>, qos: QoS) -> bool {
        turn.is_recording() && qos != QoS::AtMostOnce
    }

    /// The way of transfers of the message that is fanned out; the record of one whose fan-out is cut comes later.
    pub(super) fn transfer(&mut self, is_cut: bool) -> Way {
        let until = if is_cut { UNKNOWN } else { self.delivery.connections.await_batch() };
        let number = self.delivery.publish_sequence();
        assert!(number > 0);
        Way::Transfer(NonZeroU64::MIN.saturating_add(number - 1), until)
    }

    /// Holds the message of a fan-out until all shards have settled it that it went to as a transfer. Returns whether there are any.
    pub(super) fn open_transfer(&mut self, turn: &mut Turn<'_>, fan_out: &mut FanOut<'_>) -> bool {
        let Some(targets) = turn.recorder().map(|recorder| recorder.targets()) else { return false };
        if targets.is_empty() {
            return false;
        }
        let message = self.delivery.keep(fan_out);
        self.delivery.messages.hold(message);
        let number = self.delivery.publish_sequence();
        let bytes = fan_out.message().bytes();
        self.mesh.transfers_mut().open(number, (message, bytes), targets);
        self.pressure.set_far_ahead(self.mesh.transfers().is_full());
        true
    }

    /// Whether a message that came from another shard was taken in before. Otherwise its fan-out begins, and
    /// [`Rooms::end_transfer`] is called at its end.
    #[inline]
    pub(super) fn is_repetition(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        publish: &ForwardedPublish<'_>,
    ) -> bool {
        publish.transfer.is_some_and(|number| self.begin_transfer(turn, source, number.get()))
    }

    #[inline(never)]
    fn begin_transfer(&mut self, turn: &mut Turn<'_>, source: u16, number: u64) -> bool {
        if self.mesh.transfers_mut().has_taken(source, number) {
            turn.counters.transfers_repeated += 1;
            return true;
        }
        if let Some(recorder) = turn.recorder() {
            recorder.set_from(source, number);
        }
        false
    }

    /// The message of a transfer was offered to all.
    #[inline]
    pub(super) fn end_transfer(&mut self, turn: &mut Turn<'_>, source: u16, transfer: Option<NonZeroU64>) {
        if let Some(number) = transfer {
            self.take_transfer(turn, source, number.get());
        }
    }

    #[inline(never)]
    fn take_transfer(&mut self, turn: &mut Turn<'_>, source: u16, number: u64) {
        let is_recorded = turn.recorder().is_some_and(|recorder| recorder.has_recorded());
        let batch = is_recorded.then(|| self.delivery.connections.gathering());
        self.mesh.transfers_mut().take(source, number, batch);
    }

    /// A shard has settled transfers of this one. Now and then the log is told, so that it need not be asked for all of them.
    pub(super) fn on_settled(&mut self, turn: &mut Turn<'_>, target: u16, upto: u64) {
        for message in self.mesh.transfers_mut().settle(target, upto) {
            self.delivery.messages.release(message);
        }
        self.pressure.set_far_ahead(self.mesh.transfers().is_full());
        if let Some(recorder) = turn.recorder()
            && let Some(sequence) = self.mesh.transfers_mut().take_crossed(target)
        {
            recorder.write(&Body::Crossed { target, sequence });
        }
    }

    /// Tells other shards which of their transfers are settled.
    pub(super) fn tell_settled(&mut self) {
        while let Some((source, upto)) = self.mesh.transfers_mut().next_untold() {
            self.mesh.send(source, &ShardMessage::Settled(upto), None);
        }
    }

    /// Records which transfers were taken in, before a record that changes what others match.
    #[inline]
    pub(super) fn record_taken(&mut self, turn: &mut Turn<'_>) {
        if self.mesh.transfers().has_unrecorded()
            && let Some(recorder) = turn.recorder()
        {
            self.write_taken(recorder);
        }
    }

    /// Records which transfers were taken in of which the log does not know it.
    pub(super) fn write_taken(&mut self, recorder: &mut Recorder) {
        while let Some((source, sequence)) = self.mesh.transfers_mut().next_unrecorded() {
            recorder.write(&Body::Taken { source, sequence });
        }
    }

    /// Sends the transfers again that the log left open, in the order of their numbers, before any other.
    pub(super) fn send_recovered(&mut self, turn: &mut Turn<'_>) {
        let mut after = 0;
        while let Some((number, message, targets, left)) = self.mesh.transfers().open_after(after) {
            after = number;
            let targets = targets.bytes().to_vec();
            let copy = self.delivery.lend_copy(message);
            let view = copy.view();
            for target in TargetList::of(&targets).iter().filter(|target| left.contains(target.shard())) {
                let ((shard, sequence), purpose) = (target.origin(), target.purpose());
                let ((client, user), (groups, tried)) = (target.author(), target.groups());
                let origin = Origin { shard, sequence };
                if purpose.retain_here() {
                    self.retained.watermarks_mut().record_sent(target.shard(), origin);
                }
                let publish = ForwardedPublish {
                    deliver_here: purpose.deliver_here(),
                    retain_here: purpose.retain_here(),
                    transfer: NonZeroU64::new(number),
                    publisher: PublisherName::new(NonZeroU64::new(client), UserName::new(user)),
                    groups: GroupKeys::from_bytes(groups),
                    tried: ShardSet::from_bits(tried),
                    accepts_offline: purpose.accepts_offline(),
                    ..ForwardedPublish::of(view, origin)
                };
                let message = if purpose.is_returned() {
                    ShardMessage::Returned(publish)
                } else {
                    ShardMessage::Publish(publish)
                };
                self.mesh.send(target.shard(), &message, copy.shared_payload());
                turn.counters.messages_forwarded += 1;
            }
            self.delivery.return_copy(copy);
        }
    }
}

/// The target of a message as the record of that has it.
fn target_of<'a>(shard: u16, publish: &ForwardedPublish<'a>, is_returned: bool) -> TargetBody<'a> {
    let ForwardedPublish { deliver_here, retain_here, accepts_offline, .. } = *publish;
    let client = publish.publisher.client().map_or(0, NonZeroU64::get);
    TargetBody::new(
        shard,
        Purpose::new([deliver_here, retain_here, accepts_offline, is_returned]),
        (publish.origin.shard, publish.origin.sequence),
        (client, publish.publisher.user().name()),
        (publish.groups.as_bytes(), publish.tried.bits()),
    )
}
