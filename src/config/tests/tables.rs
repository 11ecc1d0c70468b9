//! The tables of the file: what they set, and the errors of wrong ones.

use std::path::Path;

use super::super::auth::AuthMethod;
use super::super::listener::{ClientCertificate, ListenerConfig};
use super::super::table::{Reader, ShownTable, Table};
use super::super::value::Field;
use super::*;

/// The tables of a file in the directory `conf`, without the refusal of keys whose feature has not landed.
pub(super) fn tables(text: &str) -> (Tables, Vec<ShownTable>, Vec<String>) {
    let (mut tables, mut shown, mut errors) = (Tables::default(), Vec::new(), Vec::new());
    let document = toml::de::DeTable::parse(text).unwrap().into_inner();
    for (key, value) in table::in_order(&document) {
        let mut reader = Reader {
            file: Path::new("conf/b.conf"),
            text,
            errors: &mut errors,
            shown: &mut shown,
            refuses: false,
        };
        let inner = Tables::TABLES.iter().find(|inner| inner.key == key.get_ref()).unwrap();
        (inner.read)(&mut tables, &mut reader, key.get_ref(), value, key.span().start);
    }
    (tables, shown, errors.iter().map(ToString::to_string).collect())
}

fn read(text: &str) -> Tables {
    let (tables, _, errors) = tables(text);
    assert_eq!(errors, [""; 0]);
    tables
}

fn refused(text: &str) -> Vec<String> {
    tables(text).2
}

#[test]
fn a_listener_has_its_own_address_and_limits() {
    let file = r#"
        [[listener]]
        name = "local"
        bind = ["127.0.0.1"]
        anonymous = true

        [[listener]]
        bind = ["::1"]
        port = 1884
    "#;
    let effective = effective(file, &[]).unwrap();
    let [local, other] = &effective.config.listeners[..] else { panic!("{:?}", effective.config.listeners) };
    assert_eq!((local.name.as_str(), local.anonymous, local.port), ("local", Anonymous::Allowed, 1_883));
    assert_eq!(other.name, "1884");
    assert_eq!(other.at(), ListenAt::Tcp { bind: bind(&["::1"]), named: true, port: 1_884 });
    assert_eq!((other.methods().len(), other.sockets()), (0, 1));

    let shown: Vec<String> = effective
        .tables()
        .iter()
        .flat_map(|table| table.rows.iter().map(|(key, value, origin)| format!("{key} = {value} # {origin}")))
        .collect();
    assert!(shown.contains(&"port = 1884 # broker.conf, line 9".to_owned()), "{shown:#?}");
    assert!(shown.contains(&"port = 1883 # default".to_owned()), "{shown:#?}");
}

#[test]
fn every_table_is_read() {
    let tables = read(
        r#"
        [[listener]]
        port = 8883
        auth = ["certificate", "jwt"]
        proxy_protocol = "require"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [listener.tls]
        certificates = [{ chain = "tls/a.pem", key = "/etc/a.key" }]
        client_certificate = "require"
        client_ca = "tls/ca.pem"
        [[listener]]
        unix = "mqtt.sock"
        websocket = { path = "/mqtt", origins = ["https://app.example.com"] }
        [auth.password]
        file = "passwords"
        [auth.jwt]
        keys = ["jwks.json", "https://id.example.com/jwks"]
        ca = "ca.pem"
        issuer = "https://id.example.com"
        audience = "mqtt"
        claims = { username = "name" }
        [auth.http]
        url = "http://127.0.0.1:8080/mqtt"
        [rules]
        acl_file = "acl"
        [role.device]
        publish = ["devices/%u/up/#"]
        [user.alice]
        roles = ["device"]
        [user."bob smith"]
        roles = []
        [bans]
        failures_max = 5
    "#,
    );
    let [devices, local] = &tables.listener[..] else { panic!("{tables:?}") };
    assert_eq!(devices.auth.as_deref(), Some(&[AuthMethod::Certificate, AuthMethod::Jwt][..]));
    assert_eq!(devices.trusted_proxies[1].to_string(), "::1/128");
    let tls = devices.tls.as_ref().unwrap();
    // Relative to the directory of the file.
    assert_eq!(
        (&*tls.certificates[0].chain, &*tls.certificates[0].key),
        (Path::new("conf/tls/a.pem"), Path::new("/etc/a.key"))
    );
    assert_eq!(tls.client_ca.as_deref(), Some(Path::new("conf/tls/ca.pem")));
    assert_eq!(tls.client_certificate, ClientCertificate::Require);
    assert!(matches!(local.at(), ListenAt::Unix { path, .. } if **path == *Path::new("conf/mqtt.sock")));
    assert_eq!(local.websocket.as_ref().unwrap().origins, ["https://app.example.com"]);
    let auth = tables.auth.unwrap();
    assert_eq!(auth.methods().collect::<Vec<_>>(), [AuthMethod::Jwt, AuthMethod::Password, AuthMethod::Http]);
    assert_eq!(auth.jwt.unwrap().claims.unwrap().username, "name");
    assert_eq!(&*auth.password.unwrap().file, Path::new("conf/passwords"));
    assert_eq!(tables.role["device"].publish, ["devices/%u/up/#"]);
    assert_eq!(tables.user.keys().collect::<Vec<_>>(), ["alice", "bob smith"]);
    assert_eq!((tables.bans.unwrap().failures_max, tables.rules.unwrap().acl_file.is_some()), (5, true));
}

