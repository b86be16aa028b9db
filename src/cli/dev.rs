//! `callboard dev`: its arguments.

use clap::Args;

use super::flags::SettingsArgs;
use super::inherited::InheritedArgs;

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  callboard dev
      Look for apps on the usual local ports.
  callboard dev --no-discovery -u http://localhost:3000/api/inngest
      Serve this app.
  callboard dev --config callboard.toml --port 8080
      Flags win over the environment, the environment over the file.";

/// Arguments of `callboard dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: SettingsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub inherited: InheritedArgs,
}
