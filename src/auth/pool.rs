//! The threads that compute slow hashes, and the queue in front of them.
//! A wrong password costs as much as the costliest hash of the file, and so does a user who does not exist: the time of an answer does
//! not tell who exists.

use std::io;
use std::sync::Condvar;
use std::thread;

use super::methods::{Case, Methods, Opinion, REFUSED};
use super::password::fair_queue::{FairQueue, PeerGroup};
use super::password::remembered::Recollection;
use super::password::{HashMemory, StoredHash};
use super::shared::{Locked, Shared};
use crate::process::held_bytes::AUTHENTICATION;

/// A client whose password is to be compared with a stored hash.
pub(super) struct HashJob {
    pub(super) case: Case,
    pub(super) work: HashWork,
}

/// The comparison.
pub(super) struct HashWork {
    /// The hash of the user; `None` for a user who does not exist.
    pub(super) stored: Option<StoredHash>,
    /// The costliest hash of the file.
    pub(super) costliest: StoredHash,
    /// The key under which the judgement is remembered.
    pub(super) recollection: Recollection,
}

/// The queue of the pool. **Lives on:** any thread.
pub(super) struct HashPool {
    queue: Locked<FairQueue<HashJob>>,
    has_jobs: Condvar,
}

impl HashPool {
    /// A pool whose queue has room for `jobs_max` jobs.
    pub(super) fn new(jobs_max: usize) -> Self {
        Self { queue: Locked::new(FairQueue::new(jobs_max)), has_jobs: Condvar::new() }
    }

    /// Starts `count` threads that work for `methods`, until the process ends.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(count: u16, methods: &Shared<Methods>) -> io::Result<()> {
        for _ in 0..count {
            let methods = methods.clone();
            thread::Builder::new().name("passwords".to_owned()).spawn(move || work(&methods))?;
        }
        Ok(())
    }

    /// Adds a job. If the queue is full, the one that leaves comes back.
    pub(super) fn push(&self, job: HashJob) -> Option<HashJob> {
        let group = PeerGroup::of(job.case.peer.map(|peer| peer.ip()));
        let evicted = self.queue.lock().expect("no thread panics while it holds the lock").push(group, job);
        self.has_jobs.notify_one();
        evicted
    }

    /// The next job, once there is one.
    fn pop(&self) -> HashJob {
        let mut queue = self.queue.lock().expect("no thread panics while it holds the lock");
        loop {
            match queue.pop() {
                Some(job) => return job,
                None => queue = self.has_jobs.wait(queue).expect("no thread panics while it holds the lock"),
            }
        }
    }
}

fn pool(methods: &Methods) -> &HashPool {
    &methods.password.as_ref().expect("only passwords have threads").pool
}

fn work(methods: &Shared<Methods>) {
    let mut memory = HashMemory::default();
    let mut held = AUTHENTICATION.hold(0);
    loop {
        let HashJob { case, work: HashWork { stored, costliest, recollection } } = pool(methods).pop();
        if methods.is_abandoned(&case) {
            continue;
        }
        let is_right = {
            let password = case.password.as_ref().map_or(&[][..], |password| password.as_slice());
            let is_right = stored.as_ref().is_some_and(|stored| stored.verify(password, &mut memory));
            if !is_right && stored.as_ref() != Some(&costliest) {
                let _ = costliest.verify(password, &mut memory);
            }
            is_right
        };
        held.resize(memory.bytes());
        methods.remember(recollection, is_right);
        let opinion = match (&stored, is_right) {
            (Some(_), true) => Opinion::Allow(case.listed_identity()),
            (Some(_), false) => REFUSED,
            (None, _) => Opinion::Next,
        };
        methods.resume_compared(case, stored.as_ref(), opinion);
    }
}
