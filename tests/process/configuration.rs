//! The configuration from the view of an operator: file, flags, and the `config` subcommands.

use std::fs;
use std::process::Command;

use crate::harness::broker::{Broker, Directory, Setup, command_in};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};

fn in_directory(directory: &Directory, arguments: &[&str]) -> Finished {
    let mut command = command_in(directory);
    command.args(arguments);
    run(command)
}

/// Both commands must fail and name every part.
fn refused(directory: &Directory, file: &str, parts: &[&str]) {
    for arguments in [vec!["--config", file, "--port", "0"], vec!["config", "check", file]] {
        let finished = in_directory(directory, &arguments);
        assert!(!finished.status.success(), "{arguments:?} succeeded:\n{}", finished.output);
        for part in parts {
            assert!(
                finished.output.contains(part),
                "{arguments:?}: {part:?} is missing in:\n{}",
                finished.output
            );
        }
    }
}

#[test]
fn an_unknown_key_names_file_line_key_and_the_nearest() {
    let directory = Directory::new();
    directory.write("odd.conf", "port = 0\n\n# a comment\nmax_conections = 5\n");
    refused(&directory, "odd.conf", &["odd.conf", "line 4", "max_conections", "max_connections"]);
}

#[test]
fn a_bad_value_names_file_line_key_value_and_what_is_allowed() {
    let directory = Directory::new();
    directory.write("odd.conf", "# a comment\nio = \"kqueue\"\nmax_connections = 0\n");
    // All errors are reported together.
    refused(&directory, "odd.conf", &["odd.conf", "line 2", "io", "kqueue", "auto", "uring", "epoll"]);
    refused(&directory, "odd.conf", &["line 3", "max_connections", "0", "1"]);
}

#[test]
fn an_invalid_configuration_is_reported_with_its_line() {
    let directory = Directory::new();
    directory.write("odd.conf", "port = 0\nport 1\n");
    refused(&directory, "odd.conf", &["odd.conf", "line 2"]);
    refused(&directory, "missing.conf", &["missing.conf"]);
}

#[test]
fn a_bad_flag_names_itself_and_what_is_allowed() {
    let directory = Directory::new();
    for (arguments, parts) in [
        (["--port", "99999"], ["--port must be", "from 0 to 65535", "not 99999"]),
        (["--io", "fast"], ["--io", "fast", "epoll"]),
        (["--log-level", "loud"], ["--log-level", "loud", "debug"]),
        (["--prot", "1"], ["--prot", "--port", "mqtt-broker"]),
    ] {
        let finished = in_directory(&directory, &arguments);
        assert!(!finished.status.success());
        for part in parts {
            assert!(
                finished.output.contains(part),
                "{arguments:?}: {part:?} is missing in:\n{}",
                finished.output
            );
        }
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let directory = Directory::new();
    directory.write("config/broker.conf", "port = 2000\nstats_interval_s = 7\n");
    let finished = in_directory(&directory, &["config", "show", "--port", "3000"]);
    assert!(finished.status.success(), "{}", finished.output);
    let line = |key: &str| {
        let line = finished.output.lines().find(|line| line.starts_with(key));
        line.unwrap_or_else(|| panic!("{key} is not shown in:\n{}", finished.output)).to_owned()
    };
    let port = line("port = ");
    assert!(port.contains("3000") && port.contains("--port"), "a flag wins and is named: {port}");
    let interval = line("stats_interval_s = ");
    assert!(
        interval.contains('7') && interval.contains("broker.conf") && interval.contains("line 2"),
        "the file below the working directory is found and named: {interval}"
    );
    assert!(port.ends_with("; change: live, for new connections"), "{port}");
    let connections = line("max_connections = ");
    assert!(connections.contains("10000") && connections.contains("default"), "{connections}");
}

#[test]
fn the_default_configuration_is_valid_and_the_shipped_file_is_it() {
    let directory = Directory::new();
    let finished = in_directory(&directory, &["config", "default"]);
    assert!(finished.status.success(), "{}", finished.output);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/broker.conf");
    let mut shipped = fs::read_to_string(shipped).expect("deploy/broker.conf is part of the repository");
    if cfg!(feature = "sync") {
        shipped = shipped.replace("\n#io = \"auto\"\n", "\n#io = \"blocking\"\n");
    }
    assert_eq!(
        finished.output.trim_end(),
        shipped.trim_end(),
        "deploy/broker.conf is `mqtt-broker config default`"
    );
    for key in [
        "MAX_CONNECTIONS",
        "READ_BUFFER_SIZE",
        "INITIAL_POOL_SIZE",
        "MAX_POOL_SIZE",
        "DEFAULT_SESSION_EXPIRY_SEC",
        "STATS_INTERVAL",
    ] {
        assert!(shipped.contains(key), "the name {key} that operators know is not explained");
    }
    directory.write("default.conf", &shipped);
    let finished = in_directory(&directory, &["config", "check", "default.conf"]);
    assert!(finished.status.success(), "{}", finished.output);
}

#[test]
fn the_file_of_the_replaced_product_becomes_ours() {
    let directory = Directory::new();
    let theirs = r#"{"port": 2883, "stats_interval_sec": 5, "log": {"enabled": true, "level": "warn"}}"#;
    directory.write("data/config.json", theirs);
    let finished =
        in_directory(&directory, &["config", "import", "data/config.json", "--output", "ours.conf"]);
    assert!(finished.status.success(), "{}", finished.output);
    let finished = in_directory(&directory, &["--config", "ours.conf", "config", "show"]);
    assert!(finished.status.success(), "{}", finished.output);
    for (key, value) in [("port = ", "2883"), ("stats_interval_s = ", "5"), ("log_level = ", "warn")] {
        let line = finished.output.lines().find(|line| line.starts_with(key)).expect("every key is shown");
        assert!(line.contains(value) && line.contains("ours.conf"), "{line}");
    }
    // An existing file is not overwritten, and a file that is not a configuration is refused.
    let finished =
        in_directory(&directory, &["config", "import", "data/config.json", "--output", "ours.conf"]);
    assert!(!finished.status.success() && finished.output.contains("ours.conf"), "{}", finished.output);
    directory.write("data/config.json", "[");
    let finished = in_directory(&directory, &["config", "import", "data/config.json"]);
    assert!(!finished.status.success() && finished.output.contains("config.json"), "{}", finished.output);
}

#[test]
fn version_and_help_show_every_common_flag() {
    let directory = Directory::new();
    let finished = in_directory(&directory, &["--version"]);
    assert!(finished.status.success());
    assert_eq!(finished.output.trim(), concat!("mqtt-broker ", env!("CARGO_PKG_VERSION")));
    let finished = in_directory(&directory, &["--help"]);
    assert!(finished.status.success());
    for flag in [
        "--config",
        "--bind",
        "--port",
        "--data-dir",
        "--shards",
        "--io",
        "--max-connections",
        "--log-level",
        "--log-dir",
        "--stats-interval",
        "config",
        "1883",
        "10000",
    ] {
        assert!(finished.output.contains(flag), "{flag} is not in --help:\n{}", finished.output);
    }
}

#[test]
fn limits_of_the_file_reach_the_clients() {
    let config = "receive_maximum = 7\npacket_bytes_max = 5000\ntopic_alias_maximum = 3\n";
    let broker = Broker::start_with(&Setup { config, ..Setup::default() });
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "peer"));
    assert_eq!(peer.number(property::RECEIVE_MAXIMUM), Some(7));
    assert_eq!(peer.number(property::MAXIMUM_PACKET_SIZE), Some(5000));
    assert_eq!(peer.number(property::TOPIC_ALIAS_MAXIMUM), Some(3));
    let mut header = vec![0x30];
    crate::harness::packet::variable_byte_integer(5000, &mut header);
    peer.send(&header);
    assert_eq!(peer.await_close(), Some(0x95), "Packet too large");
    broker.stop();
}

