//! Man pages and completions for shells, made from the definition of the command line itself, for packages. The subcommand that writes
//! them is hidden, because an operator has them installed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::StartupError;

/// The synopsis of the main page, in roff.
const SYNOPSIS: &str = ".SH SYNOPSIS\n\\fBmqtt\\-broker\\fR [\\fIOPTION\\fR...] [\\fISUBCOMMAND\\fR]\n";

/// Sections of the main page that the command line does not define, in roff.
const SECTIONS: &str = r".SH ENVIRONMENT
Each flag of a setting is also a variable: \fBMQTT_BROKER_\fR and the key in capital letters, such as
\fBMQTT_BROKER_MAX_CONNECTIONS\fR. \fBMQTT_BROKER_CONFIG\fR names the configuration file. Flags override variables, which override the
file.
.SH FILES
.TP
\fIconfig/broker.conf\fR, \fI/etc/mqtt\-broker/broker.conf\fR
The configuration, in TOML. The first one that exists is read.
.TP
\fIdata/journal\fR
The log: sessions, messages and wills, which come back after a restart. With \fBdurability\fR at \(lqmemory\(rq it is
\fIdata/subscriptions.json\fR, with the subscriptions of persistent sessions alone.
.TP
\fIdata/placement.key\fR
The secret that assigns clients to shards.
.TP
\fIdata/broker.lock\fR, \fIdata/control.sock\fR, \fIdata/page.sock\fR
The lock of the running broker, the socket of \fBmqtt\-broker clients\fR and the other commands that ask it, and that of the dashboard's client.
.SH SIGNALS
.TP
\fBSIGINT\fR, \fBSIGTERM\fR
Stop cleanly. A second SIGINT ends the process at once.
.TP
\fBSIGHUP\fR
Read the configuration and its files again, as \fBmqtt\-broker reload\fR does. If the terminal was closed that the broker was started
in, it stops cleanly.
.TP
\fBSIGUSR1\fR
Print statistics.
.SH EXIT STATUS
.TP
\fB0\fR
A clean stop, or success of a subcommand.
.TP
\fB1\fR
The start or the subcommand failed; standard error names cause and remedy.
.TP
\fB2\fR
Flags, variables or configuration file are wrong; another start cannot help.
.TP
\fB130\fR
Ended by a second SIGINT.
.SH SEE ALSO
The operator's manual in \fI/usr/share/doc/mqtt\-broker/deploy/README.md\fR, and \fBmosquitto_pub\fR(1), \fBmosquitto_sub\fR(1).
";

/// Writes all pages into `directory/man` and all completions into `directory/completions`.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write(command: &Command, directory: &Path) -> Result<(), StartupError> {
    let pages = directory.join("man");
    let completions = directory.join("completions");
    let written = [&pages, &completions]
        .into_iter()
        .try_for_each(fs::create_dir_all)
        .and_then(|()| write_pages(command, &pages))
        .and_then(|()| write_completions(command, &completions));
    written
        .map_err(|error| StartupError::system(format!("write man pages to {}", directory.display()), error))
}

/// A page for the command and one for each subcommand: `mqtt-broker-config-check.1`.
fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command.clone(), directory)?;
    // The page of the broker itself is written anew: its synopsis would repeat each of the flags.
    let page = Man::new(command.clone());
    let mut file = File::create(directory.join(page.get_filename()))?;
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    file.write_all(SYNOPSIS.as_bytes())?;
    page.render_description_section(&mut file)?;
    page.render_options_section(&mut file)?;
    page.render_subcommands_section(&mut file)?;
    file.write_all(SECTIONS.as_bytes())
}

fn write_completions(command: &Command, directory: &Path) -> io::Result<()> {
    [Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().try_for_each(|shell| {
        let file: io::Result<PathBuf> =
            clap_complete::generate_to(shell, &mut command.clone(), command.get_name(), directory);
        file.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use crate::config::SETTINGS;
    use crate::process::scratch::Scratch;

    /// The files below `directory`, by name and content.
    fn files(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn pages_and_completions_have_every_flag_and_command() {
        let scratch = Scratch::new("generate");
        write(&Arguments::documented_command(), scratch.path()).unwrap();

        let pages = files(&scratch.path().join("man"));
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "mqtt-broker-ban.1",
                "mqtt-broker-bans-lift.1",
                "mqtt-broker-bans.1",
                "mqtt-broker-certificates.1",
                "mqtt-broker-client.1",
                "mqtt-broker-clients.1",
                "mqtt-broker-closed.1",
                "mqtt-broker-config-check.1",
                "mqtt-broker-config-default.1",
                "mqtt-broker-config-diff.1",
                "mqtt-broker-config-import.1",
                "mqtt-broker-config-show.1",
                "mqtt-broker-config.1",
                "mqtt-broker-data-backup.1",
                "mqtt-broker-data-check.1",
                "mqtt-broker-data-checkpoint.1",
                "mqtt-broker-data-export.1",
                "mqtt-broker-data-import.1",
                "mqtt-broker-data-restore.1",
                "mqtt-broker-data.1",
                "mqtt-broker-disconnect.1",
                "mqtt-broker-drain.1",
                "mqtt-broker-health.1",
                "mqtt-broker-log-level.1",
                "mqtt-broker-publish.1",
                "mqtt-broker-refusals.1",
                "mqtt-broker-reload.1",
                "mqtt-broker-retained-clear.1",
                "mqtt-broker-retained-get.1",
                "mqtt-broker-retained-list.1",
                "mqtt-broker-retained.1",
                "mqtt-broker-rollback.1",
                "mqtt-broker-rules-check.1",
                "mqtt-broker-rules.1",
                "mqtt-broker-sessions-end.1",
                "mqtt-broker-sessions-give.1",
                "mqtt-broker-sessions.1",
                "mqtt-broker-slow.1",
                "mqtt-broker-stats.1",
                "mqtt-broker-subscriptions.1",
                "mqtt-broker-token-add.1",
                "mqtt-broker-token-list.1",
                "mqtt-broker-token-remove.1",
                "mqtt-broker-token.1",
                "mqtt-broker-topics.1",
                "mqtt-broker-trace.1",
                "mqtt-broker-user-add.1",
                "mqtt-broker-user-delete.1",
                "mqtt-broker-user-import.1",
                "mqtt-broker-user-list.1",
                "mqtt-broker-user-passwd.1",
                "mqtt-broker-user.1",
                "mqtt-broker.1",
            ]
        );
        let main = &pages.last().unwrap().1;
        let has = |text: &str, flag: &str| text.contains(&format!("--{flag}"));
        for setting in SETTINGS {
            assert!(has(&main.replace("\\-", "-"), &setting.flag()), "--{}", setting.flag());
        }
        for section in ["ENVIRONMENT", "FILES", "SIGNALS", "\"EXIT STATUS\""] {
            let heading = format!(".SH {}", section.trim_matches('"'));
            assert!(main.contains(&heading), "{heading}");
        }

        let completions = files(&scratch.path().join("completions"));
        let names: Vec<&str> = completions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_mqtt-broker", "mqtt-broker.bash", "mqtt-broker.fish"]);
        for (name, text) in &completions {
            for setting in SETTINGS {
                // fish names a flag without its dashes.
                let is_there = has(text, &setting.flag()) || text.contains(&format!("-l {}", setting.flag()));
                assert!(is_there, "{name}: {}", setting.flag());
            }
            for word in ["disconnect", "health", "import"] {
                assert!(text.contains(word), "{name}: {word}");
            }
            assert!(!text.contains("generate"), "{name} offers the hidden subcommand");
        }
    }
}
