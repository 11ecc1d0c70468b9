//! A broker that is wrong on purpose: a proxy before the real one, which does to each packet what its fault says.
//! Knows which way packets go, and when the connection ends; what is done to them is `fault`'s.

#![expect(clippy::disallowed_types, reason = "the two directions of a connection run on a thread each")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::fault::{Fate, Fault};
use crate::harness::packet::Version;
use crate::raw_packet::{CONNECT, RawPacket};

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// **Lives** until the test's process ends: a case has few connections, and its threads end with them.
pub(crate) struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    pub(crate) fn start(broker: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || serve(&client, broker, fault));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One connection: this thread carries what the client says, another what the broker answers.
fn serve(client: &TcpStream, broker: SocketAddr, fault: Fault) {
    let Ok(broker) = TcpStream::connect(broker) else { return };
    let version = Arc::new(OnceLock::new());
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (Ok(client_writer), Ok(broker_reader)) = (client.try_clone(), broker.try_clone()) else { return };
    let told = Arc::clone(&version);
    thread::spawn(move || answer(&broker_reader, &client_writer, fault, &told));
    ask(client, &broker, fault, &version, number);
}

fn ask(client: &TcpStream, mut broker: &TcpStream, fault: Fault, version: &OnceLock<Version>, number: u64) {
    let mut bytes = Vec::new();
    while receive(client, &mut bytes) {
        while let Some(packet) = RawPacket::take(&mut bytes) {
            if packet.kind() == CONNECT {
                version.get_or_init(|| version_of(&packet));
            }
            let spoken = version.get().copied().unwrap_or(Version::V5);
            match fault.to_broker(spoken, packet, number) {
                Fate::Packets(packets) => packets.iter().for_each(|packet| send(broker, packet)),
                Fate::Back(packets) => packets.iter().for_each(|packet| send(client, packet)),
                Fate::After(_) => unreachable!("only what the broker sends is held back"),
                Fate::Close => {
                    // Whoever closed first: both are gone afterwards.
                    let _ = broker.shutdown(Shutdown::Both);
                    let _ = client.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
        if RawPacket::has_no_length(&bytes) {
            // It is not MQTT, and the broker's to judge.
            let _ = broker.write_all(&std::mem::take(&mut bytes));
        }
    }
    // What is no whole packet is the broker's to judge.
    let _ = broker.write_all(&bytes);
    if fault.says_goodbye() {
        let _ = broker.write_all(&[0xE0, 0x00]);
    }
    let _ = broker.shutdown(Shutdown::Write);
}

fn answer(broker: &TcpStream, client: &TcpStream, fault: Fault, version: &OnceLock<Version>) {
    let mut bytes = Vec::new();
    let mut held: Option<RawPacket> = None;
    while receive(broker, &mut bytes) {
        while let Some(packet) = RawPacket::take(&mut bytes) {
            let spoken = version.get().copied().unwrap_or(Version::V5);
            match fault.to_client(spoken, packet) {
                Fate::Packets(packets) => packets.iter().for_each(|packet| send(client, packet)),
                Fate::After(packet) => {
                    // The one that is held goes behind the one that has come.
                    match held.take() {
                        Some(earlier) => {
                            send(client, &packet);
                            send(client, &earlier);
                        }
                        None => held = Some(packet),
                    }
                }
                Fate::Back(_) | Fate::Close => unreachable!("only what the client sends is answered here"),
            }
        }
    }
    // Otherwise it stays open until the client gives up.
    if fault.lets_close() {
        let _ = client.shutdown(Shutdown::Both);
    }
}

fn receive(mut from: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16_384];
    match from.read(&mut chunk) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            bytes.extend(&chunk[..count]);
            true
        }
    }
}

/// A connection that is gone is noticed where it is read.
fn send(mut to: &TcpStream, packet: &RawPacket) {
    let _ = to.write_all(&packet.encode());
}

fn version_of(connect: &RawPacket) -> Version {
    match connect.body.get(6) {
        Some(5) => Version::V5,
        Some(4) => Version::V3_1_1,
        _ => Version::V3_1,
    }
}
