//! Metadata: a row for each run about which the API has noted something, and lines of the history.

use callboard_actors::domain::{MetadataLog, MetadataRecord, NotedMetadata, RunId, StepId};
use callboard_actors::ports::StoreError;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::{from_sqlx, unreadable};
use super::jsonb::Rows;
use super::rows::{get, get_json_or_null, get_number, get_time};
use super::writer::{Script, Writer};

const PUT: &str = "INSERT INTO metadata (run_id, version, body)
    SELECT new.value->>0, new.value->>1, new.value->>2 FROM jsonb_each(?) AS new
    WHERE EXISTS (SELECT 1 FROM runs WHERE id = new.value->>0)
    ON CONFLICT (run_id) DO UPDATE SET version = excluded.version, body = excluded.body
        WHERE metadata.version = excluded.version - 1";

pub(super) const RECORD: &str =
    "SELECT metadata.version, body FROM runs LEFT JOIN metadata ON run_id = id WHERE id = ?1";

pub(super) const LINES: &str = "SELECT seq, at, step_id, attempt, detail FROM history
    WHERE run_id = ?1 AND kind = 'metadata.written' AND seq > ?2 ORDER BY seq";

pub(super) async fn put(writer: &Writer, run: RunId, record: &MetadataRecord) -> Result<bool, StoreError> {
    let body = serde_json::to_string(record)
        .map_err(|error| StoreError::Refused(format!("the metadata of run {run}: {error}")))?;
    let mut rows = Rows::new();
    rows.row()
        .shown(run)
        .int(i64::try_from(record.version).unwrap_or(i64::MAX))
        .text(&body);
    let mut script = Script::default();
    let put = script.with_rows(PUT, rows);
    let outcomes = writer.session().await?.run(script, true).await?;
    Ok(put.is_some_and(|put| outcomes[put].changes > 0))
}

pub(super) async fn find(readers: &SqlitePool, run: RunId) -> Result<Option<MetadataLog>, StoreError> {
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let row = sqlx::query(RECORD).bind(run.to_string());
    let Some(row) = row.fetch_optional(&mut *tx).await.map_err(from_sqlx)? else {
        return Ok(None);
    };
    let record = record(&row)?;
    let through = record.as_ref().and_then(|record| record.through).unwrap_or(-1);
    let lines = sqlx::query(LINES).bind(run.to_string()).bind(through);
    let lines = lines.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    tx.commit().await.map_err(from_sqlx)?;
    let lines = lines.iter().map(line).collect::<Result<_, _>>()?;
    Ok(Some(MetadataLog { record, lines }))
}

fn record(row: &SqliteRow) -> Result<Option<MetadataRecord>, StoreError> {
    if get::<Option<i64>>(row, 0)?.is_none() {
        return Ok(None);
    }
    let record: MetadataRecord = serde_json::from_str(get(row, 1)?).map_err(|error| unreadable("metadata", error))?;
    Ok(Some(MetadataRecord {
        version: get_number(row, 0)?,
        ..record
    }))
}

fn line(row: &SqliteRow) -> Result<NotedMetadata, StoreError> {
    Ok(NotedMetadata {
        place: get(row, 0)?,
        at: get_time(row, 1)?,
        step: get::<Option<&str>>(row, 2)?.map(StepId::from),
        attempt: get_number(row, 3)?,
        detail: get_json_or_null(row, 4)?,
    })
}
