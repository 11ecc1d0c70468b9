//! A shard whose connections are tasks of a runtime on its one thread. Each task waits until its socket is readable
//! and receives into a buffer that all tasks of the shard share. The flusher sends once a turn. `bench/runtimes` has
//! the measurement behind that choice.
//! A runtime is used through [`Runtime`] only, so monoio and tokio share this code.

mod accept;
mod deadline;
mod flush;
mod hand_over;
mod layered;
mod opening;
mod openings;
mod receive;
mod runtime;
mod socket;
mod turnstile;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use engine::Event;

use super::Parts;
use super::host::{Host, Linger};
use crate::error::StartupError;
use crate::net::accept_backoff::ErrorLog;
use crate::net::listen::Listening;
use crate::process::clock;
use crate::shard::control::Control;

use accept::Accepting;
use deadline::Deadline;
use layered::LayersOfShard;
use openings::Openings;
pub(super) use runtime::{DoorbellReceiver, Listener, Runtime, Stream};
use socket::TaskSocket;
use turnstile::Turnstile;

/// **Lives on:** one thread. **Sees:** its host, and the runtime of its tasks.
struct Shard<R: Runtime> {
    host: Host<TaskSocket<R::Stream>>,
    runtime: R,
    /// Buffer for received bytes; taken out during a receive.
    receive_buffer: Cell<Vec<u8>>,
    /// Shared by the connections that have layers.
    layers: Rc<LayersOfShard>,
    turnstile: Turnstile,
    openings: Openings,
    deadline: Deadline,
    /// Sockets that it accepts on, to be closed when it stops or their listener ends.
    listening: RefCell<Vec<Rc<Accepting<R>>>>,
    error_log: ErrorLog,
}

/// Serves until the shard is stopped; completes when every client is closed or the deadline has passed. Must run
/// inside the runtime.
///
/// # Errors
/// An error of the system before the first connection.
pub(super) async fn serve<R: Runtime>(
    runtime: R,
    doorbell: R::DoorbellReceiver,
    mut parts: Parts,
) -> Result<(), StartupError> {
    let control = parts.control.clone();
    let listeners = std::mem::take(&mut parts.listeners);
    let shard = Shard::new(runtime, parts);
    R::spawn(flush::run(Rc::clone(&shard)));
    R::spawn(run_partner(Rc::clone(&shard)));
    R::spawn(tick(Rc::clone(&shard)));
    // Announces the restored subscriptions.
    let _nothing = shard.host.step(Event::Tick);
    run_control(&shard, &doorbell, &control, listeners).await
}

async fn run_partner<R: Runtime>(shard: Rc<Shard<R>>) {
    match shard.host.turn.run_partner(async || shard.runtime.driver_turned().await).await {}
}

/// Executes the requests of the control plane; returns once the shard has stopped. Other shards ring the same doorbell
/// only to start a turn.
async fn run_control<R: Runtime>(
    shard: &Rc<Shard<R>>,
    doorbell: &R::DoorbellReceiver,
    control: &Receiver<Control>,
    listeners: Vec<Listening>,
) -> Result<(), StartupError> {
    let host = &shard.host;
    let mut listeners = Some(listeners);
    loop {
        doorbell.rung().await.map_err(|error| StartupError::system("watch the shard's doorbell", error))?;
        if control.is_empty() && host.has_no_answers() {
            host.gauges.count_parked_wake();
        }
        host.take_answers();
        for request in control.try_iter() {
            match request {
                Control::Accept => {
                    for listening in listeners.take().unwrap_or_default() {
                        shard
                            .accept_on(listening)
                            .map_err(|error| StartupError::system("watch a listening socket", error))?;
                    }
                }
                Control::Turn(number) => host.gauges.complete_turn(number),
                Control::Publish(messages) => host.publish_sys(&messages),
                Control::Rules(rules) => host.change_rules(rules.as_ref()),
                Control::Limits(limits) => host.change_limits(&limits),
                Control::Tables(tables, known) => {
                    host.change_listeners(*tables);
                    let _ = known.send(());
                }
                Control::Listeners(change) => shard.change_listeners(*change),
                Control::Revoked => host.begin_revocation(),
                Control::Drain { is_on, server_reference } => host.drain(is_on, &server_reference),
                Control::SendAway { count, is_overdue } => host.send_away(count, is_overdue),
                Control::Ask(asked) => host.answer(&asked),
                Control::ExportSubscriptions => host.begin_export(),
                Control::Quiesce(answer) => {
                    host.quiesce();
                    // A whole turn drains and fills the lanes.
                    host.turn.yield_now().await;
                    let _ = answer.send(host.is_idle());
                }
                Control::Stop(deadline) => {
                    shard.stop(deadline).await;
                    return Ok(());
                }
            }
        }
        // A loop without I/O must yield so that the driver can turn. The yield also starts the turn that the ring
        // requests.
        host.turn.yield_now().await;
    }
}

/// Starts a turn when the timers of the engine are due. The flusher runs them after everything that was received in that
/// turn.
async fn tick<R: Runtime>(shard: Rc<Shard<R>>) {
    loop {
        shard.deadline.reached::<R>().await;
        shard.host.turn.yield_now().await;
    }
}

impl<R: Runtime> Shard<R> {
    fn new(runtime: R, parts: Parts) -> Rc<Self> {
        let read_bytes = parts.read_buffer_bytes;
        let unjudged_bytes_max = parts.unjudged_bytes_max;
        let host = Host::new(parts);
        Rc::new(Self {
            runtime,
            receive_buffer: Cell::new(vec![0; read_bytes]),
            layers: LayersOfShard::new(read_bytes, host.kept_bytes()),
            turnstile: Turnstile::default(),
            openings: Openings::new(unjudged_bytes_max),
            deadline: Deadline::default(),
            listening: RefCell::default(),
            error_log: ErrorLog::default(),
            host,
        })
    }

    /// Runs a step of a client that comes or goes once it has a permit.
    async fn pass<T>(&self, step: impl FnOnce() -> T) -> T {
        self.turnstile.permit().await;
        self.pass_now(step)
    }

    /// Runs a step that has a permit, or needs none because the turnstile is open.
    fn pass_now<T>(&self, step: impl FnOnce() -> T) -> T {
        let result = self.turnstile.measure(step);
        // It ends the turn, and gives the next permit.
        self.host.turn.wake_flusher();
        result
    }

    /// Disconnects every client because the broker stops, and waits for them until `deadline`.
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
