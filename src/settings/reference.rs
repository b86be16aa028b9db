//! The reference of the settings as a page: `config/default.toml` and the names of the original server as tables.
//!
//! Promises: `docs/configuration.md` says what this prints (a test compares the two).

use std::fmt::Write as _;

use super::inherited::{self, IGNORED, IGNORED_VARIABLES, KNOWN, VARIABLES};
use super::{DEFAULTS, START_DEFAULTS};

/// The text above the tables.
const INTRODUCTION: &str = "\
# Configuration

Every setting may come from a file (`--config FILE` or `CALLBOARD_CONFIG`; TOML, YAML or JSON), from the environment, and many
from a flag (`callboard start --help`). Flags win over the environment, the environment over the file, the file over the
defaults. `callboard config` prints each setting with its value and where that comes from, `callboard config --mode start` as
`callboard start` sees them; secrets are masked. A key that does not exist is an error.

The variable of a key is `CALLBOARD__SECTION__KEY`: `CALLBOARD__API__PORT` sets `api.port`. Lists are written with commas.
Durations are written `250ms`, `30s`, `5m`, `2h`, `7d`; a bare number means seconds.

In a file:

```yaml
database:
  url: postgres://callboard:password@db:5432/callboard
redis:
  url: redis://cache:6379/0
api:
  port: 8288
```
";

/// The page `docs/configuration.md`.
#[must_use]
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let start = assignments(START_DEFAULTS);
    let mut section = "";
    for entry in assignments(DEFAULTS) {
        if entry.section != section {
            section = entry.section;
            let _ = write!(page, "\n## `{section}`\n\n| key | default | meaning |\n|---|---|---|\n");
        }
        let of_start = start
            .iter()
            .find(|other| (other.section, other.key) == (entry.section, entry.key));
        let of_start = of_start.map(|other| format!("; `callboard start`: `{}`", other.value));
        let _ = writeln!(
            page,
            "| `{section}.{}` | `{}`{} | {} |",
            entry.key,
            entry.value,
            of_start.unwrap_or_default(),
            entry.meaning
        );
    }
    page += "\n## Names of the original server\n\n\
             What users of the original server have in their deployments works as it is: these environment variables, and the same\n\
             names in a settings file (`sdk-url` for `INNGEST_SDK_URL`) and as flags (`--sdk-url`). The file is named by `INNGEST_CONFIG` too; it is not searched\n\
             for. Those of OpenTelemetry for exporters of traces are known, too. Callboard's own names win.\n\n\
             | variable | sets |\n|---|---|\n";
    for (flag, key) in KNOWN {
        let _ = writeln!(page, "| `{}` | `{key}` |", inherited::variable(flag));
    }
    for (variable, key) in VARIABLES {
        let _ = writeln!(page, "| `{variable}` | `{key}` |");
    }
    page += "\nThese are ignored with a warning, because they have no counterpart:\n\n| variable | why |\n|---|---|\n";
    for (flag, why) in IGNORED {
        let _ = writeln!(page, "| `{}` | {why} |", inherited::variable(flag));
    }
    for (variable, why) in IGNORED_VARIABLES {
        let _ = writeln!(page, "| `{variable}` | {why} |");
    }
    page
}

/// A line `key = value` of a defaults file.
struct Assignment<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    /// The comment above it.
    meaning: String,
}

/// Reads a file of `config/`: sections in brackets, comments above keys, one line a key.
fn assignments(file: &str) -> Vec<Assignment<'_>> {
    let mut found = Vec::new();
    let (mut section, mut comment) = ("", Vec::new());
    for line in file.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(" = ") {
            let meaning = comment.join(" ");
            found.push(Assignment {
                section,
                key,
                value,
                meaning,
            });
        }
        if !line.starts_with('#') {
            comment.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_defaults_agree() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, page()).expect("docs/ is writable");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/configuration.md is out of date; `BLESS=1 cargo test the_page_and_the_defaults_agree` rewrites it"
        );
    }
}