#[test]
fn the_file_limits_topic_aliases_in_each_direction_by_itself() {
    for (incoming, outgoing) in [(1, 3), (3, 1)] {
        let config = format!("topic_alias_maximum = {incoming}\ntopic_alias_outgoing_max = {outgoing}\n");
        let broker = Broker::start_with(&Setup { config: &config, ..Setup::default() });
        let mut connect = Connect::new(Version::V5, "peer");
        connect.properties = Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, 9);
        let mut peer = Peer::connect(broker.address(), &connect);
        assert_eq!(peer.number(property::TOPIC_ALIAS_MAXIMUM), Some(incoming));
        peer.subscribe("long/enough/#", 0);
        let mut set = 0;
        for number in 0..5 {
            peer.send(&Publish::new(&format!("long/enough/{number}"), 0, b"x").encode(Version::V5));
            let message = peer.next_message();
            set += u32::from(message.properties.iter().any(|(id, _)| *id == property::TOPIC_ALIAS));
        }
        assert_eq!(set, outgoing, "aliases of the broker");
        let alias = Properties::new().two(property::TOPIC_ALIAS, u16::try_from(incoming + 1).expect("small"));
        peer.send(&Publish::new("t", 0, b"x").with(alias).encode(Version::V5));
        assert_eq!(peer.await_close(), Some(0x94));
        broker.stop();
    }
}

/// The helper itself: a command that does not exist is a failure with its name.
#[test]
#[should_panic(expected = "cannot start")]
fn a_missing_command_is_reported() {
    run(Command::new("/nonexistent/command"));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn the_limit_of_memory_is_told_with_its_origin_and_a_flag_turns_it_off() {
    let directory = Directory::new();
    let shown = |arguments: &[&str]| {
        let finished = in_directory(&directory, arguments);
        let line = finished.output.lines().find(|line| line.starts_with("memory_bytes_max = "));
        line.expect("show prints every key").to_owned()
    };
    let line = shown(&["config", "show"]);
    assert!(line.contains("# default: 60 % of the "), "{line}");
    let value = line.split_whitespace().nth(2).and_then(|number| number.parse::<u64>().ok());
    assert!(value.is_some_and(|bytes| bytes > 1_000_000), "{line}");
    let line = shown(&["config", "show", "--memory-bytes-max", "0"]);
    assert!(
        line.starts_with("memory_bytes_max = 0 ") && line.ends_with("# --memory-bytes-max; change: restart"),
        "{line}"
    );

    for (flags, told) in [
        (&[][..], format!("memory_bytes_max={} origin=default: 60 % of the ", value.unwrap_or_default())),
        (&["--memory-bytes-max", "0"], "memory has no limit".to_owned()),
        (&["--memory-bytes-max", "auto"], "origin=--memory-bytes-max: 60 % of the ".to_owned()),
    ] {
        let mut broker = Broker::start_with(&Setup { flags, ..Setup::default() });
        let output = broker.process().output();
        assert!(output.contains(&told), "{told:?} is missing in:\n{output}");
        broker.stop();
    }
}
