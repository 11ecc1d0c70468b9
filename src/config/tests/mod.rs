//! Values from files and flags, and the errors of invalid ones. No test starts a process.

mod from_mosquitto;
mod tables;

use engine::QueueFull;

use super::value::Anonymous;
use super::*;
use crate::process::available_memory::Owner;
use crate::process::scratch::Scratch;

/// Applies a file named `broker.conf` with this content, then these flags, over the defaults.
fn effective(file: &str, flags: &[(&str, &[&str])]) -> Result<Effective, Vec<String>> {
    layered(file, &[], flags)
}

/// Applies a file named `broker.conf` with this content, these variables, and these flags over the defaults.
fn layered(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &[&str])],
) -> Result<Effective, Vec<String>> {
    let environment = Environment::of(variables.iter().map(|&(name, value)| (name.into(), value.into())));
    let flags: Vec<GivenFlag> = flags
        .iter()
        .map(|(flag, texts)| {
            let setting = SETTINGS.iter().find(|setting| setting.flag() == *flag).unwrap();
            (setting, texts.iter().map(|&text| text.to_owned()).collect())
        })
        .collect();
    let file = Some((PathBuf::from("broker.conf"), file.to_owned()));
    Effective::layer(file, environment, &flags, Vec::new())
        .map_err(|errors| errors.iter().map(ConfigError::to_string).collect())
}

/// `config` with the listener that its flat keys describe; `named` says whether they name addresses.
fn with_implied(config: Config, named: bool) -> Config {
    let mut listener = ListenerConfig::implied(&config.bind, named, config.port, config.anonymous);
    listener.auth = Some(Vec::new());
    Config { listeners: vec![listener], ..config }
}

fn errors(file: &str) -> Vec<String> {
    effective(file, &[]).unwrap_err()
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = "# first line\nport = 2000\nmax_connections = 7\n";
    let effective = effective(file, &[("port", &["3000"])]).unwrap();
    let expected = Config { port: 3_000, max_connections: 7, ..Config::default() };
    assert_eq!(effective.config, with_implied(expected, false));
    assert_eq!(effective.origin("port").to_string(), "--port");
    assert_eq!(effective.origin("max_connections").to_string(), "broker.conf, line 3");
    assert_eq!(*effective.origin("io"), Origin::Default);
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let file = "port = 2000\nmax_connections = 7\nshards = 3\n";
    let variables = [
        ("MQTT_BROKER_PORT", "3000"),
        ("MQTT_BROKER_SHARDS", "2"),
        ("MQTT_BROKER_BIND", "0.0.0.0, ::"),
        ("MQTT_BROKER_ANONYMOUS", "true"),
        ("MQTT_BROKER_QUEUE_QOS0_OFFLINE", "true"),
        ("MQTT_BROKER_LOG_LEVEL", "warn\n"),
        ("MQTT_BROKER_LOG_DIR", ""),
    ];
    let effective = layered(file, &variables, &[("shards", &["1"])]).unwrap();
    let expected = Config {
        bind: bind(&["0.0.0.0", "::"]),
        anonymous: Anonymous::Allowed,
        port: 3_000,
        max_connections: 7,
        shards: 1,
        log_level: LogLevel::Warn,
        queue_qos0_offline: true,
        ..Config::default()
    };
    assert_eq!(effective.config, with_implied(expected, true));
    assert_eq!(effective.origin("port").to_string(), "MQTT_BROKER_PORT");
    assert_eq!(effective.origin("shards").to_string(), "--shards");
    assert_eq!(effective.origin("max_connections").to_string(), "broker.conf, line 2");
}

#[test]
fn a_bad_variable_names_itself_the_value_and_what_is_allowed() {
    let variables =
        [("MQTT_BROKER_PORT", "many"), ("MQTT_BROKER_SHARDS", ""), ("MQTT_BROKER_BIND", "localhost")];
    let errors = layered("", &variables, &[]).unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(
        errors[0].starts_with("MQTT_BROKER_BIND must be a list of different IP addresses"),
        "{}",
        errors[0]
    );
    assert!(
        errors[0].contains("separated by commas") && errors[0].ends_with("not localhost"),
        "{}",
        errors[0]
    );
    assert_eq!(errors[1], "MQTT_BROKER_PORT must be an integer from 0 to 65535, not many");
    assert_eq!(errors[2], "MQTT_BROKER_SHARDS must be an integer from 0 to 64, not \"\"");
}

