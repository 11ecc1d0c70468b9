//! The thread that writes `subscriptions.json` as a whole, atomically, at most once a second and at the end.
//! Invariants: the writer never blocks a running shard. A shard that finds the channel full sends its sessions again
//! later. It overwrites no file of another broker, which may have the directory after it was deleted and made anew.

use std::io;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use engine::SessionRecord;
use tracing::{error, info};

use super::format;
use super::path;
use crate::error::StartupError;
use crate::observe::lasting::{Lasting, Told};
use crate::process::atomic_file::{self, Readers};
use crate::process::clock::Clock;
use crate::process::data_dir::{DataDir, Hold, HoldState};

/// Minimum time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The thread, and the channel that ends it.
pub(crate) struct Writer {
    sender: Sender<Message>,
    thread: JoinHandle<Result<(), StartupError>>,
}

/// The sending end of the channel, for a shard.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    sender: Sender<Message>,
}

enum Message {
    /// All persistent sessions of one shard.
    Sessions { shard: usize, sessions: Vec<SessionRecord> },
    /// Write any changes and end.
    Finish,
}

impl Writer {
    /// Starts the thread for `shards` shards. It writes nothing until each of them has sent its sessions once, because
    /// a file without those of one shard would lose them.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub(crate) fn start(data_dir: &DataDir, shards: usize) -> Result<Self, StartupError> {
        // One set from each shard can wait during a write, and the final message.
        let (sender, receiver) = bounded(shards + 1);
        let state = State::new(path(data_dir.path()), data_dir.hold()?, shards);
        let thread = thread::Builder::new()
            .name("subscriptions".to_owned())
            .spawn(move || state.run(&receiver))
            .map_err(|error| StartupError::system("start the thread that writes subscriptions", error))?;
        Ok(Self { sender, thread })
    }

    /// A sending end for a shard.
    pub(crate) fn feed(&self) -> Feed {
        Feed { sender: self.sender.clone() }
    }

    /// Writes the sessions that were sent so far, if they changed, and ends the thread.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the thread panicked, which ends the process in any case.
    pub(crate) fn finish(self) -> Result<(), StartupError> {
        // Only this message ends the thread, so the thread receives it.
        let _ = self.sender.send(Message::Finish);
        self.thread.join().expect("a panic ends the process")
    }
}

impl Feed {
    /// Sends all persistent sessions of `shard`; they replace those sent before. Returns `false` and sends nothing if
    /// a set from every shard is already waiting; the shard must send again later.
    #[must_use = "what the writer did not take must be handed over again"]
    pub(crate) fn send(&self, shard: usize, sessions: Vec<SessionRecord>) -> bool {
        self.sender.try_send(Message::Sessions { shard, sessions }).is_ok()
    }

    /// Sends the sessions for the last time, at the end of the shard. Waits for room in the channel.
    pub(crate) fn send_last(&self, shard: usize, sessions: Vec<SessionRecord>) {
        // Sending fails only after the writer has finished, and the writer finishes after the shards.
        let _ = self.sender.send(Message::Sessions { shard, sessions });
    }
}

struct State {
    file: PathBuf,
    hold: Hold,
    /// The sessions of each shard as last sent.
    shards: Vec<Option<Vec<SessionRecord>>>,
    changed: bool,
    failing: Lasting,
    clock: Clock,
}

