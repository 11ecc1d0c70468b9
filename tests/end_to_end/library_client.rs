//! rumqttc behind one interface for both protocol versions, so that a scenario is written once. It never reconnects by
//! itself, because the tests check the fate of each connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rumqttc::v5::mqttbytes::v5 as packet_v5;
use tokio::sync::oneshot;

use crate::harness::packet::Version;
use crate::harness::time::{Deadline, PATIENCE};

/// Requests that can wait in the library for its event loop.
const REQUESTS_MAX: usize = 20_000;
const PACKET_BYTES_MAX: u32 = 4 << 20;

/// Options of a connection.
#[derive(Clone)]
pub(crate) struct Options<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    pub(crate) clean: bool,
    /// Topic, payload and QoS of the will.
    pub(crate) will: Option<(&'a str, &'a str, u8)>,
    /// Maximum number of QoS 1 and 2 messages without an acknowledgement.
    pub(crate) in_flight: u16,
    pub(crate) transport: rumqttc::Transport,
}

impl<'a> Options<'a> {
    pub(crate) fn new(version: Version, client_id: &'a str) -> Self {
        let transport = rumqttc::Transport::tcp();
        Self { version, client_id, clean: true, will: None, in_flight: 100, transport }
    }

    /// A session that outlives its connection.
    pub(crate) fn persistent(version: Version, client_id: &'a str) -> Self {
        Self { clean: false, ..Self::new(version, client_id) }
    }
}

/// A message as the library delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl Message {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

enum Happened {
    Connected {
        session_present: bool,
    },
    Message(Message),
    Subscribed {
        accepted: bool,
    },
    Unsubscribed,
    /// PUBACK or PUBCOMP.
    Acknowledged,
    /// The connection has ended, with the reason that the library gives.
    Ended(String),
}

enum Requests {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// A connected client.
pub(crate) struct Client {
    requests: Requests,
    happened: Receiver<Happened>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    messages: VecDeque<Message>,
    acknowledged: usize,
    ended: Option<String>,
    pub(crate) session_present: bool,
}

impl Client {
    /// Connects and waits for the CONNACK.
    pub(crate) fn connect(address: SocketAddr, options: &Options<'_>) -> Self {
        let (sender, happened) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (requests, thread) = match options.version {
            Version::V3_1 => panic!("the library does not speak MQTT 3.1"),
            Version::V3_1_1 => {
                let (client, events) = rumqttc::AsyncClient::new(options_v4(address, options), REQUESTS_MAX);
                (Requests::V4(client), thread::spawn(move || drive_v4(events, stopped, &sender)))
            }
            Version::V5 => {
                let (client, events) =
                    rumqttc::v5::AsyncClient::new(options_v5(address, options), REQUESTS_MAX);
                (Requests::V5(client), thread::spawn(move || drive_v5(events, stopped, &sender)))
            }
        };
        let mut client = Self {
            requests,
            happened,
            stop,
            thread,
            messages: VecDeque::new(),
            acknowledged: 0,
            ended: None,
            session_present: false,
        };
        match client.next("CONNACK") {
            Happened::Connected { session_present } => client.session_present = session_present,
            Happened::Ended(why) => panic!("cannot connect: {why}"),
            Happened::Message(_)
            | Happened::Subscribed { .. }
            | Happened::Unsubscribed
            | Happened::Acknowledged => {
                panic!("something came before CONNACK")
            }
        }
        client
    }