#[test]
fn an_unknown_key_of_a_table_names_the_nearest_of_that_table() {
    let check =
        |text: &str, expected: &str| assert_eq!(refused(text), [format!("conf/b.conf, line 2: {expected}")]);
    check("[[listener]]\nprot = 1", "unknown key listener.prot; did you mean port?");
    check("[[listener]]\ntsl = { }", "unknown key listener.tsl; did you mean tls?");
    check("[auth.password]\nfiel = 'x'\nfile = 'x'", "unknown key auth.password.fiel; did you mean file?");
    check("[role.device]\npublsh = []", "unknown key role.device.publsh; did you mean publish?");
    check(
        "[[listener]]\nmax_connections = 1",
        "listener.max_connections is a key of the whole broker; write it above the first table, because keys behind a \
         [header] belong to that table",
    );
}

#[test]
fn a_bad_value_of_a_table_names_line_key_value_and_what_is_allowed() {
    let check =
        |text: &str, expected: &str| assert_eq!(refused(text), [format!("conf/b.conf, line 2: {expected}")]);
    check("[[listener]]\nport = 99999", "listener.port must be from 0 to 65535, not 99999");
    check(
        "[[listener]]\nauth = ['pasword']",
        "listener.auth must be a list of methods of \"certificate\", \"jwt\", \"password\", \"scram\" and \"http\", not \
         ['pasword']",
    );
    check(
        "[user.alice]\nroles = 'operator'",
        "user.alice.roles must be a list of texts such as [\"one\", \"two\"], not 'operator'",
    );
    check(
        "[role.device]\npublish = ['a/#/b']",
        "role.device.publish must have topic filters alone, and \"a/#/b\" is none",
    );
    check("[rules]\ndefault = 'no'", "rules.default must be one of \"deny\", \"allow\", not 'no'");
}

#[test]
fn a_table_that_lacks_a_key_or_has_two_that_exclude_each_other_says_so() {
    let check = |text: &str, line: usize, expected: &str| {
        assert_eq!(refused(text), [format!("conf/b.conf, line {line}: {expected}")]);
    };
    check("[auth.password]\nthreads = 1", 1, "auth.password needs file; write file = \"passwords\"");
    check(
        "[[listener]]\nport = 1\nunix = 'x'",
        3,
        "listener.unix cannot stand beside port; leave one of them out",
    );
    check(
        "[[listener]]\nproxy_protocol = 'require'",
        1,
        "listener.trusted_proxies must name the proxies that are believed, such as [\"10.0.0.0/8\"]",
    );
    check(
        "[[listener]]\n[listener.tls]\nport = 1\ncertificates = [{ chain = 'a', key = 'b' }]",
        3,
        "unknown key listener.tls.port; `mqtt-broker config default` lists every key",
    );
    check(
        "[[listener]]\n[listener.tls]\nclient_certificate = 'require'\ncertificates = [{ chain = 'a', key = 'b' }]",
        2,
        "listener.tls needs client_ca; write client_ca = \"tls/ca.pem\"",
    );
    let trusted =
        "[[listener]]\ntrusted_proxies = ['::1']\nproxy_protocol = 'require'\nproxy_identity = true";
    check(
        &trusted.replace("require", "off"),
        4,
        "listener.proxy_identity needs proxy_protocol = \"require\", which brings the name",
    );
    let tls = "client_certificate = 'optional'\nclient_ca = 'c'\ncertificates = [{ chain = 'a', key = 'b' }]";
    check(
        &format!("{trusted}\n[listener.tls]\n{tls}"),
        4,
        "listener.proxy_identity and client_certificate would both name the client; leave one of them out",
    );
    check("listener = 1", 1, "listener must be a table: write its keys below [[listener]]");
    check("[listener]\nport = 1", 1, "listener must be a table: write its keys below [[listener]]");
    check("[role]\ndevice = 1", 2, "role.device must be a table: write its keys below [role.device]");
}

