//! The broker's end: a thread that serves one operator after the other. It passes each request to the main thread as a
//! command, and the answer back.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{debug, info, warn};

use super::OperatorCommand;
use super::ipc::{self, Listener, Stream};
use super::line;
use super::request::REQUEST_BYTES_MAX;
use super::{Answer, ROWS_MAX, Request};
use crate::net::accept_backoff::{ACCEPT_PAUSE, ErrorLog};
use crate::net::bans::Bans;
use crate::process::clock;

/// Time limit for an operator to send, for a shard to answer, and for the operator to receive. Each is shorter than
/// the operator's own limit.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The commands of operators. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct CommandListener {
    receiver: Receiver<OperatorCommand>,
    /// Kept so that the channel stays open, and merely empty, when the thread ended or never started.
    _sender: Sender<OperatorCommand>,
    /// `None` if no operator can connect.
    path: Option<PathBuf>,
}

impl CommandListener {
    /// The channel of the commands.
    pub(crate) fn receiver(&self) -> &Receiver<OperatorCommand> {
        &self.receiver
    }
}

impl Drop for CommandListener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            ipc::remove(path);
        }
    }
}

/// Listens for `data_dir`, which this process has locked. A broker also serves without it, so an error is a warning.
pub(crate) fn listen(data_dir: &Path, bans: Bans) -> CommandListener {
    let (sender, receiver) = bounded(1);
    let path = ipc::path(data_dir);
    match start(&path, sender.clone(), bans) {
        Ok(()) => CommandListener { receiver, _sender: sender, path: Some(path) },
        Err(error) => {
            let path = path.display();
            warn!(%path, %error, "cannot listen for operators: `mqtt-broker disconnect` and its like will not reach this broker");
            CommandListener { receiver, _sender: sender, path: None }
        }
    }
}

fn start(path: &Path, commands: Sender<OperatorCommand>, bans: Bans) -> io::Result<()> {
    let listener = Listener::bind(path)?;
    thread::Builder::new().name("operator".to_owned()).spawn(move || serve(listener, &commands, &bans))?;
    Ok(())
}

fn serve(mut listener: Listener, commands: &Sender<OperatorCommand>, bans: &Bans) {
    let error_log = ErrorLog::default();
    loop {
        match listener.accept() {
            Ok(mut stream) => {
                if let Err(error) = serve_one(&mut stream, commands, bans) {
                    debug!(%error, "an operator received no answer");
                }
            }
            Err(refused) => {
                if error_log.must_pause(refused) {
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}

/// Serves one connection.
fn serve_one(stream: &mut Stream, commands: &Sender<OperatorCommand>, bans: &Bans) -> io::Result<()> {
    let answer = match line::read(stream, REQUEST_BYTES_MAX, clock::read() + TIME_LIMIT) {
        // A ban may have two names, and so the length of two rows.
        Ok(Request::Bans { from }) => Answer::Bans(bans.list(from, ROWS_MAX / 2)),
        Ok(Request::LiftBans(lift)) => {
            let lifted = bans.lift(&lift);
            info!(?lift, lifted, "bans lifted by the operator");
            Answer::Lifted(lifted)
        }
        Ok(Request::Ban(ban)) => {
            info!(subject = %ban.subject.shown(), until_s = ban.until_s, "banned by the operator");
            bans.ban(ban);
            Answer::Done
        }
        Ok(request) => answer(request, commands),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Answer::NotUnderstood,
        Err(error) => return Err(error),
    };
    line::write(stream, &answer, TIME_LIMIT)
}

/// The answer of the shards to a request.
fn answer(request: Request, commands: &Sender<OperatorCommand>) -> Answer {
    let (answers, answered) = bounded(1);
    // A main thread that is stopping receives no more commands.
    if commands.send_timeout(OperatorCommand { request, answers }, TIME_LIMIT).is_err() {
        return Answer::Busy;
    }
    let Ok((shards, expected)) = answered.recv_timeout(TIME_LIMIT) else { return Answer::Busy };
    let last = clock::read() + TIME_LIMIT;
    let mut all: Option<Answer> = None;
    for _ in 0..expected {
        // A shard that is too busy to be asked drops its end of the channel.
        let Ok(one) = shards.recv_deadline(last) else { return Answer::Busy };
        all = Some(match all {
            Some(before) => before.with(one),
            None => one,
        });
    }
    // No shard was meant.
    all.unwrap_or(Answer::NotUnderstood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_main_thread_is_answered_as_busy() {
        let disconnect = || Request::Disconnect { client_id: "a".to_owned() };
        let (commands, received) = bounded(1);
        drop(received);
        assert_eq!(answer(disconnect(), &commands), Answer::Busy);
        let (commands, received) = bounded(1);
        let shard = thread::spawn(move || drop(received.recv()));
        assert_eq!(answer(disconnect(), &commands), Answer::Busy);
        shard.join().unwrap();
    }

    #[test]
    fn a_broker_is_healthy_if_each_shard_answers() {
        let ask = |answering: usize, expected: usize| {
            let (commands, received) = bounded(1);
            let main = thread::spawn(move || {
                let command: OperatorCommand = received.recv().unwrap();
                assert_eq!(command.request, Request::Health {});
                let (shards, answers) = bounded(2);
                (0..answering).for_each(|_| shards.send(Answer::Healthy).unwrap());
                command.answers.send((answers, expected)).unwrap();
            });
            let answer = answer(Request::Health {}, &commands);
            main.join().unwrap();
            answer
        };
        assert_eq!((ask(2, 2), ask(1, 2)), (Answer::Healthy, Answer::Busy));
        assert_eq!(ask(0, 0), Answer::NotUnderstood);
        for (one, other, both) in [
            (Answer::Healthy, Answer::JournalDegraded, Answer::JournalDegraded),
            (Answer::JournalFailed, Answer::JournalDegraded, Answer::JournalFailed),
            (Answer::Healthy, Answer::Healthy, Answer::Healthy),
        ] {
            assert_eq!(one.clone().with(other.clone()), both);
            assert_eq!(other.with(one), both);
        }
    }
}
