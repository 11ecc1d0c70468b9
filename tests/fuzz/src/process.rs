//! The reading of the machine's memory, of which the configuration shows the default ceiling.

#[path = "../../../src/process/available_memory.rs"]
pub(crate) mod available_memory;
