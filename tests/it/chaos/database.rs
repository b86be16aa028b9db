//! The database of a server or of an installation, read from outside and in one dialect.

use std::path::PathBuf;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _, ValueRef as _};

use crate::support::installation::Installation;
use crate::support::server::Server;

/// What makes PostgreSQL's tables look like SQLite's: ids are texts, and nothing has a schema's name.
const VIEWS: &str = "
    CREATE TEMP VIEW functions AS SELECT id::text AS id, slug FROM callboard.functions;
    CREATE TEMP VIEW events AS SELECT callboard.ulid(id) AS id, external_id, name, ts, received_at, body
        FROM callboard.events;
    CREATE TEMP VIEW unrouted AS SELECT callboard.ulid(event_id) AS event_id FROM callboard.unrouted;
    CREATE TEMP VIEW skips AS SELECT callboard.ulid(event_id) AS event_id, function_id::text AS function_id, reason
        FROM callboard.skips;
    CREATE TEMP VIEW runs AS SELECT callboard.ulid(id) AS id, function_id::text AS function_id,
        callboard.ulid(event_id) AS event_id, status, event_name, ended_at, output FROM callboard.runs;
    CREATE TEMP VIEW run_events AS SELECT callboard.ulid(event_id) AS event_id, callboard.ulid(run_id) AS run_id
        FROM callboard.run_events;
    CREATE TEMP VIEW gatherings AS SELECT callboard.ulid(id) AS id, due FROM callboard.gatherings;
    CREATE TEMP VIEW steps AS SELECT callboard.ulid(run_id) AS run_id, step_id, op, position, ended_at, memo,
        (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::bigint AS committed_at FROM callboard.steps;
    CREATE TEMP VIEW history AS SELECT callboard.ulid(run_id) AS run_id, step_id, kind, at FROM callboard.history;
    CREATE TEMP VIEW jobs AS SELECT callboard.ulid(run_id) AS run_id, key, due FROM callboard.jobs;
    CREATE TEMP VIEW waits AS SELECT callboard.ulid(run_id) AS run_id, key FROM callboard.waits;
    CREATE TEMP VIEW dead_letters AS SELECT callboard.ulid(run_id) AS run_id, key, reason FROM callboard.dead_letters;";

/// A row: every column as text, if it is not null.
#[derive(Debug)]
pub(super) struct Row(Vec<Option<String>>);

impl Row {
    /// A column that is not null.
    pub(super) fn text(&self, index: usize) -> String {
        self.0[index]
            .clone()
            .unwrap_or_else(|| panic!("column {index} of {:?} is null", self.0))
    }

    pub(super) fn number(&self, index: usize) -> i64 {
        let text = self.text(index);
        text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
    }

    pub(super) fn shown(&self) -> String {
        let cells = self.0.iter().map(|cell| cell.as_deref().unwrap_or("-"));
        cells.collect::<Vec<_>>().join(" ")
    }
}

/// Where to read.
#[derive(Debug)]
pub(super) enum Database {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Database {
    pub(super) fn of(server: &Server) -> Self {
        Self::Sqlite(server.data_dir().join("callboard.db"))
    }

    pub(super) fn shared(installation: &Installation) -> Self {
        Self::Postgres(installation.database().to_owned())
    }

    /// The rows of a query, each as what `read` makes of it.
    pub(super) fn rows<T>(&self, sql: &'static str, read: impl Fn(&Row) -> T) -> Vec<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let rows = runtime.expect("a runtime").block_on(self.fetch(sql));
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(read).collect()
    }

    async fn fetch(&self, sql: &'static str) -> sqlx::Result<Vec<Row>> {
        match self {
            Self::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true);
                let mut connection = options.connect().await?;
                let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
                connection.close().await?;
                let cells = |row: &sqlx::sqlite::SqliteRow| (0..row.len()).map(|i| row.try_get_unchecked(i)).collect();
                rows.iter()
                    .map(cells)
                    .map(|cells: sqlx::Result<_>| cells.map(Row))
                    .collect()
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                // As texts, not prepared: that is what the simple protocol is.
                sqlx::raw_sql(VIEWS).execute(&mut connection).await?;
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
                connection.close().await?;
                let cell = |row: &sqlx::postgres::PgRow, index: usize| {
                    let value = row.try_get_raw(index)?;
                    if value.is_null() {
                        return Ok(None);
                    }
                    value
                        .as_str()
                        .map(|text| Some(text.to_owned()))
                        .map_err(sqlx::Error::Decode)
                };
                let cells = |row| (0..sqlx::Row::len(row)).map(|index| cell(row, index)).collect();
                rows.iter()
                    .map(cells)
                    .map(|cells: sqlx::Result<_>| cells.map(Row))
                    .collect()
            }
        }
    }

    pub(super) fn count(&self, sql: &'static str) -> i64 {
        self.rows(sql, |row| row.number(0))[0]
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        let under_way = "SELECT (SELECT count(*) FROM runs WHERE ended_at IS NULL)
            + (SELECT count(*) FROM unrouted) + (SELECT count(*) FROM gatherings)";
        self.count(under_way) == 0
    }

    /// What is still under way, for people.
    pub(super) fn leftovers(&self) -> String {
        let sql = "SELECT runs.id, runs.status, runs.event_name, jobs.key, jobs.due
            FROM runs LEFT JOIN jobs ON jobs.run_id = runs.id WHERE ended_at IS NULL LIMIT 30";
        let lines = self.rows(sql, Row::shown);
        let unrouted = self.count("SELECT count(*) FROM unrouted");
        let open = self.count("SELECT count(*) FROM runs WHERE ended_at IS NULL");
        let gathering = self.count("SELECT count(*) FROM gatherings");
        format!(
            "{unrouted} unrouted, {gathering} gatherings, {open} open runs (run, status, event, job, due):\n  {}",
            lines.join("\n  ")
        )
    }
}
