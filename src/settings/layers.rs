//! From where settings come: each key with the value that won, and where it was set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use config::{Config, File, FileFormat, Map, Source as _, Value, ValueKind};

use super::inherited::{self, IGNORED, IGNORED_VARIABLES, KNOWN, VARIABLES, translate};
use super::secret_url::masked;
use super::{DEFAULTS, Flag, Mode, SECRETS, START_DEFAULTS};
use crate::error::{Code, Problem};

/// The environment variable that names the file; `--config` wins over it.
pub(crate) const FILE_VARIABLE: &str = "CALLBOARD_CONFIG";

/// The same of the original server; ours wins.
pub(crate) const INHERITED_FILE_VARIABLE: &str = "INNGEST_CONFIG";

const PREFIX: &str = "CALLBOARD__";

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    Default,
    /// Compiled in, for this mode.
    Mode(Mode),
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
            Self::Mode(mode) => write!(f, "default of `{mode}`"),
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

/// The values that won so far. What is no setting is a problem; what is ignored, a warning.
#[derive(Debug)]
pub(super) struct Layers {
    values: BTreeMap<String, (Value, Origin)>,
    /// The keys whose values are lists.
    lists: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// The compiled-in layers: the defaults, whose keys are all there are, and over them those of the mode.
    ///
    /// # Panics
    /// If a file of `config/` is not TOML; a test reads them.
    pub(super) fn defaults(mode: Mode) -> Self {
        let compiled = |text| flatten(parse(text, FileFormat::Toml).expect("the files of config/ are valid TOML"));
        let values = compiled(DEFAULTS);
        let is_list = |(key, value): &(String, Value)| matches!(value.kind, ValueKind::Array(_)).then(|| key.clone());
        let mut layers = Self {
            lists: values.iter().filter_map(is_list).collect(),
            values: values
                .into_iter()
                .map(|(key, value)| (key, (value, Origin::Default)))
                .collect(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        match mode {
            Mode::Dev => {}
            Mode::Start => {
                for (key, value) in compiled(START_DEFAULTS) {
                    layers.set(&key, value, &Origin::Mode(mode));
                }
            }
        }
        layers
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&(Value, Origin)> {
        self.values.get(key)
    }

    /// Lays a file over what there is.
    ///
    /// # Errors
    /// When it can't be read or parsed.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), Problem> {
        let shown = path.display();
        let unreadable = |why: String| Problem::new(Code::UnreadableSettings, format!("{shown}: {why}"));
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("yaml" | "yml") => FileFormat::Yaml,
            Some("json") => FileFormat::Json,
            _ => {
                return Err(unreadable(
                    "the name must end in .toml, .yaml, .yml or .json".to_owned(),
                ));
            }
        };
        let parsed = parse(&text, format).map_err(|error| unreadable(without_source(&error.to_string())))?;
        let origin = Origin::File(shown.to_string());
        let mut values: BTreeMap<String, Value> = flatten(parsed).into_iter().collect();
        for (flag, key) in KNOWN {
            if let Some(value) = values.remove(*flag).and_then(|value| translate(flag, value)) {
                self.set(key, value, &origin);
            }
        }
        for (flag, why) in IGNORED {
            if values.remove(*flag).is_some() {
                self.warnings.push(format!("`{flag}` ({origin}) is ignored: {why}"));
            }
        }
        for (key, value) in values {
            self.set(&key, value, &origin);
        }
        Ok(())
    }

    /// Lays the environment over what there is: first the inherited names, then our own.
    pub(super) fn add_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let (own, mut others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            environment.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        others.retain(|_, text: &mut String| !text.is_empty());
        let flags = KNOWN.iter().map(|(flag, key)| (inherited::variable(flag), *flag, *key));
        let variables = VARIABLES.iter().map(|(name, key)| ((*name).to_owned(), *name, *key));
        for (variable, name, key) in flags.chain(variables) {
            let text = others.remove(&variable);
            if let Some(value) = text.and_then(|text| translate(name, value(&variable, text))) {
                self.set(key, value, &Origin::Environment(variable));
            }
        }
        for (flag, why) in IGNORED {
            let variable = inherited::variable(flag);
            if others.contains_key(&variable) {
                self.warnings
                    .push(format!("`{variable}` (environment) is ignored: {why}"));
            }
        }
        for (variable, why) in IGNORED_VARIABLES {
            if others.contains_key(*variable) {
                self.warnings
                    .push(format!("`{variable}` (environment) is ignored: {why}"));
            }
        }
        for (name, text) in own {
            let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
            self.set(&key, value(&name, text), &Origin::Environment(name.clone()));
        }
    }

    /// Lays flags over what there is.
    pub(super) fn add_flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            let inherited = flag.name.trim_start_matches('-');
            if let Some((_, why)) = IGNORED.iter().find(|(name, _)| *name == inherited) {
                self.warnings.push(format!("`{}` is ignored: {why}", flag.name));
                continue;
            }
            let is_list = self.lists.iter().any(|list| list == flag.key);
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

    fn set(&mut self, key: &str, value: Value, origin: &Origin) {
        if self.values.contains_key(key) {
            self.values.insert(key.to_owned(), (value, origin.clone()));
            return;
        }
        let nearest = self.values.keys().min_by_key(|known| distance(known, key));
        let suggestion = nearest
            .filter(|known| distance(known, key) <= 1 + key.len() / 4)
            .map(|known| format!("; did you mean `{known}`?"));
        self.problems.push(format!(
            "`{key}` ({origin}) is not a setting{}",
            suggestion.unwrap_or_default()
        ));
    }

    /// Each key for people, secrets masked.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let values = self.values.iter().map(|(key, (value, origin))| Effective {
            key: key.clone(),
            value: shown(key, value),
            origin: origin.clone(),
        });
        values.collect()
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

/// A parser's message without the lines of the file that it quotes: there may be keys in them.
fn without_source(message: &str) -> String {
    let is_quote = |line: &&str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .starts_with('|')
    };
    let kept: Vec<&str> = message.lines().filter(|line| !is_quote(line)).collect();
    kept.join(": ")
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

/// A key's value for people: as TOML would say it, secrets masked.
pub(super) fn shown(key: &str, value: &Value) -> String {
    let is_empty = matches!(&value.kind, ValueKind::String(text) if text.is_empty());
    match &value.kind {
        _ if !SECRETS.contains(&key) || is_empty => print(value),
        ValueKind::Array(items) => format!("[{}]", vec!["\"***\""; items.len()].join(", ")),
        _ => "\"***\"".to_owned(),
    }
}

/// As TOML would say it; passwords in URLs masked.
pub(super) fn print(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{:?}", masked(text)),
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
