//! Joins and fires: what is read to decide upon joins ([`Joins`]), and what is written then.
//!
//! Reading is part of the trip for [`super::starts`], writing of the one for the effects.

use std::collections::HashMap;

use callboard_actors::domain::{ClaimId, FunctionId, Gathering, Join};
use callboard_actors::ports::StoreError;
use sqlx::sqlite::SqliteRow;

use super::super::super::batch::{Held, Holdings, Joins};
use super::super::jsonb::Rows;
use super::super::rows::{get, get_id, get_named, get_number, get_time};
use super::super::writer::{Outcome, Script};
use callboard_actors::domain::{DueBy, Standing};

/// The columns of a gathering for [`gathering`].
macro_rules! columns {
    () => {
        "id, function_id, bucket, is_batch, version, key, opened_at, due, due_by, newest, count, bytes"
    };
}
pub(in crate::store::sqlite) use columns;

const OPEN: &str = concat!(
    "SELECT ",
    columns!(),
    ", last_event, last_stays FROM gatherings WHERE is_open AND bucket IN (SELECT value FROM jsonb_each(?))"
);
const KEYS: &str = "SELECT old.function_id, old.key FROM jsonb_each(?) AS new CROSS JOIN gathered_ids AS old
    ON old.function_id = new.value->>0 AND old.key = new.value->>1 WHERE old.until > new.value->>2";

const PUT_GATHERINGS: &str = "INSERT INTO gatherings (id, bucket, function_id, is_open, is_batch, version, opened_at,
        due, due_by, newest, count, bytes, last_event, last_stays, key)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9,
        value->>10, value->>11, value->>12, value->>13, value->>14
    FROM jsonb_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, version = excluded.version,
        opened_at = excluded.opened_at, due = excluded.due, due_by = excluded.due_by, newest = excluded.newest,
        count = excluded.count, bytes = excluded.bytes, last_event = excluded.last_event,
        last_stays = excluded.last_stays";
const INSERT_MEMBERS: &str = "INSERT INTO gathering_events (gathering_id, place, event_id)
    SELECT value->>0, value->>1, value->>2 FROM jsonb_each(?)";
const DELETE_MEMBERS: &str = "DELETE FROM gathering_events WHERE (event_id, gathering_id) IN
    (SELECT value->>1, value->>0 FROM jsonb_each(?))";
pub(super) const DELETE_MEMBERS_OF: &str =
    "DELETE FROM gathering_events WHERE gathering_id IN (SELECT value FROM jsonb_each(?))";
const PUT_KEYS: &str = "INSERT INTO gathered_ids (function_id, key, until)
    SELECT value->>0, value->>1, value->>2 FROM jsonb_each(?) WHERE true
    ON CONFLICT (function_id, key) DO UPDATE SET until = excluded.until";

/// For a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: [(&str, &str); 7] = [
    ("open_gatherings", OPEN),
    ("gathered_keys", KEYS),
    ("put_gatherings", PUT_GATHERINGS),
    ("insert_members", INSERT_MEMBERS),
    ("delete_members", DELETE_MEMBERS),
    ("delete_members_of", DELETE_MEMBERS_OF),
    ("put_gathered_keys", PUT_KEYS),
];

/// Where the questions about the joins of a segment stand in a script.
pub(super) struct Questions {
    open: Option<usize>,
    keys: Option<usize>,
}

impl Questions {
    pub(super) fn ask<'a>(joins: impl Iterator<Item = &'a Join>, script: &mut Script) -> Self {
        let (mut buckets, mut keys) = (Rows::new(), Rows::new());
        for join in joins {
            buckets.item(join.bucket);
            if let Some(key) = &join.idempotency {
                keys.row().shown(join.function).text(key).int(join.at.as_millis());
            }
        }
        Self {
            open: script.with_rows(OPEN, buckets),
            keys: script.with_rows(KEYS, keys),
        }
    }

    pub(super) fn answer(&self, outcomes: &[Outcome]) -> Result<Holdings, StoreError> {
        let rows = |place: Option<usize>| place.map_or(&[][..], |index| &outcomes[index].rows[..]);
        let open = rows(self.open).iter().map(|row| {
            let gathering = gathering(row)?;
            let held = Held {
                is_open: true,
                last: (get_id(row, 12)?, get(row, 13)?),
                gathering,
            };
            Ok((held.gathering.bucket, held))
        });
        let keys = rows(self.keys).iter().map(|row| {
            let function: FunctionId = get_id(row, 0)?;
            Ok((function, get::<String>(row, 1)?))
        });
        Ok(Holdings {
            open: open.collect::<Result<HashMap<ClaimId, Held>, StoreError>>()?,
            keys: keys.collect::<Result<_, StoreError>>()?,
        })
    }
}

/// From the columns of [`columns`].
pub(in crate::store::sqlite) fn gathering(row: &SqliteRow) -> Result<Gathering, StoreError> {
    Ok(Gathering {
        id: get_id(row, 0)?,
        function: get_id(row, 1)?,
        bucket: get_id(row, 2)?,
        is_batch: get(row, 3)?,
        version: get_number(row, 4)?,
        key: get(row, 5)?,
        standing: Standing {
            opened_at: get_time(row, 6)?,
            due_at: get_time(row, 7)?,
            due_by: get_named(row, 8, DueBy::parse)?,
            newest: get_time(row, 9)?,
            count: get_number(row, 10)?,
            bytes: get_number(row, 11)?,
        },
    })
}

/// Writes what has come of joins, but for the skips.
pub(super) fn write(joins: &Joins, script: &mut Script) {
    let [mut gatherings, mut members, mut gone, mut keys] = std::array::from_fn(|_| Rows::new());
    for held in &joins.rows {
        let Gathering { standing, .. } = &held.gathering;
        let row = gatherings.row().shown(held.gathering.id).shown(held.gathering.bucket);
        let row = row.shown(held.gathering.function).int(held.is_open);
        let row = row.int(held.gathering.is_batch).int(number(held.gathering.version));
        let row = row.int(standing.opened_at.as_millis()).int(standing.due_at.as_millis());
        let row = row.text(standing.due_by.as_str()).int(standing.newest.as_millis());
        let row = row.int(standing.count).int(number(standing.bytes));
        let (last, stays) = held.last;
        row.shown(last).int(stays).text_or_null(held.gathering.key.as_deref());
    }
    for ((gathering, place), event) in &joins.members {
        members.row().shown(gathering).int(*place).shown(event);
    }
    for (gathering, event) in &joins.gone {
        gone.row().shown(gathering).shown(event);
    }
    for (function, key, until) in &joins.keys {
        keys.row().shown(function).text(key).int(until.as_millis());
    }
    script.with_rows(PUT_GATHERINGS, gatherings);
    script.with_rows(DELETE_MEMBERS, gone);
    script.with_rows(INSERT_MEMBERS, members);
    script.with_rows(PUT_KEYS, keys);
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