#[test]
fn flat_keys_and_listeners_exclude_each_other() {
    let file = "[[listener]]\nport = 1";
    let expected = |origin: &str, key: &str| {
        format!(
            "{origin}: {key} describes the only listener, and the file has tables [[listener]]; write {key} in the listener \
             that it is meant for"
        )
    };
    let errors = layered(file, &[("MQTT_BROKER_BIND", "::1")], &[("port", &["1"])]).unwrap_err();
    assert_eq!(errors, [expected("MQTT_BROKER_BIND", "bind"), expected("--port", "port")]);
    let errors = super::errors(&format!("anonymous = true\n{file}"));
    assert_eq!(errors, [expected("broker.conf, line 1", "anonymous")]);
    let same = super::errors("[[listener]]\nname = 'a'\n[[listener]]\nname = 'a'\nport = 2");
    assert_eq!(
        same,
        ["broker.conf, line 3: two listeners have the name \"a\"; write another name = \"NAME\""]
    );
}

#[test]
fn no_two_listeners_have_the_same_place() {
    let file = |first: &str, second: &str| {
        format!("[[listener]]\nname = 'a'\n{first}\n[[listener]]\nname = 'b'\n{second}")
    };
    for (first, second, place) in [
        ("port = 7", "port = 7", "port 7 of 127.0.0.1"),
        ("port = 7", "bind = ['::1']\nport = 7", "port 7 of ::1"),
        ("unix = '/run/a'", "unix = '/run/a'", "the socket /run/a"),
    ] {
        let expected =
            format!("broker.conf, line 4: the listener \"b\" has {place}, as \"a\" has; give it another");
        assert_eq!(errors(&file(first, second)), [expected]);
    }
    let others =
        ["port = 8", "port = 7\nbind = ['0.0.0.0']\nanonymous = true", "port = 7\nbind = ['127.0.0.2']"];
    for other in others {
        assert!(effective(&file("port = 7", other), &[]).is_ok(), "{other}");
    }
    assert!(effective(&file("port = 0", "port = 0"), &[]).is_ok(), "each has a free one");
}

#[test]
fn a_listener_has_no_greater_limits_than_the_broker() {
    let file = "packet_bytes_max = 4096\nmaximum_qos = 0\n[[listener]]\nname = 'a'\npacket_bytes_max = 4097\nmaximum_qos = 1";
    let expected = |key: &str, whole: u32| {
        format!(
            "broker.conf, line 3: {key} of the listener \"a\" is above the broker's {key} = {whole}; raise that one, or lower this"
        )
    };
    assert_eq!(errors(file), [expected("packet_bytes_max", 4_096), expected("maximum_qos", 0)]);
    let effective = effective(&file.replace("4097", "4096").replace("qos = 1", "qos = 0"), &[]).unwrap();
    assert_eq!(effective.config.engine_limits(1).listeners[0].packet_bytes_max, Some(4_096));
}

#[test]
fn a_listener_that_lets_nobody_in_is_refused() {
    let sentence = |name: &str| {
        format!(
            "the listener \"{name}\" lets nobody in, because anonymous = false and there is no method of authentication; add \
             one, such as [auth.password], or write anonymous = true"
        )
    };
    assert_eq!(errors("anonymous = false"), [format!("broker.conf, line 1: {}", sentence("default"))]);
    let file = "[[listener]]\n[[listener]]\nname = 'closed'\nport = 1884\nanonymous = false";
    assert_eq!(errors(file), [format!("broker.conf, line 2: {}", sentence("closed"))]);
}

