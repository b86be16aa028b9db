//! Overrides of limits: rows of the catalog, whose revision rises with each change of them.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use callboard_actors::domain::{FunctionId, LimitOverride, RuleId, Timestamp};
use callboard_actors::ports::StoreError;
use sqlx::sqlite::SqliteRow;

use super::jsonb::Rows;
use super::registration::change;
use super::rows::{get, get_id, get_number, get_rule, get_time};
use super::writer::{Script, Writer};
use crate::store::paging::sql_millis;

pub(super) const ALL: &str = "SELECT function_id, rule, slots, period, burst, until FROM overrides";

const PUT: &str = "INSERT INTO overrides (function_id, rule, slots, period, burst, until)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM jsonb_each(?) WHERE true
    ON CONFLICT (function_id, rule) DO UPDATE SET slots = excluded.slots, period = excluded.period,
        burst = excluded.burst, until = excluded.until";

const END: &str = "DELETE FROM overrides WHERE EXISTS (SELECT 1 FROM jsonb_each(?) AS meant
    WHERE meant.value->>0 = function_id AND coalesce(meant.value->>1, rule) = rule)";

const EXPIRE: &str = "DELETE FROM overrides WHERE until <= ?";

pub(super) async fn put(writer: &Writer, revision: &AtomicU64, numbers: &LimitOverride) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    rows.row()
        .shown(numbers.function)
        .shown(numbers.rule)
        .int(numbers.limit)
        .int_or_null(numbers.period.map(sql_millis))
        .int_or_null(numbers.burst.map(i64::from))
        .int(numbers.until.as_millis());
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let put = script.with(PUT, rows.into_bytes());
    change(writer, revision, script, put).await.map(drop)
}

pub(super) async fn end(
    writer: &Writer,
    revision: &AtomicU64,
    function: FunctionId,
    rule: Option<RuleId>,
) -> Result<bool, StoreError> {
    let rule = rule.map(|rule| rule.to_string());
    let mut rows = Rows::new();
    rows.row().shown(function).text_or_null(rule.as_deref());
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let ended = script.with(END, rows.into_bytes());
    change(writer, revision, script, ended).await
}

pub(super) async fn expire(writer: &Writer, revision: &AtomicU64, now: Timestamp) -> Result<bool, StoreError> {
    let mut script = Script::default();
    script.add("BEGIN IMMEDIATE");
    let expired = script.with(EXPIRE, now.as_millis());
    change(writer, revision, script, expired).await
}

pub(super) fn numbers(row: &SqliteRow) -> Result<LimitOverride, StoreError> {
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
