//! Starting: defaults, addresses, logs, and which I/O driver serves.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::harness::broker::{Broker, Directory, Io, Setup, command_in, configure};
use crate::harness::machine;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;

#[test]
fn without_arguments_it_serves_on_1883_or_names_the_port_in_use() {
    let directory = Directory::new();
    let command = command_in(&directory);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 1883)).is_ok();
    if !free {
        machine::print_notice(
            "port 1883 is taken here: only the refusal of a start without arguments was tested",
        );
        let finished = run(command);
        assert!(!finished.status.success());
        assert!(
            finished.output.contains("1883") && finished.output.contains("--port"),
            "{}",
            finished.output
        );
        return;
    }
    let broker = Broker::spawn(directory, command, 1);
    assert_eq!(broker.address(), (Ipv4Addr::LOCALHOST, 1883).into(), "loopback only by default");
    Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "peer")).disconnect();
    assert!(broker.directory().path().join("data").is_dir(), "data/ is made below the working directory");
    let (finished, _directory) = broker.stop();
    assert!(finished.output.contains("--bind"), "the remedy is missing:\n{}", finished.output);
    assert!(finished.output.contains("[STATS] Connections: 0/10000 (0.0%)"), "{}", finished.output);
}

#[test]
fn every_address_is_served_and_logged() {
    let flags = ["--bind", "127.0.0.2", "--bind", "127.0.0.3"];
    let directory = Directory::new();
    let mut command = command_in(&directory);
    configure(&mut command, &directory, &Setup { flags: &flags, ..Setup::default() });
    let listeners = if cfg!(target_os = "linux") { 3 } else { return };
    let broker = Broker::spawn(directory, command, listeners);
    let mut addresses: Vec<String> =
        broker.addresses().iter().map(|address| address.ip().to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    for address in broker.addresses() {
        Peer::connect(*address, &Connect::new(Version::V5, "peer")).disconnect();
    }
    broker.stop();
}

#[test]
fn a_broker_that_serves_is_healthy_and_one_that_stopped_is_not() {
    let broker = Broker::start(Io::Auto);
    let ask = || {
        let mut command = command_in(broker.directory());
        command.args(["health", "--data-dir", "data"]);
        run(command)
    };
    let healthy = ask();
    assert!(healthy.status.success(), "{}", healthy.output);
    assert_eq!(healthy.output, "", "a supervisor asks every few seconds");

    let (_, directory) = broker.stop();
    let mut command = command_in(&directory);
    command.args(["health", "--data-dir", "data"]);
    let gone = run(command);
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.output.contains("no broker runs with the data directory data"), "{}", gone.output);
}

#[test]
fn ipv6_is_served_where_there_is_any() {
    if TcpListener::bind("[::1]:0").is_err() {
        machine::print_notice("this machine has no IPv6 loopback: [::1] was not tested");
        return;
    }
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.args(["--bind", "::1", "--port", "0"]);
    let broker = Broker::spawn(directory, command, 1);
    assert!(broker.address().is_ipv6());
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    broker.stop();
}

#[test]
fn opening_to_others_is_warned_about() {
    // The warning is tested. An address of 127.0.0.0/8 would count as loopback, so the broker listens on all addresses
    // for a moment.
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.args(["--bind", "0.0.0.0", "--port", "0", "--anonymous", "true"]);
    let broker = Broker::spawn(directory, command, 1);
    let (finished, _directory) = broker.stop();
    let warned = finished.output.lines().any(|line| line.contains("WARN") && line.contains("authentication"));
    assert!(warned, "no warning:\n{}", finished.output);
}

#[test]
fn nothing_beyond_this_machine_is_opened_unless_somebody_says_who_may_come_in() {
    for check in
        [&["--bind", "0.0.0.0", "--port", "0"][..], &["--bind", "::", "--port", "0", "config", "check"]]
    {
        let directory = Directory::new();
        let mut command = command_in(&directory);
        command.args(check);
        let finished = run(command);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.output);
        for remedy in ["[auth.password]", "anonymous = true", "--anonymous true"] {
            assert!(finished.output.contains(remedy), "{remedy} is missing: {}", finished.output);
        }
        assert!(!finished.output.contains("listening on"), "{}", finished.output);
    }
}

#[test]
fn log_dir_gets_files_and_standard_output_keeps_the_log() {
    let flags = ["--log-dir", "logs", "--log-level", "debug"];
    let broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    let (finished, directory) = broker.stop();
    assert!(finished.output.contains("listening on"));
    let files = contents(&directory.path().join("logs"));
    assert!(files.iter().any(|text| text.contains("listening on")), "no log file has the address: {files:?}");
    assert!(files.iter().all(|text| !text.contains('\u{1b}')), "a file has no colours");
    assert!(!finished.output.contains('\u{1b}'), "a pipe has no colours");
}

#[test]
fn log_level_err_is_quiet() {
    for level in ["err", "error"] {
        let directory = Directory::new();
        let mut command = command_in(&directory);
        command.args(["--bind", "127.0.0.1", "--port", "0", "--stats-interval", "1", "--log-level", level]);
        let mut process = crate::harness::process::Process::spawn(command);
        process.wait_for(0, "statistics", |line| line.starts_with("[STATS] Subscriptions:"));
        process.signal(rustix::process::Signal::INT);
        assert!(process.wait_for_exit(std::time::Duration::from_secs(10)).success());
        let output = process.output();
        assert!(output.lines().all(|line| line.starts_with("[STATS] ")), "{level} lets through:\n{output}");
    }
}

#[test]
fn io_auto_logs_the_selected_backend() {
    let broker = Broker::start_with(&Setup { io: Io::Auto, ..Setup::default() });
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    let (finished, _directory) = broker.stop();
    let uring = cfg!(target_os = "linux") && !machine::refuses_uring();
    let expected = format!("io={} ", if uring { Io::Uring } else { Io::Epoll }.log_name());
    assert!(finished.output.contains(&expected), "{expected}is not logged:\n{}", finished.output);
}

#[test]
fn the_requested_io_is_selected() {
    for io in [Io::Epoll, Io::Tokio, Io::Blocking] {
        let broker = Broker::start_with(&Setup { io, ..Setup::default() });
        let (finished, _directory) = broker.stop();
        let expected = format!("shards run io={} ", io.log_name());
        assert!(finished.output.contains(&expected), "{expected}is not logged:\n{}", finished.output);
    }
}

fn contents(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory was made");
    entries
        .map(|entry| fs::read_to_string(entry.expect("it can be listed").path()).expect("it is text"))
        .collect()
}
