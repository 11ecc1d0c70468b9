//! The opening handshake of a WebSocket (RFC 6455, section 4.2): a request's head, in any pieces, to the answer 101 or to one
//! refusal with its status. Pure: bytes in, bytes out.
//! Invariants: No more than `HEAD_BYTES_MAX` are kept, and the head is parsed once, when its end has come, so a peer that sends byte
//! by byte costs no more. A head that two servers might read differently is refused: a body, bytes behind the head, a bare line
//! feed, and a repeated field that decides something.

use std::fmt;
use std::net::IpAddr;

use httparse::{Header, Request, Status};

/// Bytes of a head at most, its empty line included.
pub(crate) const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Fields of a head at most.
const FIELDS_MAX: usize = 64;
const END: &[u8] = b"\r\n\r\n";
const METHOD: &[u8] = b"GET ";

/// The subprotocols, the preferred one first. `mqttv3.1` is what clients of MQTT 3.1 in browsers ask for.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// The requests that a listener accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// The target of the request, compared as a whole.
    pub(crate) path: &'a str,
    /// Origins whose pages may connect; `*` is any. A client that is no browser sends no Origin, and is accepted.
    pub(crate) origins: &'a [String],
}

/// The part of a head that has arrived.
///
/// **Lives on:** the shard of its connection, until the handshake is over.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
}

/// A request that is granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The answer, to be sent before any frame.
    pub(crate) answer: Vec<u8>,
    /// All of `X-Forwarded-For`, in order.
    pub(crate) forwarded_for: String,
}

/// The reason why a request is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The first bytes are no GET.
    NotGet,
    /// The head is longer than [`HEAD_BYTES_MAX`].
    TooLong,
    /// The head has more than [`FIELDS_MAX`] fields.
    TooManyFields,
    /// No HTTP/1.1, or a malformed head.
    Malformed,
    /// Bytes came behind the head, before its answer.
    BytesBehind,
    /// The request announces a body.
    Body,
    /// A field that decides something is repeated, or Host is missing.
    Field(&'static str),
    /// Another target than the listener's path.
    Path,
    /// No `Upgrade: websocket`.
    NoUpgrade,
    /// Another version of WebSocket than 13.
    Version,
    /// The page of this origin may not connect.
    Origin,
    /// Neither `mqtt` nor `mqttv3.1` is offered [MQTT-6.0.0-3].
    Subprotocol,
}

impl Head {
    /// Takes bytes in; the answer once the head is whole.
    ///
    /// # Errors
    /// As soon as the request cannot be granted. [`Refusal::answer`] is sent then, and the connection closed.
    pub(crate) fn take(&mut self, bytes: &[u8], rules: Rules<'_>) -> Result<Option<Accepted>, Refusal> {
        let before = self.bytes.len();
        let taken = bytes.len().min(HEAD_BYTES_MAX - before);
        self.bytes.extend_from_slice(&bytes[..taken]);
        if !self.bytes.iter().zip(METHOD).all(|(byte, expected)| byte == expected) {
            return Err(Refusal::NotGet);
        }
        let fresh = before.saturating_sub(END.len() - 1);
        let end = self.bytes[fresh..].windows(END.len()).position(|window| window == END);
        let end = end.map(|at| fresh + at + END.len());
        // Bytes behind the head are none of its lines, however the stream is cut.
        let lines = &self.bytes[fresh..end.unwrap_or(self.bytes.len())];
        if lines.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r') {
            return Err(Refusal::Malformed);
        }
        let Some(end) = end else {
            return if self.bytes.len() == HEAD_BYTES_MAX { Err(Refusal::TooLong) } else { Ok(None) };
        };
        if end < before + bytes.len() {
            return Err(Refusal::BytesBehind);
        }
        accept(&self.bytes, rules).map(Some)
    }

    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Judges a whole head.
fn accept(head: &[u8], rules: Rules<'_>) -> Result<Accepted, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
        Ok(_) | Err(_) => return Err(Refusal::Malformed),
    }
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(Refusal::Malformed);
    }
    let fields = Fields(request.headers);
    fields.once("Host")?.ok_or(Refusal::Field("Host"))?;
    let length = fields.once("Content-Length")?;
    if fields.all("Transfer-Encoding").next().is_some() || length.is_some_and(|length| length != "0") {
        return Err(Refusal::Body);
    }
    if request.path != Some(rules.path) {
        return Err(Refusal::Path);
    }
    if !fields.has_token("Upgrade", "websocket") || !fields.has_token("Connection", "upgrade") {
        return Err(Refusal::NoUpgrade);
    }
    if fields.once("Sec-WebSocket-Version")? != Some("13") {
        return Err(Refusal::Version);
    }
    if let Some(origin) = fields.once("Origin")? {
        let is_listed = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(origin);
        if !rules.origins.iter().any(is_listed) {
            return Err(Refusal::Origin);
        }
    }
    let subprotocol =
        SUBPROTOCOLS.into_iter().find(|name| fields.offers(name)).ok_or(Refusal::Subprotocol)?;
    let key = fields.once("Sec-WebSocket-Key")?.and_then(websocket::accept);
    let accept = key.ok_or(Refusal::Field("Sec-WebSocket-Key"))?;
    let accept = accept.map(char::from).iter().collect::<String>();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    let forwarded_for = fields.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
    Ok(Accepted { answer: answer.into_bytes(), forwarded_for })
}

