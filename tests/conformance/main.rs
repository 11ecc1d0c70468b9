//! Every statement of both standards that binds a server, tested on a broker from outside, over TCP.
//!
//! Without arguments it tests the built binary on each backend, with one shard on `io_uring` and with two on the others, and once
//! more over WebSocket, where frames end anywhere within packets.
//! In addition to the arguments of every test binary (a filter, `--list`, `--test-threads`):
//! - `--broker ADDRESS:PORT` tests any other broker and prints the table of statements. Cases that need our settings are left out.
//! - `--table` prints that table for our binary.
//! - `--faults` puts a proxy with a deliberate fault before the binary, for each case the fault that the case names, and requires
//!   the case to fail: a case that cannot fail proves nothing.
//!
//! This module runs the cases. The scenarios are in `scenarios`; `v5` and `v3_1_1` assign them to statements.

#[path = "../harness/mod.rs"]
mod harness;

mod case;
mod fault;
mod proxy;
mod raw_packet;
mod scenarios;
mod table;
mod target;
mod v3_1_1;
mod v5;

use std::net::SocketAddr;
use std::panic;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use case::{Case, Needs, cases};
use fault::Fault;
use harness::broker::Io;
use harness::time::set_patience;
use proxy::Proxy;
use table::Results;
use target::{Brokers, Target, Transport};

/// How long a case waits for a faulty broker. Most faults leave out an answer, so most cases wait this long.
const FAULTY_PATIENCE: Duration = Duration::from_secs(4);
/// Cases that run at once. They spend most of their time waiting.
const THREADS: usize = 16;

/// The broker under test.
enum Judged {
    /// The built binary, with a driver and a number of shards.
    Ours {
        variant: &'static str,
        io: Io,
        shards: &'static str,
        transport: Transport,
    },
    /// The binary behind a proxy with a deliberate fault.
    Faulty,
    External(SocketAddr),
}

/// Every backend, all but the first with more than one shard.
const VARIANTS: [(&str, Io, &str, Transport); 5] = [
    ("uring", Io::Uring, "1", Transport::Tcp),
    ("two_shards_on_epoll", Io::Epoll, "2", Transport::Tcp),
    ("two_shards_on_tokio", Io::Tokio, "2", Transport::Tcp),
    ("two_shards_blocking", Io::Blocking, "2", Transport::Tcp),
    ("two_shards_over_websocket", Io::Auto, "2", Transport::WebSocket),
];

fn main() -> ExitCode {
    let mut wants_table = false;
    let mut faulty = false;
    let mut external = None;
    let mut rest = Vec::new();
    let mut given = std::env::args();
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--table" => wants_table = true,
            "--faults" => faulty = true,
            "--broker" => {
                external = given.next().and_then(|text| text.parse().ok());
                if external.is_none() {
                    eprintln!("--broker takes ADDRESS:PORT with a numeric address");
                    return ExitCode::from(2);
                }
            }
            _ => rest.push(argument),
        }
    }
    let mut arguments = Arguments::from_iter(rest);
    arguments.test_threads.get_or_insert(THREADS);
    // A failed case is reported in the list of failures; the hook would report it a second time.
    panic::set_hook(Box::new(|_| {}));

    let results = Results::default();
    let brokers = Brokers::default();
    let judged: Vec<Judged> = match (external, faulty) {
        (Some(address), _) => vec![Judged::External(address)],
        (None, true) => vec![Judged::Faulty],
        (None, false) => VARIANTS
            .map(|(variant, io, shards, transport)| Judged::Ours { variant, io, shards, transport })
            .into(),
    };
    if faulty {
        set_patience(FAULTY_PATIENCE);
    }
    let trials = judged.iter().flat_map(|judged| trials(judged, &brokers, &results)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let stopped = brokers.stop();
    if wants_table || external.is_some() {
        results.print();
    }
    if let Err(trouble) = stopped {
        eprintln!("{trouble}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trials(judged: &Judged, brokers: &Brokers, results: &Results) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in cases() {
        let (brokers, results) = (brokers.clone(), results.clone());
        let trial = match *judged {
            Judged::External(_) if case.needs != Needs::Standard => {
                results.leave_out(&case);
                continue;
            }
            Judged::External(address) => Trial::test(case.path(), move || {
                results.note(&case, || ask(&case, &Target::new(address, &case)))
            }),
            Judged::Ours { variant, io, shards, transport } => {
                Trial::test(format!("{variant}::{}", case.path()), move || {
                    let address = brokers.address(io, shards, case.needs.flags(), transport)?;
                    results.note(&case, || ask(&case, &Target::new(address, &case)))
                })
            }
            Judged::Faulty => Trial::test(format!("faulty::{}", case.path()), move || {
                let address = brokers.address(Io::Auto, "1", case.needs.flags(), Transport::Tcp)?;
                let honest = Proxy::start(address, Fault::Nothing);
                ask(&case, &Target::new(honest.address(), &case))?;
                let proxy = Proxy::start(address, case.fault);
                match ask(&case, &Target::new(proxy.address(), &case)) {
                    Ok(()) => Err(format!("it passes on a broker with the fault {:?}", case.fault).into()),
                    Err(_) => Ok(()),
                }
            }),
        };
        trials.push(trial);
    }
    trials
}

/// Runs a case; a failed assertion is the error.
fn ask(case: &Case, on: &Target) -> Result<(), Failed> {
    panic::catch_unwind(|| (case.scenario)(on)).map_err(|found| {
        let text = found.downcast_ref::<String>().cloned();
        let text = text.or_else(|| found.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failed::from(text.unwrap_or_else(|| "it panicked without a message".to_owned()))
    })
}
