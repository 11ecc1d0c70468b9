//! The command line: a flag for every setting, `--config`, and the subcommands.
//! It parses no value. `config` checks the values of flags, environment and file alike, so that all have the same errors.
//! Every flag of the broker is also taken behind a subcommand, so that a subcommand can be given the same flags as the broker.
//! Its help shows only those that it uses.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::admin::operator::{BansArguments, Form, OperatorSubcommand, SessionsArguments};
#[cfg(feature = "admin")]
use crate::admin::tokens::command::TokenCommand;
use crate::auth::password::command::UserArguments;
use crate::authorization::command::RulesCommand;
use crate::config::command::ConfigCommand;
use crate::config::{Config, GivenFlag, SETTINGS, Setting, mosquitto};
use crate::data::DataCommand;
use crate::error::StartupError;

/// Settings that `-h` shows; `--help` shows all of them.
const SHORT_HELP: [&str; 9] = [
    "bind",
    "port",
    "max_connections",
    "data_dir",
    "shards",
    "io",
    "stats_interval_s",
    "log_level",
    "log_dir",
];

/// Settings that the help of a subcommand shows, by its name. `config` has none: its subcommands take all or no settings.
const OWN_SETTINGS: [(&str, &[&str]); 26] = [
    ("config", &[]),
    ("certificates", &[]),
    ("rules", &[]),
    ("health", &["data_dir"]),
    ("disconnect", &["data_dir"]),
    ("sessions", &["data_dir"]),
    ("refusals", &["data_dir"]),
    ("bans", &["data_dir"]),
    ("clients", &["data_dir"]),
    ("client", &["data_dir"]),
    ("subscriptions", &["data_dir"]),
    ("topics", &["data_dir"]),
    ("retained", &["data_dir"]),
    ("publish", &["data_dir"]),
    ("closed", &["data_dir"]),
    ("slow", &["data_dir"]),
    ("stats", &["data_dir"]),
    ("log-level", &["data_dir"]),
    ("ban", &["data_dir"]),
    ("drain", &["data_dir"]),
    ("trace", &["data_dir"]),
    ("reload", &["data_dir"]),
    ("rollback", &["data_dir"]),
    ("token", &["data_dir"]),
    ("user", &[]),
    ("data", &["data_dir"]),
];

/// The hidden subcommand that writes man pages and completions. It is no part of [`CliCommand`], because completions have every
/// subcommand that the definition has, hidden ones as well.
const GENERATE: &str = "generate";

/// The last line of a subcommand's help.
const ALSO_TAKEN: &str = "The flags of the broker are taken as well; `mqtt-broker --help` lists them.";

/// MQTT broker for MQTT 3.1, 3.1.1 and 5.0
///
/// Without arguments it listens on port 1883 of this machine alone, logs to standard output, prints
/// statistics every 30 seconds and keeps its state in data/. Ctrl-C or SIGTERM stops it cleanly; SIGUSR1
/// prints statistics at once.
#[derive(Debug, Parser)]
#[command(
    name = "mqtt-broker",
    version,
    next_line_help = false,
    max_term_width = 110,
    after_help = "Flags override variables of the environment (--max-connections N: MQTT_BROKER_MAX_CONNECTIONS=N),\n\
                  which override the configuration file, which overrides the defaults.\n\
                  `mqtt-broker config default` prints a file with every key explained."
)]
pub(crate) struct Arguments {
    /// Configuration file [default: config/broker.conf if it exists, or else /etc/mqtt-broker/broker.conf]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// A command to run instead of the broker.
    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
}

/// A command to run instead of the broker.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Check, show, explain or import a configuration, without starting the broker
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the certificates and the lists of revoked ones that the configuration names, and when each ends
    Certificates {
        #[command(flatten)]
        form: Form,
    },
    /// Ask the rules of a configuration about a topic, without starting the broker
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check that the running broker of this data directory answers on every shard; exit code 0 if it does
    Health,
    /// Close a client's connection on the running broker of this data directory; its session lives on as the client requested
    Disconnect {
        /// Identifier of the client
        client_id: String,
    },
    /// List the sessions of the running broker of this data directory, end one, or give one to another user
    Sessions(SessionsArguments),
    /// Show the last connections that the running broker of this data directory has refused, and why
    Refusals {
        /// Only those of the client with this identifier
        client_id: Option<String>,
    },
    /// List the bans of the running broker of this data directory, or lift some
    Bans(BansArguments),
    /// Ask the running broker, or change something there
    #[command(flatten)]
    Operator(OperatorSubcommand),
    /// Make, list or remove the tokens that operators send over HTTP
    #[cfg(feature = "admin")]
    #[command(subcommand)]
    Token(TokenCommand),
    /// Add, change, delete, list or import the users of the password file
    User(UserArguments),
    /// Check, copy and bring back data directories
    #[command(subcommand)]
    Data(DataCommand),
}

