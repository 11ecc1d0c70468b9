//! MQTT over WebSocket for the page, at `/mqtt`: the admin thread passes the bytes on to a listener of the broker that takes connections
//! from here alone, which opens WebSocket, reads CONNECT and judges it. So a client of the page is a client like others, and this
//! thread understands none of its packets.
//!
//! Invariants:
//! - A page of another origin is refused.
//! - At most [`TOOLS_MAX`] are open, each for as long as a connection of the thread lives, with two buffers of `BUFFER_BYTES`.

use std::net::SocketAddr;

#[cfg(any(unix, test))]
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT};
use hyper::header::{
    HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{Request, StatusCode};

use super::respond::{Reply, plain};
use super::{Shared, Sources};

/// The path of the request.
pub(super) const PATH: &str = "/mqtt";

/// Clients of pages at the same time.
pub(super) const TOOLS_MAX: usize = 4;

/// Bytes of each of the two buffers of one.
#[cfg(unix)]
const BUFFER_BYTES: usize = 8 * 1024;

/// The address of the browser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A status with the sentence that explains it.
type Refusal = (StatusCode, &'static str);

const NOT_HERE: Refusal =
    (StatusCode::NOT_IMPLEMENTED, "this system, or this backend of the broker, has no MQTT for the page");

/// Answers a request for `/mqtt`.
pub(super) async fn respond<B>(request: Request<B>, sources: &Shared<Sources>) -> Reply {
    match imp::open(request, sources).await {
        Ok(reply) => reply,
        Err((status, sentence)) => plain(status, sentence),
    }
}

/// The lines that open the connection on the other side: a PROXY header with the address of the browser, and the head of the request,
/// of whose fields only those count that open WebSocket.
///
/// # Errors
/// If a page of another origin asks, or if a field is missing, repeated or no text.
fn opening<B>(request: &Request<B>) -> Result<String, Refusal> {
    let field = |name: &HeaderName| {
        let mut values = request.headers().get_all(name).iter();
        match (values.next().map(HeaderValue::to_str), values.next()) {
            (Some(Ok(value)), None) => Ok(value),
            _ => Err((StatusCode::BAD_REQUEST, "a field that opens WebSocket is missing or repeated")),
        }
    };
    let host = field(&HOST)?;
    if request.headers().contains_key(ORIGIN) {
        let origin = field(&ORIGIN)?;
        let own = origin.split_once("://").map(|(_, authority)| authority);
        if !own.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err((StatusCode::FORBIDDEN, "a page of another origin may not connect"));
        }
    }
    let upgrade = field(&UPGRADE).unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this path is for WebSocket"));
    }
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let (key, version) = (field(&SEC_WEBSOCKET_KEY)?, field(&SEC_WEBSOCKET_VERSION)?);
    let protocol = field(&SEC_WEBSOCKET_PROTOCOL)?;
    Ok(format!(
        "{}GET /mqtt HTTP/1.1\r\nHost: page\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        proxy_header(peer)
    ))
}

/// A header of the PROXY protocol, version 1.
fn proxy_header(peer: Option<SocketAddr>) -> String {
    let Some(peer) = peer else { return "PROXY UNKNOWN\r\n".to_owned() };
    let (family, address) = match peer.ip().to_canonical() {
        address if address.is_ipv4() => ("TCP4", address),
        address => ("TCP6", address),
    };
    // The second address is the one that was reached, which nobody asks about.
    format!("PROXY {family} {address} {address} {} 0\r\n", peer.port())
}

/// The answer to the browser, made of the head of the other side's.
///
/// # Errors
/// If that refuses.
#[cfg(any(unix, test))]
fn switched(head: &str) -> Result<Reply, Refusal> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    if status != Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()) {
        return Err((StatusCode::BAD_REQUEST, "WebSocket cannot be opened so: it needs version 13 and mqtt"));
    }
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        for kept in [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL] {
            if name.eq_ignore_ascii_case(kept.as_str())
                && let Ok(value) = HeaderValue::from_str(value)
            {
                headers.insert(kept, value);
            }
        }
    }
    Ok(reply)
}

#[cfg(unix)]
mod imp {
    use std::path::Path;
    use std::time::Duration;

    use hyper::{Request, StatusCode};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
    use tokio::net::UnixStream;
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;
    use tracing::debug;

    use super::{BUFFER_BYTES, NOT_HERE, Refusal, Reply, Shared, Sources, opening, switched};
    use crate::admin::http::serve::LIFE_MAX;
    use crate::admin::tokens;

    /// Time for the other side to answer.
    const OPEN_WITHIN: Duration = Duration::from_secs(5);

    /// Bytes of its answer; it is shorter.
    const HEAD_BYTES_MAX: usize = 1_024;

    const UNREACHABLE: Refusal = (StatusCode::SERVICE_UNAVAILABLE, "the broker does not take the connection");

