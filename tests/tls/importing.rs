//! A stranger's mosquitto with three listeners, a password file, an ACL and certificates: one import, and its clients are served.

use std::fs;

use crate::authority::Authority;
use crate::broker::directory;
use crate::client::{Client, Trust};
use crate::harness::broker::{Broker, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;
use crate::tunnel;

const CONFIGURATION: &str = "\
allow_anonymous false
password_file passwd
acl_file acl
listener 18830 127.0.0.1
listener 18831 127.0.0.1
protocol websockets
listener 18832 127.0.0.1
cafile ca.pem
certfile server.pem
keyfile server.key
require_certificate false
";
/// As `mosquitto_passwd` writes it.
const PASSWORDS: &str = "ann:$7$101$KNkWVh3eHJJ3nOqt$lX5ZysIijJYMMc8ARfiOp2v1o57+bIBXTrDu+sgHtDFm9cspl4xdPNBgGGt8Pn7WGLa+11FjxFdKBhYPZTckMQ==\n";
const ACL: &str = "user ann\ntopic readwrite home/#\n";

#[test]
fn three_listeners_with_passwords_rules_and_certificates_serve_after_one_import() {
    let authority = Authority::new("of the stranger");
    let directory = directory(&authority);
    for (name, text) in [("mosquitto.conf", CONFIGURATION), ("passwd", PASSWORDS), ("acl", ACL)] {
        directory.write(name, text);
    }
    let mut command = command_in(&directory);
    command.args(["config", "import", "mosquitto.conf", "--output", "broker.conf"]);
    let imported = run(command);
    assert!(imported.status.success(), "{}", imported.output);

    // Free ports in place of mosquitto's, and names, since those come from the ports.
    let file = directory.path().join("broker.conf");
    let mut text = fs::read_to_string(&file).expect("it was written");
    for (number, port) in ["18830", "18831", "18832"].iter().enumerate() {
        let table = format!("port = {port}");
        assert!(text.contains(&table), "{text}");
        text = text.replace(&table, &format!("name = \"imported-{number}\"\nport = 0"));
    }
    fs::write(&file, text).expect("it is ours");
    let mut command = command_in(&directory);
    command.arg("--config").arg(&file);
    let broker = Broker::spawn(directory, command, 3);
    let [plain, _, secure] = broker.addresses()[..] else { panic!("three listeners") };

    let connect = |client_id, password: &'static [u8]| {
        Connect::new(Version::V5, client_id).with_credentials("ann", password)
    };
    let through = tunnel::open(secure, Trust::new(&authority));
    let (mut near, reason) = Peer::try_connect(plain, &connect("near", b"correct horse"));
    assert_eq!(reason, 0);
    assert_eq!(Peer::try_connect(through, &connect("wrong", b"wrong")).1, 0x86);
    let (mut far, reason) = Peer::try_connect(through, &connect("far", b"correct horse"));
    assert_eq!(reason, 0);
    assert_eq!(far.subscribe("home/#", 1), 1);
    assert_eq!(near.publish(&Publish::new("office/lamp", 1, b"on")), 0x87);
    assert_eq!(near.publish(&Publish::new("home/lamp", 1, b"on")), 0);
    assert_eq!(far.next_message().text(), "on");
    let stranger = Trust::new(&Authority::new("of nobody"));
    let mut client = Client::open(secure, &stranger, "localhost");
    assert!(client.shake_hands(&[]).is_err(), "the certificate is the one that was configured");
    broker.stop();
}
