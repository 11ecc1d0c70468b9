//! The broker as its operator sees it: flags, files, signals, statistics, and every trouble told in one clear sentence.
//! Provokes each trouble for real; never reads the broker's state but through what an operator has.
#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;

mod authentication;
mod close_reasons;
mod configuration;
mod disconnect;
mod limits;
mod offers;
mod service_manager;
mod starting;
mod startup_errors;
mod statistics;
mod stopping;
mod sys_topics;
