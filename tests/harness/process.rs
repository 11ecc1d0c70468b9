//! A child process. Its output is collected line by line and awaited by content, never by sleeping.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::time::{Deadline, PATIENCE};

/// The stream that a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// A running child. It is killed when dropped, so that a failing test leaves no process behind.
pub(crate) struct Process {
    child: Child,
    lines: Vec<(Stream, String)>,
    /// `None` marks the end of one of the two streams.
    incoming: Receiver<Option<(Stream, String)>>,
    open_streams: usize,
}

/// The result of a child that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Runs `command` until it ends.
pub(crate) fn run(command: Command) -> Finished {
    let mut process = Process::spawn(command);
    let status = process.wait_for_exit(PATIENCE);
    Finished { status, output: process.output() }
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (sender, incoming) = mpsc::channel();
        let out = child.stdout.take().expect("standard output is piped");
        let err = child.stderr.take().expect("standard error is piped");
        collect(Stream::Out, out, sender.clone());
        collect(Stream::Err, err, sender);
        Self { child, lines: Vec::new(), incoming, open_streams: 2 }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A position in the output. `wait_for` with this mark finds lines written later.
    pub(crate) fn mark(&mut self) -> usize {
        while let Ok(line) = self.incoming.try_recv() {
            self.keep(line);
        }
        self.lines.len()
    }

    /// Waits for the first line from `mark` on for which `is_it` holds.
    pub(crate) fn wait_for(&mut self, mark: usize, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Deadline::after(PATIENCE);
        let mut seen = mark;
        loop {
            while let Some((_, line)) = self.lines.get(seen) {
                if is_it(line) {
                    return line.clone();
                }
                seen += 1;
            }
            let more = self.read_one(deadline);
            assert!(more, "no {what} in the output:\n{}", self.output());
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process identifier fits");
        let pid = Pid::from_raw(id).expect("a process identifier is not zero");
        kill_process(pid, signal).expect("a child that was not reaped can be signalled");
    }

    /// Waits until the child has ended.
    pub(crate) fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = Deadline::after(within);
        while self.read_one(deadline) {}
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                deadline.remaining().is_some(),
                "the process did not end within {within:?}; its output:\n{}",
                self.output()
            );
            // Both streams are closed or the time is up; only the exit itself is still missing.
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    pub(crate) fn lines(&mut self) -> &[(Stream, String)] {
        self.mark();
        &self.lines
    }

    /// All output so far, of both streams.
    pub(crate) fn output(&mut self) -> String {
        self.mark();
        let lines: Vec<&str> = self.lines.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }

    /// Waits for one more line. Returns false at the end of both streams or after the deadline.
    fn read_one(&mut self, deadline: Deadline) -> bool {
        while self.open_streams > 0 {
            let Some(left) = deadline.remaining() else { return false };
            match self.incoming.recv_timeout(left) {
                Ok(line) => {
                    if self.keep(line) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    fn keep(&mut self, line: Option<(Stream, String)>) -> bool {
        if let Some(line) = line {
            self.lines.push(line);
            return true;
        }
        self.open_streams -= 1;
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // If it ended in between, there is nothing left to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- output of process {}:\n{}---", self.child.id(), self.output());
        }
    }
}

fn collect(stream: Stream, source: impl Read + Send + 'static, sender: Sender<Option<(Stream, String)>>) {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { break };
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(Some((stream, text))).is_err() {
                return;
            }
        }
        // If the receiver is gone, no test waits for the end.
        let _ = sender.send(None);
    });
}
