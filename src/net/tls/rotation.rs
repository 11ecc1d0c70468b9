//! The TLS of each listener, and its change while the broker runs: the files are read once a minute and on a signal, and a changed
//! content serves the connections that begin afterwards. A fault keeps what was.

use rustls::server::ServerConfig;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tracing::{info, warn};

use super::files::{Files, warn_of_open_keys};
use super::handshakes::{HandshakeCounts, HandshakeEnd, Handshakes};
use super::revoked::Revoked;
use super::server::{Expiry, FileFault, make};
use super::{Shared, Swapped};
use crate::config::listener::{ClientCertificate, TlsConfig};

/// A certificate or list that ends sooner is told.
const WARNED_BEFORE_S: i64 = 7 * 24 * 3_600;
/// Time between two looks at the files.
const SECONDS_BETWEEN_LOOKS: u32 = 60;
/// It is told again after so many looks at the files: once a day.
const LOOKS_BETWEEN_WARNINGS: u32 = 24 * 60;

/// The TLS of one listener. **Lives on:** every shard, and the control plane.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    name: String,
    config: TlsConfig,
    current: Swapped<ServerConfig>,
    revoked: Swapped<Revoked>,
    expiries: Swapped<Vec<Expiry>>,
    handshakes: Handshakes,
}

