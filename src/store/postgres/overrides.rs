//! Overrides of limits: rows of the catalog, whose revision rises with each change of them.

use std::time::Duration;

use callboard_actors::domain::{FunctionId, LimitOverride, RuleId, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::postgres::PgRow;

use super::cells::Id as _;
use super::readers::Readers;
use super::registration::change;
use super::rows::{get, get_id, get_number, get_rule, get_time};
use crate::store::paging::sql_millis;

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
        .bind(numbers.period.map(sql_millis))
        .bind(numbers.burst.map(i64::from))
        .bind(numbers.until.as_millis());
    change(readers, vec![put]).await.map(drop)
}

pub(super) async fn end(readers: &Readers, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError> {
    let rule = rule.map(|rule| rule.to_string());
    change(readers, vec![sqlx::query(END).bind(function.cell()).bind(rule)]).await
}

pub(super) async fn expire(readers: &Readers, now: Timestamp) -> Result<bool, StoreError> {
    change(readers, vec![sqlx::query(EXPIRE).bind(now.as_millis())]).await
}

pub(super) fn numbers(row: &PgRow) -> Result<LimitOverride, StoreError> {
    let small = |column| -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = get(row, column)?;
        Ok(number.map(i64::unsigned_abs))
    };
    Ok(LimitOverride {
        function: get_id(row, 0)?,
        rule: get_rule(row, 1)?,
        limit: get_number(row, 2)?,
        period: small(3)?.map(Duration::from_millis),
        burst: small(4)?.map(|burst| u32::try_from(burst).unwrap_or(u32::MAX)),
        until: get_time(row, 5)?,
    })
}
