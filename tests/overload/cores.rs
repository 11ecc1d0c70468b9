//! Who runs where and before whom: the shard of a broker on the first core, its clients on the others. The shard and a neighbour go
//! before everybody else where the system permits it, so that other work of the machine is not measured.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

/// Moves this process off the core of the broker's shard.
pub(crate) fn leave_the_first_core() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        let (process, others) = (std::process::id().to_string(), format!("1-{}", cores - 1));
        assert!(run("taskset", &["-acp", &others, &process]), "taskset is in util-linux");
    }
}

/// A thread that runs when nobody else wants to.
pub(crate) fn in_the_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(move || {
        assert!(run("renice", &["-n", "19", "-p", &this_thread()]), "renice is in util-linux");
        work()
    })
}

/// Lets this thread go before everybody else. Without the right to that it stays as it is.
pub(crate) fn go_first() {
    put_first(&this_thread());
}

/// Lets the shards of a broker go before everybody else, as [`go_first`] does.
pub(crate) fn let_shards_go_first(process: u32) {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process has threads");
    for task in tasks.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("shard") {
            put_first(&task.file_name().to_string_lossy());
        }
    }
}

fn put_first(thread: &str) {
    let _is_permitted = run("chrt", &["--fifo", "-p", "1", thread]);
}

fn this_thread() -> String {
    let thread = fs::read_link("/proc/thread-self").expect("Linux has it");
    thread.file_name().expect("it ends with a number").to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
