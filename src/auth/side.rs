//! The side thread of authentication: a thread with a runtime of its own for everything that waits. It asks the operator's service,
//! fetches the keys of issuers, and looks each minute whether a file has changed.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::answers::UserChanges;
use super::fetch::Fetcher;
use super::hook;
use super::jwt::{KeySet, KeySetOrigin};
use super::methods::{Case, Methods, REFUSED};
use super::roll::Roll;
use super::shared::Shared;
use super::snapshot::Files;
use crate::process::clock;

/// Time between two looks at the files.
const FILES_EVERY: Duration = Duration::from_mins(1);

/// Time between two fetches of keys.
const KEYS_EVERY: Duration = Duration::from_mins(5);

/// Time between two fetches of keys because a token names an unknown one, and after a failure.
const KEYS_AGAIN: Duration = Duration::from_secs(30);

/// Time within which an issuer must answer.
const KEYS_TIME_OUT: Duration = Duration::from_secs(5);

/// Work for the side thread.
enum Errand {
    /// Ask the service about this client by this body.
    Ask(Box<Case>, Zeroizing<Vec<u8>>),
    /// Read the files again.
    Files,
}

/// The way to the side thread. **Lives on:** any thread.
///
/// The channel has no bound of its own: questions are bounded by `concurrent_max`, and the other errand by a flag.
#[derive(Clone)]
pub(crate) struct Side {
    errands: UnboundedSender<Errand>,
    open: Shared<Open>,
}

/// The errands that are not finished.
struct Open {
    questions: AtomicU32,
    questions_max: u32,
    keys: Notify,
    files: AtomicU32,
}

/// The part of the side thread that waits for its start.
pub(super) struct SideStart {
    errands: UnboundedReceiver<Errand>,
}

/// The settings of the side thread.
pub(super) struct SideSettings {
    pub(super) files: Files,
    /// `None` without users in files.
    pub(super) roll: Option<Roll>,
    pub(super) issuers: Option<Issuers>,
    /// URL of the service, the client to ask it and the time within which it must answer.
    pub(super) service: Option<(String, Fetcher, Duration)>,
}

/// The issuers whose keys are fetched.
pub(super) struct Issuers {
    /// URLs of key sets with the numbers of these.
    pub(super) urls: Vec<(usize, String)>,
    pub(super) fetcher: Fetcher,
    pub(super) algorithms: Vec<Algorithm>,
}

impl Side {
    /// A side thread that asks at most `questions_max` questions at once; it works once it is started.
    pub(super) fn new(questions_max: u32) -> (Self, SideStart) {
        let (sender, errands) = unbounded_channel();
        let zero = || AtomicU32::new(0);
        let open = Open { questions: zero(), questions_max, keys: Notify::new(), files: zero() };
        (Self { errands: sender, open: Shared::new(open) }, SideStart { errands })
    }

    /// Asks the service about a client. If as many questions are open as may be, the client comes back.
    pub(super) fn ask(&self, case: Case, body: Zeroizing<Vec<u8>>) -> Option<Case> {
        let open = &self.open.questions;
        if open.fetch_add(1, Relaxed) >= self.open.questions_max {
            open.fetch_sub(1, Relaxed);
            return Some(case);
        }
        // The thread lives as long as the process.
        let _ = self.errands.send(Errand::Ask(Box::new(case), body));
        None
    }

    /// Has the keys fetched soon, since a token names an unknown one.
    pub(super) fn want_keys(&self) {
        self.open.keys.notify_one();
    }

    /// Has the files read at once.
    pub(crate) fn read_files(&self) {
        if self.open.files.swap(1, Relaxed) == 0 {
            let _ = self.errands.send(Errand::Files);
        }
    }
}

impl SideStart {
    /// Starts the thread, which works for `methods` until the process ends.
    ///
    /// # Errors
    /// If the system refuses the thread or its runtime.
    pub(super) fn start(self, settings: SideSettings, methods: Shared<Methods>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(work(self.errands, settings, methods));
        thread::Builder::new().name("authentication".to_owned()).spawn(run)?;
        Ok(())
    }
}

