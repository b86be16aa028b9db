//! The command line: one file per subcommand. Texts are for people; every flag of the server is also a setting.

pub mod client;
pub mod config;
pub mod dead_letters;
pub mod dev;
pub mod doctor;
pub mod flags;
pub mod functions;
pub mod gatherings;
pub mod health;
pub mod inherited;
pub mod keys;
pub mod limits;
pub mod migrate;
pub mod operations;
pub mod runs;
pub mod serve;
pub mod slots;
pub mod start;
pub mod status;
pub mod timeline;
pub mod workers;

use clap::{Args, Parser, Subcommand};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use crate::error::{Code, Problem};

/// Runs apps written with the Inngest SDKs: events start functions, and every run is driven to its end, step by step,
/// whatever crashes on the way.
#[derive(Debug, Parser)]
#[command(name = "callboard", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server for development: no keys, no other services, everything in one directory.
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Start a server for production: keys are required, calls are signed.
    #[command(after_help = start::EXAMPLES)]
    Start(start::StartArgs),
    /// Show what the parts of a running server are doing.
    Status(status::StatusArgs),
    /// Ask a server how it is; fails if it is not well, or not there.
    Health(health::HealthArgs),
    /// Look at jobs that were given up, and retry or discard them.
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Look at a run, cancel it, or do it again.
    Runs(runs::RunsArgs),
    /// Cancel many runs, or do many again, by filter.
    Operations(operations::OperationsArgs),
    /// List functions, and pause, drain or resume them.
    Functions(functions::FunctionsArgs),
    /// Show a function's limits and who waits for them, and give them other numbers for a time.
    #[command(after_help = limits::EXAMPLES)]
    Limits(limits::LimitsArgs),
    /// List the debounces and batches of a function that have not started their run, and start one at once.
    Gatherings(gatherings::GatheringsArgs),
    /// Show when a function's crons ran or did not, and why, and when they run next.
    Slots(slots::SlotsArgs),
    /// Make keys to a server, list them, and take them back.
    #[command(after_help = keys::EXAMPLES)]
    Keys(keys::KeysArgs),
    /// List the workers that have connected.
    Workers(workers::WorkersArgs),
    /// Check the database against what is promised, without changing anything.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Show every setting with its value and where that comes from.
    Config(config::ConfigArgs),
    /// Bring the schema of a PostgreSQL database up to date, as `start` does by itself.
    Migrate(migrate::MigrateArgs),
    /// Start a server with a small app, send it an event, and watch the run.
    Demo(DemoArgs),
    /// Print the version.
    Version,
}

/// Arguments of `callboard demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the server running when the run has ended, to look around.
    #[arg(long)]
    pub keep_running: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: flags::SettingsArgs,
}

/// What a command's failure looks like: the code, the case and what to do.
#[must_use]
pub fn explain(problem: &Problem) -> String {
    let Problem { code, message, .. } = problem;
    let hint = match code {
        // The list of problems says it all.
        Code::InvalidSettings => "`callboard config --help` lists the flags; docs/configuration.md explains every key.",
        code => code.remedy(),
    };
    format!("{code}: {message}\n{hint}")
}

/// A table of columns with these names, each as wide as it has to be.
fn table<const N: usize>(names: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(names);
    table
}

/// These members of an object, as [`cell`]s.
fn cells<const N: usize>(of: &Value, names: [&str; N]) -> [String; N] {
    names.map(|name| cell(&of[name]))
}

/// A table without the blanks that pad its last column.
fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim().to_owned() + "\n");
    lines.collect()
}

/// What a table shows of a value: the first line of a text, and `-` of what is missing.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.lines().next().unwrap_or("-").to_owned(),
        other => other.to_string(),
    }
}

/// A table of a page, with how to see the next one.
fn paged(table: &Table, page: &Value) -> String {
    let mut shown = trimmed(table);
    if let Some(cursor) = page["cursor"].as_str() {
        shown += &format!("There are more: --cursor {cursor}\n");
    }
    shown
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_and_flag_says_what_it_does() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
