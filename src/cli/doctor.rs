//! `callboard doctor`: whether the promises hold in what is stored. Reads only, and may run beside servers at work.

use std::time::Duration;

use callboard_actors::domain::Timestamp;
use callboard_actors::ports::{AuditScope, Check, Clock as _, Finding};
use clap::Args;
use serde_json::{Value, json};

use super::flags::SettingsArgs;
use crate::ambient::SystemClock;
use crate::daemon;
use crate::error::Problem;
use crate::settings::Mode;

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Exit codes: 0 all is well, 1 something was found, 2 it could not be looked.

Examples:
  callboard doctor --data-dir /var/lib/callboard
      Look at the built-in database of a server, running or not.
  callboard doctor --database-url postgres://callboard:secret@db/callboard
      Look at the database that several servers share.
  callboard doctor --json
      The same for programs.";

/// Arguments of `callboard doctor`. The flags of the server, to find its database.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Seconds that jobs and events may be late before that counts
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub overdue_after: u64,
    /// Rows that each check looks at, the newest ones where there are more
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub rows: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub settings: SettingsArgs,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    at: Timestamp,
    findings: Vec<Finding>,
}

/// Looks.
///
/// # Errors
/// When the settings are none, or the store can't be read.
pub async fn examine(args: &DoctorArgs) -> Result<Report, Problem> {
    let settings = args.settings.load(Mode::Start)?.settings;
    let auditor = daemon::auditor(&settings).await?;
    let at = SystemClock.now();
    let scope = AuditScope {
        now: at,
        overdue_after: Duration::from_secs(args.overdue_after),
        rows: usize::try_from(args.rows).unwrap_or(usize::MAX),
    };
    let findings = auditor.audit(&scope).await?;
    Ok(Report { at, findings })
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    fn of(&self, check: Check) -> (u64, &[String]) {
        let found = self.findings.iter().find(|finding| finding.check == check);
        found.map_or((0, &[]), |finding| (finding.count, &finding.samples))
    }

    /// For programs: every check with what it found.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let checks = Check::ALL.iter().map(|check| {
            let (count, samples) = self.of(*check);
            json!({
                "check": check.code(),
                "promise": check.promise(),
                "meaning": check.meaning(),
                "count": count,
                "samples": samples,
            })
        });
        json!({
            "healthy": self.is_healthy(),
            "at": self.at.to_rfc3339(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut table = super::table(["CHECK", "PROMISE", "FOUND", "SAMPLES"]);
        for check in Check::ALL {
            let (count, samples) = self.of(*check);
            let mut samples = samples.join(", ");
            if samples.is_empty() {
                "-".clone_into(&mut samples);
            }
            table.add_row([
                check.code().to_owned(),
                check.promise().to_owned(),
                count.to_string(),
                samples,
            ]);
        }
        let mut text = super::trimmed(&table);
        text += if self.is_healthy() {
            "\nAll is well.\n"
        } else {
            "\nWhat was found:\n"
        };
        for finding in &self.findings {
            text += &format!("  {:<18} {}\n", finding.check.code(), finding.check.meaning());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            at: Timestamp::from_millis(1_750_000_000_000),
            findings,
        }
    }

    #[test]
    fn what_was_found_is_shown_and_explained() {
        let finding = Finding {
            check: Check::OrphanedRun,
            count: 7,
            samples: vec!["one".to_owned(), "two".to_owned()],
        };
        let report = report(vec![finding]);
        let shown = report.render();
        let lines: Vec<_> = shown.lines().collect();
        let row = lines
            .iter()
            .find(|line| line.starts_with("orphaned-run"))
            .expect("its row");
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["orphaned-run", "P4", "7", "one,", "two"]
        );
        assert!(shown.contains(Check::OrphanedRun.meaning()) && !shown.contains(Check::StrayJob.meaning()));
        let json = report.to_json();
        assert_eq!(json["healthy"], false);
        let counts: Vec<_> = json["checks"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|check| &check["count"])
            .collect();
        assert_eq!(
            (counts.len(), counts.iter().filter(|count| **count == 7).count()),
            (Check::ALL.len(), 1)
        );
    }

    #[test]
    fn nothing_found_is_said() {
        let report = report(Vec::new());
        assert!(report.render().contains("All is well."));
        assert_eq!(report.to_json()["healthy"], true);
    }
}
