//! The scenarios by topic. Most serve both versions, each under that version's statements. A scenario panics if it finds
//! an error. It depends on the packets and the standard, not on our broker.
//!
//! A broker with several threads may answer a PINGREQ before messages of other clients have arrived everywhere. A
//! scenario therefore shows that a message does *not* arrive by a later message of the same publisher on the same path.

pub(crate) mod acknowledgements;
pub(crate) mod authentication;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod connect_bytes;
pub(crate) mod connect_fields;
pub(crate) mod connect_limits;
pub(crate) mod connect_wills;
pub(crate) mod disconnect;
pub(crate) mod errors;
pub(crate) mod exchange;
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

/// Asserts that the broker closes; a reason code in version 5 must be one of these.
fn closes(peer: &mut Peer, allowed: &[u8], why: &str) {
    let reason = peer.await_close();
    assert!(
        reason.is_none_or(|reason| allowed.contains(&reason)),
        "{why}: closed with {reason:02x?}, but allowed are {allowed:02x?}"
    );
}
