//! The broker from the view of its clients: unmodified clients (rumqttc, both versions) and packets checked byte by
//! byte, over real sockets, against the real binary, on each backend and with more than one shard. With
//! `BROKER=ADDRESS:PORT` another broker is tested; scenarios of guarantees that only ours gives are then skipped, and
//! the skip is printed.

#[path = "../harness/mod.rs"]
mod harness;

mod delivery;
mod flow;
mod library_client;
mod lifetime;
mod limits;
mod malformed;
mod properties;
mod retained;
mod sessions;
mod wills;

use harness::broker::{Broker, Io, Setup, external};
use harness::machine::print_notice;

/// The requirement of a scenario on the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Requirements of the standards on every broker.
    Standard,
    /// Guarantees of our broker, or a broker that the test can stop and observe.
    Ours,
}

fn run(io: Io, shards: &str, needs: Needs, scenario: fn(&mut Broker)) {
    if needs == Needs::Ours && external().is_some() {
        print_notice("BROKER is set: a scenario that requires our own binary was skipped");
        return;
    }
    let mut broker = match external() {
        Some(_) => Broker::start(io),
        None => Broker::start_with(&Setup { io, flags: &["--shards", shards], ..Setup::default() }),
    };
    scenario(&mut broker);
    if broker.is_ours() {
        assert!(broker.process().is_running(), "the broker died");
        broker.stop();
    }
}

/// Each scenario becomes several tests: `uring::sessions::…`, `epoll::…`, `tokio::…` and `blocking::…` on one shard,
/// where a PINGRESP proves that all earlier packets were processed, and `two_shards::sessions::…`.
macro_rules! scenarios {
    ($($module:ident { $($needs:ident: $name:ident,)+ })+) => {
        mod uring {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::run(crate::Io::Uring, "1", crate::Needs::$needs, crate::$module::$name);
                }
            )+ })+
        }
        mod epoll {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::run(crate::Io::Epoll, "1", crate::Needs::$needs, crate::$module::$name);
                }
            )+ })+
        }
        mod tokio {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::run(crate::Io::Tokio, "1", crate::Needs::$needs, crate::$module::$name);
                }
            )+ })+
        }
        mod blocking {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::run(crate::Io::Blocking, "1", crate::Needs::$needs, crate::$module::$name);
                }
            )+ })+
        }
        mod two_shards {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::run(crate::Io::Auto, "2", crate::Needs::$needs, crate::$module::$name);
                }
            )+ })+
        }
    };
}

scenarios! {
    delivery {
        Standard: every_qos_arrives_at_the_lower_of_both,
        Standard: hundreds_in_flight_arrive_once_and_in_order,
        Standard: wildcards_match_as_the_standard_defines,
        Standard: a_mebibyte_arrives_unharmed,
        Standard: shared_subscriptions_spread_evenly,
        Standard: unsubscribed_filters_are_silent,
        Standard: overlapping_subscriptions_deliver_at_the_highest_qos,
        Standard: mqtt_3_1_clients_are_served,
        Standard: packets_may_come_in_one_piece_or_byte_by_byte,
        Ours: a_stalled_reader_does_not_hold_up_the_others,
    }
    retained {
        Standard: retained_messages_are_set_replaced_and_cleared,
        Standard: retained_messages_match_wildcards,
        Standard: retain_handling_decides_what_a_subscription_sends,
        Standard: retain_as_published_keeps_the_flag,
    }
    sessions {
        Standard: an_offline_queue_arrives_in_order,
        Standard: a_clean_start_forgets_the_session,
        Standard: a_session_without_expiry_ends_with_its_connection,
        Standard: a_session_ends_when_its_expiry_has_passed,
        Standard: disconnect_may_change_the_expiry,
        Standard: a_newcomer_takes_the_session_over,
        Standard: unacknowledged_messages_are_sent_again,
        Standard: publishing_at_qos_2_survives_a_reconnect_exactly_once,
        Standard: receiving_at_qos_2_survives_a_reconnect_exactly_once,
        Ours: subscriptions_survive_a_restart,
    }
    wills {
        Standard: a_will_follows_an_abnormal_end_only,
        Standard: a_retained_will_is_retained,
        Standard: disconnect_with_will_sends_the_will,
        Standard: a_delayed_will_waits,
        Standard: a_return_within_the_delay_cancels_the_will,
        Standard: the_end_of_the_session_sends_a_delayed_will,
        Standard: a_take_over_is_an_abnormal_end,
    }
    properties {
        Standard: forwarded_properties_arrive_unaltered,
        Standard: message_expiry_counts_down_and_expires,
        Standard: topic_aliases_of_the_client_are_resolved,
        Standard: topic_aliases_of_the_broker_stay_within_the_maximum,
        Standard: subscription_identifiers_name_every_match,
        Standard: no_local_keeps_own_messages_away,
        Standard: an_empty_client_identifier_is_assigned,
    }
    flow {
        Standard: the_receive_maximum_of_the_client_is_honoured,
        Standard: an_older_client_gets_more_than_twenty_in_flight,
        Ours: more_than_the_receive_maximum_is_refused,
        Standard: a_qos_2_duplicate_is_not_delivered_again,
        Ours: acknowledgements_of_nothing_do_no_harm,
    }
    limits {
        Ours: a_packet_over_the_limit_is_refused_from_its_header,
        Standard: a_packet_too_large_for_the_client_is_not_sent_to_it,
        Ours: a_topic_alias_over_the_maximum_is_refused,
        Ours: connection_slots_come_back,
    }
    lifetime {
        Standard: a_silent_client_is_ended_and_a_pinging_one_is_not,
        Standard: keep_alive_zero_never_ends,
        Ours: a_silent_connection_is_closed,
    }
    malformed {
        Ours: malformed_packets_end_the_connection_with_their_reason,
        Standard: an_unknown_protocol_is_answered_or_closed,
        Standard: a_packet_before_connect_closes,
        Standard: a_second_connect_closes,
        Ours: damaged_streams_do_not_affect_other_clients,
    }
}
