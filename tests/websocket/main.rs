//! MQTT over WebSocket and behind a proxy, from the view of clients and with each I/O driver that has layers: the real binary, a
//! client's half of both protocols of our own, and the broker's log.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/scenarios.rs"]
#[macro_use]
mod scenarios;

mod mqtt;
mod opening;
mod proxy;
mod starting;

scenarios! {
    [uring: Uring, epoll: Epoll, tokio: Tokio]
    mqtt {
        mqtt_6_0_0_1_packets_are_in_binary_frames_and_text_closes,
        mqtt_6_0_0_2_packets_and_frames_need_not_align,
        a_ping_is_answered_and_a_close_with_its_code,
        a_violation_closes_with_its_code_after_what_came_before_it,
        the_brokers_farewell_is_disconnect_then_close,
        a_slow_reader_gets_whole_frames,
        clients_reach_their_sessions_on_every_shard,
    }
    opening {
        mqtt_6_0_0_4_the_subprotocol_is_mqtt,
        a_request_that_is_not_granted_is_told_why,
        pages_of_listed_origins_connect,
        a_request_in_pieces_is_granted,
    }
    proxy {
        a_trusted_proxy_names_the_client,
        without_a_header_the_connection_is_closed,
        a_stranger_is_closed_whatever_it_sends,
        the_forwarded_address_counts_from_trusted_proxies,
        identifiers_of_one_address_share_their_bursts,
        a_certificate_that_the_proxy_has_verified_names_the_user,
    }
}
