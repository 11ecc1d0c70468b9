//! Every startup error, provoked: one clear sentence with its cause and its remedy, and a non-zero exit code.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::broker::{Broker, Directory, Io, Setup, command_in, wrapped_command_in};
use crate::harness::machine;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;
use crate::harness::time::{Deadline, PATIENCE};

/// Runs `command`, which must fail with one sentence that names every part.
fn fails(command: Command, parts: &[&str]) {
    let finished = run(command);
    assert!(!finished.status.success(), "it should have failed:\n{}", finished.output);
    assert!(finished.status.code().is_some(), "it must exit, not be killed: {}", finished.status);
    let sentences: Vec<&str> = finished.output.lines().filter(|line| line.contains("error:")).collect();
    let [sentence] = sentences[..] else { panic!("there should be one error, not:\n{}", finished.output) };
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not named in: {sentence}");
    }
    assert!(!finished.output.contains("panicked"), "{}", finished.output);
}

/// The broker without some capabilities, if this user has them.
fn without(directory: &Directory, capabilities: &str) -> Command {
    if machine::is_root() {
        let removed: Vec<String> = capabilities.split(',').map(|name| format!("-{name}")).collect();
        let wrapper = ["setpriv".to_owned(), format!("--bounding-set={}", removed.join(","))];
        return wrapped_command_in(directory, &wrapper);
    }
    command_in(directory)
}

#[test]
fn a_port_in_use_names_how_to_find_the_process() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = holder.local_addr().expect("a bound socket has an address").port().to_string();
    let directory = Directory::new();
    for io in ["epoll", "auto"] {
        let mut command = command_in(&directory);
        command.args(["--bind", "127.0.0.1", "--port", &port, "--io", io]);
        fails(command, &["in use", &port, "ss -ltnp", "lsof -i", "--port"]);
    }
}

#[test]
fn a_second_broker_on_the_port_is_refused_although_ports_can_be_shared() {
    let first = Broker::start_with(&Setup::default());
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.args(["--bind", "127.0.0.1", "--port", &first.address().port().to_string()]);
    fails(command, &["in use", "--port"]);
    first.stop();
}

#[test]
fn a_second_broker_in_the_data_directory_is_refused() {
    let first = Broker::start_with(&Setup::default());
    let mut command = command_in(first.directory());
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "data"]);
    fails(command, &["data", "in use", "--data-dir"]);
    first.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn a_low_port_without_permission_names_the_cures() {
    let limit =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux has this file");
    let unprivileged: u16 = limit.trim().parse().expect("it is a port");
    let directory = Directory::new();
    let mut command = if unprivileged > 1 {
        without(&directory, "net_bind_service")
    } else {
        // Every user can bind every port on this system, so the system call itself has to be refused.
        let Some(wrapper) = machine::forbidding(machine::BIND, machine::EACCES) else {
            machine::print_notice("no low ports and no perl here: permission denied was not tested");
            return;
        };
        wrapped_command_in(&directory, &wrapper)
    };
    command.args(["--bind", "127.0.0.1", "--port", "1"]);
    fails(command, &["127.0.0.1:1", "permission denied", "1024", "--port", "cap_net_bind_service"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = Directory::new();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("the test's directory is writable");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("our own directory");
    let mut command = without(&directory, "dac_override,dac_read_search,fowner");
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "closed/data"]);
    fails(command, &["closed/data", "denied", "--data-dir"]);
    // A file in its place is refused as well.
    directory.write("file", "");
    let mut command = command_in(&directory);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "file"]);
    fails(command, &["a file is in its place", "--data-dir"]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("our own directory");
}

#[test]
fn a_log_directory_that_cannot_be_written_is_named() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut command = command_in(&directory);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--log-dir", "file"]);
    fails(command, &["a file is in its place", "--log-dir"]);
}

#[test]
fn an_address_of_no_interface_is_named() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    // From the block that is reserved for documentation.
    command.args(["--bind", "192.0.2.1", "--port", "0", "--anonymous", "true"]);
    fails(command, &["192.0.2.1", "--bind"]);
}

#[test]
fn a_link_local_address_without_its_interface_names_the_form() {
    let directory = Directory::new();
    for (address, parts) in [
        ("fe80::1", ["--bind: fe80::1 is a link-local address", "fe80::1%eth0"]),
        ("fe80::1%nosuchdev", ["fe80::1%nosuchdev", "ip link"]),
    ] {
        let mut command = command_in(&directory);
        command.args(["--bind", address, "--port", "0", "--anonymous", "true"]);
        fails(command, &parts);
    }
}

