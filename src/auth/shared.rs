//! The two ways in which shards and the threads of authentication share state. A CONNECT may count references and take a lock; a
//! message never does, because nothing here is on its way.

/// State that shards, threads of hashes and the side thread refer to.
#[expect(clippy::disallowed_types, reason = "all judge by the same methods, users and keys")]
pub(super) type Shared<T> = std::sync::Arc<T>;

/// State that they change. No thread waits long: a lock is held for a look-up or an insertion.
#[expect(clippy::disallowed_types, reason = "one queue of slow hashes, and one memory of judged passwords")]
pub(super) type Locked<T> = std::sync::Mutex<T>;
