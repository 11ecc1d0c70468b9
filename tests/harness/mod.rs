//! The tools of every suite that tests the broker from outside: a process that is started, watched and stopped, and a
//! peer that exchanges MQTT byte by byte. Uses no crate of the broker. The harness has its own codec, so that an error in
//! the broker's codec is not repeated here.

#![allow(dead_code, reason = "every suite includes this folder and none of them uses all of it")]

pub(crate) mod broker;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod packet;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod received;
pub(crate) mod time;
pub(crate) mod websocket;
