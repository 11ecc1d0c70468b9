//! The layers that each listener begins its connections with, by its number.

use std::net::SocketAddr;

use super::Layers;
use super::front::{Front, FrontRules};
use crate::config::{Config, Io, ListenerConfig};
use crate::error::StartupError;
use crate::net::listen::ListenerNumber;
use crate::net::tls::{FileFault, ListenerTls, Rotation, Shared, Tls, Watched};

/// The layers that each listener begins its connections with.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerLayers {
    tls: Vec<Option<Shared<ListenerTls>>>,
    front: Vec<Option<Shared<FrontRules>>>,
}

impl ListenerLayers {
    /// The layers of all listeners, whose files `rotation` watches from now on.
    ///
    /// # Errors
    /// The first listener with a layer that the backend does not have, or with a file that cannot be used.
    pub(crate) fn load(config: &Config, rotation: &mut Rotation) -> Result<Self, StartupError> {
        let front: Vec<_> = config.listeners.iter().map(FrontRules::of).collect();
        if config.io == Io::Blocking
            && let Some((listener, _)) =
                config.listeners.iter().zip(&front).find(|(it, front)| it.tls.is_some() || front.is_some())
        {
            return Err(StartupError::listener(&listener.name, NO_LAYERS));
        }
        let tls = config.listeners.iter().map(|listener| {
            let Some(settings) = &listener.tls else { return Ok(None) };
            let tls = rotation.begin(&listener.name, settings, protocol(listener));
            tls.map(Some).map_err(|fault| StartupError::listener(&listener.name, fault))
        });
        Ok(Self { tls: tls.collect::<Result<_, _>>()?, front })
    }

    /// Adds those of the listener with the next number. Returns its TLS, if it has any, to be watched.
    ///
    /// # Errors
    /// A file that cannot be used. Nothing is added then.
    pub(crate) fn add(
        &mut self,
        listener: &ListenerConfig,
        rotation: &Rotation,
    ) -> Result<Option<Watched>, FileFault> {
        let tls = listener.tls.as_ref();
        let watched = tls.map(|tls| rotation.prepare(&listener.name, tls, protocol(listener))).transpose()?;
        self.tls.push(watched.as_ref().map(|watched| Shared::clone(watched.tls())));
        self.front.push(FrontRules::of(listener));
        Ok(watched)
    }

    /// The TLS of the listener with a number.
    pub(crate) fn tls_of(&self, number: usize) -> Option<&Shared<ListenerTls>> {
        self.tls.get(number).and_then(Option::as_ref)
    }

    /// The layers of a connection from which nothing was received; `None` for a plain one.
    pub(crate) fn begin(&self, listener: ListenerNumber, peer: Option<SocketAddr>) -> Option<Layers> {
        let number = listener.index();
        let tls = self.tls.get(number).and_then(Option::as_ref);
        let rules = self.front.get(number).and_then(Option::as_ref);
        if tls.is_none() && rules.is_none() {
            return None;
        }
        let front = rules.map_or(Front::None, |rules| Front::begin(rules, peer));
        Some(Layers { front, ..Layers::new(tls.map(|tls| Tls::new(Shared::clone(tls)))) })
    }
}

/// The protocol that TLS of a listener agrees on.
fn protocol(listener: &ListenerConfig) -> &'static [u8] {
    if listener.websocket.is_some() { HTTP } else { MQTT }
}

/// The names of protocols that TLS can agree on.
const MQTT: &[u8] = b"mqtt";
const HTTP: &[u8] = b"http/1.1";
const NO_LAYERS: &str = "has TLS, WebSocket or the PROXY protocol, which a broker with --io blocking does not have; start with --io auto, \
                         or remove [listener.tls], [listener.websocket] and proxy_protocol";
