//! Several shards, tested by their clients: forwarding of messages, connection hand-over, and back pressure. Runs the
//! real binary on each I/O driver. A test counts as one of several shards only if the broker's counter shows that
//! messages were forwarded.
#![cfg(unix)]

#[path = "../harness/mod.rs"]
mod harness;

mod cluster;
mod crossing;
mod dealing;
mod homes;
mod pressure;
mod starting;

use harness::broker::Io;

/// Each scenario becomes one test for each driver: `uring::crossing::…`, `epoll::…`, `tokio::…` and `blocking::…`.
macro_rules! scenarios {
    ($($module:ident { $($name:ident,)+ })+) => {
        mod uring {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::$module::$name(crate::Io::Uring);
                }
            )+ })+
        }
        mod epoll {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::$module::$name(crate::Io::Epoll);
                }
            )+ })+
        }
        mod tokio {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::$module::$name(crate::Io::Tokio);
                }
            )+ })+
        }
        mod blocking {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::$module::$name(crate::Io::Blocking);
                }
            )+ })+
        }
    };
}

scenarios! {
    crossing {
        every_qos_is_forwarded_in_order_and_once,
        messages_too_large_for_a_block_are_forwarded_in_order,
        nothing_is_forwarded_without_a_remote_subscriber,
        retained_messages_are_found_from_every_shard,
        a_shared_subscription_spreads_over_all_shards,
        messages_of_a_departed_member_are_reassigned_to_another_shard,
        acknowledged_messages_are_forwarded_before_the_broker_stops,
    }
    homes {
        a_session_has_one_home_shard_regardless_of_the_accepting_shard,
        a_handed_over_connection_keeps_its_listener,
        packets_sent_right_after_connect_are_not_lost,
        a_client_with_an_assigned_identifier_stays_on_its_shard,
        a_stop_during_hand_overs_is_clean,
        the_connection_limit_is_exact_over_all_shards,
        the_number_of_shards_may_change_between_two_starts,
        ten_seconds_of_take_overs_leave_one_client_and_no_leak,
    }
    pressure {
        a_stalled_subscriber_does_not_slow_the_others,
        two_shards_that_flood_each_other_lose_nothing,
    }
}
