//! The complete form of an export: JSON lines, one for each thing that outlives the process, behind one that names the form. Payloads and
//! properties of MQTT 5.0 are in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::{Portable, PortableMessage, SessionExpiry, SessionRecord};
use serde::{Deserialize, Serialize};

use crate::persist::subscriptions_file::{ReadSubscription, WrittenSubscription};

/// The name of the form.
const FORMAT: &str = "mqtt-broker export";

/// The version of the form. A newer one is refused.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// A line as it is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Retained {
        #[serde(skip_serializing_if = "str::is_empty")]
        user: &'a str,
        #[serde(flatten)]
        message: MessageEntry,
    },
    Session {
        client_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        expiry_s: u32,
        offline_s: u32,
        subscriptions: Vec<WrittenSubscription<'a>>,
    },
    Will {
        client_id: &'a str,
        delay_s: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_expiry_s: Option<u32>,
        #[serde(flatten)]
        message: MessageEntry,
    },
    Owed {
        client_id: &'a str,
        delivery_qos: u8,
        delivery_retain: bool,
        #[serde(skip_serializing_if = "<[u32]>::is_empty")]
        subscription_identifiers: &'a [u32],
        #[serde(flatten)]
        message: MessageEntry,
    },
}

/// A line as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Read {
    Retained {
        #[serde(default)]
        user: String,
        #[serde(flatten)]
        message: MessageEntry,
    },
    Session {
        client_id: String,
        user: Option<String>,
        expiry_s: u32,
        #[serde(default)]
        offline_s: u32,
        subscriptions: Vec<ReadSubscription>,
    },
    Will {
        client_id: String,
        delay_s: u32,
        message_expiry_s: Option<u32>,
        #[serde(flatten)]
        message: MessageEntry,
    },
    Owed {
        client_id: String,
        delivery_qos: u8,
        #[serde(default)]
        delivery_retain: bool,
        #[serde(default)]
        subscription_identifiers: Vec<u32>,
        #[serde(flatten)]
        message: MessageEntry,
    },
}

/// The members of a message.
#[derive(Serialize, Deserialize)]
struct MessageEntry {
    topic: String,
    payload: String,
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    properties: String,
}

impl MessageEntry {
    fn of(message: &PortableMessage<'_>) -> Self {
        Self {
            topic: message.topic.to_owned(),
            payload: BASE64.encode(message.payload),
            qos: message.qos,
            retain: message.retain,
            expires_in_ms: message.expires_in_ms,
            properties: BASE64.encode(message.properties),
        }
    }

    /// The payload and the properties.
    fn bytes(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let bytes = |name: &str, text: &str| {
            BASE64.decode(text).map_err(|error| format!("its {name} is no base64: {error}"))
        };
        Ok((bytes("payload", &self.payload)?, bytes("properties", &self.properties)?))
    }

    fn message<'a>(&'a self, (payload, properties): &'a (Vec<u8>, Vec<u8>)) -> PortableMessage<'a> {
        let Self { qos, retain, expires_in_ms, .. } = *self;
        PortableMessage { topic: &self.topic, payload, properties, qos, retain, expires_in_ms }
    }
}

/// The first line, without its end.
pub(super) fn head() -> String {
    json(&Head { format: FORMAT.to_owned(), version: VERSION })
}

/// The line about something, without its end.
pub(super) fn line(portable: &Portable<'_>) -> String {
    json(&match portable {
        Portable::Retained(message, user) => Written::Retained { user, message: MessageEntry::of(message) },
        Portable::Session(record) => {
            let expiry = record.expiry.unwrap_or(SessionExpiry { interval_s: u32::MAX, passed_s: 0 });
            Written::Session {
                client_id: &record.client_id,
                user: record.user.as_deref(),
                expiry_s: expiry.interval_s,
                offline_s: expiry.passed_s,
                subscriptions: record.subscriptions.iter().map(WrittenSubscription::from).collect(),
            }
        }
        Portable::Will { client_id, message, delay_s, expiry_interval_s } => Written::Will {
            client_id,
            delay_s: *delay_s,
            message_expiry_s: *expiry_interval_s,
            message: MessageEntry::of(message),
        },
        Portable::Owed { client_id, message, qos, retain, identifiers } => Written::Owed {
            client_id,
            delivery_qos: *qos,
            delivery_retain: *retain,
            subscription_identifiers: identifiers,
            message: MessageEntry::of(message),
        },
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers have a form in JSON")
}

/// Checks the first line.
///
/// # Errors
/// The reason why it is none of this form, or of a version that is read here.
pub(super) fn check_head(line: &str) -> Result<(), String> {
    match serde_json::from_str::<Head>(line) {
        Ok(head) if head.format == FORMAT && head.version > VERSION => Err(format!(
            "a later version wrote it (form {}; this one reads {VERSION}); import it with that version",
            head.version
        )),
        Ok(head) if head.format == FORMAT => Ok(()),
        Ok(_) | Err(_) => Err("it is no export of mqtt-broker; pass the file state.jsonl of one".to_owned()),
    }
}

/// What has to know it: the shard of a client, or of a topic.
pub(super) enum Home<'a> {
    Client(&'a str),
    Topic(&'a str),
}

/// Reads a line, and passes it on with its home.
///
/// # Errors
/// The reason why it is none, or that of `take`.
pub(super) fn read(
    line: &str,
    take: impl FnOnce(Home<'_>, &Portable<'_>) -> Result<(), String>,
) -> Result<(), String> {
    match serde_json::from_str(line).map_err(|error| format!("it is no line of an export: {error}"))? {
        Read::Retained { user, message } => {
            let bytes = message.bytes()?;
            take(Home::Topic(&message.topic), &Portable::Retained(message.message(&bytes), &user))
        }
        Read::Session { client_id, user, expiry_s, offline_s, subscriptions } => {
            if client_id.is_empty() || expiry_s == 0 {
                return Err("a session has a client identifier and an expiry_s from 1 on".to_owned());
            }
            let record = SessionRecord {
                client_id: client_id.clone(),
                user,
                expiry: Some(SessionExpiry { interval_s: expiry_s, passed_s: offline_s }),
                subscriptions: subscriptions.into_iter().map(ReadSubscription::into_record).collect(),
            };
            take(Home::Client(&client_id), &Portable::Session(record))
        }
        Read::Will { client_id, delay_s, message_expiry_s: expiry_interval_s, message } => {
            let bytes = message.bytes()?;
            let message = message.message(&bytes);
            let will = Portable::Will { client_id: &client_id, message, delay_s, expiry_interval_s };
            take(Home::Client(&client_id), &will)
        }
        Read::Owed { client_id, delivery_qos, delivery_retain, subscription_identifiers, message } => {
            let bytes = message.bytes()?;
            let owed = Portable::Owed {
                client_id: &client_id,
                message: message.message(&bytes),
                qos: delivery_qos,
                retain: delivery_retain,
                identifiers: subscription_identifiers,
            };
            take(Home::Client(&client_id), &owed)
        }
    }
}