fn bind(addresses: &[&str]) -> Vec<BindAddress> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn every_type_is_read_from_the_file() {
    let file = r#"
        bind = ["0.0.0.0", "::"]
        anonymous = true
        port = 0x7_5b
        data_dir = 'C:\data "quoted"'
        io = "epoll"
        log_level = "err"
        log_dir = "logs"
        queue_bytes_max = 9223372036854775807
        queue_full = "end_session"
        queue_qos0_offline = true
    "#;
    let expected = Config {
        bind: bind(&["0.0.0.0", "::"]),
        anonymous: Anonymous::Allowed,
        port: 1_883,
        data_dir: PathBuf::from("C:\\data \"quoted\""),
        io: Io::Epoll,
        log_level: LogLevel::Error,
        log_dir: Some(PathBuf::from("logs")),
        queue_bytes_max: i64::MAX.unsigned_abs(),
        queue_full: QueueFull::EndSession,
        queue_qos0_offline: true,
        ..Config::default()
    };
    assert_eq!(effective(file, &[]).unwrap().config, with_implied(expected, true));
}

#[test]
fn every_type_is_read_from_flags() {
    let flags: &[(&str, &[&str])] = &[
        ("bind", &["10.0.0.1", "::1"]),
        ("anonymous", &["true"]),
        ("port", &["0"]),
        ("data-dir", &["123"]),
        ("io", &["uring"]),
        ("log-dir", &[""]),
        ("queue-qos0-offline", &["true"]),
        ("queue-bytes-max", &["1_000"]),
    ];
    let expected = Config {
        bind: bind(&["10.0.0.1", "::1"]),
        anonymous: Anonymous::Allowed,
        port: 0,
        data_dir: PathBuf::from("123"),
        io: Io::Uring,
        queue_qos0_offline: true,
        queue_bytes_max: 1_000,
        ..Config::default()
    };
    assert_eq!(effective("log_dir = \"logs\"", flags).unwrap().config, with_implied(expected, true));
}

#[test]
fn an_unknown_key_names_file_line_and_the_key_that_was_meant() {
    let check = |key: &str, nearest: &str| {
        let expected = format!("broker.conf, line 2: unknown key {key}; did you mean {nearest}?");
        assert_eq!(errors(&format!("\n{key} = 1")), [expected]);
    };
    check("prot", "port");
    check("max_conections", "max_connections");
    check("max-connections", "max_connections");
    // Names that the operator's guide uses.
    check("MAX_CONNECTIONS", "max_connections");
    check("READ_BUFFER_SIZE", "read_buffer_bytes");
    check("INITIAL_POOL_SIZE", "initial_pool_size");
    check("MAX_POOL_SIZE", "max_pool_size");
    check("DEFAULT_SESSION_EXPIRY_SEC", "default_session_expiry_s");
    check("STATS_INTERVAL", "stats_interval_s");
    assert_eq!(
        errors("threads = 'x'"),
        ["broker.conf, line 1: unknown key threads; `mqtt-broker config default` lists every key"]
    );
    assert!(errors(&format!("{} = 1", "p".repeat(100_000)))[0].contains("config default"));
}

#[test]
fn a_key_of_mosquitto_names_ours() {
    let check = |key: &str, ours: &str| {
        let error = &errors(&format!("\n{key} = 1"))[0];
        let beginning = format!("broker.conf, line 2: unknown key {key}, which is mosquitto's; ");
        assert!(error.starts_with(&beginning) && error.contains(ours), "{error}");
    };
    check("bind_address", "bind = [");
    check("allow_anonymous", "anonymous = true");
    check("password_file", "[auth.password]");
    check("persistence_location", "data_dir = ");
    check("max_queued_messages", "queue_messages_max");
    check("certfile", "[listener.tls]");
}

#[test]
fn a_whole_file_of_mosquitto_is_answered_line_by_line() {
    let file = "# mine\nlistener 1883 0.0.0.0\nmax_connections 500\n\nallow_anonymous true\n";
    let errors = errors(file);
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors[0].starts_with("broker.conf, line 2: the file is not valid TOML"), "{}", errors[0]);
    assert!(
        errors[1].starts_with("broker.conf, line 2: listener is written as in mosquitto.conf; "),
        "{}",
        errors[1]
    );
    assert_eq!(
        errors[2],
        "broker.conf, line 3: max_connections is written as in mosquitto.conf; write max_connections = 500"
    );
    assert!(errors[3].starts_with("broker.conf, line 5: allow_anonymous"), "{}", errors[3]);
}

