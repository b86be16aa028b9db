//! Which job gives way when the queue is full, and when there is room again. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use callboard_actors::domain::Timestamp;

use super::partition::{JobSlot, Partition, Rank};

/// A new job that is due within this counts as ready. Time stands still between two leases, and what a run does next
/// is pushed between two leases and due at once: it must not lose its place to runs that have not even begun.
const IMMINENT: Duration = Duration::from_secs(1);

/// Down to how many jobs a full line must have shrunk before it is worth loading more from the store.
pub(super) fn enough(capacity: usize) -> usize {
    capacity - capacity.div_ceil(4)
}

/// The job that is needed later than the new one, of `rank`: the delayed job that is due last, if later; else the end
/// of the longest line, for a job that is ready. `None` if the new one is needed last.
///
/// `delayed` are the jobs that may give way before they are due; `longest` the partition with most ready jobs, where
/// the lack is one of room in total; `own` the partition of the new job, if it has one.
pub(super) fn needed_last(
    delayed: &BTreeSet<(Timestamp, JobSlot)>,
    longest: Option<&Partition>,
    own: Option<&Partition>,
    rank: &Rank,
    now: Timestamp,
) -> Option<JobSlot> {
    if let Some((due, slot)) = delayed.last()
        && *due > rank.due()
    {
        return Some(*slot);
    }
    if rank.due() > now.after(IMMINENT) {
        return None;
    }
    // Lines are served in turns, so the end of a line that is longer by two is needed later than the end of this one
    // with the new job.
    let length = own.map_or(0, Partition::ready_len);
    if let Some(longest) = longest
        && longest.ready_len() > length + 1
    {
        return longest.last().map(|(_, slot)| slot);
    }
    let (last, slot) = own?.last()?;
    (rank < last).then_some(slot)
}