    /// Subscribes and waits for the SUBACK, which must accept.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        match &self.requests {
            Requests::V4(client) => {
                client.try_subscribe(filter, qos_v4(qos)).map_err(|error| error.to_string())
            }
            Requests::V5(client) => {
                client.try_subscribe(filter, qos_v5(qos)).map_err(|error| error.to_string())
            }
        }
        .expect("the library takes the request");
        let accepted = self.await_some("SUBACK", |happened| match happened {
            Happened::Subscribed { accepted } => Ok(accepted),
            other => Err(other),
        });
        assert!(accepted, "the broker refused the subscription to {filter}");
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        match &self.requests {
            Requests::V4(client) => client.try_unsubscribe(filter).map_err(|error| error.to_string()),
            Requests::V5(client) => client.try_unsubscribe(filter).map_err(|error| error.to_string()),
        }
        .expect("the library takes the request");
        self.await_some("UNSUBACK", |happened| match happened {
            Happened::Unsubscribed => Ok(()),
            other => Err(other),
        });
    }

    /// Publishes. With QoS 1 and 2 it waits until the broker has acknowledged the message.
    pub(crate) fn publish(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        self.send(topic, qos, retain, payload);
        if qos > 0 {
            self.await_acknowledged(1);
        }
    }

    /// Passes a message to the library; `await_acknowledged` waits for its acknowledgement.
    pub(crate) fn send(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        match &self.requests {
            Requests::V4(client) => {
                client.try_publish(topic, qos_v4(qos), retain, payload).map_err(|error| error.to_string())
            }
            Requests::V5(client) => client
                .try_publish(topic, qos_v5(qos), retain, payload.to_vec())
                .map_err(|error| error.to_string()),
        }
        .expect("the library takes the request");
    }

    /// Waits until the broker has acknowledged `count` more messages of QoS 1 or 2.
    pub(crate) fn await_acknowledged(&mut self, count: usize) {
        while self.acknowledged < count {
            self.await_some("acknowledgement", |happened| match happened {
                Happened::Acknowledged => Ok(()),
                other => Err(other),
            });
            self.acknowledged += 1;
        }
        self.acknowledged -= count;
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Message {
        if let Some(message) = self.messages.pop_front() {
            return message;
        }
        self.await_some("message", |happened| match happened {
            Happened::Message(message) => Ok(message),
            other => Err(other),
        })
    }

    /// The next `count` messages.
    pub(crate) fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }

    /// Messages until one has the payload `end`, which is omitted.
    pub(crate) fn messages_until(&mut self, end: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.message();
            if message.payload == end.as_bytes() {
                return messages;
            }
            messages.push(message);
        }
    }

    /// Waits until the broker ends the connection; returns the reason that the library gives.
    pub(crate) fn await_end(mut self) -> String {
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(why) = self.ended.take() {
                return why;
            }
            let left = deadline.remaining().expect("the broker does not end the connection");
            match self.happened.recv_timeout(left).expect("the broker does not end the connection") {
                Happened::Ended(why) => return why,
                Happened::Connected { .. }
                | Happened::Message(_)
                | Happened::Subscribed { .. }
                | Happened::Unsubscribed
                | Happened::Acknowledged => {}
            }
        }
    }

    /// Disconnects with DISCONNECT.
    pub(crate) fn disconnect(self) {
        match &self.requests {
            Requests::V4(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Requests::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
        }
        .expect("the library takes the request");
        self.await_end();
    }

    /// Closes the connection without DISCONNECT.
    pub(crate) fn vanish(self) {
        // An event loop that ended by itself has nothing to stop.
        let _ = self.stop.send(());
        self.thread.join().expect("the library's thread does not panic");
    }

    fn await_some<T>(&mut self, what: &str, wanted: impl Fn(Happened) -> Result<T, Happened>) -> T {
        loop {
            match wanted(self.next(what)) {
                Ok(found) => return found,
                Err(Happened::Message(message)) => self.messages.push_back(message),
                Err(Happened::Acknowledged) => self.acknowledged += 1,
                Err(Happened::Ended(why)) => panic!("no {what}, the connection has ended: {why}"),
                Err(Happened::Connected { .. } | Happened::Subscribed { .. } | Happened::Unsubscribed) => {
                    panic!("no {what} but something unexpected")
                }
            }
        }
    }

    fn next(&mut self, what: &str) -> Happened {
        self.happened.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
    }
}

