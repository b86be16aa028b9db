//! Spans of users' own.

use callboard_actors::domain::{RunId, SpanId, UserSpan};
use callboard_actors::ports::StoreError;

use super::cells::{Id as _, text};
use super::error::unreadable;
use super::readers::Readers;
use super::rows::{get, get_number, get_text};
use crate::store::user_spans::{Known, fitting};

/// How many a run has, of how many bytes; no row if there is no such run.
pub(super) const ROOM: &str = "SELECT (SELECT count(*) FROM callboard.user_spans WHERE run_id = runs.id),
        (SELECT coalesce(sum(bytes), 0)::bigint FROM callboard.user_spans WHERE run_id = runs.id)
    FROM callboard.runs WHERE id = $1";

pub(super) const KNOWN: &str = "SELECT span_id FROM callboard.user_spans WHERE run_id = $1 AND span_id = ANY ($2)";

/// The run's row is held until the spans are written, so that none is left behind when the run is deleted.
const ADD: &str = "WITH run AS (SELECT id FROM callboard.runs WHERE id = $1 FOR KEY SHARE)
    INSERT INTO callboard.user_spans (run_id, span_id, started_at, bytes, body)
    SELECT run.id, new.span_id, new.started_at, new.bytes, new.body
    FROM run, unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[]) AS new (span_id, started_at, bytes, body)
    ON CONFLICT DO NOTHING";

pub(super) const OF_RUN: &str = "SELECT body FROM callboard.user_spans WHERE run_id = $1 ORDER BY started_at, span_id";

pub(super) async fn add(readers: &Readers, run: RunId, spans: &[UserSpan]) -> Result<usize, StoreError> {
    let ids: Vec<String> = spans.iter().map(|span| span.id.to_string()).collect();
    let known = readers.snapshot(move |session| {
        Box::pin(async move {
            let Some(room) = session.optional(sqlx::query(ROOM).bind(run.cell())).await? else {
                return Ok(None);
            };
            let known = session.all(sqlx::query(KNOWN).bind(run.cell()).bind(ids)).await?;
            let id = |row| {
                get::<&str>(row, 0)?
                    .parse::<SpanId>()
                    .map_err(|error| unreadable("an id", error))
            };
            Ok(Some(Known {
                count: get_number(&room, 0)?,
                bytes: get_number(&room, 1)?,
                ids: known.iter().map(id).collect::<Result<_, _>>()?,
            }))
        })
    });
    let Some(known) = known.await? else {
        return Ok(spans.len());
    };
    let (new, refused) = fitting(spans, known);
    if new.is_empty() {
        return Ok(refused);
    }
    let query = sqlx::query(ADD)
        .bind(run.cell())
        .bind(new.iter().map(|(span, _)| span.id.to_string()).collect::<Vec<_>>())
        .bind(new.iter().map(|(span, _)| span.started_at).collect::<Vec<_>>())
        .bind(
            new.iter()
                .map(|(_, body)| i64::try_from(body.len()).unwrap_or(i64::MAX))
                .collect::<Vec<_>>(),
        )
        .bind(new.iter().map(|(_, body)| text(body).into_owned()).collect::<Vec<_>>());
    readers.single(|session| Box::pin(session.execute(query))).await?;
    Ok(refused)
}

pub(super) async fn of_run(readers: &Readers, run: RunId) -> Result<Vec<UserSpan>, StoreError> {
    let query = sqlx::query(OF_RUN).bind(run.cell());
    let rows = readers.single(|session| Box::pin(session.all(query))).await?;
    let span = |row| serde_json::from_str(&get_text(row, 0)?).map_err(|error| unreadable("a span", error));
    rows.iter().map(span).collect()
}
