//! Configurations of mosquitto of different kinds become ours, and every line of them is answered.

use std::io;
use std::path::Path;

use super::super::from_mosquitto::{Imported, convert, convert_dynamic_security, is_dynamic_security};
use super::super::listener::{ClientCertificate, ClientIdFrom, ClientIdMismatch};
use super::tables::tables;
use super::*;

const FILES: [(&str, &str); 7] = [
    ("home", include_str!("mosquitto/home.conf")),
    ("container", include_str!("mosquitto/container.conf")),
    ("letsencrypt", include_str!("mosquitto/letsencrypt.conf")),
    ("fleet", include_str!("mosquitto/fleet.conf")),
    ("gateway", include_str!("mosquitto/gateway.conf")),
    ("listeners", include_str!("mosquitto/listeners.conf")),
    ("dynamic", include_str!("mosquitto/dynamic.conf")),
];

const STATE: &str = include_str!("mosquitto/dynamic-security.json");

fn imported(name: &str) -> Imported {
    let (_, text) = FILES.iter().find(|(file, _)| *file == name).unwrap();
    convert(Path::new("m.conf"), text, &|path| match path.to_str() {
        Some("dynamic-security.json") => Ok(STATE.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

/// The tables of an import; its flat keys are checked as well.
fn read(imported: &Imported) -> Tables {
    let (flat, below) = imported.config.split_at(imported.config.find("\n[").unwrap());
    effective(flat, &[]).unwrap();
    let (tables, _, errors) = tables(below);
    assert_eq!(errors, [""; 0], "{}", imported.config);
    tables
}

fn line(imported: &Imported, number: usize) -> &str {
    let beginning = format!("m.conf, line {number}: ");
    let found = imported.report.iter().find_map(|line| line.strip_prefix(&beginning));
    found.unwrap_or_else(|| panic!("line {number} has no answer: {:#?}", imported.report))
}

#[test]
fn every_line_is_answered_and_what_is_written_is_allowed() {
    for (name, text) in FILES {
        let imported = imported(name);
        read(&imported);
        for (at, written) in text.lines().enumerate() {
            if !written.is_empty() && !written.starts_with('#') {
                let answer = line(&imported, at + 1);
                let known = ["taken over: ", "not needed: ", "NOT TAKEN OVER: "];
                assert!(known.iter().any(|verdict| answer.starts_with(verdict)), "{name}: {answer}");
            }
        }
    }
}

#[test]
fn a_home_has_its_passwords_and_rules_on_both_listeners() {
    let imported = imported("home");
    let Tables { listener, auth, rules, .. } = read(&imported);
    let seen: Vec<_> = listener
        .iter()
        .map(|it| (it.port, it.anonymous, it.methods().len(), it.websocket.is_some()))
        .collect();
    assert_eq!(seen, [(1_883, Anonymous::Refused, 1, false), (1_884, Anonymous::Refused, 1, true)]);
    assert_eq!(&*auth.unwrap().password.unwrap().file, Path::new("/etc/mosquitto/pw"));
    assert_eq!(rules.unwrap().acl_file.as_deref(), Some(Path::new("/etc/mosquitto/acl")));
    assert!(imported.config.contains("log_level = \"info\""), "{}", imported.config);
}

#[test]
fn a_container_lets_everybody_in_where_it_did_before() {
    let imported = imported("container");
    let effective = effective(imported.config.split("[listener.websocket]").next().unwrap(), &[]).unwrap();
    assert!(effective.config.listeners.iter().all(ListenerConfig::allows_anonymous));
    assert_eq!(effective.config.listeners[1].beyond(), ["0.0.0.0"]);
}

#[test]
fn certificates_are_taken_over_and_clients_are_asked_only_where_they_were() {
    let public = read(&imported("letsencrypt"));
    assert_eq!(public.listener[0].beyond(), [""; 0]);
    let tls = public.listener[1].tls.as_ref().unwrap();
    assert_eq!((tls.client_certificate, tls.client_ca.is_none()), (ClientCertificate::Off, true));
    assert!(public.listener[2].tls.is_some() && public.listener[2].websocket.is_some());

    let fleet = imported("fleet");
    let tables = read(&fleet);
    let [devices] = &tables.listener[..] else { panic!("{}", fleet.config) };
    assert!(devices.asks_for_certificates() && !devices.allows_anonymous());
    assert_eq!((devices.connections_max, devices.maximum_qos), (Some(20_000), Some(1)));
    let tls = devices.tls.as_ref().unwrap();
    let expected = (ClientIdFrom::Username, ClientIdMismatch::Replace);
    assert_eq!((tls.client_id_from, tls.client_id_mismatch), expected);
    assert!(line(&fleet, 11).contains("modern ciphers"), "{}", line(&fleet, 11));
}

#[test]
fn a_bridge_is_named_and_the_rest_serves() {
    let imported = imported("gateway");
    assert_eq!(imported.report.iter().filter(|line| line.contains("opens no bridge")).count(), 10);
    let tables = read(&imported);
    assert_eq!(tables.listener[0].beyond(), [""; 0]);
    // A secret of the bridge is no part of our file's keys.
    assert!(tables.auth.is_none());
}

#[test]
fn listeners_with_settings_of_their_own_keep_them_or_are_told() {
    let imported = imported("listeners");
    let tables = read(&imported);
    let anonymous: Vec<bool> = tables.listener.iter().map(ListenerConfig::allows_anonymous).collect();
    assert_eq!(anonymous, [true, false, false]);
    assert_eq!(tables.listener[2].beyond(), [""; 0]);
    assert!(matches!(tables.listener[0].at(), ListenAt::Unix { .. }));
    assert!(line(&imported, 12).contains("no IP address"));
    assert!(line(&imported, 13).contains("one password file"));
    assert!(line(&imported, 14).contains("no plugins"));
}

#[test]
fn users_and_roles_of_the_plugin_are_taken_over() {
    let json = serde_json::from_str(STATE).unwrap();
    assert!(is_dynamic_security(&json));
    for imported in [imported("dynamic"), convert_dynamic_security(&json)] {
        let tables = read(&imported);
        assert_eq!(tables.user["sensor 1"].roles, ["sensor"]);
        assert_eq!(tables.user.keys().collect::<Vec<_>>(), ["admin", "new", "sensor 1"]);
        assert_eq!(tables.role["sensor"].deny, ["sensors/secret"]);
        // The right to receive alone lets nobody subscribe.
        assert_eq!(tables.role["admin"].subscribe, ["#"]);
        assert_eq!(tables.rules.unwrap().roles_anonymous, ["guest"]);
        assert_eq!(imported.passwords, "admin:$7$101$c2FsdA==$aGFzaA==\nsensor 1:$7$101$c2FsdA==$aGFzaA==\n");
        assert!(imported.report.iter().any(|line| line.contains("\"gone\": NOT TAKEN OVER")));
    }
}
