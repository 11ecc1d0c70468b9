//! `mqtt-broker bans`: the bans of the running broker, and their end.

use std::net::IpAddr;
use std::path::Path;

use clap::{Args, Subcommand};

use super::client::{ask, not_understood, print};
use super::refusals::utc;
use super::{Answer, Request};
use crate::error::StartupError;
use crate::net::bans::{Ban, Lift, Subject};
use crate::process::clock;

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

/// The subject of a ban, and its time.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("banned").required(true).multiple(true).args(["address", "user", "client_id"])))]
pub(crate) struct BanArguments {
    /// Ban this address, or of IPv6 its network of 64 bits; with --user or --client-id, only these from there
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Ban this user name, from the address that --address gives
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Ban this client identifier, of the user that --user gives, or of nobody from the address that --address gives
    #[arg(long, value_name = "CLIENT_ID")]
    client_id: Option<String>,
    /// Seconds until the ban ends
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Bans a subject from the broker that runs with `data_dir`. Connections that are open stay.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if the subject cannot be banned.
pub(super) fn ban(data_dir: &Path, arguments: &BanArguments) -> Result<(), StartupError> {
    let BanArguments { address, user, client_id, seconds } = arguments;
    let refuse = |sentence: &str| StartupError::NotFound { sentence: sentence.to_owned() };
    if address.is_some_and(|address| address.to_canonical().is_loopback()) {
        return Err(refuse(
            "addresses of this machine are never banned; disconnect closes a client, and the rules bound it",
        ));
    }
    let Some(subject) = Subject::of(*address, user.as_deref(), client_id.as_deref()) else {
        return Err(refuse(
            "give --address alone, --address with --user or with --client-id, or --user with --client-id: names are banned for an \
             address or a user, so that nobody bans the clients of others",
        ));
    };
    let until_s = clock::unix_s() + u64::from(*seconds);
    let shown = subject.shown();
    match ask(data_dir, &Request::Ban(Ban { subject, until_s }))? {
        Answer::Done => {
            print(&format!("banned {shown} until={}", utc(until_s.saturating_mul(1_000_000))));
            Ok(())
        }
        _ => Err(not_understood(data_dir)),
    }
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
