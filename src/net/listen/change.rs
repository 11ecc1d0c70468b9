//! The listeners of the process by their numbers, and their change while it runs.
//!
//! Invariants:
//! - A number stands for one listener as it was configured then, until the process ends. So everything that a client was told on its
//!   connection stays true. A listener that changes has another number and the same name; its clients keep theirs.
//! - A socket whose address is still wanted goes on, with the connections that wait there, also for a listener of another name.
//! - Everything that can fail comes first: [`Listeners::prepare`] reads files and binds sockets, and changes nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use engine::LiveLimits;
use tracing::info;

use super::{Distributor, ListenerNumber, Listening, NUMBERS_MAX, bind_at, usable, warn_of_open};
use crate::backend::ClientIds;
use crate::config::auth::AuthMethod;
use crate::config::{Config, Io, ListenAt, ListenerConfig};
use crate::error::StartupError;
use crate::net::interface::socket_address;
use crate::net::layers::ListenerLayers;
use crate::net::tls::{ListenerTls, Rotation, Shared, Watched};

/// A listener that a configuration has, and the place of its table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) config: ListenerConfig,
    pub(crate) place: String,
}

/// The place where a socket listens, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Systemd(String),
}

/// The part of the listeners that every shard has: each table by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerTables {
    pub(crate) layers: ListenerLayers,
    pub(crate) client_ids: ClientIds,
    /// Names of sockets, by the number of their addresses.
    pub(crate) names: Vec<String>,
}

/// The change on one shard, once every shard has the tables.
#[derive(Debug, Default)]
pub(crate) struct ListenerChange {
    /// Sockets to accept on.
    pub(crate) open: Vec<Listening>,
    /// Sockets that go on with another number.
    pub(crate) renumber: Vec<(ListenerNumber, ListenerNumber)>,
    /// Sockets that end.
    pub(crate) close: Vec<ListenerNumber>,
    /// Listeners whose clients end, by number.
    pub(crate) ended: Vec<u16>,
}

#[derive(Clone, Debug)]
struct Known {
    config: ListenerConfig,
    /// Whether it is a listener of the configuration in force.
    serves: bool,
    /// Whether the broker has it for itself: no configuration names it, and none ends it.
    is_own: bool,
}

#[derive(Clone, Debug)]
struct Open {
    number: ListenerNumber,
    target: Target,
}

/// **Lives on:** the control plane.
pub(crate) struct Listeners {
    io: Io,
    send_buffer_bytes: u32,
    shard_count: u16,
    /// The methods of authentication that the running broker has.
    methods: Vec<AuthMethod>,
    known: Vec<Known>,
    open: Vec<Open>,
    tables: ListenerTables,
}

/// A change that can no longer fail.
pub(crate) struct Prepared {
    known: Vec<Known>,
    open: Vec<Open>,
    tables: ListenerTables,
    /// TLS that is watched from now on.
    watched: Vec<Watched>,
    /// By shard.
    changes: Vec<ListenerChange>,
}

impl Listeners {
    /// The listeners of the start: as they were configured, with the addresses that `config` has left, the sockets of a shard, and the
    /// tables of the shards.
    pub(crate) fn of(
        configured: &Config,
        config: &Config,
        shard_count: u16,
        sockets: &[ListenerNumber],
        tables: ListenerTables,
    ) -> Self {
        // A listener of the broker's own follows those of the configuration. Its number is nobody else's.
        let own = config.listeners.iter().skip(configured.listeners.len());
        let named = configured.listeners.iter().map(|it| (it, false)).chain(own.map(|it| (it, true)));
        let known = named.map(|(it, is_own)| Known { config: it.clone(), serves: true, is_own });
        let open = |&number: &ListenerNumber| {
            let listener = &config.listeners[number.index()];
            let of_same = sockets.iter().filter(|other| other.index() == number.index());
            let position = of_same.take_while(|other| **other != number).count();
            let target = match listener.at() {
                ListenAt::Tcp { bind, port, .. } => {
                    Target::Tcp(socket_address(bind.get(position)?, port).ok()?)
                }
                ListenAt::Unix { path, .. } => Target::Unix(path.to_path_buf()),
                ListenAt::Systemd { name } => Target::Systemd(name.to_owned()),
            };
            Some(Open { number, target })
        };
        Self {
            io: config.io,
            send_buffer_bytes: config.send_buffer_bytes,
            shard_count,
            methods: methods_of(config),
            known: known.collect(),
            open: sockets.iter().filter_map(open).collect(),
            tables,
        }
    }

    /// The bounds that a configuration has for all numbers.
    pub(crate) fn limits(&self, config: &Config, prepared: Option<&Prepared>) -> LiveLimits {
        let known = prepared.map_or(&self.known, |prepared| &prepared.known);
        let listener = |it: &Known| {
            let same = config.listeners.iter().find(|other| other.name == it.config.name);
            with_rates_of(it.config.clone(), same.unwrap_or(&it.config))
        };
        let listeners = known.iter().map(listener).collect();
        Config { listeners, ..config.clone() }.engine_limits(self.shard_count).live()
    }

