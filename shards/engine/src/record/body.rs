//! The bodies of all records but MESSAGE, and the kinds of all. A session is named by its number, a delivery by its place in the
//! sequence of its session.
//! Invariant: a body is read as it was written, and one that no writer wrote is an error.

use alloc::vec::Vec;

use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId};

use super::content::Content;
use super::crossing::Crossing;
use super::fields::{Fields, Malformed, Numbers, put_bytes, put_number};
use super::message::{self, DeliveryList, StoredBody};

/// The kinds of records, as they stand in a log.
pub(crate) mod kind {
    pub(crate) const MESSAGE: u8 = 1;
    pub(crate) const SETTLED: u8 = 2;
    pub(crate) const RECEIVED: u8 = 3;
    pub(crate) const RELEASED: u8 = 4;
    pub(crate) const SESSION: u8 = 5;
    pub(crate) const ENDED: u8 = 6;
    pub(crate) const DETACHED: u8 = 7;
    pub(crate) const SUBSCRIBED: u8 = 8;
    pub(crate) const UNSUBSCRIBED: u8 = 9;
    pub(crate) const WILL: u8 = 10;
    pub(crate) const EXPIRED: u8 = 11;
    pub(crate) const TAKEN: u8 = 12;
    pub(crate) const LOOKED_UP: u8 = 15;
    pub(crate) const WILL_ENDED: u8 = 16;
    pub(crate) const ACCEPTED: u8 = 17;
    pub(crate) const NUMBERED: u8 = 18;
    pub(crate) const CROSSED: u8 = 19;
}

/// How far the retained messages of a subscription were delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LookedUp<'a> {
    /// The store is done.
    Done,
    /// From this topic on, itself included.
    At(&'a str),
    /// Behind this topic.
    After(&'a str),
}

/// Any record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// A publish, or a part of its fan-out.
    Message {
        /// Tells it from every other message of this shard.
        number: u64,
        /// The QoS 2 message of a client: its session and Packet Identifier, until PUBREL.
        sender: Option<(u64, u16)>,
        /// The delivery of another session that this message ends, because it goes to another member of its group.
        ends: Option<(u64, u64)>,
        /// It is this will.
        will: Option<u64>,
        stored: Option<StoredBody<'a>>,
        crossing: Crossing<'a>,
        deliveries: DeliveryList<'a>,
        /// `None` in every part but the first.
        content: Option<Content<'a>>,
        /// Another part follows.
        goes_on: bool,
    },
    /// A delivery has ended, however.
    Settled {
        session: u64,
        delivery: u64,
    },
    /// PUBREC came: the receiver has the message.
    Received {
        session: u64,
        delivery: u64,
    },
    /// PUBREL came: the client may use this Packet Identifier for another message.
    Released {
        session: u64,
        packet_id: u16,
    },
    /// A session that outlives its connection. The last such record of a number counts; it has a connection from then on.
    Session {
        number: u64,
        client_id: &'a str,
        /// Empty for nobody.
        user: &'a str,
        expiry_interval_s: u32,
        /// The number of its will; 0 for none.
        will: u64,
    },
    /// The number of the next delivery of a session: an object of a checkpoint, behind its deliveries.
    Numbered {
        session: u64,
        next_delivery: u64,
    },
    /// A QoS 2 message of the client came and is not released: an object of a checkpoint. In the log MESSAGE says so.
    Accepted {
        session: u64,
        packet_id: u16,
    },
    /// A session has ended. These deliveries are owed to the groups by which they came.
    Ended {
        session: u64,
        owed: Numbers<'a>,
    },
    Detached {
        session: u64,
        at_ms: u64,
    },
    /// A subscription of such a session.
    Subscribed {
        session: u64,
        /// With `$share/name/` where it is shared.
        filter: &'a str,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
        /// Retained messages are owed to it, of all that this shard had published until then.
        look_up_since: Option<u64>,
    },
    Unsubscribed {
        session: u64,
        filter: &'a str,
        owed: Numbers<'a>,
    },
    /// A will, of a session that need not outlive its connection.
    Will {
        number: u64,
        /// Empty for nobody.
        user: &'a str,
        delay_interval_s: u32,
        expiry_interval_s: Option<u32>,
        content: Content<'a>,
    },
    /// A will was given up. The MESSAGE of one that is published says so itself.
    WillEnded {
        number: u64,
    },
    /// The retained message of a topic was too old.
    Expired {
        topic: &'a str,
    },
    LookedUp {
        session: u64,
        filter: &'a str,
        shard: u16,
        cursor: LookedUp<'a>,
    },
    /// All transfers of a shard up to this number were taken in. MESSAGE says so of the one that it came by.
    Taken {
        source: u16,
        sequence: u64,
    },
    /// A shard has settled all transfers up to this number.
    Crossed {
        target: u16,
        sequence: u64,
    },
}

