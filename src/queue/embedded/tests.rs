//! The embedded queue against the port's suite, and what only it promises: bounds, and time that goes backwards.

use std::sync::Arc;

use callboard_actors::ports::Queue;
use callboard_actors::ports::conformance::queue as suite;

use super::{Capacity, EmbeddedQueue};

fn roomy() -> Arc<dyn Queue> {
    Arc::new(EmbeddedQueue::new(Capacity::default()))
}

macro_rules! conforms {
    ($($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                suite::$name(roomy).await;
            }
        )*
    };
}

conforms! {
    an_empty_queue_has_nothing
    a_job_is_handed_out_when_it_is_due
    jobs_come_out_as_they_went_in
    no_more_than_asked_for
    older_runs_go_first
    a_function_holds_no_more_than_its_limit
    a_hot_function_starves_no_quiet_one
    a_blocked_function_blocks_no_other
    a_waiting_job_is_replaced
    an_unchanged_job_stays_as_it_is
    a_leased_job_is_replaced_when_its_lease_ends
    a_release_yields_to_the_new_version
    a_released_job_comes_back
    stale_epochs_are_ignored
    an_ended_run_is_forgotten
    a_leased_job_of_an_ended_run_goes_with_its_lease
    the_next_due_time
    a_blocked_job_is_not_due_next
    the_leases_of_a_run
    the_stats
    a_push_wakes
    an_earlier_job_wakes
    room_for_a_function_wakes
    a_job_that_comes_back_wakes
    news_is_kept
    concurrent_callers_share_the_work
}

#[test]
fn histories() {
    suite::histories(256, roomy);
}
