//! The broker from the view of its operator: flags, files, signals, statistics, and every startup error as one clear
//! sentence. Each error is really provoked, and the state of the broker is observed only by means that an operator
//! has.
#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;

mod addresses;
mod api;
mod asking;
mod asking_about_topics;
mod authentication;
mod bans;
mod close_reasons;
mod configuration;
mod connection_log;
mod data_directory;
mod disconnect;
mod draining;
mod environment;
mod features;
mod hang_up;
mod identities;
mod importing;
mod limits;
mod listeners;
mod logs;
mod metrics;
mod open_files;
mod operators;
mod page;
mod rates;
mod reason_strings;
mod reloading;
mod restarting;
mod rules;
mod service_manager;
mod starting;
mod startup_errors;
mod statistics;
mod stopping;
mod sys_topics;
mod tracing;
mod upgrading;
mod users;
