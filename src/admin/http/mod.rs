//! The admin thread: a thread with a runtime of its own that answers operators and orchestrators over HTTP. It reads what the shards
//! publish, so no shard waits for it, and none notices a scrape.
//!
//! Invariants:
//! - Nobody learns of a client, or changes anything, without a token.
//! - A service has at most [`CONNECTIONS_MAX`] connections. One more is closed at once.
//! - Beyond this machine, only probes are served without TLS, and they tell nothing about a client.

mod api;
mod call;
mod listen;
mod page;
mod pulse;
mod respond;
mod routes;
mod serve;
mod tool;
mod v1;

use std::path::PathBuf;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::Semaphore;

pub(crate) use listen::{Bound, bind};
use pulse::Pulse;
use serve::Service;
use tool::TOOLS_MAX;

use crate::admin::operator::Asking;
use crate::auth::Operators;
use crate::config::Config;
use crate::error::StartupError;
use crate::observe::metrics::Metrics;
use crate::observe::service_state::ServiceState;
use crate::observe::tally::Tally;
use crate::shard::view::View;

/// Connections of one service at the same time.
const CONNECTIONS_MAX: usize = 8;

/// Descriptors of the runtime.
const RUNTIME_DESCRIPTORS: u64 = 3;

/// State that the tasks of the thread refer to.
#[expect(clippy::disallowed_types, reason = "tasks of one thread, on a runtime that could have several")]
type Shared<T> = std::sync::Arc<T>;

/// Everything that answers are made of.
struct Sources {
    metrics: Metrics,
    pulse: Pulse,
    asking: Asking,
    tools: Tools,
}

/// The clients of MQTT in pages.
struct Tools {
    /// The socket of their listener; `None` where there is none.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such listener"))]
    socket: Option<PathBuf>,
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such listener"))]
    operators: Operators,
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such listener"))]
    places: Shared<Semaphore>,
}

/// Descriptors that the thread may need: its runtime, and the sockets and connections of each service.
pub(crate) fn descriptors(config: &Config) -> u64 {
    let admin = config.admin.as_ref().is_none_or(|admin| admin.bind.address().is_some());
    let probes = config.probes.as_ref().is_some_and(|probes| probes.bind.address().is_some());
    match u64::from(admin) + u64::from(probes) {
        0 => 0,
        // A client of a page has a connection on both sides.
        services => {
            RUNTIME_DESCRIPTORS
                + services * (1 + CONNECTIONS_MAX as u64)
                + u64::from(admin) * 2 * TOOLS_MAX as u64
        }
    }
}

/// Starts the thread, which serves until the process ends. Nothing is started if nothing is to be served.
///
/// # Errors
/// If the system refuses the thread or its runtime.
pub(crate) fn start(
    bound: Bound,
    view: View,
    tally: Tally,
    state: ServiceState,
    asking: Asking,
) -> Result<(), StartupError> {
    let operators = bound.operators();
    let (services, tls, socket): (Vec<Service>, _, _) = bound.into_parts();
    if services.is_empty() {
        return Ok(());
    }
    let pulse = Pulse::new(view.turns().len());
    let tools = Tools { socket, operators, places: Shared::new(Semaphore::new(TOOLS_MAX)) };
    let metrics = Metrics::new(view, tally, tls, state);
    let sources = Shared::new(Sources { metrics, pulse, asking, tools });
    let refused = |error| StartupError::system("start the admin thread", error);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CONNECTIONS_MAX)
        .build()
        .map_err(refused)?;
    let run = move || runtime.block_on(serve::all(services, sources));
    thread::Builder::new().name("admin".to_owned()).spawn(run).map_err(refused)?;
    Ok(())
}
