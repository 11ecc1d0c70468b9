//! The API below `/v1` of the address for operators: tokens and their scopes, questions, changes, and the lines that remember these.

use std::net::SocketAddr;

use crate::harness::broker::{Broker, Setup};
use crate::harness::http::{Answer, address, ask};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};
use crate::operators::operate;

/// A broker with the API, and a token of each scope.
pub(crate) struct Served {
    pub(crate) broker: Broker,
    pub(crate) admin: SocketAddr,
    pub(crate) tokens: [String; 3],
}

pub(crate) const CONFIG: &str = "[admin]\nbind = \"127.0.0.1:0\"\n[probes]\nbind = \"127.0.0.1:0\"\n";
pub(crate) const READ: usize = 0;
pub(crate) const OPERATE: usize = 1;
pub(crate) const ADMIN: usize = 2;

pub(crate) fn serve() -> Served {
    serve_with("")
}

/// The same with further tables in its configuration.
pub(crate) fn serve_with(tables: &str) -> Served {
    let config = &format!("{CONFIG}{tables}");
    let mut broker = Broker::start_with(&Setup { flags: &["--shards", "3"], config, ..Setup::default() });
    let admin = address(broker.process(), "admin serves");
    let tokens = ["read", "operate", "admin"].map(|scope| {
        let made = operate(&broker, &["token", "add", scope, "--scope", scope]);
        assert!(made.status.success(), "{}", made.output);
        made.output.trim().to_owned()
    });
    Served { broker, admin, tokens }
}