fn options_v4(address: SocketAddr, from: &Options<'_>) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(from.client_id, address.ip().to_string(), address.port());
    options.set_clean_session(from.clean).set_inflight(from.in_flight).set_keep_alive(PATIENCE);
    options.set_transport(from.transport.clone());
    let bytes = PACKET_BYTES_MAX as usize;
    options.set_max_packet_size(bytes, bytes);
    if let Some((topic, payload, qos)) = from.will {
        options.set_last_will(rumqttc::LastWill::new(topic, payload, qos_v4(qos), false));
    }
    options
}

fn options_v5(address: SocketAddr, from: &Options<'_>) -> rumqttc::v5::MqttOptions {
    let mut options = rumqttc::v5::MqttOptions::new(from.client_id, address.ip().to_string(), address.port());
    options
        .set_clean_start(from.clean)
        .set_outgoing_inflight_upper_limit(from.in_flight)
        .set_keep_alive(PATIENCE);
    options.set_transport(from.transport.clone());
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    if !from.clean {
        options.set_session_expiry_interval(Some(3600));
    }
    if let Some((topic, payload, qos)) = from.will {
        options.set_last_will(packet_v5::LastWill::new(topic, payload, qos_v5(qos), false, None));
    }
    options
}

fn drive_v4(mut events: rumqttc::EventLoop, mut stopped: oneshot::Receiver<()>, happened: &Sender<Happened>) {
    runtime().block_on(async move {
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                _ = &mut stopped => return,
            };
            if !pass_on(
                happened,
                event.map_or_else(|error| Some(Happened::Ended(error.to_string())), from_v4),
            ) {
                return;
            }
        }
    });
}

fn drive_v5(
    mut events: rumqttc::v5::EventLoop,
    mut stopped: oneshot::Receiver<()>,
    happened: &Sender<Happened>,
) {
    runtime().block_on(async move {
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                _ = &mut stopped => return,
            };
            if !pass_on(
                happened,
                event.map_or_else(|error| Some(Happened::Ended(error.to_string())), from_v5),
            ) {
                return;
            }
        }
    });
}

/// Passes events on; returns `false` when the connection has ended or the client was dropped.
fn pass_on(happened: &Sender<Happened>, what: Option<Happened>) -> bool {
    match what {
        Some(what) => {
            let goes_on = !matches!(what, Happened::Ended(_));
            happened.send(what).is_ok() && goes_on
        }
        None => true,
    }
}

fn from_v4(event: rumqttc::Event) -> Option<Happened> {
    use rumqttc::Packet;
    let rumqttc::Event::Incoming(packet) = event else { return None };
    match packet {
        Packet::ConnAck(connack) => Some(Happened::Connected { session_present: connack.session_present }),
        Packet::Publish(publish) => Some(Happened::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
        })),
        Packet::SubAck(suback) => {
            let accepted =
                suback.return_codes.iter().all(|code| *code != rumqttc::SubscribeReasonCode::Failure);
            Some(Happened::Subscribed { accepted })
        }
        Packet::UnsubAck(_) => Some(Happened::Unsubscribed),
        Packet::PubAck(_) | Packet::PubComp(_) => Some(Happened::Acknowledged),
        _ => None,
    }
}

fn from_v5(event: rumqttc::v5::Event) -> Option<Happened> {
    use packet_v5::{Packet, SubscribeReasonCode};
    let rumqttc::v5::Event::Incoming(packet) = event else { return None };
    match packet {
        Packet::ConnAck(connack) => Some(Happened::Connected { session_present: connack.session_present }),
        Packet::Publish(publish) => Some(Happened::Message(Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
        })),
        Packet::SubAck(suback) => {
            let accepted =
                suback.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
            Some(Happened::Subscribed { accepted })
        }
        Packet::UnsubAck(_) => Some(Happened::Unsubscribed),
        Packet::PubAck(_) | Packet::PubComp(_) => Some(Happened::Acknowledged),
        _ => None,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

fn qos_v4(qos: u8) -> rumqttc::QoS {
    rumqttc::qos(qos).expect("a QoS of the standard")
}

fn qos_v5(qos: u8) -> rumqttc::v5::mqttbytes::QoS {
    rumqttc::v5::mqttbytes::qos(qos).expect("a QoS of the standard")
}
