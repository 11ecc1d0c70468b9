//! A broker with a deliberate fault: a proxy before the real one that applies the fault to each packet. The faults are
//! defined in `fault`; this module forwards packets and closes connections.

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

/// One connection: this thread forwards client packets, another one the broker's packets.
fn serve(client: &TcpStream, broker: SocketAddr, fault: Fault) {
    let Ok(broker) = TcpStream::connect(broker) else { return };
    let version = Arc::new(OnceLock::new());
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (Ok(client_writer), Ok(broker_reader)) = (client.try_clone(), broker.try_clone()) else { return };
    let known = Arc::clone(&version);
    thread::spawn(move || answer(&broker_reader, &client_writer, fault, &known));
    ask(client, &broker, fault, &version, number);
}

fn ask(client: &TcpStream, mut broker: &TcpStream, fault: Fault, version: &OnceLock<Version>, number: u64) {
    let mut bytes = Vec::new();
    while receive(client, &mut bytes) {
        while let Some(packet) = RawPacket::take(&mut bytes) {
            if packet.kind() == CONNECT {
                version.get_or_init(|| version_of(&packet));
            }
            let version_now = version.get().copied().unwrap_or(Version::V5);
            match fault.to_broker(version_now, packet, number) {
                Fate::Packets(packets) => packets.iter().for_each(|packet| send(broker, packet)),
                Fate::Back(packets) => packets.iter().for_each(|packet| send(client, packet)),
                Fate::After(_) => unreachable!("only packets of the broker are held back"),
                Fate::Close => {
                    // If one side has closed already, both are closed afterwards.
                    let _ = broker.shutdown(Shutdown::Both);
                    let _ = client.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
        if RawPacket::has_no_length(&bytes) {
            // The bytes are not MQTT; the broker judges them.
            let _ = broker.write_all(&std::mem::take(&mut bytes));
        }
    }
    // An incomplete packet is forwarded; the broker judges it.
    let _ = broker.write_all(&bytes);
    if fault.ends_with_disconnect() {
        let _ = broker.write_all(&[0xE0, 0x00]);
    }
    let _ = broker.shutdown(Shutdown::Write);
}

fn answer(broker: &TcpStream, client: &TcpStream, fault: Fault, version: &OnceLock<Version>) {
    let mut bytes = Vec::new();
    let mut held: Option<RawPacket> = None;
    while receive(broker, &mut bytes) {
        while let Some(packet) = RawPacket::take(&mut bytes) {
            let version_now = version.get().copied().unwrap_or(Version::V5);
            match fault.to_client(version_now, packet) {
                Fate::Packets(packets) => packets.iter().for_each(|packet| send(client, packet)),
                Fate::After(packet) => {
                    // The held packet is sent after this one.
                    match held.take() {
                        Some(earlier) => {
                            send(client, &packet);
                            send(client, &earlier);
                        }
                        None => held = Some(packet),
                    }
                }
                Fate::Back(_) | Fate::Close => unreachable!("only packets of the client are answered here"),
            }
        }
    }
    // Otherwise the connection stays open until the client gives up.
    if fault.forwards_close() {
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

/// A lost connection is noticed by the reading side.
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
