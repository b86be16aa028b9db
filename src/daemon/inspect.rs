//! Opening the configured store to look at it, beside the servers that use it.

use callboard_actors::ports::Audit;

use super::backends::{cannot_open, cannot_use, database_options};
use crate::error::Problem;
use crate::settings::Settings;
use crate::store::postgres::PostgresInspector;
use crate::store::sqlite::SqliteInspector;

/// What audits the configured store. It locks nothing and writes nothing.
///
/// # Errors
/// When the store can't be opened, or is of another version than this program.
pub async fn auditor(settings: &Settings) -> Result<Box<dyn Audit>, Problem> {
    if let Some(url) = &settings.database.url {
        let inspector = PostgresInspector::open(&database_options(settings, url)).await;
        return Ok(Box::new(inspector.map_err(|error| cannot_use(&error))?));
    }
    let inspector = SqliteInspector::open(&settings.data.dir).await;
    Ok(Box::new(inspector.map_err(|error| cannot_open(&error))?))
}