    /// Reads and checks everything that `wanted` needs, and binds its sockets unless `is_dry`. `None`: no listener changes.
    ///
    /// # Errors
    /// The first fault as a sentence with its place. Nothing has changed.
    pub(crate) fn prepare(
        &self,
        wanted: &[Wanted],
        rotation: &Rotation,
        is_dry: bool,
    ) -> Result<Option<Prepared>, String> {
        let mut next = Prepared::of(self);
        let (own, mut free): (Vec<Open>, _) = std::mem::take(&mut next.open)
            .into_iter()
            .partition(|open| next.known[open.number.index()].is_own);
        next.open = own;
        let mut changed = Vec::new();
        for it in wanted {
            let same = self
                .known
                .iter()
                .position(|known| known.serves && !known.is_own && is_same(&known.config, &it.config));
            match same {
                Some(number) => {
                    next.known[number].serves = true;
                    next.open.extend(free.extract_if(.., |open| open.number.index() == number));
                }
                None => changed.push(it),
            }
        }
        if changed.is_empty() && free.is_empty() {
            return Ok(None);
        }
        let mut unbound = Vec::new();
        for it in changed {
            let faulty = |fault: String| format!("{}: {fault}", it.place);
            self.check(&it.config).map_err(faulty)?;
            let number = next.add(&it.config, rotation).map_err(faulty)?;
            for target in self.targets(&it.config, &free).map_err(|error| faulty(error.to_string()))? {
                let to = next.address(number, &it.config, &target).map_err(faulty)?;
                match free.iter().position(|open| self.is_same_socket(open, &it.config, &target)) {
                    Some(at) => {
                        let from = free.swap_remove(at).number;
                        next.changes.iter_mut().for_each(|change| change.renumber.push((from, to)));
                    }
                    None => unbound.push((it, to, target.clone())),
                }
                next.open.push(Open { number: to, target });
            }
        }
        let goes =
            |known: &Known| !known.is_own && !wanted.iter().any(|it| it.config.name == known.config.name);
        let ended = (0..).zip(&next.known).filter(|(_, known)| goes(known)).map(|(number, _)| number);
        let ended: Vec<u16> = ended.collect();
        for change in &mut next.changes {
            change.close = free.iter().map(|open| open.number).collect();
            change.ended.clone_from(&ended);
        }
        for (it, number, target) in unbound.iter().filter(|_| !is_dry) {
            self.bind(&it.config, *number, target, &mut next.changes)
                .map_err(|error| format!("{}: {error}", it.place))?;
        }
        Ok(Some(next))
    }

    /// Whether a change leaves this TLS in force.
    pub(crate) fn keeps(&self, prepared: &Prepared, tls: &ListenerTls) -> bool {
        let is_it = |number: &usize| {
            self.tables.layers.tls_of(*number).is_some_and(|it| Shared::as_ptr(it) == std::ptr::from_ref(tls))
        };
        (0..self.known.len()).find(is_it).is_none_or(|number| prepared.known[number].serves)
    }

    /// Takes a change over, and returns what the shards have to do. `admit` is told each new number with the first number of that name.
    pub(crate) fn apply(
        &mut self,
        prepared: Prepared,
        rotation: &mut Rotation,
        mut admit: impl FnMut(u16, u16, &ListenerConfig),
    ) -> (ListenerTables, Vec<ListenerChange>) {
        let Prepared { known, open, tables, watched, changes } = prepared;
        for number in self.known.len()..known.len() {
            let config = &known[number].config;
            let first = known.iter().position(|it| it.config.name == config.name).unwrap_or(number);
            admit(short(number), short(first), config);
            warn_of_open(config);
        }
        let kept = |target: &Target| open.iter().any(|it| it.target == *target);
        for gone in self.open.iter().filter(|it| !kept(&it.target)) {
            info!("no longer listening on {}", gone.target);
            if let Target::Unix(path) = &gone.target {
                // If this fails, the next start replaces the socket.
                let _ = std::fs::remove_file(path);
            }
        }
        for new in changes.first().iter().flat_map(|change| &change.open) {
            info!("listening on {}", new.place());
        }
        for (number, before) in self.known.iter().enumerate() {
            if before.serves && !known[number].serves {
                rotation.retire(self.tables.layers.tls_of(number));
            }
        }
        rotation.watch(watched);
        (self.known, self.open, self.tables) = (known, open, tables);
        (self.tables.clone(), changes)
    }

