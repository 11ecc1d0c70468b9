//! A message and its bytes, in three shapes: borrowed within a step, stored beyond it, forwarded to another shard.

pub(crate) mod borrowed;
pub(crate) mod encode;
pub(crate) mod forwarded;
pub(crate) mod origin;
pub(crate) mod stored;
pub(crate) mod user_name;