/// The request of a command line.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run the broker or a subcommand.
    Run(Arguments),
    /// Write man pages and completions into this directory.
    Generate(PathBuf),
}

impl Invocation {
    /// The request of the process's command line. Help and version are printed, and end the process.
    ///
    /// # Errors
    /// If it contains a flag of mosquitto. Any other error is printed with the usage, and ends the process.
    pub(crate) fn of_process() -> Result<Self, StartupError> {
        Self::from(std::env::args_os()).map_err(|error| match flag_of_mosquitto(&error) {
            Some((flag, hint)) => StartupError::ForeignFlag { flag, hint },
            None => error.exit(),
        })
    }

    fn from<T: Into<std::ffi::OsString> + Clone>(
        line: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let directory = Arg::new("DIRECTORY").required(true).value_parser(clap::value_parser!(PathBuf));
        let generate = Command::new(GENERATE).hide(true).arg(directory);
        let mut matches =
            Arguments::command_with(|_| true).subcommand(generate).try_get_matches_from(line)?;
        match matches.subcommand_matches(GENERATE).and_then(|matches| matches.get_one::<PathBuf>("DIRECTORY"))
        {
            Some(directory) => Ok(Self::Generate(directory.clone())),
            None => Arguments::from_arg_matches_mut(&mut matches).map(Self::Run),
        }
    }
}

impl Arguments {
    /// The command as its help shows it, without anything that is hidden.
    pub(crate) fn documented_command() -> Command {
        Self::command_with(|is_shown| is_shown)
    }

    /// The command with those flags of the broker behind each subcommand for which `has` answers so, by whether they are shown there.
    fn command_with(has: fn(bool) -> bool) -> Command {
        let mut command = Self::command();
        // A build without operations over HTTP has no tokens.
        for (name, shown) in
            OWN_SETTINGS.into_iter().filter(|(name, _)| cfg!(feature = "admin") || *name != "token")
        {
            command = command.mut_subcommand(name, |subcommand| with_settings(subcommand, shown, has));
        }
        command
    }

    /// The settings given by flags.
    pub(crate) fn flags(&self) -> &[GivenFlag] {
        &self.settings.given
    }
}

/// Adds flags of settings to a subcommand and to those below it; only those of the settings `shown` are part of its help.
fn with_settings(command: Command, shown: &[&str], has: fn(bool) -> bool) -> Command {
    let flags = SETTINGS.iter().filter_map(|setting| {
        let is_shown = shown.contains(&setting.key);
        let flag = flag(setting).hide(!is_shown).hide_short_help(false).help_heading(None::<&str>);
        has(is_shown).then_some(flag)
    });
    let below: Vec<String> =
        command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
    let mut command = command.args(flags).after_help(ALSO_TAKEN);
    for name in below {
        command = command.mut_subcommand(name, |subcommand| with_settings(subcommand, shown, has));
    }
    command
}

/// The unknown flag of `error` and its equivalent, if mosquitto has such a flag.
fn flag_of_mosquitto(error: &clap::Error) -> Option<(String, &'static str)> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => {
            Some((flag.clone(), mosquitto::flag(flag)?))
        }
        _ => None,
    }
}

