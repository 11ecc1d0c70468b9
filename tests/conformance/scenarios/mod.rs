//! What a broker is asked, by topic; most scenarios serve both versions, each under the statements of its own.
//! A scenario panics with what it found wrong. It knows the packets and the standard, and nothing of the broker.
//!
//! Brokers of several threads answer a PINGREQ before what others were sent is everywhere: that something does *not* arrive is
//! shown by what does arrive after it, from the same publisher on the same way.

pub(crate) mod acknowledgements;
pub(crate) mod authentication;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod connect_bytes;
pub(crate) mod connect_fields;
pub(crate) mod connect_limits;
pub(crate) mod connect_wills;
pub(crate) mod errors;
pub(crate) mod exchange;
pub(crate) mod farewell;
pub(crate) mod headers;
pub(crate) mod inflight;
pub(crate) mod order;
pub(crate) mod overlapping;
pub(crate) mod properties;
pub(crate) mod publish;
pub(crate) mod qos_receiver;
pub(crate) mod qos_sender;
pub(crate) mod quota;
mod refusal;
pub(crate) mod retain;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod subscribe;
pub(crate) mod texts;
pub(crate) mod topic_alias;
pub(crate) mod topics;
pub(crate) mod unsubscribe;

use crate::harness::peer::Peer;

/// Asserts that the broker closes; the reason, if version 5 is told one, is one of these.
fn closes(peer: &mut Peer, allowed: &[u8], why: &str) {
    let reason = peer.await_close();
    assert!(
        reason.is_none_or(|reason| allowed.contains(&reason)),
        "{why}: it closed with {reason:02x?}, allowed is one of {allowed:02x?}"
    );
}
