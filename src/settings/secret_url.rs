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
    /// Reads a URL of one of these schemes. Several hosts, with commas, are for schemes that end in `+cluster`.
    pub(super) fn parse(text: &str, schemes: &[&str]) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !schemes.contains(&scheme) {
            return None;
        }
        let shown = match scheme.strip_suffix("+cluster") {
            Some(_) => cluster(scheme, rest)?,
            None => {
                let url = Url::parse(text).ok()?;
                // A password with a slash in it ends the host, and the rest of it would be taken for a path.
                let is_torn = [url.path(), url.query().unwrap_or_default()]
                    .iter()
                    .any(|part| part.contains('@'));
                if is_torn || url.fragment().is_some() {
                    return None;
                }
                without_passwords(url)
            }
        };
        Some(Self {
            shown,
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
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.ends_with("+cluster")
        && let Some(shown) = cluster(scheme, rest)
    {
        return shown;
    }
    match Url::parse(text) {
        Ok(url) if url.password().is_some() || has_secret_parameter(&url) => without_passwords(url),
        _ => text.to_owned(),
    }
}

/// `user:password@host:port,host:port/` without the password; `None` if that is not what it is.
fn cluster(scheme: &str, rest: &str) -> Option<String> {
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, rest),
    };
    if user.is_some_and(|user| user.contains(['/', '?', '#'])) {
        return None;
    }
    let hosts = hosts.trim_end_matches('/');
    let is_host = |host: &str| {
        let url = Url::parse(&format!("{scheme}://{host}"));
        url.is_ok_and(|url| {
            url.has_host() && url.path().is_empty() && url.query().is_none() && url.fragment().is_none()
        })
    };
    let shown = |user: &str| match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}@"),
        None => format!("{user}@"),
    };
    let user = user.map(shown).unwrap_or_default();
    hosts
        .split(',')
        .all(is_host)
        .then(|| format!("{scheme}://{user}{hosts}"))
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
    #[case(
        "redis+unix:///run/redis.sock?db=1&pass=s3cret",
        "redis+unix:///run/redis.sock?db=1&pass=***"
    )]
    #[case("redis://cache:6379/2", "redis://cache:6379/2")]
    #[case("redis+cluster://u:s3cret@a:1,b:2", "redis+cluster://u:***@a:1,b:2")]
    fn passwords_do_not_print(#[case] text: &str, #[case] shown: &str) {
        let url = SecretUrl::parse(text, &["postgres", "redis", "redis+unix", "redis+cluster"]).expect("a URL");
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
    #[case("postgres://u:123/s3cret@db/x")]
    #[case("postgres://u:123?s3cret@db/x")]
    #[case("postgres://u:123#s3cret@db/x")]
    #[case("redis+cluster://")]
    #[case("redis+cluster://a:1,b:x")]
    #[case("redis+cluster://u:12/s3@a:1")]
    fn refuses(#[case] text: &str) {
        assert!(
            SecretUrl::parse(text, &["postgres", "redis+cluster"]).is_none(),
            "{text}"
        );
    }
}
