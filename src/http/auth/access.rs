//! The table: what is open, and which scope the rest needs.
//!
//! Promises: every path there may be has an entry or needs the highest scope, whether or not anything is mounted there.

use actix_web::http::Method;
use callboard_actors::domain::KeyScope::{self, Admin, Read, Write};

use crate::sdk::ServerKind;

/// Which requests an entry of a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Methods {
    All,
    /// GET and HEAD.
    Reads,
}

impl Methods {
    fn include(self, method: &Method) -> bool {
        self == Self::All || matches!(*method, Method::GET | Method::HEAD)
    }
}

/// On which servers a path is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    All,
    /// Those of developers, who have keys because their apps do.
    Dev,
}

/// What needs no key on a server that has some. `/*` at the end of a path stands for everything below it, and within one for
/// one part of it.
const OPEN: &[(&str, Methods, Servers)] = &[
    ("/", Methods::Reads, Servers::All),
    ("/health", Methods::Reads, Servers::All),
    ("/health/ready", Methods::Reads, Servers::All),
    ("/v2/health", Methods::Reads, Servers::All),
    ("/api/v2/health", Methods::Reads, Servers::All),
    // What probes ask at the workers' own port.
    ("/ready", Methods::Reads, Servers::All),
    // Asks for the token of a start instead.
    ("/v0/connect", Methods::Reads, Servers::All),
    // Asks for an event key instead.
    ("/e/*", Methods::All, Servers::All),
    ("/metrics", Methods::Reads, Servers::Dev),
    ("/api/v1/*", Methods::Reads, Servers::Dev),
    ("/dev/traces", Methods::All, Servers::Dev),
    ("/v0/gql", Methods::All, Servers::Dev),
    ("/v0/connect/envs/*", Methods::Reads, Servers::Dev),
    // Asks for the run's token instead.
    ("/v1/checkpoint/*/output", Methods::All, Servers::All),
    ("/v1/http/runs/*/output", Methods::All, Servers::All),
    // Ask for a token that names what to subscribe to.
    ("/v1/realtime/connect", Methods::Reads, Servers::All),
    ("/v1/realtime/sse", Methods::Reads, Servers::All),
];

/// What a key needs for the rest. The first entry that fits decides.
const SCOPES: &[(&str, Methods, KeyScope)] = &[
    // Our own API.
    ("/api/v1/keys", Methods::All, Admin),
    ("/api/v1/keys/*", Methods::All, Admin),
    // It counts, and changes nothing.
    ("/api/v1/operations/preview", Methods::All, Read),
    ("/api/v1/*", Methods::Reads, Read),
    ("/api/v1/*", Methods::All, Write),
    // Those of the original.
    ("/v1/*", Methods::Reads, Read),
    ("/v1/*", Methods::All, Write),
    ("/v2/*", Methods::Reads, Read),
    ("/v2/*", Methods::All, Write),
    ("/api/v2/*", Methods::Reads, Read),
    ("/api/v2/*", Methods::All, Write),
    // Queries; mutations need `write`, which is seen when the document is read.
    ("/v0/gql", Methods::All, Read),
    // States of runs for apps, workers, and what is told of them.
    ("/v0/*", Methods::Reads, Read),
    ("/v0/*", Methods::All, Write),
    // Registrations and invokes.
    ("/fn/*", Methods::Reads, Read),
    ("/fn/*", Methods::All, Write),
    ("/invoke/*", Methods::All, Write),
    // Pages for developers, and traces of their apps.
    ("/dev", Methods::Reads, Read),
    ("/dev/*", Methods::All, Write),
    ("/metrics", Methods::Reads, Read),
];

/// Whether the path is what the pattern stands for.
fn fits(pattern: &str, path: &str) -> bool {
    // A slash too many is redirected to where it is missing.
    let bare = match path.trim_end_matches('/') {
        "" => "/",
        bare => bare,
    };
    match pattern.split_once('*') {
        Some((prefix, "")) => path.starts_with(prefix),
        Some((prefix, rest)) => {
            let part = bare.strip_prefix(prefix).and_then(|path| path.strip_suffix(rest));
            part.is_some_and(|part| !part.is_empty() && !part.contains('/'))
        }
        None => bare == pattern,
    }
}

/// Whether nobody needs a key for this.
pub(super) fn is_open(path: &str, method: &Method, kind: ServerKind) -> bool {
    OPEN.iter().any(|(pattern, methods, servers)| {
        let is_server = *servers == Servers::All || kind == ServerKind::Dev;
        is_server && methods.include(method) && fits(pattern, path)
    })
}

/// The scope that a key needs for this. The path is as it is routed: decoded.
pub(in crate::http) fn needed(path: &str, method: &Method) -> KeyScope {
    let entry = SCOPES
        .iter()
        .find(|(pattern, methods, _)| methods.include(method) && fits(pattern, path));
    entry.map_or(Admin, |(_, _, scope)| *scope)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GET", "/api/v1/keys", Admin)]
    #[case("GET", "/api/v1/keys/", Admin)]
    #[case("POST", "/api/v1/keys", Admin)]
    #[case("DELETE", "/api/v1/keys/01J", Admin)]
    #[case("GET", "/api/v1/keysmith", Read)]
    #[case("GET", "/api/v1/runs", Read)]
    #[case("HEAD", "/api/v1/runs/01J", Read)]
    #[case("POST", "/api/v1/runs/01J/cancel", Write)]
    #[case("POST", "/api/v1/operations", Write)]
    #[case("POST", "/api/v1/operations/preview", Read)]
    #[case("PUT", "/api/v1/functions/f/limits", Write)]
    #[case("GET", "/v1/events", Read)]
    #[case("POST", "/v1/signals", Write)]
    #[case("DELETE", "/v1/runs/01J", Write)]
    #[case("GET", "/v2/runs", Read)]
    #[case("POST", "/api/v2/runs/01J/cancel", Write)]
    #[case("POST", "/v0/gql", Read)]
    #[case("GET", "/v0/runs/01J/actions", Read)]
    #[case("POST", "/v0/connect/start", Write)]
    #[case("POST", "/fn/register", Write)]
    #[case("POST", "/invoke/f", Write)]
    #[case("GET", "/metrics", Read)]
    // What nobody has thought of.
    #[case("POST", "/metrics", Admin)]
    #[case("GET", "/nothing", Admin)]
    #[case("GET", "//api/v1/runs", Admin)]
    #[case("POST", "/test/reset", Admin)]
    #[case("GET", "/%61pi/v1/runs", Admin)]
    fn the_table_says(#[case] method: &str, #[case] path: &str, #[case] scope: KeyScope) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        assert_eq!(needed(path, &method), scope);
    }
}
