//! Provokes, one by one, the hazards that a server on monoio 0.2.4 must avoid, and prints each result as one line.
//! README.md draws the conclusions.

mod deadline;
mod doorbell;
mod runtime;
mod scheduling;
mod sockets;

use std::fmt::Debug;
use std::io::{self, Write};
use std::time::Instant;

use clap::Parser;

use crate::runtime::Io;
use crate::scheduling::Yield;

#[derive(Parser)]
struct Arguments {
    /// Runs one experiment that is expected to end the process.
    #[arg(long, value_enum)]
    leave_in_flight: Option<Io>,
}

fn main() -> io::Result<()> {
    if let Some(io) = Arguments::parse().leave_in_flight {
        return sockets::leave_in_flight(io);
    }
    let (runtime, chosen) = runtime::build(Io::Auto)?;
    drop(runtime);
    print_outcome("what auto chooses here", chosen, &())?;
    for io in [Io::Uring, Io::UringDefer, Io::Epoll] {
        for manner in [Yield::ToItself, Yield::ThroughPartner] {
            let what = format!("round trips in 200 ms beside a task that yields {manner:?}");
            print_outcome(&what, io, &scheduling::round_trips_beside_a_busy_task(io, manner)?)?;
        }
    }
    for io in [Io::Uring, Io::Epoll] {
        print_outcome(
            "a 20 ms timer beside a task busy for 200 ms",
            io,
            &scheduling::timer_beside_a_busy_task(io)?,
        )?;
        print_outcome("10 s deadline moved to 30 ms", io, &scheduling::deadline_moved_earlier(io)?)?;
        print_outcome(
            "doorbell: wake-up, cost of ringing",
            io,
            &scheduling::doorbell_from_another_thread(io)?,
        )?;
        for relaxed in [true, false] {
            let what = format!("readable({relaxed}) after one byte, in 100 ms");
            print_outcome(&what, io, &sockets::readable_after_own_receive(io, relaxed)?)?;
        }
        for yields in [false, true] {
            let what = format!("longest round trip beside two floods, yields: {yields}");
            print_outcome(&what, io, &sockets::round_trip_beside_two_floods(io, yields)?)?;
        }
        let failures = sockets::accept_on_a_non_blocking_listener(io)?;
        print_outcome("failed accepts on a non-blocking listener in 50 ms", io, &failures)?;
        for tasks in [1, 4] {
            let what = format!("of {tasks} accepts on a listener ended by a Canceller, by shutdown(2)");
            let by_canceller = sockets::accept_tasks_that_stop(io, tasks, false)?;
            print_outcome(&what, io, &(by_canceller, sockets::accept_tasks_that_stop(io, tasks, true)?))?;
        }
        print_outcome("shutdown(2) ends a waiting task", io, &sockets::shutdown_ends_a_waiting_task(io)?)?;
        let left = sockets::descriptors_left_by_a_dropped_runtime(io)?;
        print_outcome("of 10 waiting sockets left open by a dropped runtime", io, &left)?;
        print_outcome("of 200 connections handed over", io, &sockets::handed_over(io)?)?;
        let aborts = sockets::leaving_with_a_poll_in_flight_aborts(io)?;
        print_outcome("leaving with a dropped poll in flight aborts", io, &aborts)?;
        for tasks in [1, 8] {
            let what = format!("2000 connects against {tasks} accept tasks");
            print_outcome(&what, io, &sockets::accept_storm(io, tasks)?)?;
        }
    }
    Ok(())
}

fn print_outcome(what: &str, io: Io, outcome: &impl Debug) -> io::Result<()> {
    writeln!(io::stdout(), "{what} | {io:?} | {outcome:?}")
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
