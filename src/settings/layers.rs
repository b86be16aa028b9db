//! From where settings come: each key with the value that won, and where it was set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use config::{Config, File, FileFormat, Map, Source as _, Value, ValueKind};

use super::{DEFAULTS, Flag, SECRETS};
use crate::error::{Code, Problem};

/// Names that users of the original server have in their deployments, and the keys they set. Later ones win.
const INHERITED: &[(&str, &str)] = &[
    ("INNGEST_HOST", "api.addr"),
    ("INNGEST_PORT", "api.port"),
    ("INNGEST_SQLITE_DIR", "data.dir"),
    ("INNGEST_SDK_URL", "sdk.urls"),
    ("INNGEST_NO_DISCOVERY", "sdk.discovery"),
    ("INNGEST_POLL_INTERVAL", "sdk.poll_interval"),
    ("INNGEST_NO_POLL", "sdk.poll_interval"),
    ("INNGEST_SIGNING_KEY", "keys.signing"),
    ("INNGEST_EVENT_KEY", "keys.event"),
    ("INNGEST_RETRY_INTERVAL", "retry.interval"),
    ("LOG_LEVEL", "log.level"),
    ("LOG_HANDLER", "log.format"),
];

/// The environment variable that names the file; `--config` wins over it.
pub(crate) const FILE_VARIABLE: &str = "CALLBOARD_CONFIG";

const PREFIX: &str = "CALLBOARD__";

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    Default,
    /// The file at this path.
    File(String),
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A key with its value, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Such as `api.port`.
    pub key: String,
    /// As TOML would say it; secrets masked.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

/// The values that won so far.
#[derive(Debug)]
pub(super) struct Layers {
    values: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    /// The compiled-in layer. Its keys are all there are.
    ///
    /// # Panics
    /// If `config/default.toml` is not TOML; a test reads it.
    pub(super) fn defaults() -> Self {
        let parsed = parse(DEFAULTS, FileFormat::Toml).expect("config/default.toml is valid TOML");
        let values = flatten(parsed);
        Self {
            values: values
                .into_iter()
                .map(|(key, value)| (key, (value, Origin::Default)))
                .collect(),
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&(Value, Origin)> {
        self.values.get(key)
    }

    /// Lays a file over what there is.
    ///
    /// # Errors
    /// When it can't be read or parsed.
    pub(super) fn add_file(&mut self, path: &Path, problems: &mut Vec<String>) -> Result<(), Problem> {
        let shown = path.display();
        let unreadable = |why: String| Problem::new(Code::UnreadableSettings, format!("{shown}: {why}"));
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("yaml" | "yml") => FileFormat::Yaml,
            _ => return Err(unreadable("the name must end in .toml, .yaml or .yml".to_owned())),
        };
        let parsed = parse(&text, format).map_err(|error| unreadable(error.to_string()))?;
        let origin = Origin::File(shown.to_string());
        for (key, value) in flatten(parsed) {
            self.set(&key, value, origin.clone(), problems);
        }
        Ok(())
    }

    /// Lays the environment over what there is: first the inherited names, then our own.
    pub(super) fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
        problems: &mut Vec<String>,
    ) {
        let mut environment: BTreeMap<String, String> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX) || INHERITED.iter().any(|(known, _)| known == name))
            .collect();
        for (name, key) in INHERITED {
            let given = environment.remove(*name).filter(|text| !text.is_empty());
            if let Some(text) = given.and_then(|text| translate(name, text)) {
                self.set(
                    key,
                    value(name, text),
                    Origin::Environment((*name).to_owned()),
                    problems,
                );
            }
        }
        for (name, text) in environment {
            let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
            self.set(&key, value(&name, text), Origin::Environment(name.clone()), problems);
        }
    }

    /// Lays flags over what there is.
    pub(super) fn add_flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            let is_list = self.is_list(flag.key);
            let origin = flag.name.to_owned();
            let kind = if is_list {
                let values = flag.values.iter().map(|text| value(&origin, text.clone()));
                ValueKind::Array(values.collect())
            } else {
                ValueKind::String(flag.values.last().cloned().unwrap_or_default())
            };
            let value = Value::new(Some(&origin), kind);
            self.values
                .insert(flag.key.to_owned(), (value, Origin::Flag(flag.name)));
        }
    }

    fn is_list(&self, key: &str) -> bool {
        matches!(
            self.values.get(key),
            Some((
                Value {
                    kind: ValueKind::Array(_),
                    ..
                },
                _
            ))
        )
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin, problems: &mut Vec<String>) {
        if self.values.contains_key(key) {
            self.values.insert(key.to_owned(), (value, origin));
            return;
        }
        let nearest = self.values.keys().min_by_key(|known| distance(known, key));
        let suggestion = nearest
            .filter(|known| distance(known, key) <= 1 + key.len() / 4)
            .map(|known| format!("; did you mean `{known}`?"));
        problems.push(format!(
            "`{key}` ({origin}) is not a setting{}",
            suggestion.unwrap_or_default()
        ));
    }

    /// Each key for people, secrets masked.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let shown = |key: &str, value: &Value| {
            let is_secret =
                SECRETS.contains(&key) && !matches!(&value.kind, ValueKind::String(text) if text.is_empty());
            match &value.kind {
                ValueKind::Array(items) if is_secret => format!("[{}]", vec!["\"***\""; items.len()].join(", ")),
                _ if is_secret => "\"***\"".to_owned(),
                _ => print(value),
            }
        };
        let values = self.values.iter().map(|(key, (value, origin))| Effective {
            key: key.clone(),
            value: shown(key, value),
            origin: origin.clone(),
        });
        values.collect()
    }
}

/// What an inherited variable means by a text, where the key means something else by it; `None` if it sets nothing.
fn translate(name: &str, text: String) -> Option<String> {
    let is_true = matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
    match name {
        "INNGEST_NO_DISCOVERY" => Some((!is_true).to_string()),
        "INNGEST_NO_POLL" => is_true.then(|| "0".to_owned()),
        "LOG_HANDLER" => match text.as_str() {
            "json" => Some(text),
            _ => None,
        },
        _ => Some(text),
    }
}

fn value(origin: &str, text: String) -> Value {
    Value::new(Some(&origin.to_owned()), ValueKind::String(text))
}

fn parse(text: &str, format: FileFormat) -> Result<Map<String, Value>, config::ConfigError> {
    Config::builder()
        .add_source(File::from_str(text, format))
        .build()?
        .collect()
}

/// `{a: {b: 1}}` as `a.b = 1`.
fn flatten(table: Map<String, Value>) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (key, value) in table {
        match value.kind {
            ValueKind::Table(inner) => {
                let inner = flatten(inner).into_iter();
                flat.extend(inner.map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            // `keys:` with nothing below it, in YAML.
            ValueKind::Nil => {}
            _ => flat.push((key, value)),
        }
    }
    flat.sort_by(|a, b| a.0.cmp(&b.0));
    flat
}

/// As TOML would say it.
fn print(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(", ")),
        _ => value.to_string(),
    }
}

/// How many letters have to be put in, taken out or changed to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