#[test]
fn a_sentence_is_one_line_whatever_the_file_holds() {
    let files = [
        "log_dir '&[]\t\t= \"\"'",
        "log_dir a\u{b}b",
        "log_dir \"\"\"a\tb",
        "port = 'a\tb'",
        "port = \"\"\"\na\nb\"\"\"",
        "port = [\n1,\n'\t',\n]",
        "bind = ['a\tb']",
        "'a\tb' = 1",
        "\"a\\nb\" = 1",
        "[[listener]]\nname = 'a\tb'\nport = 1\n[[listener]]\nname = 'a\tb'\nport = 2",
    ];
    for file in files {
        for sentence in errors(file).iter().filter(|sentence| !sentence.contains("not valid TOML")) {
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }
}

#[test]
fn a_bad_value_names_file_line_key_value_and_what_is_allowed() {
    let check = |line: &str, expected: &str| {
        assert_eq!(errors(line), [format!("broker.conf, line 1: {expected}")]);
    };
    check("port = 99999", "port must be from 0 to 65535, not 99999");
    check("port = 65_536", "port must be from 0 to 65535, not 65_536");
    check("port = -1", "port must be from 0 to 65535, not -1");
    check("port = \"1883\"", "port must be an integer from 0 to 65535, not \"1883\"");
    check("port = 1883.0", "port must be an integer from 0 to 65535, not 1883.0");
    check("shards = 65", "shards must be from 0 to 64, not 65");
    check("read_buffer_bytes = 1", "read_buffer_bytes must be from 512 to 1048576, not 1");
    check("queue_qos0_offline = 1", "queue_qos0_offline must be true or false, not 1");
    check(
        "io = \"iouring\"",
        "io must be one of \"auto\", \"uring\", \"epoll\", \"tokio\", \"blocking\", not \"iouring\"",
    );
    check(
        "log_level = \"trace\"",
        "log_level must be one of \"debug\", \"info\", \"warn\", \"error\", \"err\", \"off\", not \"trace\"",
    );
    check("data_dir = \"\"", "data_dir must be the path of a directory in quotes, not \"\"");
    for value in ["\"127.0.0.1\"", "[]", "[\"localhost\"]", "[\"::1\", \"::1\"]"] {
        let expected = format!(
            "bind must be a list of different IP addresses such as [\"127.0.0.1\", \"::1\"] (on the command line one \
             --bind for each, in the environment separated by commas), not {value}"
        );
        check(&format!("bind = {value}"), &expected);
    }
}

#[test]
fn a_bad_flag_names_itself_the_value_and_what_is_allowed() {
    let errors = effective("", &[("port", &["many"]), ("bind", &["::1", "here"])]).unwrap_err();
    assert_eq!(errors[0], "--port must be an integer from 0 to 65535, not many");
    assert!(errors[1].starts_with("--bind must be a list"), "{}", errors[1]);
    assert!(errors[1].ends_with(", not ::1 here"), "{}", errors[1]);
    let errors = effective("", &[("port", &["99999"])]).unwrap_err();
    assert_eq!(errors, ["--port must be from 0 to 65535, not 99999"]);
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_file() {
    let errors = errors("zzz = 1\nport = 0\nio = 7\nbind = 1\n");
    let lines: Vec<_> = errors.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["broker.conf, line 1", "broker.conf, line 3", "broker.conf, line 4"]);
}

#[test]
fn a_long_value_is_abbreviated_to_one_line() {
    let error = &errors(&format!("port = \"\"\"\n{}\"\"\"", "x\n".repeat(1_000)))[0];
    assert!(!error.contains('\n') && error.len() < 200, "{error}");
}

#[test]
fn invalid_toml_names_file_and_line() {
    let error = &errors("port = 1\nport 2\n")[0];
    assert!(error.starts_with("broker.conf, line 2: the file is not valid TOML: "), "{error}");
    let error = &errors("port = 1\n\nport = 2\n")[0];
    assert!(error.starts_with("broker.conf, line 3: the file is not valid TOML: "), "{error}");
}

#[test]
fn contradicting_values_name_both_and_their_origins() {
    assert_eq!(
        errors("\nmax_pool_size = 10\ninitial_pool_size = 20\n"),
        [
            "initial_pool_size = 20 (broker.conf, line 3) must not exceed max_pool_size = 10 (broker.conf, line 2); \
             lower the first or raise the second",
            "max_connections = 10000 (default) must not exceed max_pool_size = 10 (broker.conf, line 2); \
             lower the first or raise the second"
        ]
    );
}

#[test]
fn the_size_of_the_pool_follows_more_connections_unless_it_is_set() {
    let raised = effective("max_connections = 60000\n", &[]).unwrap();
    assert_eq!(raised.config.max_pool_size, 60_000);
    assert_eq!(raised.origin("max_pool_size").to_string(), "follows max_connections");
    assert_eq!(effective("max_connections = 50000\n", &[]).unwrap().config.max_pool_size, 50_000);
    assert_eq!(effective("max_connections = 5\n", &[]).unwrap().config.max_pool_size, 50_000);
    assert_eq!(
        errors("max_connections = 60000\nmax_pool_size = 50000\n"),
        [
            "max_connections = 60000 (broker.conf, line 1) must not exceed max_pool_size = 50000 (broker.conf, line 2); \
          lower the first or raise the second"
        ]
    );
}

#[test]
fn no_more_slots_are_made_ready_than_there_may_be_unless_it_is_set() {
    let lowered = effective("max_connections = 5\nmax_pool_size = 10\n", &[]).unwrap();
    assert_eq!(lowered.config.initial_pool_size, 10);
    assert_eq!(lowered.origin("initial_pool_size").to_string(), "follows max_pool_size");
}

#[test]
fn a_redirection_needs_a_server() {
    assert_eq!(
        errors("\nredirect = \"moved\"\n"),
        [
            "redirect = \"moved\" (broker.conf, line 2) needs server_reference, which is empty; set server_reference = \
          \"mqtt2.example.com:1883\", or redirect = \"off\""
        ]
    );
    let complete = "redirect = \"use_another\"\nserver_reference = \"b:1883\"\n";
    assert_eq!(effective(complete, &[]).unwrap().config.redirect, Redirect::UseAnother);
}

#[test]
fn a_link_local_address_names_its_interface() {
    let refused = effective("", &[("bind", &["::1", "fe80::1"])]).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("--bind: fe80::1 is a link-local address"), "{}", refused[0]);
    assert!(refused[0].contains("fe80::1%eth0"), "{}", refused[0]);
    let named = effective("bind = [\"fe80::1%eth0\"]\nanonymous = true", &[]).unwrap();
    assert_eq!(named.config.bind, bind(&["fe80::1%eth0"]));
}

