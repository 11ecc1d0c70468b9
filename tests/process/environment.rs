//! Configuration by environment, as containers do it: variables above the file, and names that Kubernetes and clients put there.

use crate::harness::broker::{Broker, Directory, command_in};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;

#[test]
fn variables_override_the_file_and_show_as_the_origin() {
    let directory = Directory::new();
    directory.write("config/broker.conf", "port = 2000\nmax_connections = 7\n");
    directory.write("other.conf", "max_connections = 8\n");
    let show = |file: &str| {
        let mut command = command_in(&directory);
        command.args(["config", "show", "--shards", "1"]);
        command.env("MQTT_BROKER_PORT", "3000").env("MQTT_BROKER_SHARDS", "2");
        if !file.is_empty() {
            command.env("MQTT_BROKER_CONFIG", file);
        }
        let shown = run(command).output;
        let has = |value: &str, origin: &str| {
            let is_it = |line: &str| {
                line.starts_with(&format!("{value} ")) && line.contains(&format!("{origin}; change: "))
            };
            assert!(shown.lines().any(is_it), "{value} by {origin} is missing in:\n{shown}");
        };
        has("port = 3000", "# MQTT_BROKER_PORT");
        has("shards = 1", "# --shards");
        shown
    };
    assert!(show("").contains("# config/broker.conf, line 2"));
    let other = show("other.conf");
    assert!(other.contains("max_connections = 8") && other.contains("# other.conf, line 1"), "{other}");
}

#[test]
fn a_bad_variable_is_an_error_that_names_it() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.env("MQTT_BROKER_MAX_CONNECTIONS", "lots");
    let finished = run(command);
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.output.contains("MQTT_BROKER_MAX_CONNECTIONS must be"), "{}", finished.output);
}

#[test]
fn a_service_of_the_same_name_and_the_variables_of_clients_do_not_keep_it_from_starting() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.env("MQTT_BROKER_PORT", "tcp://10.0.0.1:1883").env("MQTT_BROKER_SERVICE_HOST", "10.0.0.1");
    command.env("MQTT_BROKER_PORT_1883_TCP_ADDR", "10.0.0.1").env("MQTT_BROKER_URL", "mqtt://broker");
    command.env("MQTT_BROKER_MAX_CONECTIONS", "5").env("MQTT_BROKER_BIND", "127.0.0.1");
    command.args(["--port", "0"]);
    let broker = Broker::spawn(directory, command, 1);
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    let (finished, _directory) = broker.stop();
    let lines = |level: &str, part: &str| {
        finished.output.lines().filter(|line| line.contains(level) && line.contains(part)).count()
    };
    assert_eq!(
        lines("INFO", "MQTT_BROKER_PORT and 2 more like it describe a service"),
        1,
        "{}",
        finished.output
    );
    assert_eq!(lines("WARN", "MQTT_BROKER_URL sets nothing"), 1, "{}", finished.output);
    assert_eq!(lines("WARN", "did you mean MQTT_BROKER_MAX_CONNECTIONS?"), 1, "{}", finished.output);
}

#[test]
fn the_health_check_of_a_container_reads_the_same_variables() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command
        .env("MQTT_BROKER_BIND", "127.0.0.1")
        .env("MQTT_BROKER_PORT", "0")
        .env("MQTT_BROKER_DATA_DIR", "state");
    let broker = Broker::spawn(directory, command, 1);
    let mut health = command_in(broker.directory());
    health.arg("health").env("MQTT_BROKER_DATA_DIR", "state").env("MQTT_BROKER_HOST", "unknown");
    let healthy = run(health);
    assert!(healthy.status.success() && healthy.output.is_empty(), "{}", healthy.output);
    broker.stop();
}
