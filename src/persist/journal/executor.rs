//! The threads that do the I/O of one log: one writes and synchronises segments, the other does everything that may take long and
//! that no acknowledgement waits for, such as filling the next segment with zeros.
//!
//! The channels have no bound of their own: a writer has at most a few requests under way, [`journal::Settings::writes_max`] of them
//! writes.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use journal::{File, Io};

use super::files::{Directory, Done, Files};

/// The I/O of one log. **Lives on:** its shard. The threads end with it, after the requests that they were given.
pub(crate) struct Executor {
    /// Writes and syncs of segments.
    commits: Option<Sender<Io>>,
    /// Everything else.
    others: Option<Sender<Io>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
}

impl Executor {
    /// Starts the threads. `ring` tells the shard that something is done.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(
        shard: u16,
        directory: &Directory,
        ring: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (report, done) = unbounded();
        let mut threads = Vec::new();
        let mut start = |name: String, syncs_ahead: bool| {
            let (sender, requests) = unbounded();
            let (files, report, ring) = (Files::new(directory.clone()), report.clone(), ring.clone());
            let thread = thread::Builder::new()
                .name(name)
                .spawn(move || run(files, syncs_ahead, (&requests, &report), ring))?;
            threads.push(thread);
            io::Result::Ok(sender)
        };
        let commits = start(format!("log-{shard}"), true)?;
        let others = start(format!("log-files-{shard}"), false)?;
        Ok(Self { commits: Some(commits), others: Some(others), done, threads })
    }

    /// Begins a request.
    ///
    /// # Panics
    /// If a thread of the log has panicked, which ends the process in any case.
    pub(crate) fn begin(&self, io: Io) {
        let is_commit =
            matches!(io, Io::Write { file: File::Segment(_), .. } | Io::Sync { file: File::Segment(_), .. });
        let thread = if is_commit { &self.commits } else { &self.others };
        let thread = thread.as_ref().expect("the threads run as long as this value lives");
        thread.send(io).expect("the threads run as long as this value lives");
    }

    /// The next request that is done, if there is one.
    pub(crate) fn take_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Whether a request is done and was not taken.
    pub(crate) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Waits for the next request that is done.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Done> {
        self.done.recv_timeout(timeout).ok()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        (self.commits, self.others) = (None, None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(
    mut files: Files,
    syncs_ahead: bool,
    (requests, report): (&Receiver<Io>, &Sender<Done>),
    ring: impl Fn(),
) {
    for io in requests {
        // A shard that has ended needs no report.
        let _ = report.send(files.perform(io));
        ring();
        // One sync for all the writes that wait.
        if syncs_ahead && requests.is_empty() {
            files.sync_ahead();
        }
    }
}