#[test]
fn a_named_file_must_exist() {
    let scratch = Scratch::new("config_missing");
    let file = scratch.path().join("none.conf");
    let error = Effective::load(Some(&file), &[]).unwrap_err().remove(0).to_string();
    assert!(error.contains("none.conf") && error.contains("the file does not exist"), "{error}");
}

#[test]
fn the_default_file_sets_nothing_and_shows_the_defaults() {
    let text = default_file();
    assert_eq!(effective(&text, &[]).unwrap().origins, Effective::default().origins);

    // Without the # before each key the file sets every key to its default.
    let is_flat = |setting: &&Setting| not_yet::reason(setting.key).is_none();
    let is_key = |line: &&str| {
        SETTINGS.iter().filter(is_flat).any(|setting| line.starts_with(&format!("#{} = ", setting.key)))
    };
    let (flat, _) = text.split_once("# Tables -").unwrap();
    let keys: Vec<&str> = flat.lines().filter(is_key).map(|line| &line[1..]).collect();
    let effective = effective(&keys.join("\n"), &[]).unwrap();
    assert_eq!(effective.config, with_implied(Config::default(), true));
    for setting in SETTINGS.iter().filter(is_flat) {
        assert_ne!(*effective.origin(setting.key), Origin::Default, "{}", setting.key);
    }
}

/// A text about the default build, adapted to a build with the feature `sync`.
fn as_built(text: &str) -> String {
    if cfg!(feature = "sync") {
        text.replace("\n#io = \"auto\"\n", "\n#io = \"blocking\"\n")
            .replace("| `io` | `\"auto\"` |", "| `io` | `\"blocking\"` |")
    } else {
        text.to_owned()
    }
}

#[test]
fn the_default_file_is_the_one_in_deploy() {
    let shipped = as_built(include_str!("../../../deploy/broker.conf"));
    assert!(
        shipped == default_file(),
        "deploy/broker.conf is stale: cargo run -- config default > deploy/broker.conf"
    );
}