struct Fields<'a>(&'a [Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of a field; one that is not UTF-8 is empty.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let is_named = move |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(is_named).map(|field| str::from_utf8(field.value).unwrap_or_default())
    }

    fn once(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(Refusal::Field(name)) } else { Ok(value) }
    }

    fn tokens(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(|token| token.trim_matches([' ', '\t']))
    }

    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.tokens(name).any(|one| one.eq_ignore_ascii_case(token))
    }

    /// Names of subprotocols are compared with their case (RFC 6455, section 4.1).
    fn offers(&self, subprotocol: &str) -> bool {
        self.tokens("Sec-WebSocket-Protocol").any(|one| one == subprotocol)
    }
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Path => "404 Not Found",
            Self::Origin => "403 Forbidden",
            Self::NoUpgrade | Self::Version => "426 Upgrade Required",
            Self::TooLong | Self::TooManyFields => "431 Request Header Fields Too Large",
            Self::NotGet
            | Self::Malformed
            | Self::BytesBehind
            | Self::Body
            | Self::Field(_)
            | Self::Subprotocol => "400 Bad Request",
        }
    }

    /// The answer to a request that is not granted. The connection ends with it.
    pub(crate) fn answer(self) -> Vec<u8> {
        let upgrade = match self {
            Self::NoUpgrade | Self::Version => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        };
        let text = format!("{self}\n");
        let (status, length) = (self.status(), text.len());
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{upgrade}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGet => formatter.write_str("a WebSocket begins with a GET request"),
            Self::TooLong => write!(formatter, "the request has more than {HEAD_BYTES_MAX} bytes"),
            Self::TooManyFields => write!(formatter, "the request has more than {FIELDS_MAX} fields"),
            Self::Malformed => formatter.write_str("the request is not HTTP/1.1"),
            Self::BytesBehind => formatter.write_str("bytes follow the request before its answer"),
            Self::Body => formatter.write_str("the request has a body"),
            Self::Field(name) => write!(formatter, "{name} must be there once and valid"),
            Self::Path => formatter.write_str("there is no WebSocket at this path"),
            Self::NoUpgrade => formatter.write_str("the request does not ask for a WebSocket"),
            Self::Version => formatter.write_str("the version of WebSocket must be 13"),
            Self::Origin => formatter.write_str("pages of this origin may not connect"),
            Self::Subprotocol => formatter.write_str("the subprotocol mqtt must be offered"),
        }
    }
}

/// The address of the client that trusted proxies forwarded for: the right-most one in the list that is not a proxy's. Entries
/// further to the left are the client's own word. `peer` is the proxy that connected.
pub(crate) fn client_address(
    forwarded_for: &str,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut nearest = peer;
    for entry in forwarded_for.rsplit(',') {
        if !is_trusted(nearest) {
            break;
        }
        let Some(address) = address(entry.trim()) else { break };
        nearest = address;
    }
    nearest
}