/// A flag for each row of the table of settings.
#[derive(Debug)]
struct SettingFlags {
    given: Vec<GivenFlag>,
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // A flag behind a subcommand overrides the same flag before it.
        let mut given = Vec::new();
        let mut level = Some(matches);
        while let Some(matches) = level {
            given.extend(SETTINGS.iter().filter_map(|setting| {
                let texts = matches.get_many::<String>(setting.key)?;
                Some((setting, texts.cloned().collect()))
            }));
            level = matches.subcommand().map(|(_, below)| below);
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &Setting) -> Arg {
    let meaning = setting.meaning().collect::<Vec<_>>().join(" ");
    let first_sentence = meaning.split(". ").next().unwrap_or_default();
    let (default, allowed) = ((setting.render)(&Config::default()), (setting.allowed)());
    Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.value_name)
        .help(format!("{} [default: {default}]", first_sentence.trim_end_matches('.')))
        .long_help(format!("{meaning}\n[default: {default}] [allowed: {allowed}]"))
        .help_heading(setting.section)
        .hide_short_help(!SHORT_HELP.contains(&setting.key))
        .allow_negative_numbers(true)
        .action(if setting.repeatable { ArgAction::Append } else { ArgAction::Set })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn flags(line: &str) -> Vec<(&'static str, Vec<String>)> {
        let arguments = match Invocation::from(line.split_whitespace()).unwrap() {
            Invocation::Run(arguments) => arguments,
            Invocation::Generate(directory) => panic!("{}", directory.display()),
        };
        arguments.flags().iter().map(|(setting, texts)| (setting.key, texts.clone())).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command_with(|_| true).debug_assert();
        Arguments::documented_command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag() {
        for setting in SETTINGS {
            let line = format!("mqtt-broker --{} x", setting.flag());
            assert_eq!(flags(&line), [(setting.key, vec!["x".to_owned()])]);
        }
    }

    #[test]
    fn the_flags_that_scripts_rely_on_exist() {
        for flag in [
            "bind",
            "port",
            "data-dir",
            "shards",
            "io",
            "max-connections",
            "log-level",
            "log-dir",
            "stats-interval",
        ] {
            assert!(SETTINGS.iter().any(|setting| setting.flag() == flag), "--{flag}");
        }
    }

    #[test]
    fn bind_is_repeatable_and_flags_are_taken_on_either_side_of_a_subcommand() {
        let expected = [("bind", vec!["127.0.0.1".to_owned(), "::1".to_owned()])];
        assert_eq!(flags("mqtt-broker --bind 127.0.0.1 --bind ::1"), expected);
        assert_eq!(flags("mqtt-broker --bind 127.0.0.1 --bind ::1 config show"), expected);
        assert_eq!(flags("mqtt-broker config show --bind 127.0.0.1 --bind ::1"), expected);
        let both = [("port", vec!["1".to_owned()]), ("port", vec!["2".to_owned()])];
        assert_eq!(flags("mqtt-broker --port 1 config --port 2 show"), both, "the later one overrides");
    }

    #[test]
    fn the_help_of_a_subcommand_shows_its_own_flags() {
        let check = |line: &str, expected: &[&str]| {
            let help = Invocation::from(line.split_whitespace()).unwrap_err().to_string();
            let shown: Vec<&str> = help
                .lines()
                .filter_map(|line| line.trim_start().trim_start_matches("-h, ").strip_prefix("--"))
                .map(|line| line.split(' ').next().unwrap_or_default())
                .collect();
            assert_eq!(shown, expected, "{help}");
        };
        check("mqtt-broker health --help", &["config", "data-dir", "help"]);
        check("mqtt-broker disconnect -h", &["config", "data-dir", "help"]);
        check("mqtt-broker user add --help", &["config", "device", "file", "scram", "help"]);
        check("mqtt-broker certificates --help", &["config", "json", "help"]);
        check("mqtt-broker rules check --help", &["config", "role", "help"]);
        check("mqtt-broker config --help", &["config", "help"]);
        check("mqtt-broker config show --help", &["config", "help"]);
        check("mqtt-broker config import --help", &["config", "output", "help"]);
    }

    #[test]
    fn every_subcommand_states_its_settings() {
        for subcommand in Arguments::command().get_subcommands() {
            assert!(OWN_SETTINGS.iter().any(|(name, _)| *name == subcommand.get_name()), "{subcommand}");
        }
    }

    #[test]
    fn pages_are_written_by_a_subcommand_that_no_help_shows() {
        let invocation = Invocation::from(["mqtt-broker", "generate", "pages"]).unwrap();
        assert!(matches!(invocation, Invocation::Generate(directory) if directory == Path::new("pages")));
        let help = Invocation::from(["mqtt-broker", "--help"]).unwrap_err().to_string();
        assert!(!help.contains(GENERATE), "{help}");
    }

    #[test]
    fn a_flag_of_mosquitto_is_answered_with_ours() {
        for (line, flag, ours) in [
            ("mqtt-broker -p 1884", "-p", "--port"),
            ("mqtt-broker -c mosquitto.conf -v", "-c", "--config"),
            ("mqtt-broker -v", "-v", "--log-level debug"),
            ("mqtt-broker -d", "-d", "nohup"),
        ] {
            let error = Invocation::from(line.split_whitespace()).unwrap_err();
            let (named, hint) = flag_of_mosquitto(&error).unwrap();
            assert!(named == flag && hint.contains(ours), "{named}: {hint}");
        }
        let error = Invocation::from(["mqtt-broker", "--prot", "1"]).unwrap_err();
        assert_eq!(flag_of_mosquitto(&error), None);
    }

    #[test]
    fn every_key_of_the_short_help_exists() {
        for key in SHORT_HELP {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }
}
