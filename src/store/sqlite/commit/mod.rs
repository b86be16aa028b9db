//! One transaction for many writes.
//!
//! A batch is cut into segments of writes that have nothing to do with each other ([`batch::split`]); nearly always there is
//! one. A segment takes two trips to SQLite: the [`claims`] of all its writes, then, for those that won, the [`effects`].
//! Before them comes a third one if there are rate limits, locks or [gatherings] to [decide upon](starts). Each trip handles all rows of
//! a kind with one statement.
//!
//! At first the claims are only counted. Nearly always all of them win; else the transaction is rolled back and begun
//! again with claims that answer who won. A write that lost its claim must not keep what else it claimed (the runs of
//! an event that was known, say): then the transaction begins once more without that write.
//!
//! Promises: the outcome is that of executing the writes one after another, but that an event may be reported as unrouted
//! although the wait that it might have met is gone; all of a batch is written, or, after an error, nothing.

mod claims;
mod effects;
pub(super) mod gatherings;
mod starts;

use std::ops::Range;

use callboard_actors::domain::{Write, Written};
use callboard_actors::ports::StoreError;

use self::claims::Verdict;
use super::super::batch::{self, Folded, Joins, Outcome, Starts};
use super::writer::{Session, Writer};

/// See [`callboard_actors::ports::Store::commit`].
pub(super) async fn commit(writer: &Writer, revision: u64, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = writer.session().await?;
    let mut commit = Commit {
        batch,
        segments: batch::split(batch),
        folded: batch.iter().map(Folded::of).collect(),
        // What was matched against an older catalog has lost from the beginning.
        lost: batch.iter().map(|write| is_outdated(write, revision)).collect(),
        in_detail: false,
    };
    loop {
        if let Some(mut written) = commit.attempt(&mut session).await? {
            for (written, write) in written.iter_mut().zip(batch) {
                if is_outdated(write, revision) {
                    *written = Written::Outdated;
                }
            }
            return Ok(written);
        }
        session.rollback().await;
    }
}

/// Whether a write was matched against a catalog older than this revision.
fn is_outdated(write: &Write, revision: u64) -> bool {
    let matched = match write {
        Write::Accept(accept) => accept.catalog,
        Write::Route(route) => route.catalog,
        Write::Fire(fire) => fire.catalog,
        Write::Advance(_) => None,
    };
    matched.is_some_and(|matched| matched < revision)
}

/// What is known of a batch while it is being committed.
struct Commit<'a> {
    batch: &'a [Write],
    segments: Vec<Range<usize>>,
    folded: Vec<Option<Folded<'a>>>,
    /// Writes that are known to lose, from earlier attempts.
    lost: Vec<bool>,
    /// Whether claims answer who won.
    in_detail: bool,
}

/// What the claims of a segment came to.
#[derive(Default)]
struct Claimed {
    outcome: Outcome,
    /// What came of rate limits and locks.
    starts: Starts,
    /// What came of events that join gatherings.
    joins: Joins,
}

impl Commit<'_> {
    /// Tries to get the whole batch through; `None` if another attempt knows more.
    async fn attempt(&mut self, session: &mut Session<'_>) -> Result<Option<Vec<Written>>, StoreError> {
        let mut written = Vec::with_capacity(self.batch.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let first = index == 0;
            let last = index + 1 == self.segments.len();
            let starts = starts::run(session, self, segment.clone(), first).await?;
            let first = first && starts.is_none();
            let verdict = claims::run(session, self, segment.clone(), first, starts.unwrap_or_default()).await?;
            let mut claimed = match verdict {
                Verdict::Clear(claimed) => claimed,
                Verdict::Unclear => {
                    self.in_detail = true;
                    return Ok(None);
                }
                Verdict::Lost { writes, kept, claimed } => {
                    for write in writes {
                        self.lost[write] = true;
                    }
                    if kept {
                        return Ok(None);
                    }
                    claimed
                }
            };
            written.extend(effects::run(session, self, segment.clone(), &mut claimed, last).await?);
        }
        Ok(Some(written))
    }

    /// The writes of a segment that have not lost, with what their changes amount to.
    fn alive(&self, segment: Range<usize>) -> impl Iterator<Item = (usize, &Write, Option<&Folded<'_>>)> {
        segment
            .filter(|&index| !self.lost[index])
            .map(|index| (index, &self.batch[index], self.folded[index].as_ref()))
    }
}

/// All statements by name, for a look at their plans.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_claims = claims::STATEMENTS.into_iter().chain(starts::STATEMENTS);
    of_claims.chain(effects::STATEMENTS).chain(gatherings::STATEMENTS)
}
