//! Several shards from the view of their clients: forwarding, homes, distribution and back-pressure, with the real
//! binary and each I/O driver. A test counts as one of several shards only if the counters of the broker show
//! forwarded messages.
#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/scenarios.rs"]
#[macro_use]
mod scenarios;

mod cluster;
mod distribution;
mod forwarding;
mod homes;
mod pressure;
mod rivals;
mod starting;

scenarios! {
    [uring: Uring, epoll: Epoll, tokio: Tokio, blocking: Blocking]
    forwarding {
        every_qos_is_forwarded_in_order_and_once,
        an_oversized_message_is_forwarded_in_order,
        nothing_is_forwarded_without_a_remote_subscriber,
        retained_messages_are_found_from_every_shard,
        a_shared_subscription_spreads_over_all_shards,
        the_queue_of_a_departed_group_member_is_reassigned_to_another_shard,
        acknowledged_messages_are_forwarded_before_the_end,
    }
    homes {
        a_session_lives_on_one_shard_whichever_accepts_the_connection,
        a_connection_that_is_handed_over_remembers_its_listener,
        packets_right_behind_connect_are_not_lost,
        an_assigned_client_stays_where_it_was_accepted,
        a_stop_amid_hand_overs_is_clean,
        the_limit_of_connections_is_exact_over_all_shards,
        the_number_of_shards_may_change_between_two_starts,
        ten_seconds_of_take_overs_leave_one_client_and_no_trace,
    }
    rivals {
        the_newer_of_two_connections_stays,
    }
    pressure {
        a_stalled_subscriber_does_not_slow_the_others,
        two_shards_that_flood_each_other_lose_nothing,
    }
}