    /// Removes the sockets of the broker from the file system.
    pub(crate) fn remove_sockets(&self) {
        for open in &self.open {
            if let Target::Unix(path) = &open.target {
                // If this fails, the next start replaces the socket.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Whether an open socket is the one that a listener wants. A port that the system chose is that of its listener alone.
    fn is_same_socket(&self, open: &Open, config: &ListenerConfig, target: &Target) -> bool {
        let is_chosen = target.address().is_some_and(|address| address.port() == 0);
        open.target == *target && (!is_chosen || self.known[open.number.index()].config.name == config.name)
    }

    /// The needs of a listener that a running broker cannot satisfy.
    fn check(&self, config: &ListenerConfig) -> Result<(), String> {
        let name = &config.name;
        if self.io == Io::Blocking {
            return Err(format!(
                "the listener {name:?} differs, and a broker with --io blocking changes none; restart it"
            ));
        }
        let lacks = config.methods().iter().find(|method| !self.methods.contains(method));
        if lacks.is_some() {
            return Err(format!(
                "the listener {name:?} asks a method of authentication that the broker was started without; restart it"
            ));
        }
        Ok(())
    }

    /// The places of a listener: those that it names, and of the default ones those that this machine has.
    fn targets(&self, config: &ListenerConfig, free: &[Open]) -> Result<Vec<Target>, StartupError> {
        match config.at() {
            ListenAt::Tcp { bind, named, port } => {
                let held: Vec<SocketAddr> =
                    self.open.iter().filter_map(|open| open.target.address()).collect();
                let usable = usable(bind, named, port, &held)?;
                usable.iter().map(|address| socket_address(address, port).map(Target::Tcp)).collect()
            }
            ListenAt::Unix { path, .. } => Ok(vec![Target::Unix(path.to_path_buf())]),
            ListenAt::Systemd { name } => {
                let target = Target::Systemd(name.to_owned());
                match free.iter().filter(|open| open.target == target).count() {
                    0 => {
                        let sentence = "systemd passes its sockets at a start; restart the broker";
                        Err(StartupError::listener(&config.name, sentence))
                    }
                    count => Ok(vec![target; count]),
                }
            }
        }
    }

    fn bind(
        &self,
        config: &ListenerConfig,
        number: ListenerNumber,
        target: &Target,
        changes: &mut [ListenerChange],
    ) -> Result<(), StartupError> {
        let accepting = match Distributor::of(self.io) {
            Distributor::System => changes,
            Distributor::FirstShard => &mut changes[..1],
        };
        let mut bound: Vec<Vec<Listening>> = accepting.iter().map(|_| Vec::new()).collect();
        bind_at(&mut bound, number, target, config.mode, self.send_buffer_bytes)?;
        for (change, sockets) in accepting.iter_mut().zip(bound) {
            change.open.extend(sockets);
        }
        Ok(())
    }
}

impl Prepared {
    /// Nothing of the listeners, but everything that is known of them.
    fn of(listeners: &Listeners) -> Self {
        let known = listeners.known.iter().map(|known| Known { serves: known.is_own, ..known.clone() });
        Self {
            known: known.collect(),
            open: listeners.open.clone(),
            tables: listeners.tables.clone(),
            watched: Vec::new(),
            changes: (0..listeners.shard_count).map(|_| ListenerChange::default()).collect(),
        }
    }

    /// Gives a listener a number, and reads its files.
    fn add(&mut self, config: &ListenerConfig, rotation: &Rotation) -> Result<u8, String> {
        let number = u8::try_from(self.known.len()).map_err(|_| too_many("listeners"))?;
        let watched = self.tables.layers.add(config, rotation).map_err(|fault| fault.to_string())?;
        self.watched.extend(watched);
        self.tables.client_ids.add(config);
        self.known.push(Known { config: config.clone(), serves: true, is_own: false });
        Ok(number)
    }

    /// Gives an address of a listener a number.
    fn address(
        &mut self,
        listener: u8,
        config: &ListenerConfig,
        target: &Target,
    ) -> Result<ListenerNumber, String> {
        let address =
            u8::try_from(self.tables.names.len()).map_err(|_| too_many("addresses of listeners"))?;
        self.tables.names.push(if config.is_implied() { target.to_string() } else { config.name.clone() });
        Ok(ListenerNumber { listener, address })
    }
}

impl Target {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
            Self::Systemd(name) => write!(formatter, "the sockets {name:?} of systemd"),
        }
    }
}

fn too_many(what: &str) -> String {
    format!("the broker has had {NUMBERS_MAX} {what} since its start, counting each change; restart it")
}

/// The methods that run: none if no listener asks any.
fn methods_of(config: &Config) -> Vec<AuthMethod> {
    if config.listeners.iter().all(|listener| listener.methods().is_empty()) {
        return Vec::new();
    }
    config.auth.methods().chain([AuthMethod::Certificate]).collect()
}

/// Whether two listeners differ at most in their rates, which change without another number.
fn is_same(one: &ListenerConfig, other: &ListenerConfig) -> bool {
    with_rates_of(one.clone(), other) == *other
}

fn with_rates_of(mut config: ListenerConfig, other: &ListenerConfig) -> ListenerConfig {
    (config.publish_rate, config.publish_bytes_rate) = (other.publish_rate, other.publish_bytes_rate);
    (config.burst_s, config.on_rate) = (other.burst_s, other.on_rate);
    config
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