impl ListenerTls {
    /// The name of the listener.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its certificates and lists, and when each ends.
    pub(crate) fn expiries(&self) -> Shared<Vec<Expiry>> {
        Shared::clone(&self.expiries.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The handshakes so far.
    pub(crate) fn handshakes(&self) -> HandshakeCounts {
        self.handshakes.read()
    }

    /// A handshake has ended.
    pub(crate) fn count_handshake(&self, end: HandshakeEnd) {
        self.handshakes.count(end);
    }

    /// The configuration for a connection that begins.
    pub(crate) fn current(&self) -> Shared<ServerConfig> {
        Shared::clone(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The certificates that are revoked now.
    pub(crate) fn revoked(&self) -> Shared<Revoked> {
        Shared::clone(&self.revoked.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The settings behind it.
    pub(crate) fn config(&self) -> &TlsConfig {
        &self.config
    }

    #[cfg(test)]
    pub(crate) fn with(server: ServerConfig) -> Shared<Self> {
        let current = Swapped::new(Shared::new(server));
        Shared::new(Self {
            name: "test".into(),
            config: TlsConfig::default(),
            current,
            revoked: Swapped::default(),
            expiries: Swapped::default(),
            handshakes: Handshakes::default(),
        })
    }

    /// Whether a client without a certificate is refused.
    pub(crate) fn requires_certificate(&self) -> bool {
        self.config.client_certificate == ClientCertificate::Require
    }
}

/// A listener as the control plane sees it.
pub(crate) struct Watched {
    tls: Shared<ListenerTls>,
    protocol: &'static [u8],
    fingerprint: u64,
    /// The fault of the last look, so that it is told once.
    fault: Option<String>,
    /// Another number has taken its listener over, or it ended: only its connections need it.
    is_retired: bool,
}

/// The TLS of the listeners in force. **Lives on:** the control plane, and the admin thread.
#[cfg(feature = "admin")]
#[derive(Clone, Default)]
pub(crate) struct TlsListeners(Shared<Swapped<Vec<Shared<ListenerTls>>>>);

#[cfg(feature = "admin")]
impl TlsListeners {
    /// All of them now.
    pub(crate) fn read(&self) -> Shared<Vec<Shared<ListenerTls>>> {
        Shared::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The files of all listeners. **Lives on:** the control plane.
#[derive(Default)]
pub(crate) struct Rotation {
    watched: Vec<Watched>,
    #[cfg(feature = "admin")]
    in_force: TlsListeners,
    seconds: u32,
    looks: u32,
}

impl Rotation {
    /// Begins with the TLS of a listener; `protocol` is the application's protocol.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn begin(
        &mut self,
        name: &str,
        config: &TlsConfig,
        protocol: &'static [u8],
    ) -> Result<Shared<ListenerTls>, FileFault> {
        let watched = self.prepare(name, config, protocol)?;
        let tls = Shared::clone(&watched.tls);
        self.watch(vec![watched]);
        self.warn_of_expiries();
        Ok(tls)
    }

    /// Reads the TLS of a listener that is to be watched if nothing else fails.
    ///
    /// # Errors
    /// The first file that cannot be used.
    #[expect(clippy::unused_self, reason = "who watches the files is who reads them first")]
    pub(crate) fn prepare(
        &self,
        name: &str,
        config: &TlsConfig,
        protocol: &'static [u8],
    ) -> Result<Watched, FileFault> {
        let files = Files::read(config)?;
        let made = make(config, &files, protocol)?;
        warn_of_open_keys(config);
        let revoked = Swapped::new(Shared::new(Revoked::of(config, &files)));
        let tls = Shared::new(ListenerTls {
            name: name.to_owned(),
            config: config.clone(),
            current: Swapped::new(made.server),
            revoked,
            expiries: Swapped::new(Shared::new(made.expiries)),
            handshakes: Handshakes::default(),
        });
        Ok(Watched { tls, protocol, fingerprint: files.fingerprint(), fault: None, is_retired: false })
    }

    /// Looks after these too.
    pub(crate) fn watch(&mut self, watched: Vec<Watched>) {
        self.watched.extend(watched);
        self.tell();
    }

    /// A listener has ended, or has other settings now. Its lists still revoke certificates of its open connections.
    pub(crate) fn retire(&mut self, tls: Option<&Shared<ListenerTls>>) {
        for watched in &mut self.watched {
            watched.is_retired |= tls.is_some_and(|tls| Shared::ptr_eq(tls, &watched.tls));
        }
        self.tell();
    }

    /// The TLS of all listeners.
    #[cfg(feature = "admin")]
    pub(crate) fn listeners(&self) -> TlsListeners {
        self.in_force.clone()
    }

    /// Tells the admin thread.
    #[cfg_attr(
        not(feature = "admin"),
        expect(clippy::unused_self, reason = "there is no admin thread to tell")
    )]
    fn tell(&self) {
        #[cfg(feature = "admin")]
        {
            let listeners = self.serving().map(|watched| Shared::clone(&watched.tls)).collect();
            *self.in_force.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Shared::new(listeners);
        }
    }

    /// The TLS of the listeners in force.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &ListenerTls> {
        self.serving().map(|watched| &*watched.tls)
    }

    fn serving(&self) -> impl Iterator<Item = &Watched> {
        self.watched.iter().filter(|watched| !watched.is_retired)
    }

    /// The handshakes of all listeners so far.
    pub(crate) fn handshakes(&self) -> HandshakeCounts {
        let add = |sums: HandshakeCounts, watched: &Watched| {
            let counts = watched.tls.handshakes();
            std::array::from_fn(|at| sums[at] + counts[at])
        };
        self.watched.iter().fold(HandshakeCounts::default(), add)
    }

    /// A second has passed: reads all files again once a minute. Returns whether one has changed.
    pub(crate) fn second(&mut self) -> bool {
        self.seconds += 1;
        self.seconds.is_multiple_of(SECONDS_BETWEEN_LOOKS) && self.look()
    }

    /// Reads all files again. Returns whether one has changed.
    pub(crate) fn look(&mut self) -> bool {
        let watched = self.watched.iter_mut().filter(|it| !it.is_retired || !it.tls.config.crl.is_empty());
        let changed = watched.map(Watched::look).fold(false, |one, other| one | other);
        self.looks += 1;
        if changed || self.looks.is_multiple_of(LOOKS_BETWEEN_WARNINGS) {
            self.warn_of_expiries();
        }
        changed
    }

    /// Of those for which `goes_on` holds, the names of the listeners whose files have another content than the one in force. Nothing changes.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn check(&self, goes_on: impl Fn(&ListenerTls) -> bool) -> Result<Vec<String>, FileFault> {
        let mut changed = Vec::new();
        for Watched { tls, protocol, fingerprint, .. } in self.serving().filter(|it| goes_on(&it.tls)) {
            let files = Files::read(&tls.config)?;
            if files.fingerprint() != *fingerprint {
                make(&tls.config, &files, protocol)?;
                changed.push(tls.name.clone());
            }
        }
        Ok(changed)
    }

    fn warn_of_expiries(&self) {
        let now_s = DefaultTimeProvider.current_time().map_or(0, |now| now.as_secs());
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        for watched in self.serving() {
            for expiry in watched.tls.expiries().iter().filter(|expiry| expiry.at_s - now_s < WARNED_BEFORE_S)
            {
                warn!(
                    listener = watched.tls.name,
                    file = %expiry.file.display(),
                    hours = (expiry.at_s - now_s) / 3_600,
                    "a certificate or list of revoked ones ends soon, or has ended; replace the file"
                );
            }
        }
    }
}

impl Watched {
    /// The TLS.
    pub(crate) fn tls(&self) -> &Shared<ListenerTls> {
        &self.tls
    }

    fn look(&mut self) -> bool {
        match self.renew() {
            Ok(changed) => {
                self.fault = None;
                changed
            }
            Err(fault) => {
                let fault = fault.to_string();
                if self.fault.as_ref() != Some(&fault) {
                    warn!(listener = self.tls.name, %fault, "TLS goes on with the files as they were");
                    self.fault = Some(fault);
                }
                false
            }
        }
    }

    fn renew(&mut self) -> Result<bool, FileFault> {
        let files = Files::read(&self.tls.config)?;
        let fingerprint = files.fingerprint();
        if fingerprint == self.fingerprint {
            return Ok(false);
        }
        let made = make(&self.tls.config, &files, self.protocol)?;
        warn_of_open_keys(&self.tls.config);
        let revoked = Shared::new(Revoked::of(&self.tls.config, &files));
        // A handshake that begins now is judged by the new lists, so those that ended before are all that remain to be looked at.
        *self.tls.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = made.server;
        *self.tls.revoked.write().unwrap_or_else(std::sync::PoisonError::into_inner) = revoked;
        *self.tls.expiries.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Shared::new(made.expiries);
        self.fingerprint = fingerprint;
        info!(
            listener = self.tls.name,
            "TLS has new files; they serve the connections that begin from now on"
        );
        Ok(true)
    }
}
