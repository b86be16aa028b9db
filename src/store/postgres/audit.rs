//! Whether the promises hold in this database.
//!
//! One statement per check, each answering a line for whatever it finds, all in one read-only transaction: a look at a
//! single moment. What a statement walks through is bounded by its first parameter in the innermost select, so that a large
//! database takes no longer than a small one; everything else is looked up by key, and `LATERAL` with an aggregate or an
//! `OFFSET` leaves the planner no other way.

use callboard_actors::ports::{AuditScope, Check, Finding, SAMPLES, StoreError};

use super::readers::{Readers, Session};
use super::rows::get_text;
use crate::store::paging::sql_limit;

/// The statement of a check. Parameters: 1 the rows to look at and, where it is used, 2 the time before which
/// something is overdue.
pub(super) const fn statement(check: Check) -> &'static str {
    match check {
        Check::StuckEvent => {
            "SELECT callboard.ulid(event_id)
             FROM (SELECT event_id FROM callboard.unrouted ORDER BY event_id LIMIT $1) AS waiting
             WHERE (SELECT received_at FROM callboard.events WHERE id = event_id) < $2"
        }
        Check::UnroutableEvent => {
            "SELECT callboard.ulid(event_id)
             FROM (SELECT event_id FROM callboard.unrouted ORDER BY event_id LIMIT $1) AS waiting
             WHERE NOT EXISTS (SELECT 1 FROM callboard.events WHERE events.id = waiting.event_id OFFSET 0)"
        }
        Check::DoubledRun => {
            "SELECT callboard.ulid(event_id) || ' ' || function_id::text
             FROM (SELECT event_id, function_id, original_id FROM callboard.runs ORDER BY id DESC LIMIT $1) AS recent
             WHERE original_id IS NULL GROUP BY event_id, function_id HAVING count(*) > 1"
        }
        Check::CauselessRun => {
            "SELECT callboard.ulid(recent.id) FROM (SELECT id, event_id FROM callboard.runs ORDER BY id DESC LIMIT $1) AS recent
             WHERE NOT EXISTS (SELECT 1 FROM callboard.events WHERE events.id = recent.event_id OFFSET 0)"
        }
        Check::RepeatedResult => {
            "SELECT callboard.ulid(id) || ' ' || step_id
             FROM (SELECT id FROM callboard.runs ORDER BY id DESC LIMIT $1) AS recent
             CROSS JOIN LATERAL (SELECT step_id FROM callboard.history WHERE run_id = recent.id
                 AND kind IN ('step.completed', 'step.failed') AND step_id IS NOT NULL
                 GROUP BY step_id HAVING count(*) > 1) AS repeated"
        }
        Check::LostResult => {
            "SELECT callboard.ulid(id) || ' ' || step_id
             FROM (SELECT id FROM callboard.runs ORDER BY id DESC LIMIT $1) AS recent
             CROSS JOIN LATERAL (SELECT step_id FROM callboard.steps WHERE run_id = recent.id
                 AND position IS NOT NULL AND (memo IS NULL OR ended_at IS NULL) OFFSET 0) AS lost"
        }
        Check::BrokenStack => {
            "SELECT callboard.ulid(id) FROM (SELECT id FROM callboard.runs ORDER BY id DESC LIMIT $1) AS recent
             CROSS JOIN LATERAL (SELECT FROM callboard.steps WHERE run_id = recent.id AND position IS NOT NULL
                 HAVING count(DISTINCT position) <> count(*) OR min(position) <> 0
                     OR max(position) <> count(*) - 1) AS broken"
        }
        Check::OrphanedRun => {
            "SELECT callboard.ulid(id)
             FROM (SELECT id FROM callboard.runs WHERE ended_at IS NULL ORDER BY id DESC LIMIT $1) AS open
             WHERE NOT EXISTS (SELECT 1 FROM callboard.jobs
                     WHERE jobs.run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish') OFFSET 0)
                 AND NOT EXISTS (SELECT 1 FROM callboard.dead_letters
                     WHERE dead_letters.run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish') OFFSET 0)"
        }
        Check::StrandedStep => {
            "SELECT callboard.ulid(id) || ' ' || step_id
             FROM (SELECT id FROM callboard.runs WHERE ended_at IS NULL ORDER BY id DESC LIMIT $1) AS open
             CROSS JOIN LATERAL (SELECT step_id FROM callboard.steps
                 WHERE run_id = open.id AND position IS NULL OFFSET 0) AS unfinished
             WHERE NOT EXISTS (
                 SELECT 1 FROM callboard.jobs WHERE jobs.run_id = open.id
                     AND jobs.key IN ('step:' || step_id, 'wake:' || step_id, 'timeout:' || step_id, 'resume:' || step_id)
                 UNION ALL SELECT 1 FROM callboard.dead_letters AS held WHERE held.run_id = open.id
                     AND held.key IN ('step:' || step_id, 'wake:' || step_id, 'timeout:' || step_id, 'resume:' || step_id))"
        }
        Check::EndlessWait => {
            "SELECT callboard.ulid(run_id) || ' ' || key
             FROM (SELECT run_id, key FROM callboard.waits ORDER BY run_id, key LIMIT $1) AS wait
             WHERE substr(key, 1, 5) = 'step:'
                 AND NOT EXISTS (SELECT 1 FROM callboard.jobs
                     WHERE jobs.run_id = wait.run_id AND jobs.key = 'timeout:' || substr(wait.key, 6) OFFSET 0)
                 AND NOT EXISTS (SELECT 1 FROM callboard.dead_letters AS held
                     WHERE held.run_id = wait.run_id AND held.key = 'timeout:' || substr(wait.key, 6) OFFSET 0)"
        }
        Check::StrayJob => {
            "SELECT callboard.ulid(run_id) || ' ' || key
             FROM (SELECT run_id, key FROM callboard.jobs ORDER BY run_id, key LIMIT $1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM callboard.runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL OFFSET 0)"
        }
        Check::StrayWait => {
            "SELECT callboard.ulid(run_id) || ' ' || key
             FROM (SELECT run_id, key FROM callboard.waits ORDER BY run_id, key LIMIT $1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM callboard.runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL OFFSET 0)"
        }
        Check::StrayLetter => {
            "SELECT callboard.ulid(id)
             FROM (SELECT run_id, id FROM callboard.dead_letters ORDER BY run_id, key LIMIT $1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM callboard.runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL OFFSET 0)"
        }
        Check::StrayLock => {
            "SELECT callboard.ulid(run_id)
             FROM (SELECT id, run_id FROM callboard.singletons ORDER BY id LIMIT $1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM callboard.runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL OFFSET 0)"
        }
        Check::OverdueGathering => {
            "SELECT callboard.ulid(id) FROM callboard.gatherings WHERE due < $2 ORDER BY due, id LIMIT $1"
        }
        Check::EmptyGathering => {
            "SELECT callboard.ulid(id) FROM (SELECT id FROM callboard.gatherings ORDER BY id LIMIT $1) AS held
             WHERE NOT EXISTS (SELECT 1 FROM callboard.gathering_events AS member
                 WHERE member.gathering_id = held.id
                     AND (SELECT true FROM callboard.events WHERE events.id = member.event_id) OFFSET 0)"
        }
        Check::OverdueJob => {
            "SELECT callboard.ulid(run_id) || ' ' || key
             FROM (SELECT run_id, key, function_id FROM callboard.jobs WHERE due < $2
                 ORDER BY due, run_id, key LIMIT $1) AS late
             WHERE NOT (key = 'start' OR starts_with(key, 'discover:') OR starts_with(key, 'step:'))
                OR NOT EXISTS (SELECT 1 FROM callboard.functions
                    WHERE functions.id = late.function_id AND mode = 'paused')"
        }
    }
}

/// See [`callboard_actors::ports::Audit::audit`].
pub(super) async fn run(readers: &Readers, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
    let scope = *scope;
    let findings = readers.snapshot(move |session| {
        Box::pin(async move {
            let mut findings = Vec::new();
            for check in Check::ALL {
                findings.extend(look(session, *check, &scope).await?);
            }
            Ok(findings)
        })
    });
    findings.await
}

async fn look(session: &mut Session, check: Check, scope: &AuditScope) -> Result<Option<Finding>, StoreError> {
    let query = sqlx::query(statement(check))
        .bind(sql_limit(scope.rows))
        .bind(scope.now.before(scope.overdue_after).as_millis());
    let rows = session.all(query).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let samples = rows.iter().take(SAMPLES).map(|row| get_text(row, 0));
    Ok(Some(Finding {
        check,
        count: u64::try_from(rows.len()).unwrap_or(u64::MAX),
        samples: samples.collect::<Result<_, _>>()?,
    }))
}
