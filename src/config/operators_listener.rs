//! The listener of operators' own clients, which no configuration names: a unix socket in the data directory, to which the admin thread
//! passes the WebSocket of its page on.
//!
//! Invariant: every connection there begins with a PROXY header and WebSocket, and every client is judged by a token.

use super::list::{FileMode, FilePath};
use super::listener::{LISTENERS_MAX, WebSocketConfig};
use super::value::Anonymous;
use super::{Config, Io, ListenerConfig, ProxyProtocol};

/// Its name in the log and in metrics.
const NAME: &str = "[admin]";

/// The socket, below the data directory.
const FILE: &str = "page.sock";

/// The longest path that every system takes for a socket.
const PATH_BYTES_MAX: usize = 100;

impl Config {
    /// The path of its socket; `None` if this system, its backend or the directory has none.
    pub(crate) fn operators_socket(&self) -> Option<FilePath> {
        let path = self.data_dir.join(FILE);
        let path = path.to_str().filter(|path| cfg!(unix) && path.len() <= PATH_BYTES_MAX)?;
        (self.io != Io::Blocking).then(|| path.into())
    }

    /// Adds it behind the listeners that clients have, if the page is served. To be done to every configuration that shards are given
    /// limits of, so that its clients are judged.
    pub(crate) fn add_operators_listener(&mut self) {
        let is_served = cfg!(feature = "admin")
            && self.admin.as_ref().is_none_or(|admin| admin.bind.address().is_some())
            && self.listeners.len() < LISTENERS_MAX;
        let Some(path) = self.operators_socket().filter(|_| is_served) else { return };
        self.listeners.push(ListenerConfig {
            name: NAME.to_owned(),
            unix: Some(path),
            mode: FileMode(0o600),
            anonymous: Anonymous::Refused,
            proxy_protocol: ProxyProtocol::Require,
            // The admin thread has compared the origin with its own.
            websocket: Some(WebSocketConfig { origins: vec!["*".to_owned()], ..WebSocketConfig::default() }),
            ..ListenerConfig::default()
        });
    }

    /// Its number, if it was added.
    pub(crate) fn operators_listener(&self) -> Option<usize> {
        let path = self.operators_socket()?;
        self.listeners
            .iter()
            .position(|listener| listener.name == NAME && listener.unix == Some(path.clone()))
    }
}

#[cfg(all(test, unix, feature = "admin"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_last_one_and_is_there_only_where_it_can_be() {
        let added = |mut config: Config| {
            config.add_operators_listener();
            config.operators_listener()
        };
        assert_eq!(added(Config::default()), Some(1));
        assert_eq!(added(Config { io: Io::Blocking, ..Config::default() }), None);
        assert_eq!(added(Config { data_dir: "d".repeat(200).into(), ..Config::default() }), None);
        let full = vec![ListenerConfig::default(); LISTENERS_MAX];
        assert_eq!(added(Config { listeners: full, ..Config::default() }), None);
        let mut config = Config::default();
        config.add_operators_listener();
        let listener = &config.listeners[1];
        assert!(listener.judges() && !listener.allows_anonymous() && listener.methods().is_empty());
    }
}