    /// Opens the connection on both sides.
    pub(super) async fn open<B>(
        mut request: Request<B>,
        sources: &Shared<Sources>,
    ) -> Result<Reply, Refusal> {
        let lines = opening(&request)?;
        let socket = sources.tools.socket.as_deref().ok_or(NOT_HERE)?;
        let place = Shared::clone(&sources.tools.places)
            .try_acquire_owned()
            .map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "there are too many clients of pages already"))?;
        let reading = Shared::clone(sources);
        let read = spawn_blocking(move || tokens::offer(&reading.asking.data_dir, &reading.tools.operators));
        read.await.map_err(|_| UNREACHABLE)?;
        let opened = timeout(OPEN_WITHIN, begin(socket, &lines)).await;
        let (mut stream, head) = opened.map_err(|_| UNREACHABLE)?.map_err(|_| UNREACHABLE)?;
        let reply = switched(&head)?;
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(browser) = upgrade.await {
                let mut browser = TokioIo::new(browser);
                let copy =
                    copy_bidirectional_with_sizes(&mut browser, &mut stream, BUFFER_BYTES, BUFFER_BYTES);
                if let Ok(Err(error)) = timeout(LIFE_MAX, copy).await {
                    debug!(%error, "a client of the page is gone");
                }
            }
            drop(place);
        });
        Ok(reply)
    }

    /// Connects to the listener. Returns the head of its answer, behind which nothing comes before CONNECT.
    async fn begin(socket: &Path, lines: &str) -> std::io::Result<(UnixStream, String)> {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(lines.as_bytes()).await?;
        let (mut head, mut part) = (Vec::new(), [0; HEAD_BYTES_MAX]);
        while !head.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part).await?;
            if count == 0 || head.len() + count > HEAD_BYTES_MAX {
                break;
            }
            head.extend_from_slice(&part[..count]);
        }
        Ok((stream, String::from_utf8_lossy(&head).into_owned()))
    }
}

#[cfg(not(unix))]
mod imp {
    use hyper::Request;

    use super::{NOT_HERE, Refusal, Reply, Shared, Sources, opening};

    /// There is no such listener here.
    #[expect(clippy::unused_async, reason = "it stands in for a function that waits")]
    pub(super) async fn open<B>(request: Request<B>, _: &Shared<Sources>) -> Result<Reply, Refusal> {
        opening(&request).and(Err(NOT_HERE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Result<String, StatusCode> {
        let mut request = Request::builder().uri(PATH);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(Peer("[::ffff:10.1.2.3]:4711".parse().unwrap()));
        opening(&request).map_err(|(status, _)| status)
    }

    const FIELDS: [(&str, &str); 5] = [
        ("Host", "127.0.0.1:9883"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "mqtt"),
    ];

    #[test]
    fn a_page_of_this_origin_alone_is_passed_on_and_with_its_address() {
        let with = |more: (&'static str, &'static str)| asked(&[&FIELDS[..], &[more]].concat());
        let lines = with(("Origin", "http://127.0.0.1:9883")).unwrap();
        assert!(
            lines.starts_with("PROXY TCP4 10.1.2.3 10.1.2.3 4711 0\r\nGET /mqtt HTTP/1.1\r\n"),
            "{lines}"
        );
        assert!(lines.ends_with("Sec-WebSocket-Protocol: mqtt\r\n\r\n") && !lines.contains("Origin"));
        assert!(asked(&FIELDS).is_ok(), "a client that is no browser");
        assert!(with(("Cookie", "secret")).is_ok_and(|lines| !lines.contains("secret")));
        for foreign in
            ["http://evil.example", "null", "http://127.0.0.1:9884", "", "http://127.0.0.1:9883.evil"]
        {
            assert_eq!(with(("Origin", foreign)), Err(StatusCode::FORBIDDEN), "{foreign}");
        }
        for (name, _) in FIELDS {
            let expected =
                if name == "Upgrade" { StatusCode::UPGRADE_REQUIRED } else { StatusCode::BAD_REQUEST };
            assert_eq!(with((name, "again")), Err(expected), "{name} is repeated");
            let without: Vec<_> = FIELDS.into_iter().filter(|(known, _)| *known != name).collect();
            assert_eq!(asked(&without), Err(expected), "{name} is missing");
        }
    }

    #[test]
    fn the_answer_has_the_fields_that_the_browser_checks() {
        let reply = switched(
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x=\r\nSec-WebSocket-Protocol: mqtt\r\nX: y\r\n\r\n",
        )
        .unwrap();
        assert_eq!(reply.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(reply.headers()[SEC_WEBSOCKET_ACCEPT], "x=");
        assert_eq!(
            (&reply.headers()[SEC_WEBSOCKET_PROTOCOL], reply.headers().len()),
            (&"mqtt".parse().unwrap(), 4)
        );
        for refused in ["HTTP/1.1 400 Bad Request\r\n\r\n", "", "HTTP/1.1"] {
            assert!(switched(refused).is_err());
        }
    }

    #[test]
    fn an_address_that_is_not_known_is_named_so() {
        assert_eq!(proxy_header(None), "PROXY UNKNOWN\r\n");
        assert_eq!(
            proxy_header("[2001:db8::1]:5".parse().ok()),
            "PROXY TCP6 2001:db8::1 2001:db8::1 5 0\r\n"
        );
    }
}
