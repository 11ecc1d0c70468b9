//! A configuration of mosquitto, from its import to a client that connects.

use std::fs;

use crate::harness::broker::{Broker, Directory, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;

const CONFIGURATION: &str = "\
# Three years old, and nobody knows who wrote it.
per_listener_settings false
pid_file /run/mosquitto/mosquitto.pid
persistence true
persistence_location data/
allow_anonymous false
password_file passwd
acl_file acl
max_queued_messages 5000
listener 18830 127.0.0.1
max_qos 1
listener 18831 127.0.0.1
protocol websockets
connection upstream
address bridge.example.com:1883
topic # both 0
";
/// As `mosquitto_passwd` writes it.
const PASSWORDS: &str = "ann:$7$101$KNkWVh3eHJJ3nOqt$lX5ZysIijJYMMc8ARfiOp2v1o57+bIBXTrDu+sgHtDFm9cspl4xdPNBgGGt8Pn7WGLa+11FjxFdKBhYPZTckMQ==\n";
const ACL: &str = "user ann\ntopic readwrite home/#\n";

#[test]
fn an_imported_configuration_is_checked_started_and_serves() {
    let directory = Directory::new();
    directory.write("mosquitto.conf", CONFIGURATION);
    directory.write("passwd", PASSWORDS);
    directory.write("acl", ACL);
    let config = |arguments: &[&str]| {
        let mut command = command_in(&directory);
        command.arg("config").args(arguments);
        run(command)
    };
    let imported = config(&["import", "mosquitto.conf", "--output", "broker.conf"]);
    assert!(imported.status.success(), "{}", imported.output);
    // Each line is answered for.
    for line in 2..=16 {
        assert!(imported.output.contains(&format!("line {line}:")), "{line}: {}", imported.output);
    }
    assert!(imported.output.contains("opens no bridge"), "{}", imported.output);
    let checked = config(&["check", "broker.conf"]);
    assert!(checked.status.success() && checked.output.contains("ok"), "{}", checked.output);

    // Free ports in place of mosquitto's.
    let file = directory.path().join("broker.conf");
    let text = fs::read_to_string(&file).expect("it was written");
    assert!(text.contains("port = 18830") && text.contains("port = 18831"), "{text}");
    fs::write(&file, text.replace("18830", "0").replace("port = 18831", "name = \"pages\"\nport = 0"))
        .expect("it is ours");
    let mut command = command_in(&directory);
    command.arg("--config").arg(&file);
    let broker = Broker::spawn(directory, command, 2);
    let address = broker.addresses()[0];
    let connect = |password: &'static [u8]| {
        Peer::try_connect(address, &Connect::new(Version::V5, "kitchen").with_credentials("ann", password))
    };
    assert_eq!(connect(b"wrong").1, 0x86);
    assert_eq!(Peer::try_connect(address, &Connect::new(Version::V3_1_1, "nobody")).1, 4);
    let (mut client, reason) = connect(b"correct horse");
    assert_eq!(reason, 0);
    assert_eq!(client.subscribe("home/#", 2), 1, "max_qos 1");
    assert_eq!(client.publish(&Publish::new("home/lamp", 1, b"on")), 0);
    assert_eq!(client.next_message().text(), "on");
    assert_eq!(client.publish(&Publish::new("office/lamp", 1, b"on")), 0x87);
    client.disconnect();
    broker.stop();
}