#[test]
fn flags_and_keys_of_mosquitto_are_answered_with_ours() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.args(["-p", "1884"]);
    fails(command, &["-p is a flag of mosquitto", "--port"]);
    directory.write("keys.conf", "allow_anonymous = true\n");
    let mut command = command_in(&directory);
    command.args(["--config", "keys.conf"]);
    fails(command, &["keys.conf, line 1", "allow_anonymous", "mosquitto's", "anonymous = true"]);
}

#[test]
fn a_redirection_without_a_server_is_refused() {
    let directory = Directory::new();
    for arguments in [["--redirect", "moved", "--port", "0"], ["config", "check", "--redirect", "moved"]] {
        let mut command = command_in(&directory);
        command.args(arguments);
        fails(command, &["redirect = \"moved\"", "server_reference = \"mqtt2.example.com:1883\""]);
    }
}

#[test]
fn damaged_subscriptions_are_named_and_left_alone() {
    let directory = Directory::new();
    let damaged = r#"{"subscriptions": {"client": [{"topic_filter": "a/#", "qos": 7}]}}"#;
    for text in ["{\"subscriptions\": {\"cl", damaged] {
        let path = directory.write("data/subscriptions.json", text);
        let mut command = command_in(&directory);
        command.args(["--bind", "127.0.0.1", "--port", "0"]);
        fails(command, &["subscriptions.json"]);
        assert_eq!(fs::read_to_string(path).expect("it is still there"), text, "it was changed");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn forbidden_io_uring_is_an_error_when_demanded_and_a_line_when_not() {
    let Some(wrapper) = machine::forbidding(machine::IO_URING_SETUP, machine::EPERM) else {
        machine::print_notice("no perl here: a forbidden io_uring was not tested");
        return;
    };
    let directory = Directory::new();
    let mut command = wrapped_command_in(&directory, &wrapper);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--io", "uring"]);
    fails(command, &["io_uring", "5.1", "seccomp", "--io epoll"]);

    let mut command = wrapped_command_in(&directory, &wrapper);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--io", "auto"]);
    let broker = Broker::spawn(directory, command, 1);
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    let (finished, _directory) = broker.stop();
    let logged =
        finished.output.lines().filter(|line| line.contains("epoll") && line.contains("io_uring")).count();
    assert_eq!(logged, 1, "one line states that epoll serves and the reason:\n{}", finished.output);
}

#[test]
fn too_few_open_files_are_warned_about_and_survived() {
    let directory = Directory::new();
    let limited = ["sh", "-c", "ulimit -n 128; exec \"$0\" \"$@\""].map(str::to_owned);
    let mut command = wrapped_command_in(&directory, &limited);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--shards", "1", "--io", Io::Epoll.flag()]);
    let mut broker = Broker::spawn(directory, command, 1);
    let warning =
        broker.process().wait_for(0, "warning", |line| line.contains("WARN") && line.contains("ulimit -n"));
    assert!(warning.contains("128") && warning.contains("10000"), "the numbers are named: {warning}");
    // More connections than fit: the accepted ones are served, and others once a descriptor is free again.
    let first: Vec<Peer> = (0..16).map(|number| connect(&broker, number)).collect();
    let crowd: Vec<Peer> = (0..80).map(|_| Peer::open(broker.address(), Version::V5)).collect();
    let mut first = first;
    for peer in &mut first {
        peer.ping();
    }
    for peer in crowd.into_iter().chain(first) {
        peer.vanish();
    }
    // Until the broker has seen that they are gone, it says that it is full.
    let deadline = Deadline::after(PATIENCE);
    while Peer::try_connect(broker.address(), &Connect::new(Version::V5, "later")).1 != 0 {
        assert!(deadline.remaining().is_some(), "no descriptor is free again");
    }
    broker.stop();
}

#[test]
fn a_limit_that_suffices_is_not_warned_about() {
    let broker = Broker::start_with(&Setup { flags: &["--max-connections", "10"], ..Setup::default() });
    let (finished, _directory) = broker.stop();
    assert!(!finished.output.contains("ulimit"), "{}", finished.output);
}

fn connect(broker: &Broker, number: usize) -> Peer {
    Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("peer{number}")))
}
