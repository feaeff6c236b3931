//! What every broker promises, asked of each of them: the embedded one, one Redis, a Redis
//! Cluster, and a master under sentinels. The servers are real and end with the last test that
//! uses them.

mod cases;
mod node;
mod world;

use cases::{
    connections, content, doors, gaps, guests, history, interest, once, outages, positions,
    presence, queue, shared, snapshots, terms,
};
use world::{Alone, Cluster, Memory, Redis, Sentinel, World};

/// Makes each case a test of each world.
macro_rules! each {
    ($begin:ident: $($world:ident $module:ident),+ => $cases:tt) => {
        $(mod $module {
            use super::*;
            each!(@ $begin $world $cases);
        })+
    };
    (@ $begin:ident $world:ident { $($group:ident: $($case:ident),+;)+ }) => {
        $($(
            #[tokio::test]
            async fn $case() -> anyhow::Result<()> {
                $group::$case($world::$begin(Default::default()).await?).await
            }
        )+)+
    };
}

// What a node promises on its own.
each!(begin: Memory memory, Redis redis, Cluster cluster, Sentinel sentinel => {
    positions:
        they_start_at_one_and_have_no_gaps,
        each_stream_has_its_own,
        many_publishers_get_one_order,
        a_subscription_knows_where_it_starts,
        a_subscription_in_the_midst_misses_nothing,
        transient_publications_have_none,
        many_streams_are_kept_apart;
    content:
        odd_names_are_names,
        odd_payloads_come_as_they_went,
        a_large_payload_comes_whole,
        what_was_asked_for_comes_along;
    history:
        it_is_read_after_a_position,
        it_is_read_from_a_second_on,
        a_position_that_means_nothing_is_refused,
        it_has_what_was_delivered,
        times_grow_and_are_those_of_deliveries,
        it_is_limited,
        it_expires_and_positions_go_on,
        an_idle_stream_comes_back_in_a_new_epoch,
        a_long_one_comes_whole;
    interest:
        each_subscribe_takes_an_unsubscribe,
        a_subscribe_that_was_given_up_counts_too,
        what_nobody_listens_to_is_kept_all_the_same;
    queue:
        the_first_in_is_the_first_out,
        each_goes_to_one_of_many_readers,
        what_comes_back_is_the_first_again,
        a_lease_ends,
        groups_do_not_disturb_each_other,
        a_backlog_is_counted,
        an_unknown_stream_has_nothing,
        another_epoch_is_ignored;
    terms:
        without_room_only_a_waiting_reader_gets_one,
        a_reader_that_is_gone_is_no_room,
        there_is_as_much_room_as_was_said,
        a_publication_says_how_much_is_kept,
        what_is_over_the_bound_is_dropped,
        what_is_no_longer_kept_is_dropped,
        an_idle_group_is_passed_over,
        a_group_that_reads_is_not_idle,
        there_is_no_too_much_and_no_too_long;
    once:
        what_was_read_is_gone,
        what_was_trimmed_is_told_behind_what_was_read,
        each_is_claimed_once,
        a_claim_ends,
        what_is_claimed_is_not_taken,
        holes_do_not_count,
        of_many_readers_one_gets_it;
    presence:
        coming_and_going_is_told_once_to_everybody,
        the_present_are_sorted_and_each_stream_has_its_own,
        strange_ids_are_ids,
        who_is_not_touched_is_gone,
        who_is_touched_stays;
    snapshots:
        a_snapshot_is_found_by_every_node,
        a_snapshot_is_forgotten,
        of_several_takers_one_gets_a_snapshot,
        nodes_hear_each_other;
});

// What nodes promise each other.
each!(begin: Redis redis_shared, Cluster cluster_shared, Sentinel sentinel_shared => {
    shared:
        what_enters_at_one_comes_at_all_in_one_order,
        a_node_that_listens_to_nothing_hears_nothing,
        a_disconnect_reaches_everybody,
        history_is_the_same_everywhere,
        transient_publications_reach_everybody,
        a_stream_that_was_left_is_listened_to_for_a_while,
        a_stream_that_comes_back_goes_on_where_it_is;
});

// What survives when servers go away.
each!(alone: Redis redis_alone, Cluster cluster_alone, Sentinel sentinel_alone => {
    outages:
        positions_go_on_after_an_outage,
        a_subscription_waits_for_the_end_of_an_outage,
        what_others_published_meanwhile_is_repaired;
    guests:
        reports_are_seen_until_they_are_taken_back,
        streams_are_found_on_all_servers,
        what_a_guest_publishes_arrives;
    doors:
        any_client_publishes_with_fcall,
        what_enters_by_any_door_is_taken,
        fcall_refuses_what_it_does_not_understand,
        entries_become_publications_in_their_order,
        a_batch_in_an_entry_is_published_in_its_order,
        what_a_dead_node_read_is_published_once,
        what_came_too_late_to_a_dead_node_is_not_lost,
        poison_is_set_aside,
        a_plain_publish_is_delivered_live;
});

// What takes a way to Redis that can be closed, which cluster and sentinels know nothing of.
each!(alone: Redis redis_gate => {
    gaps:
        what_was_missed_is_repaired,
        what_was_missed_and_is_gone_is_told,
        a_silent_connection_is_noticed,
        a_connection_that_redis_ends_is_made_again,
        without_redis_a_publication_is_refused_at_once;
});

#[tokio::test]
async fn a_redis_that_forgot_everything_begins_new_epochs() -> anyhow::Result<()> {
    connections::a_redis_that_forgot_everything_begins_new_epochs().await
}

#[tokio::test]
async fn a_password_and_a_user_are_told() -> anyhow::Result<()> {
    Box::pin(connections::a_password_and_a_user_are_told()).await
}

#[tokio::test]
async fn a_user_needs_no_more_than_the_manual_says() -> anyhow::Result<()> {
    Box::pin(connections::a_user_needs_no_more_than_the_manual_says()).await
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() -> anyhow::Result<()> {
    connections::tls_is_verified_unless_told_otherwise().await
}

#[tokio::test]
async fn a_client_certificate_is_shown() -> anyhow::Result<()> {
    connections::a_client_certificate_is_shown().await
}

#[tokio::test]
async fn a_slot_that_moves_loses_nothing() -> anyhow::Result<()> {
    let world = Cluster::alone(world::Limits::default()).await?;
    Box::pin(outages::a_slot_that_moves_loses_nothing(world)).await
}
