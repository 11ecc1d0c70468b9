//! Subscribers of the filters that match a topic. Overlapping subscriptions of one session become one delivery.

use super::Delivery;
use super::fan_out::FanOut;
use crate::message::borrowed::Message;
use crate::session::grant::{Grant, Identifiers};
use crate::topic::members::Member;
use crate::topic::tree::Tree;
use crate::turn::Turn;

/// One session matched by several filters: one delivery at the highest QoS [MQTT-3.3.4-2], with all Subscription
/// Identifiers [MQTT-3.3.4-4].
#[derive(Debug)]
pub(super) struct Match {
    session: u32,
    grant: Grant,
}

impl Delivery {
    /// Delivers to the subscribers of `filters` that are in no group.
    pub(crate) fn offer_to_subscribers(
        &mut self,
        turn: &mut Turn<'_>,
        topics: &Tree,
        filters: &[u32],
        fan_out: &mut FanOut<'_>,
    ) {
        match filters {
            [] => {}
            [filter] => {
                for member in topics.members(*filter) {
                    if let Some(grant) = grant(member, fan_out.message(), fan_out.publisher()) {
                        self.offer(turn, member.session(), grant, fan_out);
                    }
                }
            }
            overlapping => {
                self.join_matches(topics, overlapping, fan_out);
                let mut matches = core::mem::take(&mut self.matches);
                for Match { session, grant } in matches.drain(..) {
                    self.offer(turn, session, grant, fan_out);
                }
                assert!(self.matches.is_empty());
                self.matches = matches;
            }
        }
    }

    /// Joins the members of several filters into one match for each session.
    fn join_matches(&mut self, topics: &Tree, filters: &[u32], fan_out: &FanOut<'_>) {
        let Self { sessions, matches, publish_sequence, .. } = self;
        assert!(matches.is_empty());
        for member in filters.iter().flat_map(|&filter| topics.members(filter)) {
            let Some(grant) = grant(member, fan_out.message(), fan_out.publisher()) else { continue };
            let session = sessions.of_member_mut(member.session());
            if let Some(at) = session.match_of(*publish_sequence) {
                let known = &mut matches[at];
                assert!(known.session == member.session());
                known.grant.qos = known.grant.qos.max(grant.qos);
                known.grant.retain |= grant.retain;
                known.grant.identifiers.add(member.identifier());
            } else {
                // There is at most one match a session, and sessions are numbered by 32 bits.
                session.set_match(*publish_sequence, u32::try_from(matches.len()).unwrap_or(u32::MAX));
                matches.push(Match { session: member.session(), grant });
            }
        }
    }
}

/// The terms that a subscription grants a message; `None` if it does not want it from this publisher.
pub(crate) fn grant(member: &Member, message: &Message<'_>, publisher: Option<u32>) -> Option<Grant> {
    let options = member.options();
    // [MQTT-3.8.3-3]
    if options.no_local && publisher == Some(member.session()) {
        return None;
    }
    Some(Grant {
        qos: message.qos.min(options.qos),
        retain: message.retain && options.retain_as_published,
        group: None,
        identifiers: Identifiers::from(member.identifier()),
    })
}
