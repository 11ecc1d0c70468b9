//! The longest step of the engine, by CPU time, under the worst inputs.

use std::process::Command;

use crate::Scale;
use crate::figure::Figure;

/// CPU time that a step may take.
const STEP_MS_MAX: f64 = 1.0;
/// CPU time that a step may take for each KiB of a packet that it reads whole: its filters are checked one by one, and tables grow.
const KIB_MS_MAX: f64 = 0.01;

/// Plays the inputs of `shards/engine/examples/steps.rs` and judges what it prints.
pub(crate) fn steps(scale: Scale) -> Vec<Figure> {
    let Some(program) = std::env::var_os("MQTT_BROKER_STEPS") else { return Vec::new() };
    let mut command = Command::new(program);
    command.args(scale.pick(None, Some("--full")));
    let output = command.output().expect("tests/overload/run has built it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    let figures: Vec<Figure> = printed.lines().map(judge).collect();
    assert!(figures.len() >= 16, "{printed}");
    figures
}

/// A line has the microseconds of the longest step, the number of steps, and the input.
fn judge(line: &str) -> Figure {
    let mut fields = line.split('\t');
    let mut field = || fields.next().expect("three fields");
    let longest_us: f64 = field().parse().expect("microseconds");
    let step_count = field();
    let name = field();
    let words: Vec<&str> = name.split(' ').collect();
    let packet_kib = match words[..] {
        [.., kib, "KiB"] => kib.parse().unwrap_or(0.0),
        _ => 0.0,
    };
    let limit_ms = STEP_MS_MAX + KIB_MS_MAX * packet_kib;
    Figure::at_most(format!("{name}: longest of {step_count} steps"), longest_us / 1e3, "ms", limit_ms)
}
