//! TLS from the view of its clients, with the real binary on each driver that has it: messages through a tunnel of rustls, and
//! handshakes that the tests drive byte by byte.
#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/scenarios.rs"]
#[macro_use]
mod scenarios;

mod authority;
mod broker;
mod certificates;
mod client;
mod delivery;
mod files;
mod handshakes;
mod idle;
mod importing;
mod operations;
mod tunnel;
mod walk;

scenarios! {
    [uring: Uring, epoll: Epoll, tokio: Tokio]
    delivery {
        many_small_messages_and_few_large_ones_arrive_in_order,
        messages_cross_shards_in_both_directions,
        a_slow_reader_gets_every_message,
        a_client_learns_the_end_by_a_farewell,
    }
    handshakes {
        connect_in_the_flight_of_the_handshakes_end_reaches_its_shard,
        bytes_that_come_one_by_one_are_understood,
        peers_that_break_the_rules_are_refused_with_a_reason,
        silent_peers_keep_nobody_from_connecting,
        half_handshakes_share_a_bound,
        many_handshakes_at_once_all_succeed,
        handshakes_are_counted_by_their_results,
    }
    idle {
        an_idle_connection_takes_little_more_than_a_plain_one,
    }
}
