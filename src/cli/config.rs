//! `callboard config`: every setting with its value and where that comes from.

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::dev::SettingsArgs;
use crate::settings::Effective;

/// Arguments of `callboard config`. The flags of `callboard dev`, to see what they would do.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: SettingsArgs,
}

/// The table.
#[must_use]
pub fn render(effective: &[Effective]) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["SETTING", "VALUE", "FROM"]);
    for Effective { key, value, origin } in effective {
        table.add_row([key.clone(), value.clone(), origin.to_string()]);
    }
    super::trimmed(&table)
}
