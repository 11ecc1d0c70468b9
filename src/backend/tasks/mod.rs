//! A shard whose connections are tasks of a runtime on its one thread: each waits until its socket is readable and
//! receives into a buffer shared by the shard; what is to be sent leaves once a turn from the flusher.
//! `bench/runtimes` holds the measurement behind that choice.
//! Knows of a runtime what [`Runtime`] says.

mod accept;
mod deadline;
mod flush;
mod hand_over;
mod receive;
mod runtime;
mod socket;

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use engine::Event;

use super::Parts;
use super::host::{Host, Linger};
use crate::error::StartupError;
use crate::net::accept_backoff::ErrorLog;
use crate::net::listen::ListenerNumber;
use crate::process::clock;
use crate::shard::control::Control;

use deadline::Deadline;
pub(super) use runtime::{DoorbellReceiver, Listener, Runtime, Stream};
use socket::TaskSocket;

/// **Lives on:** one thread. **Sees:** its host, and the runtime that its tasks run on.
struct Shard<R: Runtime> {
    host: Host<TaskSocket<R::Stream>>,
    runtime: R,
    /// Bytes received in a turn pass through here; taken out while they do.
    receive_buffer: Cell<Vec<u8>>,
    deadline: Deadline,
    /// Those it accepts on, to be closed when it stops.
    listening: RefCell<Vec<Rc<R::Listener>>>,
    error_log: ErrorLog,
}

/// Serves until it is told to stop; completes when every client is closed or the deadline has passed. Must run inside the
/// runtime.
///
/// # Errors
/// What the system refuses before the first connection.
pub(super) async fn serve<R: Runtime>(
    runtime: R,
    doorbell: R::DoorbellReceiver,
    mut parts: Parts,
) -> Result<(), StartupError> {
    let control = parts.control.clone();
    let listeners = std::mem::take(&mut parts.listeners);
    let shard = Rc::new(Shard {
        runtime,
        receive_buffer: Cell::new(vec![0; parts.read_buffer_bytes]),
        deadline: Deadline::default(),
        listening: RefCell::default(),
        error_log: ErrorLog::default(),
        host: Host::new(parts),
    });
    R::spawn(flush::run(Rc::clone(&shard)));
    R::spawn(run_partner(Rc::clone(&shard)));
    R::spawn(tick(Rc::clone(&shard)));
    // Announces what was restored.
    let _nothing = shard.host.step(Event::Tick);
    run_control(&shard, &doorbell, &control, listeners).await
}

async fn run_partner<R: Runtime>(shard: Rc<Shard<R>>) {
    match shard.host.turn.run_partner(async || shard.runtime.driver_turned().await).await {}
}

/// Does what the control plane asks for; returns once the shard has stopped. Other shards ring here, too, and all they
/// want is a turn.
async fn run_control<R: Runtime>(
    shard: &Rc<Shard<R>>,
    doorbell: &R::DoorbellReceiver,
    control: &Receiver<Control>,
    listeners: Vec<TcpListener>,
) -> Result<(), StartupError> {
    let host = &shard.host;
    let mut listeners = Some(listeners);
    loop {
        doorbell.rung().await.map_err(|error| StartupError::system("watch the shard's doorbell", error))?;
        if control.is_empty() {
            host.gauges.count_parked_wake();
        }
        for request in control.try_iter() {
            match request {
                Control::Accept => {
                    for (number, listener) in ListenerNumber::all().zip(listeners.take().unwrap_or_default())
                    {
                        shard
                            .accept_on(number, listener)
                            .map_err(|error| StartupError::system("watch a listening socket", error))?;
                    }
                }
                Control::Turn(number) => host.gauges.complete_turn(number),
                Control::Publish(messages) => host.publish_sys(&messages),
                Control::Disconnect(command) => host.disconnect(&command),
                Control::ExportSubscriptions => host.begin_export(),
                Control::Quiesce(answer) => {
                    host.quiesce();
                    // A whole turn: lanes are drained and filled.
                    host.turn.yield_now().await;
                    let _ = answer.send(host.is_idle());
                }
                Control::Stop(deadline) => {
                    shard.stop(deadline).await;
                    return Ok(());
                }
            }
        }
        // A task that goes round without I/O in between must let the driver turn; and the turn is what was rung for.
        host.turn.yield_now().await;
    }
}

/// Runs the engine's timers when they are due.
async fn tick<R: Runtime>(shard: Rc<Shard<R>>) {
    loop {
        shard.deadline.reached::<R>().await;
        let _nothing = shard.host.step(Event::Tick);
        shard.host.turn.yield_now().await;
    }
}

impl<R: Runtime> Shard<R> {
    /// Tells every client that the broker stops and waits, until `deadline`, for them to be told.
    async fn stop(&self, deadline: Duration) {
        self.host.stopping.set(true);
        for listener in self.listening.borrow_mut().drain(..) {
            listener.close();
        }
        let _nothing = self.host.step(Event::Stop);
        let mut linger = Linger::begin(deadline);
        while !linger.is_over(&self.host.permits) {
            self.host.turn.wake_flusher();
            R::timer(clock::read() + Linger::POLL_INTERVAL).await;
        }
        self.host.end();
    }
}
