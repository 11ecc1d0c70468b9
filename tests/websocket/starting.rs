//! Listeners that cannot be, as the operator is told.

use crate::harness::broker::{Directory, command_in};
use crate::harness::process::run;

#[test]
fn blocking_refuses_websocket_and_proxy_in_one_sentence() {
    for (layer, name) in [
        ("websocket = {}", "WebSocket"),
        ("proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1/32\"]", "PROXY"),
    ] {
        let directory = Directory::new();
        let config = format!("[[listener]]\nname = \"pages\"\nport = 0\n{layer}\n");
        let file = directory.write("test.conf", &config);
        let mut command = command_in(&directory);
        command.arg("--config").arg(file).args(["--io", "blocking", "--data-dir", "data"]);
        let finished = run(command);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.output);
        let told =
            finished.output.lines().find(|line| line.contains("the listener pages")).unwrap_or_default();
        assert!(told.contains(name) && told.contains("--io auto"), "{}", finished.output);
    }
}