impl<'a> Body<'a> {
    /// Appends the body, and returns its kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match *self {
            Self::Message { .. } => {
                message::encode(self, out);
                kind::MESSAGE
            }
            Self::Settled { session, delivery } => numbers(out, [session, delivery], kind::SETTLED),
            Self::Received { session, delivery } => numbers(out, [session, delivery], kind::RECEIVED),
            Self::Released { session, packet_id } => {
                numbers(out, [session, packet_id.into()], kind::RELEASED)
            }
            Self::Accepted { session, packet_id } => {
                numbers(out, [session, packet_id.into()], kind::ACCEPTED)
            }
            Self::Numbered { session, next_delivery } => {
                numbers(out, [session, next_delivery], kind::NUMBERED)
            }
            Self::Session { number, client_id, user, expiry_interval_s, will } => {
                numbers(out, [number, expiry_interval_s.into(), will], kind::SESSION);
                texts(out, [client_id, user], kind::SESSION)
            }
            Self::Ended { session, owed } => {
                put_number(out, session);
                owed.put(out);
                kind::ENDED
            }
            Self::Taken { source, sequence } => numbers(out, [source.into(), sequence], kind::TAKEN),
            Self::Crossed { target, sequence } => numbers(out, [target.into(), sequence], kind::CROSSED),
            Self::Detached { session, at_ms } => numbers(out, [session, at_ms], kind::DETACHED),
            Self::Subscribed { session, filter, options, identifier, look_up_since } => {
                put_number(out, session);
                put_options(out, options, look_up_since.is_some());
                put_number(out, identifier.map_or(0, |identifier| identifier.get().into()));
                if let Some(since) = look_up_since {
                    put_number(out, since);
                }
                texts(out, [filter], kind::SUBSCRIBED)
            }
            Self::Unsubscribed { session, filter, owed } => {
                put_number(out, session);
                put_bytes(out, filter.as_bytes());
                owed.put(out);
                kind::UNSUBSCRIBED
            }
            Self::Will { number, user, delay_interval_s, expiry_interval_s, content } => {
                numbers(out, [number, delay_interval_s.into()], kind::WILL);
                // One more than the interval; 0 for none.
                put_number(out, expiry_interval_s.map_or(0, |interval_s| u64::from(interval_s) + 1));
                put_bytes(out, user.as_bytes());
                content.encode(out);
                kind::WILL
            }
            Self::WillEnded { number } => numbers(out, [number], kind::WILL_ENDED),
            Self::Expired { topic } => texts(out, [topic], kind::EXPIRED),
            Self::LookedUp { session, filter, shard, cursor } => {
                numbers(out, [session, shard.into()], kind::LOOKED_UP);
                let (tag, topic) = match cursor {
                    LookedUp::Done => (0, ""),
                    LookedUp::At(topic) => (1, topic),
                    LookedUp::After(topic) => (2, topic),
                };
                out.push(tag);
                texts(out, [filter, topic], kind::LOOKED_UP)
            }
        }
    }

    /// Reads a body of this kind.
    ///
    /// # Errors
    /// If no writer wrote it, or the kind is not known.
    pub(crate) fn decode(kind: u8, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let body = match kind {
            kind::MESSAGE => message::decode(&mut fields)?,
            kind::SETTLED => Self::Settled { session: fields.number()?, delivery: fields.number()? },
            kind::RECEIVED => Self::Received { session: fields.number()?, delivery: fields.number()? },
            kind::RELEASED => Self::Released { session: fields.number()?, packet_id: fields.small()? },
            kind::ACCEPTED => Self::Accepted { session: fields.number()?, packet_id: fields.small()? },
            kind::NUMBERED => Self::Numbered { session: fields.number()?, next_delivery: fields.number()? },
            kind::SESSION => {
                let (number, expiry_interval_s, will) = (fields.number()?, fields.small()?, fields.number()?);
                let (client_id, user) = (fields.text()?, fields.text()?);
                Self::Session { number, client_id, user, expiry_interval_s, will }
            }
            kind::ENDED => Self::Ended { session: fields.number()?, owed: Numbers::get(&mut fields)? },
            kind::TAKEN => Self::Taken { source: fields.small()?, sequence: fields.number()? },
            kind::CROSSED => Self::Crossed { target: fields.small()?, sequence: fields.number()? },
            kind::DETACHED => Self::Detached { session: fields.number()?, at_ms: fields.number()? },
            kind::SUBSCRIBED => decode_subscription(&mut fields)?,
            kind::UNSUBSCRIBED => {
                let (session, filter) = (fields.number()?, fields.text()?);
                Self::Unsubscribed { session, filter, owed: Numbers::get(&mut fields)? }
            }
            kind::WILL => {
                let (number, delay_interval_s) = (fields.number()?, fields.small()?);
                let expiry_interval_s = match fields.number()?.checked_sub(1) {
                    None => None,
                    Some(interval_s) => Some(u32::try_from(interval_s).map_err(|_| Malformed)?),
                };
                let (user, content) = (fields.text()?, Content::decode(&mut fields)?);
                Self::Will { number, user, delay_interval_s, expiry_interval_s, content }
            }
            kind::WILL_ENDED => Self::WillEnded { number: fields.number()? },
            kind::EXPIRED => Self::Expired { topic: fields.text()? },
            kind::LOOKED_UP => {
                let (session, shard, tag) = (fields.number()?, fields.small()?, fields.byte()?);
                let (filter, topic) = (fields.text()?, fields.text()?);
                let cursor = match tag {
                    0 if topic.is_empty() => LookedUp::Done,
                    1 => LookedUp::At(topic),
                    2 => LookedUp::After(topic),
                    _ => return Err(Malformed),
                };
                Self::LookedUp { session, filter, shard, cursor }
            }
            _ => return Err(Malformed),
        };
        fields.finish()?;
        Ok(body)
    }
}

