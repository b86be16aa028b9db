//! `callboard migrate`: brings the schema of a PostgreSQL database up to date, for those who want that to happen before new
//! instances start. `callboard start` does the same by itself.

use std::path::PathBuf;

use clap::Args;

use super::flags::SettingsArgs;
use crate::daemon;
use crate::error::{Code, Problem};
use crate::settings::{FILE_VARIABLE, Mode};
use crate::store::postgres;

/// Arguments of `callboard migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Settings file, TOML, YAML or JSON
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// The PostgreSQL database
    #[arg(long, visible_alias = "postgres-uri", value_name = "URL")]
    pub database_url: Option<String>,
}

/// Migrates the database. Answers what there is to say of it.
///
/// # Errors
/// When there is no database in the settings, or it can't be migrated.
pub async fn run(args: &MigrateArgs) -> Result<String, Problem> {
    let flags = SettingsArgs {
        config: args.config.clone(),
        database_url: args.database_url.clone(),
        ..SettingsArgs::default()
    };
    let settings = flags.load(Mode::Start)?.settings;
    let Some(url) = &settings.database.url else {
        let message = "there is no database to migrate: `database.url` is not set, and the built-in one is migrated by its server";
        return Err(Problem::new(Code::InvalidSettings, message));
    };
    let migrated = postgres::migrate(&daemon::database_options(&settings, url)).await;
    let (before, after) = migrated.map_err(|error| daemon::cannot_use(&error))?;
    Ok(if before == after {
        format!("{url} is up to date: schema version {after}.")
    } else {
        format!("{url} was migrated from schema version {before} to {after}.")
    })
}
