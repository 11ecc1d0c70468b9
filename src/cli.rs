//! The command line: a flag for every setting, `--config`, and the subcommands.
//! It parses no value. `config` checks the values of flags and file alike, so that both have the same errors.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use crate::config::command::ConfigCommand;
use crate::config::{Config, GivenFlag, SETTINGS, Setting};

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
    after_help = "Flags override the configuration file, which overrides the defaults.\n\
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
    /// Check that the broker with this configuration answers a CONNECT; exit code 0 if it does
    Health,
    /// Close a client's connection on the running broker of this data directory; its session lives on as the client requested
    Disconnect {
        /// Identifier of the client
        client_id: String,
    },
}

impl Arguments {
    /// The settings given by flags.
    pub(crate) fn flags(&self) -> &[GivenFlag] {
        &self.settings.given
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
        let given = SETTINGS.iter().filter_map(|setting| {
            let texts = matches.get_many::<String>(setting.key)?;
            Some((setting, texts.cloned().collect()))
        });
        Ok(Self { given: given.collect() })
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
        .global(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn flags(line: &str) -> Vec<(&'static str, Vec<String>)> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        arguments.flags().iter().map(|(setting, texts)| (setting.key, texts.clone())).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
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
    }

    #[test]
    fn every_key_of_the_short_help_exists() {
        for key in SHORT_HELP {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }
}
