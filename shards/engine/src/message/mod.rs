//! A message and its bytes, for as long as somebody holds it.

pub(crate) mod stored;
