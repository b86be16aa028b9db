//! Overrides of limits: rows of the catalog, whose revision rises with each change of them.

use std::time::Duration;

use callboard_actors::domain::{FunctionId, LimitOverride, RuleId, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::postgres::PgRow;

use super::cells::Id as _;
use super::error::unreadable;
use super::readers::{Readers, Statement};
use super::registration::{LOCK, RAISE_REVISION};
use super::rows::{get, get_id, get_number, get_time};

pub(super) const ALL: &str = "SELECT function_id, rule, slots, period, burst, until FROM callboard.overrides";

const PUT: &str = "INSERT INTO callboard.overrides (function_id, rule, slots, period, burst, until)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (function_id, rule) DO UPDATE SET slots = excluded.slots, period = excluded.period,
        burst = excluded.burst, until = excluded.until";

const END: &str = "DELETE FROM callboard.overrides WHERE function_id = $1 AND rule = coalesce($2, rule)";

const EXPIRE: &str = "DELETE FROM callboard.overrides WHERE until <= $1";

pub(super) async fn put(readers: &Readers, numbers: &LimitOverride) -> Result<(), StoreError> {
    let put = sqlx::query(PUT)
        .bind(numbers.function.cell())
        .bind(numbers.rule.to_string())
        .bind(i64::from(numbers.limit))
        .bind(numbers.period.map(millis))
        .bind(numbers.burst.map(i64::from))
        .bind(numbers.until.as_millis());
    change(readers, put).await.map(drop)
}

pub(super) async fn end(readers: &Readers, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError> {
    let rule = rule.map(|rule| rule.to_string());
    change(readers, sqlx::query(END).bind(function.cell()).bind(rule)).await
}

pub(super) async fn expire(readers: &Readers, now: Timestamp) -> Result<bool, StoreError> {
    change(readers, sqlx::query(EXPIRE).bind(now.as_millis())).await
}

/// Answers whether it changed anything.
async fn change(readers: &Readers, statement: Statement) -> Result<bool, StoreError> {
    let changed = readers.write(|session| {
        Box::pin(async move {
            session.all(sqlx::query(LOCK)).await?;
            let is_change = session.execute(statement).await? > 0;
            if is_change {
                session.execute(sqlx::query(RAISE_REVISION)).await?;
            }
            Ok(is_change)
        })
    });
    changed.await
}

fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn numbers(row: &PgRow) -> Result<LimitOverride, StoreError> {
    let rule: &str = get(row, 1)?;
    let small = |column| -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = get(row, column)?;
        Ok(number.map(i64::unsigned_abs))
    };
    Ok(LimitOverride {
        function: get_id(row, 0)?,
        rule: rule.parse().map_err(|error| unreadable("a rule", error))?,
        limit: get_number(row, 2)?,
        period: small(3)?.map(Duration::from_millis),
        burst: small(4)?.map(|burst| u32::try_from(burst).unwrap_or(u32::MAX)),
        until: get_time(row, 5)?,
    })
}