fn numbers<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N], kind: u8) -> u8 {
    for number in numbers {
        put_number(out, number);
    }
    kind
}

fn texts<const N: usize>(out: &mut Vec<u8>, texts: [&str; N], kind: u8) -> u8 {
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
    kind
}

/// The options as SUBSCRIBE has them [3.8.3.1], with the look-up in the bit that is reserved there.
fn put_options(out: &mut Vec<u8>, options: SubscribeOptions, looks_up: bool) {
    let bits = options.qos.bits()
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
        | u8::from(looks_up) << 7;
    out.push(bits);
}

fn decode_subscription<'a>(fields: &mut Fields<'a>) -> Result<Body<'a>, Malformed> {
    let (session, bits) = (fields.number()?, fields.byte()?);
    let identifier: u32 = fields.small()?;
    let identifier = match identifier {
        0 => None,
        identifier => Some(SubscriptionId::new(identifier).ok_or(Malformed)?),
    };
    let look_up_since = if bits & 0x80 != 0 { Some(fields.number()?) } else { None };
    let retain_handling = match bits >> 4 & 3 {
        0 => RetainHandling::SendAtSubscribe,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(Malformed),
    };
    if bits & 0x40 != 0 {
        return Err(Malformed);
    }
    let options = SubscribeOptions {
        qos: QoS::from_bits(bits & 3).ok_or(Malformed)?,
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        retain_handling,
    };
    Ok(Body::Subscribed { session, filter: fields.text()?, options, identifier, look_up_since })
}
