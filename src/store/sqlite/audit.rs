//! Whether the promises hold in this database.
//!
//! One statement per check, each answering a line for whatever it finds, all in one read transaction: a look at a single
//! moment. What a statement walks through is bounded by `:rows` in its innermost select, so that a large database takes no
//! longer than a small one; everything else is looked up by key.

use callboard_actors::ports::{AuditScope, Check, Finding, SAMPLES, StoreError};
use sqlx::{SqliteConnection, SqlitePool};

use super::error::from_sqlx;
use super::rows::get;
use crate::store::paging::sql_limit;

/// The statement of a check. Parameters: 1 the rows to look at and, where it is used, 2 the time before which
/// something is overdue.
pub(super) const fn statement(check: Check) -> &'static str {
    match check {
        Check::StuckEvent => {
            "SELECT id FROM (SELECT event_id FROM unrouted ORDER BY event_id LIMIT ?1)
             CROSS JOIN events ON events.id = event_id WHERE received_at < ?2"
        }
        Check::UnroutableEvent => {
            "SELECT event_id FROM (SELECT event_id FROM unrouted ORDER BY event_id LIMIT ?1) AS waiting
             WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.id = waiting.event_id)"
        }
        Check::DoubledRun => {
            "SELECT event_id || ' ' || function_id
             FROM (SELECT event_id, function_id, original_id FROM runs ORDER BY id DESC LIMIT ?1)
             WHERE original_id IS NULL GROUP BY event_id, function_id HAVING count(*) > 1"
        }
        Check::CauselessRun => {
            "SELECT recent.id FROM (SELECT id, event_id FROM runs ORDER BY id DESC LIMIT ?1) AS recent
             WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.id = recent.event_id)"
        }
        Check::RepeatedResult => {
            "SELECT run_id || ' ' || step_id FROM (SELECT id FROM runs ORDER BY id DESC LIMIT ?1) AS recent
             CROSS JOIN history ON history.run_id = recent.id
             WHERE kind IN ('step.completed', 'step.failed') AND step_id IS NOT NULL
             GROUP BY run_id, step_id HAVING count(*) > 1"
        }
        Check::LostResult => {
            "SELECT run_id || ' ' || step_id FROM (SELECT id FROM runs ORDER BY id DESC LIMIT ?1) AS recent
             CROSS JOIN steps ON steps.run_id = recent.id
             WHERE position IS NOT NULL AND (memo IS NULL OR ended_at IS NULL)"
        }
        Check::BrokenStack => {
            "SELECT run_id FROM (SELECT id FROM runs ORDER BY id DESC LIMIT ?1) AS recent
             CROSS JOIN steps ON steps.run_id = recent.id WHERE position IS NOT NULL
             GROUP BY run_id HAVING count(DISTINCT position) <> count(*) OR min(position) <> 0
                 OR max(position) <> count(*) - 1"
        }
        Check::OrphanedRun => {
            "SELECT id FROM (SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id DESC LIMIT ?1) AS open
             WHERE NOT EXISTS (SELECT 1 FROM jobs
                     WHERE jobs.run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))
                 AND NOT EXISTS (SELECT 1 FROM dead_letters
                     WHERE dead_letters.run_id = open.id AND key NOT IN ('deadline:start', 'deadline:finish'))"
        }
        Check::StrandedStep => {
            "SELECT run_id || ' ' || step_id
             FROM (SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id DESC LIMIT ?1) AS open
             CROSS JOIN steps ON steps.run_id = open.id
             WHERE position IS NULL AND NOT EXISTS (
                 SELECT 1 FROM jobs WHERE jobs.run_id = open.id
                     AND jobs.key IN ('step:' || step_id, 'wake:' || step_id, 'timeout:' || step_id, 'resume:' || step_id)
                 UNION ALL SELECT 1 FROM dead_letters AS held WHERE held.run_id = open.id
                     AND held.key IN ('step:' || step_id, 'wake:' || step_id, 'timeout:' || step_id, 'resume:' || step_id))"
        }
        Check::EndlessWait => {
            "SELECT run_id || ' ' || key FROM (SELECT run_id, key FROM waits ORDER BY run_id, key LIMIT ?1) AS wait
             WHERE substr(key, 1, 5) = 'step:'
                 AND NOT EXISTS (SELECT 1 FROM jobs
                     WHERE jobs.run_id = wait.run_id AND jobs.key = 'timeout:' || substr(wait.key, 6))
                 AND NOT EXISTS (SELECT 1 FROM dead_letters AS held
                     WHERE held.run_id = wait.run_id AND held.key = 'timeout:' || substr(wait.key, 6))"
        }
        Check::StrayJob => {
            "SELECT run_id || ' ' || key FROM (SELECT run_id, key FROM jobs ORDER BY run_id, key LIMIT ?1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL)"
        }
        Check::StrayWait => {
            "SELECT run_id || ' ' || key FROM (SELECT run_id, key FROM waits ORDER BY run_id, key LIMIT ?1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL)"
        }
        Check::StrayLetter => {
            "SELECT id FROM (SELECT run_id, id FROM dead_letters ORDER BY run_id, key LIMIT ?1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL)"
        }
        Check::StrayLock => {
            "SELECT run_id FROM (SELECT id, run_id FROM singletons ORDER BY id LIMIT ?1) AS stray
             WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = stray.run_id AND runs.ended_at IS NULL)"
        }
        Check::OverdueGathering => "SELECT id FROM gatherings WHERE due < ?2 ORDER BY due, id LIMIT ?1",
        Check::EmptyGathering => {
            "SELECT id FROM (SELECT id FROM gatherings ORDER BY id LIMIT ?1) AS held
             WHERE NOT EXISTS (SELECT 1 FROM gathering_events AS member
                 CROSS JOIN events ON events.id = member.event_id WHERE member.gathering_id = held.id)"
        }
        Check::OverdueJob => {
            "SELECT run_id || ' ' || key
             FROM (SELECT run_id, key, function_id FROM jobs WHERE due < ?2 ORDER BY due, run_id, key LIMIT ?1) AS late
             WHERE NOT (key = 'start' OR key GLOB 'discover:*' OR key GLOB 'step:*')
                OR NOT EXISTS (SELECT 1 FROM functions WHERE functions.id = late.function_id AND mode = 'paused')"
        }
    }
}

/// See [`callboard_actors::ports::Audit::audit`].
pub(super) async fn run(readers: &SqlitePool, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let mut findings = Vec::new();
    for check in Check::ALL {
        findings.extend(look(&mut tx, *check, scope).await?);
    }
    tx.commit().await.map_err(from_sqlx)?;
    Ok(findings)
}

async fn look(conn: &mut SqliteConnection, check: Check, scope: &AuditScope) -> Result<Option<Finding>, StoreError> {
    let query = sqlx::query(statement(check))
        .bind(sql_limit(scope.rows))
        .bind(scope.now.before(scope.overdue_after).as_millis());
    let rows = query.fetch_all(conn).await.map_err(from_sqlx)?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(Finding {
        check,
        count: u64::try_from(rows.len()).unwrap_or(u64::MAX),
        samples: rows
            .iter()
            .take(SAMPLES)
            .map(|row| get(row, 0))
            .collect::<Result<_, _>>()?,
    }))
}
