//! The files of a listener: faults at the start, and their change while the broker runs.

use rustix::process::Signal;

use crate::authority::Authority;
use crate::broker::{directory, listener, start_in, write};
use crate::client::{Client, Trust};
use crate::harness::broker::{Directory, Io, command_in};
use crate::harness::packet::{Connect, Version};
use crate::harness::process::run;

/// The answer of a broker that cannot start: exit code 2 and one sentence.
fn refusal(directory: &Directory, config: &str, io: &str) -> String {
    let file = directory.write("broker.conf", config);
    let mut command = command_in(directory);
    command.arg("--config").arg(file).arg("--data-dir").arg(directory.path().join("data")).args(["--io", io]);
    let finished = run(command);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.output);
    let said = finished.output.lines().find(|line| line.contains("error: ")).expect("it says why");
    said.to_owned()
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let authority = Authority::new("authority");
    for (name, content, reason) in [
        ("server.pem", None, "cannot be read"),
        ("server.key", None, "cannot be read"),
        ("server.pem", Some(""), "has no certificate in PEM"),
        ("server.key", Some("no key"), "has no private key in PEM"),
        (
            "server.key",
            Some(&*authority.certificate("other", &[], 3).key),
            "is not the key of the first certificate in",
        ),
        ("ca.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be used"),
        ("ca.crl", Some("nothing"), "has no list of revoked certificates in PEM"),
        (
            "ca.crl",
            Some("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"),
            "it must be of version 2",
        ),
    ] {
        let directory = directory(&authority);
        directory.write("ca.crl", &authority.revoked(&[], true));
        match content {
            Some(content) => drop(directory.write(name, content)),
            None => std::fs::remove_file(directory.path().join(name)).expect("it was written"),
        }
        let more = "client_ca = \"ca.pem\"\nclient_certificate = \"require\"\ncrl = [\"ca.crl\"]\n";
        let said = refusal(&directory, &listener(more), "auto");
        assert!(
            said.contains("the listener devices") && said.contains(name) && said.contains(reason),
            "{said}"
        );
    }
}

#[test]
fn a_backend_without_tls_says_so() {
    let authority = Authority::new("authority");
    let said = refusal(&directory(&authority), &listener(""), "blocking");
    assert!(said.contains("the listener devices has TLS") && said.contains("--io auto"), "{said}");
}

#[test]
fn changed_files_serve_the_connections_that_begin_afterwards_and_a_fault_changes_nothing() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mut broker = start_in(directory(&first), Io::Auto, &listener(""), &[], 1);
    let open = |broker: &crate::harness::broker::Broker, trust: &Trust| {
        let mut client = Client::open(broker.address(), trust, "localhost");
        let connect = Connect::new(Version::V5, "").encode();
        client.shake_hands(&connect).is_ok().then_some(client)
    };
    let (by_first, by_second) = (Trust::new(&first).forgetful(), Trust::new(&second).forgetful());
    let mut early = open(&broker, &by_first).expect("the first certificate is served");
    assert!(open(&broker, &by_second).is_none());

    // A key that is not of its chain: the old files go on.
    let [wrong, right] = [1, 2].map(|serial| second.certificate("server", &["localhost"], serial));
    broker.directory().write("server.key", &wrong.key);
    let mark = broker.process().mark();
    broker.process().signal(Signal::HUP);
    broker.process().wait_for(mark, "the fault", |line| line.contains("everything stays as it is"));
    assert!(open(&broker, &by_first).is_some());

    write(broker.directory(), "server", &right);
    let mark = broker.process().mark();
    broker.process().signal(Signal::HUP);
    broker.process().wait_for(mark, "the change", |line| line.contains("TLS has new files"));
    assert!(open(&broker, &by_second).is_some());
    assert!(open(&broker, &by_first).is_none());
    // The open connection goes on.
    assert_eq!(early.hear(1).expect("it is let in"), [0x20]);
    broker.stop();
}
