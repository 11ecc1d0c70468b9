//! `mqtt-broker user`: the password file as its commands write and read it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::harness::broker::{Directory, command_in};

/// Runs `mqtt-broker user` with this standard input, beside a configuration file.
fn user(directory: &Directory, arguments: &[&str], input: &str) -> Output {
    let mut command = command_in(directory);
    command.arg("--config").arg(directory.write("broker.conf", "")).arg("user").args(arguments);
    run(command, input)
}

fn run(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command that refuses before it reads closes the pipe early.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the command ends")
}

fn out(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The one line of a refusal.
fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.lines().count() == 1, "{text}");
    text
}

#[test]
fn users_are_added_changed_listed_and_deleted() {
    let directory = Directory::new();
    let user = |arguments: &[&str], input: &str| user(&directory, arguments, input);
    let passwords = || fs::read_to_string(directory.path().join("passwords")).expect("the file is readable");
    assert_eq!(out(&user(&["add", "alice"], "first\n")), "");
    assert_eq!(out(&user(&["add", "bob", "--scram"], "second\n")), "");
    let key = out(&user(&["add", "meter 7", "--device"], ""));
    assert_eq!(key.trim_end().len(), 32, "{key}");
    let before = passwords();
    for (line, start) in before.lines().zip([
        "alice:$argon2id$v=19$m=19456,t=2,p=1$",
        "bob:SCRAM-SHA-256$4096:",
        "meter 7:$device$",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
    for secret in ["first", "second", key.trim_end()] {
        assert!(!before.contains(secret), "{before}");
    }

    let again = refused(&user(&["add", "alice"], "third\n"));
    assert!(again.contains("user passwd"), "{again}");
    assert_eq!(passwords(), before);
    assert_eq!(out(&user(&["passwd", "alice"], "third\n")), "");
    let after = passwords();
    assert!(after != before && after.lines().count() == 3, "{after}");
    assert_ne!(out(&user(&["passwd", "meter 7"], "")), key, "a device has a new key");
    let listed = out(&user(&["list"], ""));
    assert_eq!(listed, "alice    argon2id\nbob      SCRAM-SHA-256\nmeter 7  device key\n");

    assert_eq!(out(&user(&["delete", "alice"], "")), "");
    assert!(refused(&user(&["delete", "alice"], "")).contains("user list"));
    assert!(refused(&user(&["passwd", "alice"], "x\n")).contains("user list"));
    assert_eq!(out(&user(&["list"], "")).lines().count(), 2);
    assert_eq!(out(&user(&["delete", "bob"], "")), "");
    // A running broker keeps this one.
    let told = out(&user(&["delete", "meter 7"], ""));
    assert!(told.contains("no users now") && told.contains("restart"), "{told}");
}

#[test]
fn the_configured_file_is_edited() {
    let directory = Directory::new();
    let config = directory.write("broker.conf", "[auth.password]\nfile = \"secrets/users\"\n");
    directory.write("secrets/users", "# ours\n");
    let mut command = command_in(&directory);
    command.arg("--config").arg(config).args(["user", "add", "alice", "--device"]);
    out(&run(command, ""));
    let users = fs::read_to_string(directory.path().join("secrets/users")).expect("the file is readable");
    assert!(users.starts_with("# ours\nalice:$device$"), "{users}");
}

#[test]
fn a_password_is_never_an_argument_and_never_empty() {
    let directory = Directory::new();
    assert!(!user(&directory, &["add", "alice", "secret"], "").status.success());
    assert!(refused(&user(&directory, &["add", "alice"], "\n")).contains("empty"));
    assert!(refused(&user(&directory, &["add", "a:b"], "x\n")).contains("colon"));
    assert!(!directory.path().join("passwords").exists(), "nothing is written");
    let mut command = command_in(&directory);
    command.args(["user", "list"]);
    assert!(refused(&run(command, "")).contains("--file FILE"));
}

#[test]
fn the_users_of_mosquitto_are_imported_with_their_hashes() {
    let directory = Directory::new();
    let theirs = directory.write(
        "mosquitto_passwords",
        "alice:$7$101$KNkWVh3eHJJ3nOqt$lX5ZysIijJYMMc8ARfiOp2v1o57+bIBXTrDu+sgHtDFm9cspl4xdPNBgGGt8Pn7WGLa+11FjxFdKBhYPZTckMQ==\n\
         bob:$6$h3ovC3NdbCWQzv0m$iOxdYnzNRj6uvHRigXID98S//cyPuW+7K+hyVXYDDzFHDx47hhcAYMR5m3PAUDxNaPn5xaxK6o3ulinvgI9JxA==\n",
    );
    let theirs = theirs.to_str().expect("the path is text");
    out(&user(&directory, &["add", "bob"], "own\n"));
    let told = out(&user(&directory, &["import", theirs], ""));
    assert_eq!(
        told,
        "bob: left as it is, because its hash differs\n1 of 2 users added\n2 have weak hashes, which `mqtt-broker user list` names\n"
    );
    let listed = out(&user(&directory, &["list"], ""));
    assert!(listed.contains("alice  PBKDF2-SHA512, weak"), "{listed}");
    // A file of plain passwords, as mosquitto_passwd -U takes it, is no password file.
    let plain = directory.write("plain", "carol:secret\n");
    let error = refused(&user(&directory, &["import", plain.to_str().expect("the path is text")], ""));
    assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
}
