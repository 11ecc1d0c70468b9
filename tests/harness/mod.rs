//! What every suite needs to judge the broker from outside: a process that is started, watched and stopped, and a peer that
//! speaks MQTT byte by byte.
//! Knows no crate of the broker: its codec is its own, so that a mistake of the broker's codec is not made twice.

#![allow(dead_code, reason = "every suite includes this folder and none of them needs all of it")]

pub(crate) mod broker;
pub(crate) mod machine;
pub(crate) mod packet;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod received;
pub(crate) mod time;