async fn work(mut errands: UnboundedReceiver<Errand>, settings: SideSettings, methods: Shared<Methods>) {
    let SideSettings { mut files, mut roll, issuers, service } = settings;
    if let Some(roll) = &mut roll {
        let gone = roll.add(&methods.store.load());
        tell(UserChanges { gone, renewed: Vec::new() }, &methods);
    }
    let mut files_due = interval(FILES_EVERY);
    files_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The files were read at the start.
    files_due.reset();
    if let Some(issuers) = issuers {
        tokio::spawn(keep_keys(issuers, methods.clone()));
    }
    loop {
        tokio::select! {
            errand = errands.recv() => match errand {
                Some(Errand::Ask(case, body)) => {
                    let (methods, service) = (methods.clone(), service.clone());
                    tokio::spawn(async move { ask(*case, body, service, &methods).await });
                }
                Some(Errand::Files) => {
                    methods.side.open.files.store(0, Relaxed);
                    look(&mut files, roll.as_mut(), &methods);
                }
                None => return,
            },
            _ = files_due.tick() => {
                if let Some(roll) = &mut roll {
                    roll.forget(&methods.store.load());
                }
                look(&mut files, roll.as_mut(), &methods);
            }
        }
    }
}

/// Reads the files that have changed, and tells the shards which users have.
fn look(files: &mut Files, roll: Option<&mut Roll>, methods: &Methods) {
    let changes = files.poll(&methods.store);
    if let Some(roll) = roll {
        // Users that are gone are among the changes.
        roll.add(&methods.store.load());
    }
    tell(changes, methods);
}

fn tell(changes: UserChanges, methods: &Methods) {
    if !changes.is_empty() {
        let (gone, renewed) = (changes.gone.len(), changes.renewed.len());
        info!(gone, renewed, "users are gone or have new passwords; their clients are closed");
        methods.answers.tell_all(changes);
    }
}

/// Asks the service about a client. An error refuses it.
async fn ask(
    case: Case,
    body: Zeroizing<Vec<u8>>,
    service: Option<(String, Fetcher, Duration)>,
    methods: &Shared<Methods>,
) {
    let opinion = match service {
        Some((url, fetcher, time_out)) => match fetcher.post(&url, body, time_out).await {
            Ok(answer) => hook::opinion(&answer, &case, clock::unix_s()),
            Err(fault) => {
                warn!(%fault, client = ?case.client_id, "the service of authentication gave no answer; the client is refused");
                REFUSED
            }
        },
        None => REFUSED,
    };
    methods.side.open.questions.fetch_sub(1, Relaxed);
    methods.resume(case, opinion);
}

/// Fetches the keys of the issuers, again and again. A set that cannot be had stays as it is.
async fn keep_keys(issuers: Issuers, methods: Shared<Methods>) {
    loop {
        let mut all_came = true;
        for (number, url) in &issuers.urls {
            let fetched = issuers.fetcher.get(url, KEYS_TIME_OUT).await.map_err(|fault| fault.to_string());
            let parsed = fetched.and_then(|json| {
                KeySet::parse(&json, KeySetOrigin::Url, &issuers.algorithms)
                    .map_err(|fault| fault.to_string())
            });
            match parsed {
                Ok(keys) => {
                    info!(%url, count = keys.len(), "fetched the keys of an issuer");
                    methods.store.change(|snapshot| snapshot.key_sets[*number] = Shared::new(keys));
                }
                Err(reason) => {
                    all_came = false;
                    warn!(%url, %reason, "the keys of an issuer could not be fetched, and its last ones stay in force");
                }
            }
        }
        // Tokens of strangers name unknown keys as well, and must not make the broker ask without rest.
        sleep(KEYS_AGAIN).await;
        if all_came {
            tokio::select! {
                () = methods.side.open.keys.notified() => {}
                () = sleep(KEYS_EVERY) => {}
            }
        }
    }
}