/// An entry of the list; some proxies append a port.
fn address(entry: &str) -> Option<IpAddr> {
    let socket = || entry.parse::<std::net::SocketAddr>().map(|socket| socket.ip()).ok();
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    entry.parse().ok().or_else(socket).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules<'_> = Rules { path: "/mqtt", origins: &[] };

    const FIELDS: [&str; 6] = [
        "Host: broker.example.com",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ];

    fn head(line: &str, fields: &[&str]) -> String {
        format!("{line}\r\n{}\r\n\r\n", fields.join("\r\n"))
    }

    /// A good request, in which the field of the same name is replaced, or one is added.
    fn with(field: &str) -> String {
        let name = field.split(':').next().unwrap();
        let mut fields: Vec<&str> = FIELDS.into_iter().filter(|other| !other.starts_with(name)).collect();
        fields.push(field);
        head("GET /mqtt HTTP/1.1", &fields)
    }

    fn add(field: &str) -> String {
        head("GET /mqtt HTTP/1.1", &[&FIELDS[..], &[field]].concat())
    }

    fn without(name: &str) -> String {
        let fields: Vec<&str> = FIELDS.into_iter().filter(|field| !field.starts_with(name)).collect();
        head("GET /mqtt HTTP/1.1", &fields)
    }

    /// The same result however the bytes are cut.
    fn take(request: &str, rules: Rules<'_>) -> Result<Option<Accepted>, Refusal> {
        let whole = Head::default().take(request.as_bytes(), rules);
        for piece in [1, 5] {
            let mut head = Head::default();
            let mut result = Ok(None);
            for bytes in request.as_bytes().chunks(piece) {
                result = head.take(bytes, rules);
                if !matches!(result, Ok(None)) {
                    break;
                }
            }
            // Cut before the surplus, bytes behind the head are the first bytes behind the answer.
            if whole != Err(Refusal::BytesBehind) {
                assert_eq!(result, whole, "in pieces of {piece}");
            }
            assert!(head.heap_bytes() <= 2 * HEAD_BYTES_MAX);
        }
        whole
    }

    fn answer(request: &str) -> String {
        String::from_utf8(take(request, RULES).unwrap().unwrap().answer).unwrap()
    }

    #[test]
    fn a_good_request_is_granted_with_the_key_of_the_standard() {
        let answer = answer(&head("GET /mqtt HTTP/1.1", &FIELDS));
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(!answer.contains("Extensions"), "{answer}");
    }

    #[test]
    fn mqtt_6_0_0_4_the_selected_subprotocol_is_mqtt() {
        for (offered, selected) in
            [("mqtt", "mqtt"), ("mqttv3.1, mqtt", "mqtt"), ("chat,mqttv3.1", "mqttv3.1")]
        {
            let answer = answer(&with(&format!("Sec-WebSocket-Protocol: {offered}")));
            assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {selected}\r\n")), "{answer}");
        }
    }

    #[test]
    fn every_refusal_has_its_status() {
        let bad = [
            (Refusal::NotGet, "\u{10}\u{c}\0\u{4}MQTT".to_owned(), 400),
            (Refusal::NotGet, head("POST /mqtt HTTP/1.1", &FIELDS), 400),
            (Refusal::TooLong, add(&format!("X: {}", "x".repeat(HEAD_BYTES_MAX))), 431),
            (Refusal::TooManyFields, add(&["A: b"; FIELDS_MAX].join("\r\n")), 431),
            (Refusal::Malformed, head("GET /mqtt HTTP/1.0", &FIELDS), 400),
            (Refusal::Malformed, head("GET /mqtt HTTP/1.1", &FIELDS).replace("\r\n", "\n"), 400),
            (Refusal::Malformed, add("Two words: x"), 400),
            (Refusal::Malformed, add("Folded: x\r\n y"), 400),
            (Refusal::BytesBehind, head("GET /mqtt HTTP/1.1", &FIELDS) + "x", 400),
            (Refusal::BytesBehind, head("GET /mqtt HTTP/1.1", &FIELDS) + "x\n", 400),
            (Refusal::Body, add("Content-Length: 1"), 400),
            (Refusal::Body, add("Transfer-Encoding: chunked"), 400),
            (Refusal::Field("Content-Length"), add("Content-Length: 0\r\nContent-Length: 1"), 400),
            (Refusal::Field("Host"), without("Host"), 400),
            (Refusal::Field("Host"), add("host: other"), 400),
            (Refusal::Field("Origin"), add("Origin: a\r\nOrigin: b"), 400),
            (Refusal::Field("Sec-WebSocket-Key"), add("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
            (Refusal::Field("Sec-WebSocket-Key"), with("Sec-WebSocket-Key: short"), 400),
            (Refusal::Path, head("GET /mqtt?x HTTP/1.1", &FIELDS), 404),
            (Refusal::NoUpgrade, without("Upgrade"), 426),
            (Refusal::NoUpgrade, with("Connection: close"), 426),
            (Refusal::Version, with("Sec-WebSocket-Version: 8"), 426),
            (Refusal::Origin, add("Origin: https://evil.example.com"), 403),
            (Refusal::Subprotocol, without("Sec-WebSocket-Protocol"), 400),
            (Refusal::Subprotocol, with("Sec-WebSocket-Protocol: MQTT"), 400),
        ];
        for (refusal, request, status) in bad {
            assert_eq!(take(&request, RULES), Err(refusal), "{request}");
            let answer = String::from_utf8(refusal.answer()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{answer}");
            assert_eq!(head.contains("Sec-WebSocket-Version: 13"), status == 426, "{answer}");
        }
    }

    #[test]
    fn an_origin_is_absent_or_listed() {
        let listed = ["https://app.example.com".to_owned()];
        let any = ["*".to_owned()];
        let request = add("Origin: https://App.example.com");
        for (origins, is_granted) in [(&listed[..], true), (&any, true), (&[], false)] {
            let granted = take(&request, Rules { origins, ..RULES });
            assert_eq!(granted.is_ok(), is_granted, "{origins:?}: {granted:?}");
        }
        assert_eq!(take(&add("Origin: null"), Rules { origins: &listed, ..RULES }), Err(Refusal::Origin));
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_proxys() {
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        for (list, client) in [
            ("", "10.0.0.1"),
            ("192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7:4000 ,10.0.0.2", "192.0.2.7"),
            ("10.0.0.3,10.0.0.2", "10.0.0.3"),
            ("1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(client_address(list, proxy, is_trusted).to_string(), client, "{list}");
        }
        let stranger: IpAddr = "192.0.2.9".parse().unwrap();
        assert_eq!(
            client_address("1.1.1.1", stranger, is_trusted),
            stranger,
            "a stranger's word does not count"
        );
        let fields = add("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 192.0.2.7");
        assert_eq!(take(&fields, RULES).unwrap().unwrap().forwarded_for, "1.1.1.1,192.0.2.7");
    }
}
