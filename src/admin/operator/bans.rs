//! `mqtt-broker bans`: the bans of the running broker, and their end.

use std::net::IpAddr;
use std::path::Path;

use clap::{Args, Subcommand};

use super::client::{ask, not_understood, print};
use super::line::{Answer, Request};
use super::refusals::utc;
use crate::error::StartupError;
use crate::net::bans::Lift;

/// The list, or an end.
#[derive(Debug, Args)]
pub(crate) struct BansArguments {
    #[command(subcommand)]
    change: Option<BansCommand>,
}

/// An end of bans.
#[derive(Debug, Subcommand)]
enum BansCommand {
    /// Lift the bans to which everything applies that is given
    #[command(group(clap::ArgGroup::new("which").required(true).multiple(true)))]
    Lift {
        /// Bans of this address, and of its users and clients
        #[arg(long, group = "which", value_name = "ADDRESS")]
        address: Option<IpAddr>,
        /// Bans of this user name, and of its clients
        #[arg(long, group = "which", value_name = "USER")]
        user: Option<String>,
        /// Bans of this client identifier
        #[arg(long, group = "which", value_name = "CLIENT_ID")]
        client_id: Option<String>,
        /// Every ban
        #[arg(long, group = "which")]
        all: bool,
    },
}

/// Lists or lifts bans of the broker that runs with `data_dir`.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if nothing was to be lifted.
pub(crate) fn run(data_dir: &Path, arguments: &BansArguments) -> Result<(), StartupError> {
    match &arguments.change {
        None => list(data_dir),
        Some(BansCommand::Lift { address, user, client_id, .. }) => {
            let (user, client_id) = (user.clone(), client_id.clone());
            match ask(data_dir, &Request::LiftBans(Lift { address: *address, user, client_id }))? {
                Answer::Lifted(0) => {
                    Err(StartupError::NotFound { sentence: "there is no such ban".to_owned() })
                }
                Answer::Lifted(count) => {
                    print(&format!("bans lifted: {count}"));
                    Ok(())
                }
                _ => Err(not_understood(data_dir)),
            }
        }
    }
}

fn list(data_dir: &Path) -> Result<(), StartupError> {
    let mut from = 0;
    loop {
        let Answer::Bans(bans) = ask(data_dir, &Request::Bans { from })? else {
            return Err(not_understood(data_dir));
        };
        if bans.is_empty() {
            return Ok(());
        }
        from += bans.len();
        for ban in bans {
            print(&format!("{} until={}", ban.subject.shown(), utc(ban.until_s.saturating_mul(1_000_000))));
        }
    }
}
