//! Reading apps and functions.

use std::collections::HashMap;

use callboard_actors::domain::{App, Function, FunctionMode};
use callboard_actors::ports::{AppView, CatalogView, StoreError};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use super::error::{from_sqlx, unreadable};
use super::overrides;
use super::rows::{get, get_number, get_time, get_time_or_null};

const APPS: &str =
    "SELECT name, url, sdk, framework, version, checksum, error, synced_at, breaker FROM apps ORDER BY name";
const REVISION: &str = "SELECT value FROM counters WHERE name = 'catalog'";
const FUNCTIONS: &str = "SELECT app, definition, version, archived, mode, mode_since FROM functions ORDER BY app, slug";

pub(super) async fn all(readers: &SqlitePool) -> Result<CatalogView, StoreError> {
    // One snapshot, or a function could belong to an app that was not there yet.
    let mut tx = readers.begin().await.map_err(from_sqlx)?;
    let apps = sqlx::query(APPS);
    let apps = apps.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let functions = sqlx::query(FUNCTIONS);
    let functions = functions.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let overridden = sqlx::query(overrides::ALL);
    let overridden = overridden.fetch_all(&mut *tx).await.map_err(from_sqlx)?;
    let revision = sqlx::query(REVISION).fetch_one(&mut *tx).await.map_err(from_sqlx)?;
    tx.commit().await.map_err(from_sqlx)?;

    let mut by_app: HashMap<String, Vec<Function>> = HashMap::new();
    for row in &functions {
        by_app.entry(get(row, 0)?).or_default().push(function(row)?);
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
    Ok(CatalogView {
        revision: get_number(&revision, 0)?,
        apps,
        overrides: overridden.iter().map(overrides::numbers).collect::<Result<_, _>>()?,
    })
}

fn app(row: &SqliteRow) -> Result<App, StoreError> {
    Ok(App {
        name: get::<&str>(row, 0)?.into(),
        url: get(row, 1)?,
        sdk: get(row, 2)?,
        framework: get(row, 3)?,
        version: get(row, 4)?,
        checksum: get(row, 5)?,
        error: get(row, 6)?,
        synced_at: get_time(row, 7)?,
    })
}

fn function(row: &SqliteRow) -> Result<Function, StoreError> {
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