#[test]
fn beyond_this_machine_somebody_must_say_who_may_come_in() {
    let sentence = |name: &str, places: &str| {
        format!(
            "the listener \"{name}\" would let in everybody who reaches {places}; configure authentication, such as \
             [auth.password], or write anonymous = true (--anonymous true) if everybody may come in"
        )
    };
    let flags: &[(&str, &[&str])] = &[("bind", &["127.0.0.1", "0.0.0.0", "::"])];
    assert_eq!(
        effective("", flags).unwrap_err(),
        [format!("--bind: {}", sentence("default", "0.0.0.0, ::"))]
    );
    let file = "[[listener]]\n\n[[listener]]\nname = 'open'\nbind = ['192.0.2.1']";
    assert_eq!(errors(file), [format!("broker.conf, line 3: {}", sentence("open", "192.0.2.1"))]);

    for allowed in ["bind = ['127.0.0.2', '::1']", "[[listener]]\nbind = ['::']\nanonymous = true"] {
        effective(allowed, &[]).unwrap();
    }
    let variables = [("MQTT_BROKER_BIND", "0.0.0.0"), ("MQTT_BROKER_ANONYMOUS", "true")];
    let written = layered("", &variables, &[]).unwrap();
    assert!(written.config.listeners[0].allows_anonymous());
}

#[test]
fn the_durability_of_a_listener_needs_that_of_the_broker() {
    assert_eq!(
        errors("durability = 'power'\n[[listener]]\ndurability = 'memory'"),
        [
            "broker.conf, line 3: listener.durability must be \"power\" or \"process\": the log has what it has whatever the listener"
        ]
    );
    effective("[[listener]]\ndurability = 'process'", &[]).expect("the default writes a log");
    for level in ["process", "power"] {
        let file = format!("durability = 'memory'\n[[listener]]\ndurability = '{level}'");
        let file = file.as_str();
        let errors = errors(file);
        let expected = "the listener \"1883\" has a durability, and the broker's is \"memory\", which writes no log; set durability \
                        = \"process\" or \"power\" above the tables, or leave it out";
        assert!(errors.len() == 1 && errors[0].ends_with(expected), "{errors:?}");
    }
    let levels = |file| {
        let limits = effective(file, &[]).unwrap().config.engine_limits(1);
        limits.listeners.iter().map(|listener| listener.acknowledge_written).collect::<Vec<_>>()
    };
    let file = "durability = 'process'\n[[listener]]\ndurability = 'power'\n[[listener]]\nport = 1884\ndurability = 'process'\n\
                [[listener]]\nport = 1885";
    assert_eq!(levels(file), [Some(false), Some(true), None]);
}

/// Each key of the tables in the default file is read as it stands there, so its example is allowed.
#[test]
fn the_examples_of_the_default_file_are_allowed() {
    let text = default_file();
    let (_, examples) = text.split_once("# Tables -").unwrap();
    let written: Vec<&str> = examples
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with('[') || !line.starts_with(' ') && line.contains(" = "))
        .collect();
    let (_, shown, errors) = tables(&written.join("\n"));
    let expected = [
        "listener.unix cannot stand beside bind; leave one of them out",
        "listener.unix cannot stand beside port; leave one of them out",
        "listener.unix cannot stand beside systemd; leave one of them out",
        "listener.systemd cannot stand beside bind; leave one of them out",
        "listener.systemd cannot stand beside port; leave one of them out",
    ];
    let sentences: Vec<&str> = errors.iter().map(|error| error.split_once(": ").unwrap().1).collect();
    assert_eq!(sentences, expected);
    // Every key of every table is there.
    let listener = shown.iter().find(|table| table.header == "[[listener]]").unwrap();
    assert_eq!(listener.rows.len(), ListenerConfig::KEYS.len());
    assert!(listener.rows.iter().all(|(_, _, origin)| *origin != Origin::Default), "{listener:?}");
    assert_eq!(Vec::<String>::allowed(&value::ANY), "a list of texts such as [\"one\", \"two\"]");
}
