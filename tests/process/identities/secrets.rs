//! Secrets that the broker has loaded, and places where they could be left.

use std::fs;

use super::changes::passwords;
use crate::harness::broker::{Broker, Directory, Setup, configure, wrapped_command_in};

/// The soft limit of core dumps that a broker with this configuration has, in bytes.
fn core_dumps(config: &str) -> String {
    let directory = Directory::new();
    directory.write("passwords", &passwords(&["ann"]));
    // More than nothing, where the system allows it.
    let wrapper = ["sh", "-c", "ulimit -Sc 1; exec \"$0\" \"$@\""].map(str::to_owned);
    let mut command = wrapped_command_in(&directory, &wrapper);
    configure(&mut command, &directory, &Setup { config, ..Setup::default() });
    let mut broker = Broker::spawn(directory, command, 1);
    let limits = fs::read_to_string(format!("/proc/{}/limits", broker.process().id()));
    let limits = limits.expect("the broker runs");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there is a limit");
    broker.stop();
    line.split_whitespace().nth(4).expect("it has a value").to_owned()
}

#[test]
fn core_dumps_are_off_where_there_are_secrets_unless_the_operator_wants_them() {
    const USERS: &str = "[auth.password]\nfile = \"passwords\"\n";
    let as_before = core_dumps("");
    assert_eq!(core_dumps(USERS), "0");
    assert_eq!(core_dumps(&format!("core_dumps = true\n{USERS}")), as_before);
}
