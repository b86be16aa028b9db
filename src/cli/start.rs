//! `callboard start`: its arguments.

use clap::Args;

use super::flags::SettingsArgs;
use super::inherited::InheritedArgs;

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Keys are hex digits; `openssl rand -hex 32` makes one. In the environment they are not seen in lists of processes.

Examples:
  INNGEST_SIGNING_KEY=… INNGEST_EVENT_KEY=… callboard start -u https://app.example.com/api/inngest
      One instance with its database in the directory .callboard.
  callboard start --config /etc/callboard.yaml
      Everything in a file; `callboard config --mode start --config …` shows what it makes.";

/// Arguments of `callboard start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: SettingsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub inherited: InheritedArgs,
}