impl State {
    fn new(file: PathBuf, hold: Hold, shards: usize) -> Self {
        Self {
            file,
            hold,
            shards: vec![None; shards],
            changed: false,
            failing: Lasting::default(),
            clock: Clock::start(),
        }
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<(), StartupError> {
        let mut pausing = false;
        let mut pause_over = never();
        loop {
            select! {
                recv(messages) -> message => match message {
                    Ok(Message::Sessions { shard, sessions }) => {
                        self.shards[shard] = Some(sessions);
                        self.changed = true;
                    }
                    Ok(Message::Finish) | Err(_) => break,
                },
                recv(pause_over) -> _ => {
                    pausing = false;
                    pause_over = never();
                }
            }
            if self.changed && !pausing {
                // After an error the sessions stay marked as changed, and are written after the next interval.
                let written = self.write();
                self.log(&written);
                pausing = true;
                pause_over = after(WRITE_INTERVAL);
            }
        }
        if self.changed { self.write() } else { Ok(()) }
    }

    /// Logs a failed write when it begins, once a minute, and when a write succeeds again.
    fn log(&mut self, written: &Result<(), StartupError>) {
        match written {
            Ok(()) => {
                if let Some(Told::Ends { lasted_s }) = self.failing.end() {
                    info!(lasted_s, "subscriptions are written again");
                }
            }
            Err(error) => {
                if let Some(Told::Begins | Told::Lasts) = self.failing.observe(self.clock.now().as_ms(), true)
                {
                    error!(%error, "subscriptions not written");
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), StartupError> {
        let Some(shards) = self.shards.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        let mut sessions: Vec<&SessionRecord> = shards.into_iter().flatten().collect();
        sessions.sort_unstable_by(|a, b| a.client_id.cmp(&b.client_id));
        let written = match self.hold.state() {
            HoldState::Anothers => Err(io::Error::other("another broker has taken the data directory")),
            // A directory that somebody has made anew keeps the subscriptions for the next start.
            HoldState::Ours | HoldState::Deleted => {
                atomic_file::replace(&self.file, Readers::All, |target| {
                    format::write(target, sessions.into_iter())
                })
            }
        };
        written.map_err(|error| StartupError::SubscriptionsUnwritten { file: self.file.clone(), error })?;
        self.changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use engine::SubscriptionRecord;

    use super::super::load;
    use super::*;
    use crate::process::scratch::Scratch;

    fn session(client_id: &str, topic_filter: &str) -> SessionRecord {
        let subscription = SubscriptionRecord {
            topic_filter: topic_filter.to_owned(),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            subscription_identifier: None,
        };
        SessionRecord {
            client_id: client_id.to_owned(),
            user: None,
            expiry: None,
            subscriptions: vec![subscription],
        }
    }

    #[test]
    fn the_last_set_of_every_shard_is_written_at_the_end() {
        let scratch = Scratch::new("subscriptions_last");
        let writer = Writer::start(&DataDir::take(scratch.path()).unwrap(), 2).unwrap();
        let feed = writer.feed();
        feed.send_last(1, vec![session("b", "first")]);
        feed.send_last(0, vec![session("c", "x"), session("a", "x")]);
        feed.send_last(1, vec![session("b", "second")]);
        writer.finish().unwrap();
        assert_eq!(
            load(scratch.path()).unwrap(),
            [session("a", "x"), session("b", "second"), session("c", "x")]
        );
        let mut names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["broker.lock", "subscriptions.json"], "no temporary file stays");
    }

    #[test]
    fn nothing_is_written_while_a_shard_has_sent_nothing() {
        let scratch = Scratch::new("subscriptions_partial");
        let before = [session("kept", "x")];
        atomic_file::replace(&path(scratch.path()), Readers::All, |target| {
            format::write(target, before.iter())
        })
        .unwrap();
        let writer = Writer::start(&DataDir::take(scratch.path()).unwrap(), 2).unwrap();
        writer.feed().send_last(0, vec![session("a", "x")]);
        writer.finish().unwrap();
        assert_eq!(load(scratch.path()).unwrap(), before);
    }

    #[test]
    fn nothing_is_written_if_nothing_was_sent() {
        let scratch = Scratch::new("subscriptions_idle");
        let data_dir = DataDir::take(scratch.path()).unwrap();
        Writer::start(&data_dir, 1).unwrap().finish().unwrap();
        assert!(!path(scratch.path()).exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_reported() {
        let scratch = Scratch::new("subscriptions_unwritable");
        let gone = scratch.path().join("gone");
        let writer = Writer::start(&DataDir::take(&gone).unwrap(), 1).unwrap();
        fs::remove_dir_all(&gone).unwrap();
        writer.feed().send_last(0, vec![session("a", "x")]);
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, StartupError::SubscriptionsUnwritten { .. }), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn the_file_of_a_broker_that_took_the_directory_over_is_left_alone() {
        let scratch = Scratch::new("subscriptions_anothers");
        let directory = scratch.path().join("data");
        let writer = Writer::start(&DataDir::take(&directory).unwrap(), 1).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let another = Writer::start(&DataDir::take(&directory).unwrap(), 1).unwrap();
        another.feed().send_last(0, vec![session("another", "x")]);
        another.finish().unwrap();
        writer.feed().send_last(0, vec![session("a", "x")]);
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.contains("another broker"), "{error}");
        assert_eq!(load(&directory).unwrap(), [session("another", "x")]);
    }

    #[test]
    fn a_writer_that_is_behind_takes_no_more_than_its_bound() {
        let (sender, receiver) = bounded(2);
        let feed = Feed { sender };
        assert!(feed.send(0, Vec::new()));
        assert!(feed.send(0, Vec::new()));
        assert!(!feed.send(0, Vec::new()));
        drop(receiver);
        assert!(!feed.send(0, Vec::new()));
    }
}
