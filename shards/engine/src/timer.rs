//! The timers of a shard: what each of them ends.

use crate::base::ids::{ConnectionId, MessageKey, SessionId};
use crate::base::timer_wheel::TimerWheel;

/// Something that ends when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// CONNECT did not come, nothing came for too long, or the last bytes are not accepted.
    Connection(ConnectionId),
    /// The time for which a client was authenticated.
    Grant(ConnectionId),
    /// The pause of a client that published faster than it may. Cancelled before its connection closes.
    Rate(ConnectionId),
    /// The Session Expiry Interval [MQTT-4.1.0-2].
    SessionExpiry(SessionId),
    /// The Will Delay Interval [MQTT-3.1.2-8].
    Will(SessionId),
    /// The Message Expiry Interval of a retained message [MQTT-3.3.2-5]. Cancelled before the message goes.
    RetainedExpiry(MessageKey),
}

/// **Lives on:** every shard.
pub(crate) type Timers = TimerWheel<Timer>;

const _: () = assert!(TimerWheel::<Timer>::TIMER_BYTES <= 36);
