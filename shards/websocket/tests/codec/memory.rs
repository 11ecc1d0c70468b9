//! Bytes that a connection holds.

use websocket::{Rules, WebSocket};

use crate::client::{Frame, PING};
use crate::receiving::drain;

#[test]
fn an_idle_connection_holds_nothing_beside_itself() {
    assert!(size_of::<WebSocket>() <= 32);
    let mut connection = WebSocket::default();
    let mut ping = Frame::new(PING, &[1; 125]).masked([1; 4]);
    let _nothing = connection.receive(Rules::BINARY, &mut ping[..10]);
    let held = connection.heap_bytes();
    assert!(held > 0 && held <= 392, "{held}");
    let _nothing = connection.receive(Rules::BINARY, &mut ping[10..]);
    assert_eq!(connection.heap_bytes(), held);
    assert_eq!(drain(&mut connection).len(), 127);
    assert_eq!(connection.heap_bytes(), 0);
}
