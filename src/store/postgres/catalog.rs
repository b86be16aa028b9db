//! Reading apps and functions.

use std::collections::HashMap;

use callboard_actors::domain::{App, Function, FunctionMode};
use callboard_actors::ports::{AppView, CatalogView, StoreError};
use sqlx::postgres::PgRow;

use super::error::unreadable;
use super::overrides;
use super::readers::Readers;
use super::rows::{get, get_number, get_text, get_text_or_null, get_time, get_time_or_null};

const APPS: &str =
    "SELECT name, url, sdk, framework, version, checksum, error, synced_at, breaker FROM callboard.apps ORDER BY name";
const REVISION: &str = "SELECT value FROM callboard.counters WHERE name = 'catalog'";
const FUNCTIONS: &str =
    "SELECT app, definition, version, archived, mode, mode_since FROM callboard.functions ORDER BY app, slug";

pub(super) async fn all(readers: &Readers) -> Result<CatalogView, StoreError> {
    // One instant, or a function could belong to an app that was not there yet.
    let found = readers.snapshot(|session| {
        Box::pin(async move {
            let apps = session.all(sqlx::query(APPS)).await?;
            let functions = session.all(sqlx::query(FUNCTIONS)).await?;
            let overrides = session.all(sqlx::query(overrides::ALL)).await?;
            let revision = session.optional(sqlx::query(REVISION)).await?;
            Ok((apps, functions, overrides, revision))
        })
    });
    let (apps, functions, overridden, revision) = found.await?;
    let mut by_app: HashMap<String, Vec<Function>> = HashMap::new();
    for row in &functions {
        by_app.entry(get_text(row, 0)?).or_default().push(function(row)?);
    }
    let apps = apps
        .iter()
        .map(|row| {
            let app = app(row)?;
            let functions = by_app.remove(&*app.name).unwrap_or_default();
            Ok(AppView {
                app,
                functions,
                breaker: get(row, 8)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    let revision = revision.ok_or_else(|| StoreError::Corrupt("the catalog has no revision".to_owned()))?;
    Ok(CatalogView {
        revision: get_number(&revision, 0)?,
        apps,
        overrides: overridden.iter().map(overrides::numbers).collect::<Result<_, _>>()?,
    })
}

fn app(row: &PgRow) -> Result<App, StoreError> {
    Ok(App {
        name: get_text(row, 0)?.into(),
        url: get_text(row, 1)?,
        sdk: get_text(row, 2)?,
        framework: get_text_or_null(row, 3)?,
        version: get_text_or_null(row, 4)?,
        checksum: get_text(row, 5)?,
        error: get_text_or_null(row, 6)?,
        synced_at: get_time(row, 7)?,
    })
}

fn function(row: &PgRow) -> Result<Function, StoreError> {
    let definition: &str = get(row, 1)?;
    let function: Function =
        serde_json::from_str(definition).map_err(|error| unreadable("the definition of a function", error))?;
    Ok(Function {
        version: get_number(row, 2)?,
        archived: get(row, 3)?,
        mode: FunctionMode::parse(get(row, 4)?, get_time_or_null(row, 5)?)
            .ok_or_else(|| StoreError::Corrupt("the mode of a function is unknown".to_owned()))?,
        ..function
    })
}