#[test]
fn the_manuals_tell_the_defaults() {
    let defaults = Config::default();
    for (manual, text) in [
        ("README.md", include_str!("../../../deploy/README.md")),
        ("README.zh-CN.md", include_str!("../../../deploy/README.zh-CN.md")),
    ] {
        let mut compared = 0;
        for row in as_built(text).lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == cells[1]) else { continue };
            assert_eq!(cells[2], (setting.render)(&defaults), "{manual}: {}", setting.key);
            compared += 1;
        }
        assert!(compared >= 26, "deploy/{manual}: the tables of keys and of bounds were not found");
    }
}

#[test]
fn the_default_file_names_the_keys_of_the_operators_guide() {
    let text = default_file();
    for name in [
        "MAX_CONNECTIONS",
        "READ_BUFFER_SIZE",
        "INITIAL_POOL_SIZE",
        "MAX_POOL_SIZE",
        "DEFAULT_SESSION_EXPIRY_SEC",
        "STATS_INTERVAL",
    ] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn the_replaced_products_file_becomes_ours() {
    let json = r#"{"port": 1884, "stats_interval_sec": 5, "log": {"enabled": true, "level": "err"}}"#;
    let text = import::convert(json).unwrap();
    let expected =
        Config { port: 1_884, stats_interval_s: 5, log_level: LogLevel::Error, ..Config::default() };
    assert_eq!(effective(&text, &[]).unwrap().config, with_implied(expected, false));
}

#[test]
fn a_log_switched_off_stays_off_whatever_its_level() {
    for json in [
        r#"{"log": {"enabled": false, "level": "debug"}}"#,
        r#"{"log": {"level": "debug", "enabled": false}}"#,
        r#"{"log": {"enabled": false}}"#,
    ] {
        assert_eq!(import::convert(json).unwrap(), "log_level = \"off\"\n", "{json}");
    }
}

#[test]
fn values_that_cannot_be_imported_stay_as_comments() {
    let json = r#"{"port": 70000, "stats_interval_sec": -1, "threads": [1, 2], "log": {"level": "loud"}, "a\nb": 1}"#;
    let text = import::convert(json).unwrap();
    for line in [
        "# not imported: port = 70000",
        "# not imported: stats_interval_sec = -1",
        "# not imported: threads = [1,2]",
        "# not imported: log.level = \"loud\"",
        "# not imported: a\\nb = 1",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is missing in:\n{text}");
    }
    assert_eq!(effective(&text, &[]).unwrap().config, with_implied(Config::default(), false));
}

#[test]
fn invalid_json_is_not_imported() {
    assert!(import::convert("{").unwrap_err().contains("line 1"));
    assert!(import::convert("[]").unwrap_err().contains("object"));
}

/// JSON allows a raw U+007F and a TOML comment does not, so an imported file could not be read. Found by fuzzing.
#[test]
fn a_comment_of_an_import_may_hold_a_delete_character() {
    let text = import::convert("{\"port\": 1883, \"a\": {\"b\u{7f}\": \"c\u{7f}\"}}").unwrap();
    assert!(text.contains("# not imported") && !text.contains('\u{7f}'), "{text}");
}

#[test]
fn the_limit_of_memory_follows_the_machine_unless_a_number_is_set() {
    let group = || Owner::ControlGroup(PathBuf::from("/sys/fs/cgroup/memory.max"));
    let memory = |bytes, owner| Some(Available { bytes, owner });
    let limit = |file: &str, flags: &[(&str, &[&str])], memory| {
        let effective = effective(file, flags).unwrap().derive(memory);
        (effective.config.memory_bytes_max, effective.origin("memory_bytes_max").to_string())
    };
    let derived = |bytes, origin: &str| (Ceiling::Bytes(bytes), origin.to_owned());
    assert_eq!(
        limit("", &[], memory(1_000_000, Owner::Machine)),
        derived(600_000, "default: 60 % of the machine's memory")
    );
    assert_eq!(
        limit("memory_bytes_max = 'auto'", &[], memory(2_000, group())),
        derived(1_200, "broker.conf, line 1: 60 % of the control group's limit in /sys/fs/cgroup/memory.max")
    );
    // Never 0, which is no limit.
    assert_eq!(limit("", &[], memory(1, Owner::Machine)).0, Ceiling::Bytes(1));
    let flag: &[(&str, &[&str])] = &[("memory-bytes-max", &["0"])];
    assert_eq!(limit("", flag, memory(2_000, group())), derived(0, "--memory-bytes-max"));
    assert_eq!(limit("", &[], None), (Ceiling::Auto, "default".to_owned()));
    assert_eq!(
        errors("memory_bytes_max = 'lots'"),
        ["broker.conf, line 1: memory_bytes_max must be \"auto\" or an integer from 0, not 'lots'"]
    );
}
