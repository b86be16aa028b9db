//! URLs that may hold a password.
//!
//! Promises: a password in one never prints, neither by `Display` nor by `Debug`; who needs it says so by
//! [`SecretUrl::expose`].

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// Stands for what is not shown.
const MASK: &str = "***";

/// Parameters of a query that are passwords: of PostgreSQL, of its client key, of Redis on a socket.
const PASSWORDS: &[&str] = &["password", "sslpassword", "pass"];

/// The URL of a service, perhaps with a password. Prints without it.
#[derive(Clone)]
pub struct SecretUrl {
    text: SecretString,
    shown: String,
}

impl SecretUrl {
    /// Reads a URL of one of these schemes.
    pub(super) fn parse(text: &str, schemes: &[&str]) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        schemes.contains(&url.scheme()).then(|| Self {
            shown: without_passwords(url),
            text: SecretString::from(text.to_owned()),
        })
    }

    /// All of it, for who connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text with the passwords masked, if it is a URL that holds any; as it is otherwise.
pub(super) fn masked(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.password().is_some() || has_secret_parameter(&url) => without_passwords(url),
        _ => text.to_owned(),
    }
}

fn is_password(name: &str) -> bool {
    PASSWORDS.iter().any(|password| name.eq_ignore_ascii_case(password))
}

fn has_secret_parameter(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| is_password(&name))
}

fn without_passwords(mut url: Url) -> String {
    if url.password().is_some() {
        // Fails only for URLs that can't have a password.
        let _ = url.set_password(Some(MASK));
    }
    if has_secret_parameter(&url) {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut query = url.query_pairs_mut();
        query.clear();
        for (name, value) in &pairs {
            query.append_pair(name, if is_password(name) { MASK } else { value });
        }
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgres://u:s3cret@db:5432/x", "postgres://u:***@db:5432/x")]
    #[case(
        "postgres://u:s3%40cret@db/x?sslmode=require",
        "postgres://u:***@db/x?sslmode=require"
    )]
    #[case("postgres:///x?host=/run&password=s3cret", "postgres:///x?host=%2Frun&password=***")]
    #[case("redis://:s3cret@cache", "redis://:***@cache")]
    #[case("unix:///run/redis.sock?db=1&pass=s3cret", "unix:///run/redis.sock?db=1&pass=***")]
    #[case("redis://cache:6379/2", "redis://cache:6379/2")]
    fn passwords_do_not_print(#[case] text: &str, #[case] shown: &str) {
        let url = SecretUrl::parse(text, &["postgres", "redis", "unix"]).expect("a URL");
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            (shown.to_owned(), shown.to_owned())
        );
        assert_eq!(url.expose(), text);
        assert_eq!(masked(text), shown);
    }

    #[rstest]
    #[case("db.example.com")]
    #[case("host=db password=s3cret")]
    #[case("mysql://db/x")]
    #[case("postgres://u:s3#cret@db/x")]
    fn refuses(#[case] text: &str) {
        assert!(SecretUrl::parse(text, &["postgres"]).is_none());
    }
}
