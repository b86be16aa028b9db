//! What every [`Store`](crate::ports::Store) must do, sentence by sentence; `reload` compares random histories of a run
//! with what is read back.
//!
//! Each function takes an empty store. [`store_conformance!`](crate::store_conformance) makes a test of each, so that none
//! is forgotten. Nothing here knows how a store is built or what it is built on.

mod accepting;
mod advancing;
mod api_keys;
mod audits;
mod batches;
mod catalog;
mod connections;
mod crons;
mod deferrals;
mod fixtures;
mod gates;
mod gatherings;
mod letters;
mod lists;
mod metadata;
mod nodes;
mod operations;
mod overrides;
mod reload;
mod retention;
mod routing;
mod run_slots;
mod searches;
mod spans;
mod starts;
mod texts;
mod waiting;

pub use accepting::*;
pub use advancing::*;
pub use api_keys::*;
pub use audits::*;
pub use batches::*;
pub use catalog::*;
pub use connections::*;
pub use crons::*;
pub use deferrals::*;
pub use gates::*;
pub use gatherings::*;
pub use letters::*;
pub use lists::*;
pub use metadata::*;
pub use nodes::*;
pub use operations::*;
pub use overrides::*;
pub use reload::*;
pub use retention::*;
pub use routing::*;
pub use run_slots::*;
pub use searches::*;
pub use spans::*;
pub use starts::*;
pub use texts::*;
pub use waiting::*;

/// Makes a test of each function of the suite. `$fresh` is an async function without arguments that answers an empty
/// store as `(Arc<dyn Store>, guard)`; the guard is kept until the test is over. Within tokio.
#[macro_export]
macro_rules! store_conformance {
    ($fresh:path) => {
        $crate::store_conformance! { @tests $fresh:
            an_accepted_event_is_there_with_its_run
            a_known_event_is_lost_and_changes_nothing
            what_a_lost_event_claimed_is_free
            a_known_run_is_left_out
            an_idempotency_key_is_taken_for_a_day
            an_idempotency_key_counts_within_a_batch
            skips_are_recorded
            a_deadline_comes_with_its_run_and_keeps_it_from_no_rescue
            rate_limits_are_exact_however_writes_are_batched
            hundreds_of_claims_of_one_bucket_fit_one_batch
            what_is_not_new_spends_nothing
            a_refused_invoke_is_told
            an_invoke_that_finds_the_lock_held_is_told
            rate_limits_are_forgotten
            a_lock_is_held_until_its_run_ends
            a_lock_that_is_taken_cancels_its_holder
            a_batch_takes_a_lock_from_hand_to_hand
            a_lock_given_up_in_a_batch_is_free_in_it
            a_repetition_comes_back_whole
            locks_are_exact_however_writes_are_batched
            an_event_that_may_meet_a_wait_is_unrouted
            an_event_is_routed_once
            taking_a_wait_leaves_a_job
            a_wait_is_taken_once
            emitted_events_are_stored_and_unrouted_if_meant_for_somebody
            a_stale_decision_changes_nothing
            decisions_bring_the_run_forward
            changes_happen_in_order
            a_recorded_result_never_changes
            the_end_takes_jobs_and_waits_along
            history_keeps_its_order
            what_is_buried_holds_its_run
            a_job_buried_again_has_a_new_letter
            the_end_takes_letters_along
            letters_are_listed_from_new_to_old
            an_empty_batch_is_nothing
            a_batch_is_as_good_as_its_writes_one_by_one
            the_same_event_twice_in_a_batch
            a_run_moves_twice_in_a_batch
            a_run_is_created_and_moves_in_a_batch
            a_wait_set_earlier_in_the_batch_counts
            a_lost_write_does_not_hold_up_the_others
            large_batches
            waits_are_found_by_lookup
            waits_are_paged
            paths_are_distinct
            a_signal_has_one_waiter
            a_signal_is_taken_over_before_it_is_taken
            jobs_come_by_due_time
            jobs_of_some_functions_are_left_out
            calls_of_some_functions_are_left_out
            events_come_in_the_order_asked
            events_of_a_name_come_from_old_to_new
            events_are_listed_from_new_to_old
            runs_are_listed_from_new_to_old
            an_event_is_shown_with_what_became_of_it
            a_run_is_shown_with_all_of_it
            runs_are_found_by_any_of_their_times
            runs_are_found_page_by_page_in_any_order
            deferred_runs_are_found
            events_are_found_by_names_and_places
            the_runs_of_several_events_come_at_once
            runs_without_a_job_are_found
            an_empty_store_has_nothing
            texts_come_back_as_they_went_in
            large_texts_come_back_as_they_went_in
            apps_are_synced
            an_unchanged_app_is_not_modified
            a_failed_sync_makes_the_next_one_count
            functions_left_out_are_archived
            functions_may_be_added_one_by_one
            a_breaker_is_switched_for_an_app
            a_removed_app_keeps_its_functions
            a_mode_outlasts_registrations
            open_runs_are_counted_by_function
            old_runs_and_events_are_purged
            failed_runs_expire_apart
            nothing_open_is_purged
            loading_gives_what_applying_gives
            gates_are_kept_with_the_run
            a_run_waits_until_another_has_ended
            slots_are_shared_by_bucket
            who_waits_for_a_slot_has_a_place
            numbers_of_slots_count_at_once
            a_run_that_has_ended_needs_no_slot
            many_may_wait_for_a_slot
            slots_are_taken_by_many_at_once
            overrides_are_part_of_the_catalog
            deferrals_outlive_the_end_and_go_with_their_run
            a_lost_decision_puts_nothing_off
            metadata_is_folded_from_both_sources
            metadata_goes_with_its_run
            connections_are_kept_as_they_are
            keys_are_kept_as_they_are
            a_key_is_revoked_once
            the_last_use_of_a_key_is_noted
            old_keys_are_forgotten
            spans_are_kept_with_their_run
            spans_of_a_run_are_bounded
            operations_are_kept_as_they_are
            runs_are_counted_up_to_a_limit
            the_newest_repetition_is_found
            nodes_come_and_go
            silent_nodes_are_forgotten
            a_turn_is_one_nodes
            a_beat_brings_the_revision
            what_was_matched_against_an_older_catalog_is_outdated
            an_unchanged_app_makes_nothing_outdated
            marks_are_replaced
            gaps_are_found_by_time
            ticks_are_shown_with_their_runs
            notes_of_old_slots_are_purged
            joins_are_exact_however_writes_are_batched
            hundreds_of_joins_fit_one_batch
            an_event_is_gathered_once
            what_is_lost_joins_nothing
            what_a_debounce_does_not_start_with_is_recorded
            an_awaited_event_stays_in_a_debounce
            a_gathering_fires_once
            what_gathers_by_an_older_catalog_is_outdated
            a_fired_run_may_be_a_duplicate
            a_rate_limit_keeps_events_from_joining
            due_gatherings_come_in_portions
            what_is_gathered_is_not_purged
            stray_gatherings_are_found
            a_healthy_history_gives_no_finding
            each_check_finds_what_is_planted
            what_is_overdue_is_found_and_what_is_not_is_not
            what_operators_do_is_no_finding
            checks_look_at_so_many_rows_only
        }
    };
    (@tests $fresh:path: $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (store, _guard) = $fresh().await;
                $crate::ports::conformance::store::$name(store).await;
            }
        )*
    };
}
