//! The start of the configured methods: their files are read, and their threads begin.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::Entropy;
use jsonwebtoken::Algorithm;
use zeroize::Zeroizing;

use super::Authenticator;
use super::answers::Answers;
use super::fetch::Fetcher;
use super::jwt::TokenRules;
use super::methods::{HttpMethod, ListenerMethods, Methods, PasswordMethod, ScramMethod, TokenMethod};
use super::names::NamePatterns;
use super::operators::Operators;
use super::password::hmac_sha256;
use super::password::remembered::{Memory, Remembered};
use super::pool::HashPool;
use super::roll::Roll;
use super::shared::{Locked, Shared};
use super::side::{Issuers, Side, SideSettings};
use super::snapshot::{Files, Snapshot, Store};
use crate::backend::Doorbells;
use crate::config::Config;
use crate::config::auth::{HttpConfig, JwtAlgorithm, JwtConfig, JwtFrom, PasswordConfig, ScramConfig};
use crate::config::list::KeySource;
use crate::error::StartupError;
use crate::process::clock::Clock;

/// The authenticators of the shards, in their order. `key` is a secret that outlives the process; `operators` has the tokens of operators'
/// own clients.
///
/// # Errors
/// If a file cannot be read, or the system refuses a thread.
pub(crate) fn start(
    config: &Config,
    shard_count: u16,
    doorbells: Doorbells,
    clock: Clock,
    (key, operators): (Entropy, &Operators),
) -> Result<Vec<Authenticator>, StartupError> {
    let (answers, receivers) = Answers::new(shard_count, doorbells);
    let is_used = config.listeners.iter().any(|listener| !listener.methods().is_empty());
    let methods = if is_used { Some(methods(config, &answers, clock, key)?) } else { None };
    let of = |late| Authenticator {
        answers: answers.clone(),
        late,
        methods: methods.clone(),
        exchanges: RefCell::default(),
        operators: (config.operators_listener(), operators.clone()),
    };
    Ok(receivers.into_iter().map(of).collect())
}

fn methods(
    config: &Config,
    answers: &Answers,
    clock: Clock,
    key: Entropy,
) -> Result<Shared<Methods>, StartupError> {
    let auth = &config.auth;
    let questions_max = auth.http.as_ref().map_or(0, |http| http.concurrent_max);
    let (side, side_start) = Side::new(questions_max);
    let algorithms = auth.jwt.as_ref().map(algorithms).unwrap_or_default();
    let (store, files) = read(config, &algorithms)?;
    let system = |error: io::Error| StartupError::system("start the methods of authentication", error);
    let methods = Methods {
        listeners: ListenerMethods::places(),
        store,
        password: auth.password.as_ref().map(password).transpose().map_err(system)?,
        scram: auth.scram.as_ref().map(|scram| scram_method(scram, key)),
        token: auth.jwt.as_ref().map(|jwt| token(jwt, &algorithms)),
        http: auth.http.as_ref().map(|http| HttpMethod { names: NamePatterns::new(&http.names) }),
        side,
        answers: answers.clone(),
        clock,
        connect_timeout_ms: u64::from(config.connect_timeout_s) * 1_000,
    };
    for (number, listener) in (0..).zip(&config.listeners) {
        methods.add_listener(number, listener);
    }
    let methods = Shared::new(methods);
    let has_users = auth.password.is_some() || auth.scram.is_some();
    let settings = SideSettings {
        files,
        roll: has_users.then(|| Roll::of(&config.data_dir)),
        issuers: auth.jwt.as_ref().map(|jwt| issuers(jwt, &algorithms)).transpose()?.flatten(),
        service: auth.http.as_ref().map(service).transpose()?,
    };
    side_start.start(settings, methods.clone()).map_err(system)?;
    if let Some(password) = &auth.password {
        HashPool::start(password.threads, &methods).map_err(system)?;
    }
    Ok(methods)
}

/// Reads the files of users and keys that the running broker has, and changes nothing.
///
/// # Errors
/// The first file that cannot be used.
pub(crate) fn check(config: &Config) -> Result<(), StartupError> {
    if config.listeners.iter().all(|listener| listener.methods().is_empty()) {
        return Ok(());
    }
    let algorithms = config.auth.jwt.as_ref().map(algorithms).unwrap_or_default();
    let (mut files, store) = files(config, &algorithms);
    fault(files.check(&store))
}

