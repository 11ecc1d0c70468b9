//! The notifications to a service manager: ready, status, watchdog and stopping.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Setup, command_in, configure};
use crate::harness::time::{Deadline, PATIENCE};
use crate::operators::operate;

/// The notification socket, set up as systemd does it.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str, command: &mut Command) -> Self {
        // Not in the directory of the test, because the path of a socket has at most 107 bytes.
        let path = std::env::temp_dir().join(format!("mqtt-broker-{name}-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("a socket can be made in the temporary directory");
        socket.set_read_timeout(Some(PATIENCE)).expect("the time-out is not zero");
        command.env("NOTIFY_SOCKET", &path);
        Self { socket, path }
    }

    /// Reads notifications until a line is `wanted`: a whole line, or its beginning up to `=`.
    fn await_line(&self, wanted: &str) -> String {
        let deadline = Deadline::after(PATIENCE);
        let mut buffer = [0; 4096];
        let mut seen = Vec::new();
        while deadline.remaining().is_some() {
            let Ok(count) = self.socket.recv(&mut buffer) else { break };
            for line in String::from_utf8_lossy(&buffer[..count]).lines() {
                if line.starts_with(wanted) {
                    return line.to_owned();
                }
                seen.push(line.to_owned());
            }
        }
        panic!("{wanted} was not sent, only {seen:?}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // A socket that remains in the temporary directory is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn systemd_receives_ready_status_watchdog_and_stopping() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    configure(&mut command, &directory, &Setup::default());
    let manager = Manager::new("life", &mut command);
    // A watchdog time of half a second: a notification must arrive every quarter of a second.
    command.env("WATCHDOG_USEC", "500000").env_remove("WATCHDOG_PID");
    let mut broker = Broker::spawn(directory, command, 1);
    manager.await_line("READY=1");
    for _ in 0..3 {
        manager.await_line("WATCHDOG=1");
    }
    broker.process().signal(Signal::USR1);
    let status = manager.await_line("STATUS=Connections: ");
    assert_eq!(status, "STATUS=Connections: 0/10000 (0.0%)");
    broker.process().signal(Signal::TERM);
    manager.await_line("STOPPING=1");
    assert!(broker.process().wait_for_exit(PATIENCE).success());
}

#[test]
fn systemd_shows_how_far_a_drain_has_come() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    configure(&mut command, &directory, &Setup::default());
    let manager = Manager::new("drain", &mut command);
    let mut broker = Broker::spawn(directory, command, 1);
    manager.await_line("READY=1");
    assert!(operate(&broker, &["drain", "--wait", "1"]).status.success());
    assert_eq!(manager.await_line("STATUS=draining"), "STATUS=draining: 0 of 0 clients left");
    manager.await_line("STATUS=drained");
    manager.await_line("STOPPING=1");
    assert!(broker.process().wait_for_exit(PATIENCE).success());
}

#[test]
fn without_a_watchdog_no_keep_alive_is_sent() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    configure(&mut command, &directory, &Setup::default());
    let manager = Manager::new("quiet", &mut command);
    command.env_remove("WATCHDOG_USEC");
    let mut broker = Broker::spawn(directory, command, 1);
    manager.await_line("READY=1");
    broker.process().signal(Signal::TERM);
    let stopping = manager.await_line("");
    assert!(!stopping.starts_with("WATCHDOG"), "{stopping}");
    assert!(broker.process().wait_for_exit(PATIENCE).success());
}
