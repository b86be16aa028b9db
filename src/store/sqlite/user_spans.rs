//! Spans of users' own.

use callboard_actors::domain::{RunId, UserSpan};
use callboard_actors::ports::StoreError;
use sqlx::SqlitePool;

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::rows::{get, get_id, get_number};
use super::writer::{Script, Writer};
use crate::store::user_spans::{Known, fitting};

/// How many a run has, of how many bytes; no row if there is no such run.
const ROOM: &str = "SELECT (SELECT count(*) FROM user_spans WHERE run_id = runs.id),
        (SELECT coalesce(sum(bytes), 0) FROM user_spans WHERE run_id = runs.id)
    FROM runs WHERE id = ?1";

const KNOWN: &str =
    "SELECT span_id FROM user_spans WHERE run_id = ?1 AND span_id IN (SELECT value FROM jsonb_each(?2))";

/// The run may have gone meanwhile.
const ADD: &str = "INSERT INTO user_spans (run_id, span_id, started_at, bytes, body)
    SELECT new.value->>0, new.value->>1, new.value->>2, new.value->>3, new.value->>4 FROM jsonb_each(?) AS new
    WHERE EXISTS (SELECT 1 FROM runs WHERE id = new.value->>0)
    ON CONFLICT DO NOTHING";

const OF_RUN: &str = "SELECT body FROM user_spans WHERE run_id = ?1 ORDER BY started_at, span_id";

pub(super) async fn add(
    writer: &Writer,
    readers: &SqlitePool,
    run: RunId,
    spans: &[UserSpan],
) -> Result<usize, StoreError> {
    let room = sqlx::query(ROOM).bind(run.to_string()).fetch_optional(readers);
    let Some(room) = room.await.map_err(from_sqlx)? else {
        return Ok(spans.len());
    };
    let ids = Rows::of_texts(spans.iter().map(|span| span.id)).into_bytes();
    let known = sqlx::query(KNOWN).bind(run.to_string()).bind(ids).fetch_all(readers);
    let known = known.await.map_err(from_sqlx)?;
    let known = Known {
        count: get_number::<usize>(&room, 0)?,
        bytes: get_number::<usize>(&room, 1)?,
        ids: known.iter().map(|row| get_id(row, 0)).collect::<Result<_, _>>()?,
    };
    let (new, refused) = fitting(spans, known);
    let mut rows = Rows::new();
    for (span, text) in &new {
        rows.row()
            .shown(run)
            .shown(span.id)
            .int(span.started_at)
            .int(i64::try_from(text.len()).unwrap_or(i64::MAX))
            .text(text);
    }
    let mut script = Script::default();
    if script.with_rows(ADD, rows).is_some() {
        writer.session().await?.run(script, true).await?;
    }
    Ok(refused)
}

pub(super) async fn of_run(readers: &SqlitePool, run: RunId) -> Result<Vec<UserSpan>, StoreError> {
    let rows = sqlx::query(OF_RUN).bind(run.to_string()).fetch_all(readers).await;
    let span = |row| serde_json::from_str(get(row, 0)?).map_err(|error| unreadable("a span", error));
    rows.map_err(from_sqlx)?.iter().map(span).collect()
}
