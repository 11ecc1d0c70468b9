//! SIGHUP: a request to reload, unless the terminal that the broker was started in has been closed.
//! A broker that SIGHUP ended stayed dead under systemd, which takes that signal for a clean stop.

use rustix::process::Signal;

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

#[test]
fn sighup_is_answered_by_one_line_and_the_broker_serves_on() {
    let mut broker = Broker::start_with(&Setup::default());
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "peer"));
    broker.process().signal(Signal::HUP);
    broker
        .process()
        .wait_for(0, "answer", |line| line.contains("SIGHUP: the rules") && line.contains("are read again"));
    peer.ping();
    let (finished, _directory) = broker.stop();
    let answers = finished.output.lines().filter(|line| line.contains("SIGHUP")).count();
    assert_eq!(answers, 1, "{}", finished.output);
    assert_eq!(peer.await_close(), Some(0x8B));
}

/// Terminals of `script`, which other systems than Linux call differently.
#[cfg(target_os = "linux")]
mod terminal {
    use std::fs;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process, test_kill_process};

    use crate::harness::broker::{Broker, Directory, MEMORY, wrapped_command_in};
    use crate::harness::packet::{Connect, Version};
    use crate::harness::peer::Peer;
    use crate::harness::time::{Deadline, PATIENCE};

    /// A broker in a terminal of its own, which `script` holds. Closing it is killing `script`.
    fn in_a_terminal(prefix: &str, suffix: &str) -> Broker {
        let directory = Directory::new();
        // `script` takes one text as its command; the shell fills in the broker's path.
        let arguments = "--bind 127.0.0.1 --port 0 --log-dir logs";
        let script = format!("exec script -qfc \"{prefix} $0 {arguments} {suffix}\" /dev/null");
        let mut command = wrapped_command_in(&directory, &["sh".to_owned(), "-c".to_owned(), script]);
        command.env("SHELL", "/bin/sh");
        Broker::spawn(directory, command, 1)
    }

    fn broker_in(directory: &Directory) -> Pid {
        let id = fs::read_to_string(directory.path().join("data/broker.lock"))
            .expect("the broker left its number");
        Pid::from_raw(id.parse().expect("it is a number")).expect("it is not zero")
    }

    fn log_in(directory: &Path) -> String {
        let files = fs::read_dir(directory.join("logs")).expect("the broker made it");
        files
            .map(|file| fs::read_to_string(file.expect("it can be listed").path()).expect("it is text"))
            .collect()
    }

    fn await_until(what: &str, is_it: impl Fn() -> bool) {
        let deadline = Deadline::after(PATIENCE);
        while !is_it() {
            assert!(deadline.remaining().is_some(), "{what} did not come");
            // The broker is no child of this process any more, and a file tells nobody that it grew.
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn closing_the_terminal_stops_the_broker_cleanly() {
        let broker = in_a_terminal("exec", &MEMORY.join(" "));
        let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
        peer.subscribe("kept", 1);
        let id = broker_in(broker.directory());
        let directory = broker.kill();
        assert_eq!(peer.await_close(), Some(0x8B), "Server shutting down");
        await_until("the end", || test_kill_process(id).is_err());
        let log = log_in(directory.path());
        assert!(log.contains("the terminal was closed"), "{log}");
        let kept =
            fs::read_to_string(directory.path().join("data/subscriptions.json")).expect("it was written");
        assert!(kept.contains("\"kept\""), "{kept}");
    }

    #[test]
    fn a_broker_that_is_to_outlive_its_terminal_does() {
        // Of nohup this test has only the disposition that it sets: the streams stay on the terminal.
        let broker = in_a_terminal("trap '' HUP; exec", "");
        let address = broker.address();
        let id = broker_in(broker.directory());
        let directory = broker.kill();
        await_until("the signal of the closed terminal", || {
            log_in(directory.path()).contains("are read again")
        });
        Peer::connect(address, &Connect::new(Version::V5, "peer")).disconnect();
        kill_process(id, Signal::TERM).expect("it runs");
        await_until("the end", || test_kill_process(id).is_err());
    }

    #[test]
    fn a_broker_that_outlived_its_terminal_is_not_stopped_by_a_later_signal() {
        // A job of its own is not sent SIGHUP by the kernel, and this shell does not pass it on.
        let broker = in_a_terminal("set -m;", "& wait");
        let address = broker.address();
        let id = broker_in(broker.directory());
        let directory = broker.kill();
        await_until("its going on", || log_in(directory.path()).contains("goes on without it"));
        kill_process(id, Signal::HUP).expect("it runs");
        await_until("the answer", || log_in(directory.path()).contains("are read again"));
        Peer::connect(address, &Connect::new(Version::V5, "peer")).disconnect();
        kill_process(id, Signal::TERM).expect("it runs");
        await_until("the end", || test_kill_process(id).is_err());
    }
}