impl Served {
    pub(crate) fn call(&self, scope: usize, method: &str, path: &str, body: &str) -> Answer {
        let (token, length) = (&self.tokens[scope], body.len());
        ask(
            self.admin,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call(READ, "GET", path, "")
    }

    /// All pages of a list, one after the other.
    pub(crate) fn all(&self, path: &str) -> String {
        let (mut pages, mut next) = (String::new(), String::new());
        loop {
            let between = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{between}next={next}"));
            assert_eq!(page.status, 200, "{}", page.body);
            pages.push_str(&page.body);
            match page.body.split_once("\"next\":\"").and_then(|(_, rest)| rest.split_once('"')) {
                Some((text, _)) => text.clone_into(&mut next),
                None => return pages,
            }
        }
    }
}

#[test]
fn nobody_asks_without_a_token_and_a_scope_permits_what_it_says() {
    let served = serve();
    for authorization in
        ["", "Authorization: Bearer none\r\n", "Authorization: Basic eDp5\r\n", "Cookie: token=x\r\n"]
    {
        let request = format!(
            "GET /v1/clients HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n"
        );
        let refused = ask(served.admin, &request);
        assert_eq!(refused.status, 401, "{authorization}");
        assert!(
            refused.head.contains("www-authenticate: bearer")
                && refused.body.contains("mqtt-broker token add")
        );
    }
    let publish = r#"{"topic":"t","payload":"eA=="}"#;
    for (method, path, body, statuses) in [
        ("GET", "/v1/statistics", "", [200, 200, 200]),
        ("POST", "/v1/publish", publish, [403, 200, 200]),
        ("GET", "/v1/retained/message?topic=none", "", [403, 404, 404]),
        ("PUT", "/v1/log-level", r#"{"level":"debug"}"#, [403, 403, 200]),
        ("GET", "/v1/none", "", [404, 404, 404]),
        ("DELETE", "/v1/clients", "", [405, 405, 405]),
    ] {
        for (scope, expected) in [READ, OPERATE, ADMIN].into_iter().zip(statuses) {
            let answer = served.call(scope, method, path, body);
            assert_eq!(answer.status, expected, "{method} {path} by {scope}: {}", answer.body);
        }
    }
    for (body, expected) in [
        ("", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"topic":7}"#, 400),
        (r#"{"topic":"#, 400),
        (r#"{"topic":"+"}"#, 400),
    ] {
        assert_eq!(served.call(ADMIN, "POST", "/v1/publish", body).status, expected, "{body}");
    }
    // Another site's form sends no JSON.
    let token = &served.tokens[ADMIN];
    let form = ask(
        served.admin,
        &format!(
            "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        ),
    );
    assert_eq!(form.status, 415);
    let listed = operate(&served.broker, &["token", "list"]).output;
    assert_eq!(
        listed,
        "name=\"read\" scope=read\nname=\"operate\" scope=operate\nname=\"admin\" scope=admin"
    );
    assert!(operate(&served.broker, &["token", "remove", "read"]).status.success());
    assert_eq!(served.get("/v1/statistics").status, 401, "a token that is removed is refused at once");
    for arguments in [["token", "remove", "read"], ["token", "add", "admin"], ["token", "add", ""]] {
        assert_eq!(operate(&served.broker, &arguments).status.code(), Some(1), "{arguments:?}");
    }
    let (finished, _directory) = served.broker.stop();
    let changes = |line: &&str| {
        line.contains("operator token=\"admin\" method=\"PUT\" path=\"/v1/log-level\" status=200")
    };
    assert_eq!(finished.output.lines().filter(changes).count(), 1, "{}", finished.output);
    for token in &served.tokens {
        assert!(!finished.output.contains(token.as_str()), "no secret is logged");
    }
}

#[test]
fn an_operator_learns_who_is_there_who_receives_a_topic_and_why_one_is_gone() {
    let served = serve();
    let hostile = "<img src=x onerror=alert(1)>/\u{1b}[31m\"";
    let mut reader = Peer::connect(served.broker.address(), &Connect::new(Version::V5, hostile));
    reader.subscribe("a/+", 1);
    let mut peers: Vec<Peer> = (0..5)
        .map(|number| {
            Peer::connect(served.broker.address(), &Connect::new(Version::V5, &format!("pump-{number}")))
        })
        .collect();
    let clients = served.all("/v1/clients");
    assert_eq!(clients.matches("\"client\":").count(), 6, "{clients}");
    assert!(clients.contains(r#""client":"<img src=x onerror=alert(1)>/\u001b[31m\"""#), "{clients}");
    assert_eq!(served.all("/v1/clients?prefix=pump-&address=127.0.0.0/8").matches("\"client\":").count(), 5);
    assert_eq!(served.all("/v1/clients?address=10.1.2.3").matches("\"client\":").count(), 0);
    assert_eq!(served.get("/v1/clients?address=nowhere").status, 400);
    let one = served.get("/v1/clients/pump-3");
    assert!(
        one.body.contains("\"version\":\"5.0\"") && one.body.contains("\"keep_alive_s\":60"),
        "{}",
        one.body
    );
    assert_eq!(served.get("/v1/clients/nobody").status, 404);
    let path = "/v1/clients/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%2F%1B%5B31m%22";
    let subscriptions = served.get(&format!("{path}/subscriptions"));
    assert!(subscriptions.body.contains("\"filter\":\"a/+\""), "{}", subscriptions.body);
    assert!(served.all("/v1/receivers?topic=a/b").contains("onerror"));
    assert!(!served.all("/v1/receivers?topic=b").contains("onerror"));
    assert_eq!(served.get("/v1/receivers").status, 400);

    let publish = r#"{"topic":"a/b","payload":"aGVsbG8=","qos":1,"retain":true}"#;
    assert_eq!(served.call(OPERATE, "POST", "/v1/publish", publish).status, 200);
    assert_eq!(reader.next_message().text(), "hello");
    assert!(served.all("/v1/retained?filter=a/%23").contains("\"topic\":\"a/b\""));
    let kept = served.call(OPERATE, "GET", "/v1/retained/message?topic=a/b", "");
    assert!(kept.body.contains("\"payload\":\"aGVsbG8=\""), "{}", kept.body);
    assert_eq!(served.call(OPERATE, "DELETE", "/v1/retained/message?topic=a/b", "").status, 200);
    assert_eq!(served.call(OPERATE, "GET", "/v1/retained/message?topic=a/b", "").status, 404);

    assert_eq!(served.call(OPERATE, "DELETE", "/v1/clients/pump-3", "").status, 200);
    assert_eq!(peers[3].await_close(), Some(0x98));
    let deadline = Deadline::after(PATIENCE);
    while !served.all("/v1/closed?client=pump-3").contains("\"reason\":\"operator\"") {
        assert!(deadline.remaining().is_some(), "{}", served.all("/v1/closed?client=pump-3"));
    }
    peers[0].publish(&Publish::new("x", 1, b"x"));
    let statistics = served.get("/v1/statistics").body;
    assert!(statistics.contains("\"attached\":5") && statistics.contains("\"shards\":["), "{statistics}");
    for path in ["/v1/health", "/v1/refusals", "/v1/bans", "/v1/sessions", "/v1/subscriptions"] {
        assert_eq!(served.get(path).status, 200, "{path}");
    }
    served.broker.stop();
}

#[test]
fn the_description_is_open_and_probes_know_nothing_of_the_api() {
    let mut served = serve();
    let description =
        ask(served.admin, "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(
        description.status == 200 && description.body.contains("\"openapi\":\"3.1.0\""),
        "{}",
        description.body
    );
    let probes = address(served.broker.process(), "probes serve");
    let token = &served.tokens[ADMIN];
    let request = format!(
        "GET /v1/clients HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(ask(probes, &request).status, 404);
    served.broker.stop();
}

/// Rates hold for clients that come after the reload, and a ban for what fails after it.
#[test]
fn a_reload_by_the_api_is_tried_applied_taken_back_and_refused_whole() {
    let served = serve();
    let mut stays = Peer::connect(served.broker.address(), &Connect::new(Version::V5, "stays"));
    let flood = Publish::new("t", 0, b"x").encode(Version::V5).repeat(50);
    let change = |more: &str| served.broker.directory().write("test.conf", &format!("{more}{CONFIG}"));
    change("publish_rate = 2\nburst_s = 1\non_rate = \"disconnect\"\n[bans]\nflapping_max = 900\n");
    for scope in [READ, OPERATE] {
        assert_eq!(served.call(scope, "POST", "/v1/reload", "").status, 403);
    }
    let tried = served.call(ADMIN, "POST", "/v1/reload?dry_run=true", "");
    assert!(tried.status == 200 && tried.body.contains("\"generation\":1"), "{}", tried.body);
    let mut free = Peer::connect(served.broker.address(), &Connect::new(Version::V5, "free"));
    free.send(&flood);
    free.ping();
    assert_eq!(served.call(ADMIN, "POST", "/v1/reload?dry_run=perhaps", "").status, 400);
    let applied = served.call(ADMIN, "POST", "/v1/reload", "");
    for part in ["\"generation\":2", "\"key\":\"bans.flapping_max\"", "\"key\":\"publish_rate\""] {
        assert!(applied.status == 200 && applied.body.contains(part), "{part}: {}", applied.body);
    }
    assert!(!applied.body.contains("\"is_live\":false"), "{}", applied.body);
    let mut limited = Peer::connect(served.broker.address(), &Connect::new(Version::V5, "limited"));
    limited.send_ignoring_errors(&flood);
    assert_eq!(limited.await_close(), Some(0x96));
    for peer in [&mut stays, &mut free] {
        peer.send(&flood);
        peer.ping();
    }
    change("publish_rate = 2\npublish_rat = 3\n");
    let refused = served.call(ADMIN, "POST", "/v1/reload", "");
    assert!(refused.status == 409 && refused.body.contains("test.conf, line 2"), "{}", refused.body);
    assert_eq!(served.call(ADMIN, "POST", "/v1/rollback", "").status, 200);
    let mut again = Peer::connect(served.broker.address(), &Connect::new(Version::V5, "again"));
    again.send(&flood);
    again.ping();
    assert_eq!(served.call(ADMIN, "POST", "/v1/rollback", "").status, 409);
    let (finished, _directory) = served.broker.stop();
    let audit = |line: &&str| line.contains("operator token=\"admin\" method=\"POST\" path=\"/v1/reload\"");
    assert_eq!(finished.output.lines().filter(audit).count(), 3, "{}", finished.output);
}
