//! A server that returns each message of a client, for test suites of WebSocket. Usage: `websocket_echo [ADDRESS]`; it prints its address.
//! A connection has a thread, as the clients here are few.

#![expect(clippy::print_stdout, reason = "the address is its output")]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::{env, thread};

use websocket::{CloseCode, Message, Rules, Step, WebSocket, accept};

/// The longest message that is returned; a longer one ends the connection.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const HEAD_BYTES_MAX: usize = 8 << 10;
const FIELDS_MAX: usize = 64;
const RULES: Rules = Rules { text: true, ..Rules::BINARY };

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(|| {
            // A client that breaks off is no concern of the others.
            let _ = serve(stream);
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = shake_hands(&mut stream)?;
    let mut connection = WebSocket::default();
    let mut message = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut at = 0;
        while let Some(step) = connection.next(RULES, &mut bytes, &mut at) {
            match step {
                Step::Payload(piece) => {
                    message.extend_from_slice(&bytes[piece.payload]);
                    if message.len() > MESSAGE_BYTES_MAX {
                        connection.close(CloseCode::TOO_LONG);
                        return send(&mut stream, &mut connection, Message::Binary, &[]);
                    }
                    if piece.is_last {
                        send(&mut stream, &mut connection, piece.message, &message)?;
                        if message.is_empty() {
                            // The codec sends none, because a stream of bytes has no empty pieces.
                            stream.write_all(if piece.message == Message::Text {
                                &[0x81, 0]
                            } else {
                                &[0x82, 0]
                            })?;
                        }
                        message.clear();
                    }
                }
                Step::Ping => send(&mut stream, &mut connection, Message::Binary, &[])?,
                Step::End(_) => return send(&mut stream, &mut connection, Message::Binary, &[]),
            }
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        bytes.clear();
        bytes.extend_from_slice(&buffer[..length]);
    }
}

/// Sends what is due, and `payload` in one message unless it is empty.
fn send(
    stream: &mut TcpStream,
    connection: &mut WebSocket,
    message: Message,
    payload: &[u8],
) -> io::Result<()> {
    let mut left = payload;
    while !left.is_empty() || connection.is_due() {
        let outgoing = connection.outgoing(message, left);
        let bytes = [outgoing.head(), &left[..outgoing.payload_bytes()]].concat();
        let taken = stream.write(&bytes)?;
        left = &left[connection.sent(&outgoing, taken)..];
    }
    Ok(())
}

/// Answers the opening handshake. Returns the bytes behind it.
fn shake_hands(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        head.extend_from_slice(&buffer[..length]);
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(end)) => {
                let key =
                    request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-key"));
                let key = key.and_then(|field| str::from_utf8(field.value).ok()).and_then(accept);
                let Some(accept) = key else { return Err(io::ErrorKind::InvalidData.into()) };
                stream.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
                )?;
                stream.write_all(&[b"Sec-WebSocket-Accept: ", &accept[..], b"\r\n\r\n"].concat())?;
                return Ok(head.split_off(end));
            }
            Ok(httparse::Status::Partial) if length > 0 && head.len() <= HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
