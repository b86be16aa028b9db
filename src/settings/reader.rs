//! Turns values into settings, and collects what is wrong with them. A value that is wrong yields some valid one, so that
//! reading goes on; it is never used, because there is a problem on the list.

use std::net::IpAddr;
use std::time::Duration;

use config::{Value, ValueKind};
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::EnvFilter;
use url::Url;

use super::layers::{self, Layers};
use super::secret_url::{SecretUrl, masked};
use super::{GatewayPort, SECRETS};
use crate::sdk::transport::guard::Network;

/// Keys of what may hold a password that can't be told from the rest, if the value is no URL.
const URLS: &[&str] = &["database.url", "redis.url"];

/// Characters of an API key, at least: fewer can be guessed.
const API_KEY_LENGTH: usize = 16;

/// Reads values and collects problems.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        let problems = Vec::new();
        Self { layers, problems }
    }

    /// # Panics
    /// If `key` is missing in `config/default.toml`; a test loads the defaults.
    fn value(&self, key: &str) -> &'a Value {
        let (value, _) = self.layers.get(key).expect("every key has a default");
        value
    }

    fn complain(&mut self, key: &str, expected: &str) {
        let shown = match &self.value(key).kind {
            _ if SECRETS.contains(&key) || URLS.contains(&key) => String::new(),
            ValueKind::String(text) => format!(" is `{}`;", masked(text)),
            _ => format!(" is `{}`;", layers::print(self.value(key))),
        };
        let origin = self.layers.get(key).map(|(_, origin)| origin.to_string());
        let origin = origin.unwrap_or_default();
        self.problems
            .push(format!("`{key}` ({origin}){shown} must be {expected}"));
    }

    /// Notes a problem unless `holds`.
    pub(super) fn require(&mut self, key: &str, holds: bool, expected: &str) {
        if !holds {
            self.complain(key, expected);
        }
    }

    fn read<T>(&mut self, key: &str, read: impl FnOnce(Value) -> Option<T>, fallback: T, expected: &str) -> T {
        read(self.value(key).clone()).unwrap_or_else(|| {
            self.complain(key, expected);
            fallback
        })
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str) -> String {
        let read = |value: Value| value.into_string().ok().filter(|text| !text.trim().is_empty());
        self.read(key, read, String::new(), "a text")
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> bool {
        self.read(key, |value| value.into_bool().ok(), false, "true or false")
    }

    /// A whole number.
    pub(super) fn integer<T: TryFrom<u64> + Default>(&mut self, key: &str, min: u64, max: u64) -> T {
        let read = |value: Value| {
            // `into_int` would round a fraction.
            let whole = match &value.kind {
                ValueKind::Float(_) | ValueKind::Boolean(_) => None,
                _ => value.into_int().ok(),
            };
            let number = u64::try_from(whole?)
                .ok()
                .filter(|number| (min..=max).contains(number))?;
            T::try_from(number).ok()
        };
        self.read(key, read, T::default(), &format!("a whole number from {min} to {max}"))
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &str, min: Duration, max: Duration) -> Duration {
        let read = |value: Value| duration(value).filter(|duration| (min..=max).contains(duration));
        let expected = format!("a duration from {} to {}, such as `30s`", print(min), print(max));
        self.read(key, read, min, &expected)
    }

    /// A duration, or 0 for none.
    pub(super) fn optional_duration(&mut self, key: &str, min: Duration, max: Duration) -> Option<Duration> {
        let is_valid = |duration: &Duration| duration.is_zero() || (min..=max).contains(duration);
        let read = |value: Value| duration(value).filter(is_valid);
        let expected = format!("0, or a duration from {} to {}, such as `30s`", print(min), print(max));
        Some(self.read(key, read, Duration::ZERO, &expected)).filter(|duration| !duration.is_zero())
    }

    /// An address to listen on.
    pub(super) fn address(&mut self, key: &str) -> String {
        let read = |value: Value| {
            let text = value.into_string().ok()?;
            let bare = text.trim_start_matches('[').trim_end_matches(']').to_owned();
            (bare == "localhost" || bare.parse::<IpAddr>().is_ok()).then_some(bare)
        };
        self.read(key, read, String::new(), "an IP address or `localhost`")
    }

    /// One of these.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let find = |value: Value| {
            let text = value.into_string().ok()?;
            let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
            found.map(|(_, choice)| *choice)
        };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.read(key, find, choices[0].1, &format!("one of {}", names.join(", ")))
    }

    /// What the log shows.
    pub(super) fn log_filter(&mut self, key: &str) -> String {
        let read = |value: Value| {
            let text = value.into_string().ok().filter(|text| !text.trim().is_empty())?;
            // The filter takes any word for the name of a module; a lone word is meant to be a level.
            let levels = ["error", "warn", "info", "debug", "trace", "off"];
            let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
            let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(&text));
            (is_level || !is_word && EnvFilter::try_new(&text).is_ok()).then_some(text)
        };
        let expected = "error, warn, info, debug, trace, or a filter such as `info,callboard=debug`";
        self.read(key, read, "info".to_owned(), expected)
    }

    /// The items of a list: an array, or a text with commas.
    fn list(&mut self, key: &str) -> Vec<String> {
        let read = |value: Value| match value.kind {
            ValueKind::String(text) => Some(
                text.split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty())
                    .collect(),
            ),
            ValueKind::Array(items) => items
                .into_iter()
                .map(|item| item.into_string().ok().filter(|item| !item.trim().is_empty()))
                .collect(),
            _ => None,
        };
        self.read(key, read, Vec::new(), "a list of texts")
    }

    /// A list of secrets.
    pub(super) fn secrets(&mut self, key: &str) -> Vec<SecretString> {
        let are_texts = match &self.value(key).kind {
            ValueKind::Array(items) => items.iter().all(is_text),
            _ => true,
        };
        self.require(key, are_texts, QUOTED);
        self.list(key).into_iter().map(SecretString::from).collect()
    }

    /// A list of keys that are hard to guess.
    pub(super) fn api_keys(&mut self, key: &str) -> Vec<SecretString> {
        let keys = self.secrets(key);
        let is_long = |key: &SecretString| key.expose_secret().chars().count() >= API_KEY_LENGTH;
        let expected = format!("keys of at least {API_KEY_LENGTH} characters; `openssl rand -hex 32` makes one");
        self.require(key, keys.iter().all(is_long), &expected);
        keys
    }

    /// A signing key, or empty for none.
    pub(super) fn signing_key(&mut self, key: &str) -> Option<SecretString> {
        let are_quoted = is_text(self.value(key));
        self.require(key, are_quoted, QUOTED);
        let read = |value: Value| {
            let text = value.into_string().ok()?;
            (text.is_empty() || is_signing_key(&text)).then_some(text)
        };
        let text = self.read(key, read, String::new(), SIGNING_KEY);
        Some(text).filter(|text| !text.is_empty()).map(SecretString::from)
    }

    /// Signing keys, in any number.
    pub(super) fn signing_keys(&mut self, key: &str) -> Vec<SecretString> {
        let keys = self.secrets(key);
        let are_keys = keys.iter().all(|key| is_signing_key(key.expose_secret()));
        self.require(key, are_keys, SIGNING_KEY);
        keys
    }

    /// The URL of a service, or empty for none.
    pub(super) fn service(&mut self, key: &str, schemes: &[&str], example: &str) -> Option<SecretUrl> {
        let read = |value: Value| {
            let text = value.into_string().ok()?;
            let text = text.trim();
            if text.is_empty() {
                return Some(None);
            }
            SecretUrl::parse(text, schemes).map(Some)
        };
        let expected =
            format!("a URL such as `{example}`; special characters of a password are written as %40 is for @");
        self.read(key, read, None, &expected)
    }

    /// A word of letters, digits, `-`, `_` and `.`.
    pub(super) fn word(&mut self, key: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let read = |value: Value| {
            let text = value.into_string().ok()?;
            ((1..=64).contains(&text.len()) && text.chars().all(is_plain)).then_some(text)
        };
        self.read(key, read, String::new(), "1 to 64 letters, digits, `-`, `_` and `.`")
    }

    /// A name without control characters, or empty for this one.
    pub(super) fn name_or(&mut self, key: &str, otherwise: impl FnOnce() -> String) -> String {
        let read = |value: Value| {
            let text = value.into_string().ok()?.trim().to_owned();
            (text.len() <= 255 && !text.chars().any(char::is_control)).then_some(text)
        };
        let name = self.read(key, read, String::new(), "a name of at most 255 bytes");
        if name.is_empty() { otherwise() } else { name }
    }

    /// The URL of a collector of traces, or empty for none. One without a path is a base, below which traces have their place.
    pub(super) fn collector(&mut self, key: &str) -> Option<SecretUrl> {
        const SCHEMES: &[&str] = &["http", "https"];
        let given = self.service(key, SCHEMES, "http://collector:4318")?;
        let mut url = Url::parse(given.expose()).ok()?;
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        SecretUrl::parse(url.as_str(), SCHEMES)
    }

    /// Headers, each as `name=value`.
    pub(super) fn headers(&mut self, key: &str) -> Vec<(String, SecretString)> {
        let given = self.list(key);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let header = |text: &String| {
            let (name, value) = text.split_once('=')?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            let is_valid = !name.is_empty() && name.chars().all(is_name) && !value.chars().any(char::is_control);
            is_valid.then(|| (name, SecretString::from(value.to_owned())))
        };
        let headers: Vec<_> = given.iter().filter_map(header).collect();
        self.require(
            key,
            headers.len() == given.len(),
            "headers such as `authorization=Bearer abc`",
        );
        headers
    }

    /// A share from 0 to 1, in millionths.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 and a million: checked beside it"
    )]
    pub(super) fn ratio(&mut self, key: &str) -> u32 {
        let read = |value: Value| {
            let ratio: f64 = value.into_string().ok()?.trim().parse().ok()?;
            (0.0..=1.0).contains(&ratio).then(|| (ratio * 1e6).round() as u32)
        };
        self.read(key, read, 0, "a number from 0 to 1")
    }

    /// Names, in any number.
    pub(super) fn names(&mut self, key: &str) -> Vec<String> {
        self.list(key)
    }

    /// URLs of apps.
    pub(super) fn urls(&mut self, key: &str) -> Vec<String> {
        let urls = self.list(key);
        let is_valid = urls.iter().all(|url| is_http(url));
        self.require(key, is_valid, "http or https URLs");
        urls
    }

    /// Networks, in any number.
    pub(super) fn networks(&mut self, key: &str) -> Vec<Network> {
        let networks: Result<Vec<Network>, _> = self.list(key).iter().map(|text| text.parse()).collect();
        networks.unwrap_or_else(|_| {
            self.complain(key, "networks such as `10.1.0.0/16`, `10.2.3.4` or `fd00::/8`");
            Vec::new()
        })
    }

    /// A port for workers.
    pub(super) fn gateway_port(&mut self, key: &str) -> GatewayPort {
        let read = |value: Value| {
            let text = value.into_string().ok()?;
            match text.trim() {
                "auto" => Some(GatewayPort::Next),
                "0" => Some(GatewayPort::None),
                number => number.parse().ok().map(GatewayPort::Fixed),
            }
        };
        self.read(key, read, GatewayPort::None, "`auto`, a port, or 0 for none")
    }

    /// The URL of an app.
    pub(super) fn url(&mut self, key: &str) -> String {
        let read = |value: Value| value.into_string().ok().filter(|text| is_http(text));
        self.read(key, read, String::new(), "an http or https URL")
    }
}

/// What a key of digits is told that a file gives without quotes: it was read as a number, and is another key now.
const QUOTED: &str = "in quotes";

/// What a signing key is.
const SIGNING_KEY: &str = "an even number of hex digits, with or without `signkey-<name>-` in front";

fn is_signing_key(text: &str) -> bool {
    let digits = match text.strip_prefix("signkey-") {
        Some(rest) => rest.split_once('-').map(|(_, digits)| digits),
        None => Some(text),
    };
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.is_some_and(|digits| !digits.is_empty() && digits.len().is_multiple_of(2) && is_hex(digits))
}

fn is_text(value: &Value) -> bool {
    matches!(value.kind, ValueKind::String(_))
}

fn is_http(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}

/// `250ms`, `30s`, `5m`, `2h`, `7d`, or a bare number of seconds.
fn duration(value: Value) -> Option<Duration> {
    let text = value.into_string().ok()?;
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// The largest unit that says it in a whole number.
fn print(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units
        .iter()
        .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{millis}ms"),
        |(size, name)| format!("{}{name}", millis / size),
    )
}
