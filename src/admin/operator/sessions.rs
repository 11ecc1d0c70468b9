//! `mqtt-broker sessions`: the sessions of the running broker, the end of one, and its gift to another user.

use std::path::Path;

use clap::{Args, Subcommand};

use super::client::{ask, ask_about, no_session, not_understood, print};
use super::{Answer, Request, SessionRow};
use crate::error::StartupError;

/// The sessions that are meant, or a change of one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SessionsArguments {
    /// Identifier of the client; without it, all sessions are listed
    client_id: Option<String>,
    #[command(subcommand)]
    change: Option<SessionsCommand>,
}

/// A change of a session.
#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// End a session, with everything that waits in it; a client that is connected is disconnected
    End {
        /// Identifier of the client
        client_id: String,
    },
    /// Give a session to another user, whose client may then resume it; a client that is connected is disconnected
    Give {
        /// Identifier of the client
        client_id: String,
        /// Name of the user
        user: String,
    },
}

/// Shows or changes sessions of the broker that runs with `data_dir`.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if there is no such session.
pub(crate) fn run(data_dir: &Path, arguments: &SessionsArguments) -> Result<(), StartupError> {
    match (&arguments.change, &arguments.client_id) {
        (Some(SessionsCommand::End { client_id }), _) => {
            let request = Request::EndSession { client_id: client_id.clone() };
            change(data_dir, client_id, &request, "was ended")
        }
        (Some(SessionsCommand::Give { client_id, user }), _) => {
            let request = Request::GiveSession { client_id: client_id.clone(), user: user.clone() };
            change(data_dir, client_id, &request, &format!("belongs to user {user:?} now"))
        }
        (None, Some(client_id)) => {
            match ask_about(data_dir, client_id, &Request::Session { client_id: client_id.clone() })? {
                Some(Answer::Sessions { rows, .. }) => {
                    rows.iter().for_each(show);
                    Ok(())
                }
                Some(Answer::NoSession) | None => Err(no_session(client_id)),
                Some(_) => Err(not_understood(data_dir)),
            }
        }
        (None, None) => list(data_dir),
    }
}

fn change(data_dir: &Path, client_id: &str, request: &Request, done: &str) -> Result<(), StartupError> {
    match ask_about(data_dir, client_id, request)? {
        Some(Answer::Done) => {
            print(&format!("session {client_id:?} {done}"));
            Ok(())
        }
        Some(Answer::NoSession) | None => Err(no_session(client_id)),
        Some(_) => Err(not_understood(data_dir)),
    }
}

/// One shard after the other, a part of its slots at a time: none of them waits for the list.
fn list(data_dir: &Path) -> Result<(), StartupError> {
    let mut place = Some((0, 0));
    while let Some((shard, from)) = place {
        let Answer::Sessions { rows, next } = ask(data_dir, &Request::Sessions { shard, from })? else {
            return Err(not_understood(data_dir));
        };
        rows.iter().for_each(show);
        // A place that does not advance would be an endless list.
        place = next.filter(|next| *next > (shard, from));
    }
    Ok(())
}

fn show(row: &SessionRow) {
    let SessionRow { client, user, connected, peer, subscriptions, queued } = row;
    let user = if user.is_empty() { String::new() } else { format!(" user={user:?}") };
    let peer = peer.as_ref().map(|peer| format!(" peer={peer}")).unwrap_or_default();
    let state = format!("connected={connected}{peer} subscriptions={subscriptions} queued={queued}");
    print(&format!("client={client:?}{user} {state}"));
}
