//! `callboard config`: every setting with its value and where that comes from.

use clap::Args;

use super::flags::SettingsArgs;
use super::inherited::InheritedArgs;
use crate::settings::{Effective, Mode};

/// Arguments of `callboard config`. The flags of a server, to see what they would do.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Of which server: their defaults differ.
    #[arg(long, value_enum, default_value_t = Mode::Dev)]
    pub mode: Mode,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: SettingsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub inherited: InheritedArgs,
}

/// The table.
#[must_use]
pub fn render(effective: &[Effective]) -> String {
    let mut table = super::table(["SETTING", "VALUE", "FROM"]);
    for Effective { key, value, origin } in effective {
        table.add_row([key.clone(), value.clone(), origin.to_string()]);
    }
    super::trimmed(&table)
}
