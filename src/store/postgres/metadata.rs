//! Metadata: a row for each run about which the API has noted something, and lines of the history.

use callboard_actors::domain::{MetadataLog, MetadataRecord, NotedMetadata, RunId, StepId};
use callboard_actors::ports::StoreError;
use sqlx::postgres::PgRow;

use super::cells::{Id as _, plain, text};
use super::error::unreadable;
use super::readers::Readers;
use super::rows::{get, get_json_or_null, get_number, get_text, get_time};

/// The run's row is held until the record is written, so that none is left behind when the run is deleted.
const PUT: &str = "WITH run AS (SELECT id FROM callboard.runs WHERE id = $1 FOR KEY SHARE)
    INSERT INTO callboard.metadata (run_id, version, body) SELECT id, $2, $3 FROM run
    ON CONFLICT (run_id) DO UPDATE SET version = excluded.version, body = excluded.body
        WHERE metadata.version = excluded.version - 1";

pub(super) const RECORD: &str =
    "SELECT metadata.version, body FROM callboard.runs LEFT JOIN callboard.metadata ON run_id = id WHERE id = $1";

pub(super) const LINES: &str = "SELECT seq, at, step_id, attempt, detail FROM callboard.history
    WHERE run_id = $1 AND kind = 'metadata.written' AND seq > $2 ORDER BY seq";

pub(super) async fn put(readers: &Readers, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError> {
    let body = serde_json::to_string(record)
        .map_err(|error| StoreError::Refused(format!("the metadata of run {run}: {error}")))?;
    let query = sqlx::query(PUT)
        .bind(run.cell())
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX))
        .bind(text(&body).into_owned());
    let written = readers.single(|session| Box::pin(session.execute(query))).await?;
    Ok(written > 0)
}

pub(super) async fn find(readers: &Readers, run: RunId) -> Result<Option<MetadataLog>, StoreError> {
    let found = readers.snapshot(move |session| {
        Box::pin(async move {
            let Some(row) = session.optional(sqlx::query(RECORD).bind(run.cell())).await? else {
                return Ok(None);
            };
            let record = record(&row)?;
            let through = record.as_ref().and_then(|record| record.through).unwrap_or(-1);
            let lines = session.all(sqlx::query(LINES).bind(run.cell()).bind(through)).await?;
            let lines = lines.iter().map(line).collect::<Result<_, _>>()?;
            Ok(Some(MetadataLog { record, lines }))
        })
    });
    found.await
}

fn record(row: &PgRow) -> Result<Option<MetadataRecord>, StoreError> {
    if get::<Option<i64>>(row, 0)?.is_none() {
        return Ok(None);
    }
    let record: MetadataRecord =
        serde_json::from_str(&get_text(row, 1)?).map_err(|error| unreadable("metadata", error))?;
    Ok(Some(MetadataRecord {
        version: get_number(row, 0)?,
        ..record
    }))
}

fn line(row: &PgRow) -> Result<NotedMetadata, StoreError> {
    Ok(NotedMetadata {
        place: get(row, 0)?,
        at: get_time(row, 1)?,
        step: get::<Option<&str>>(row, 2)?.map(|step| StepId::from(&*plain(step))),
        attempt: get_number(row, 3)?,
        detail: get_json_or_null(row, 4)?,
    })
}