/// Reads the files for the first time, when a fault ends the start.
fn read(config: &Config, algorithms: &[Algorithm]) -> Result<(Shared<Store>, Files), StartupError> {
    let (mut files, store) = files(config, algorithms);
    fault(files.read(&store))?;
    Ok((Shared::new(store), files))
}

/// The first fault of files, as an error.
fn fault(faults: Vec<(PathBuf, String)>) -> Result<(), StartupError> {
    match faults.into_iter().next() {
        Some((file, reason)) => Err(StartupError::PasswordFile { file, reason }),
        None => Ok(()),
    }
}

/// The files of a configuration, unread, and a store for them.
fn files(config: &Config, algorithms: &[Algorithm]) -> (Files, Store) {
    let auth = &config.auth;
    let sources = auth.jwt.as_ref().map(|jwt| jwt.keys.as_slice()).unwrap_or_default();
    let key_files: Vec<(usize, PathBuf)> = sources
        .iter()
        .enumerate()
        .filter_map(|(number, source)| match source {
            KeySource::File(file) => Some((number, file.to_path_buf())),
            KeySource::Url(_) => None,
        })
        .collect();
    let users: Option<&Path> = auth.password.as_ref().map(|password| &*password.file);
    let scram_users: Option<&Path> = auth.scram.as_ref().map(|scram| &*scram.file);
    let files = Files::new(users, scram_users, &key_files, algorithms);
    let store = Store::default();
    store.change(|snapshot: &mut Snapshot| snapshot.key_sets.resize_with(sources.len(), Shared::default));
    (files, store)
}

fn password(config: &PasswordConfig) -> io::Result<PasswordMethod> {
    Ok(PasswordMethod {
        names: NamePatterns::new(&config.names),
        memory: Memory::new().map_err(io::Error::other)?,
        remembered: Locked::new(Remembered::new(u64::from(config.remember_s) * 1_000)),
        pool: HashPool::new(config.queue_max as usize),
    })
}

fn scram_method(config: &ScramConfig, key: Entropy) -> ScramMethod {
    // A key of its own, so that no salt tells anything about the placement of sessions.
    let kept_key = hmac_sha256(&key.0.to_be_bytes(), b"salts of unknown users");
    ScramMethod { names: NamePatterns::new(&config.names), kept_key: Zeroizing::new(kept_key) }
}

fn token(config: &JwtConfig, algorithms: &[Algorithm]) -> TokenMethod {
    let claims = config.claims.clone().unwrap_or_default();
    TokenMethod {
        rules: TokenRules {
            algorithms: algorithms.to_vec(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            username_claim: claims.username,
            roles_claim: claims.roles,
        },
        names: NamePatterns::new(&config.names),
        by_method: config.from == JwtFrom::Method,
    }
}

fn issuers(config: &JwtConfig, algorithms: &[Algorithm]) -> Result<Option<Issuers>, StartupError> {
    let urls: Vec<(usize, String)> = config
        .keys
        .iter()
        .enumerate()
        .filter_map(|(number, source)| match source {
            KeySource::Url(url) => Some((number, url.clone())),
            KeySource::File(_) => None,
        })
        .collect();
    if urls.is_empty() {
        return Ok(None);
    }
    let fetcher = fetcher(config.ca.as_deref())?;
    Ok(Some(Issuers { urls, fetcher, algorithms: algorithms.to_vec() }))
}

fn service(config: &HttpConfig) -> Result<(String, Fetcher, Duration), StartupError> {
    let time_out = Duration::from_millis(config.timeout_ms.into());
    Ok((config.url.to_string(), fetcher(config.ca.as_deref())?, time_out))
}

fn fetcher(authorities: Option<&Path>) -> Result<Fetcher, StartupError> {
    Fetcher::new(authorities).map_err(|error| StartupError::PasswordFile {
        file: authorities.map(Path::to_path_buf).unwrap_or_default(),
        reason: error.to_string(),
    })
}

fn algorithms(config: &JwtConfig) -> Vec<Algorithm> {
    config
        .algorithms
        .iter()
        .map(|algorithm| match algorithm {
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Es384 => Algorithm::ES384,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Rs384 => Algorithm::RS384,
            JwtAlgorithm::Rs512 => Algorithm::RS512,
            JwtAlgorithm::Ps256 => Algorithm::PS256,
            JwtAlgorithm::Ps384 => Algorithm::PS384,
            JwtAlgorithm::Ps512 => Algorithm::PS512,
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::Hs384 => Algorithm::HS384,
            JwtAlgorithm::Hs512 => Algorithm::HS512,
        })
        .collect()
}
