//! The code that runs within Redis, as one library of functions.
//!
//! A library is read once and its functions are made once; a script makes all of its functions anew in each call, which for
//! this code costs more than what a small exchange does. Libraries survive `SCRIPT FLUSH` and failover, and are lost with the
//! rest in a restart without persistence. Where Redis takes no library (an account that must not load any) the same text is
//! sent as scripts.
//!
//! Promises: what Redis does not know (any more) is sent again in full. A library's name says what is in it, so that
//! programs of several versions may share a server; a library is some 40 KB, and nobody removes those of versions that are
//! gone (`FUNCTION FLUSH` does, and does no harm).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};

use super::link::{self, Link};

/// Everything that is defined, in the order in which one file stands on another.
const DEFINITIONS: &str = concat!(
    include_str!("scripts/common.lua"),
    include_str!("scripts/gates.lua"),
    include_str!("scripts/lines.lua"),
    include_str!("scripts/ends.lua"),
    include_str!("scripts/push.lua"),
    include_str!("scripts/lease.lua"),
    include_str!("scripts/exchange.lua"),
    include_str!("scripts/leases_of.lua"),
    include_str!("scripts/stats.lua"),
    include_str!("scripts/flow.lua"),
    include_str!("scripts/places.lua"),
);

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Everything that changes something.
    Exchange,
    /// The same, for a Redis without memory for more.
    ExchangeFull,
    LeasesOf,
    Stats,
    Flow,
    Places,
}

impl Entry {
    const ALL: [Self; 6] = [
        Self::Exchange,
        Self::ExchangeFull,
        Self::LeasesOf,
        Self::Stats,
        Self::Flow,
        Self::Places,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::ExchangeFull => "exchange_full",
            Self::LeasesOf => "leases_of",
            Self::Stats => "stats",
            Self::Flow => "flow",
            Self::Places => "places",
        }
    }

    /// Without a flag Redis refuses to run what might write when it has no memory for more.
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Exchange => None,
            Self::ExchangeFull | Self::Flow | Self::Places => Some("allow-oom"),
            Self::LeasesOf | Self::Stats => Some("no-writes"),
        }
    }

    /// Lua that runs it.
    fn call(self, keys: &str, args: &str) -> String {
        match self {
            Self::ExchangeFull => format!("exchange({keys}, {args}, true)"),
            _ => format!("{}({keys}, {args})", self.name()),
        }
    }
}

/// The library, and the scripts that stand in for it.
#[derive(Debug)]
pub(super) struct Scripts {
    name: String,
    library: String,
    scripts: [Script; Entry::ALL.len()],
    texts: [String; Entry::ALL.len()],
    /// Redis takes no library: as far as this connection is known.
    is_refused: AtomicBool,
}

impl Default for Scripts {
    fn default() -> Self {
        let digest = Script::new(DEFINITIONS);
        let name = format!("callboard_{}", &digest.get_hash()[..16]);
        let mut library = format!("#!lua name={name}\n{DEFINITIONS}");
        for entry in Entry::ALL {
            let flags = entry.flag().map_or_else(String::new, |flag| format!("'{flag}'"));
            library += &format!(
                "redis.register_function{{ function_name = '{name}_{}', flags = {{ {flags} }},\n    \
                 callback = function(keys, args) return {} end }}\n",
                entry.name(),
                entry.call("keys", "args")
            );
        }
        let texts = Entry::ALL.map(|entry| {
            let flags = entry.flag().map_or_else(String::new, |flag| format!(" flags={flag}"));
            format!("#!lua{flags}\n{DEFINITIONS}return {}\n", entry.call("KEYS", "ARGV"))
        });
        Self {
            scripts: Entry::ALL.map(|entry| Script::new(&texts[entry as usize])),
            name,
            library,
            texts,
            is_refused: AtomicBool::new(false),
        }
    }
}

impl Scripts {
    /// What was refused before may be taken by the server of a new connection.
    pub(super) fn connected(&self) {
        self.is_refused.store(false, Relaxed);
    }

    /// Exchanges.
    pub(super) async fn exchange(&self, link: &mut Link, key: &str, args: &[String]) -> RedisResult<Value> {
        match self.run(link, Entry::Exchange, key, args).await {
            Err(error) if error.code() == Some("OOM") => self.run(link, Entry::ExchangeFull, key, args).await,
            answer => answer,
        }
    }

    /// Runs one on `key`.
    pub(super) async fn run(&self, link: &mut Link, entry: Entry, key: &str, args: &[String]) -> RedisResult<Value> {
        if !self.is_refused.load(Relaxed) {
            let name = format!("{}_{}", self.name, entry.name());
            let answer = link.send(&call("FCALL", &name, key, args)).await;
            if !answer.as_ref().is_err_and(is_unknown) {
                return answer;
            }
            let mut load = redis::cmd("FUNCTION");
            load.arg("LOAD").arg("REPLACE").arg(&self.library);
            match link.send(&load).await {
                Ok(_) => return link.send(&call("FCALL", &name, key, args)).await,
                Err(error) if link::is_lost(&error) => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "Redis takes no library of functions; scripts will do");
                    self.is_refused.store(true, Relaxed);
                }
            }
        }
        let (script, text) = (&self.scripts[entry as usize], &self.texts[entry as usize]);
        match link.send(&call("EVALSHA", script.get_hash(), key, args)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.send(&call("EVAL", text, key, args)).await
            }
            answer => answer,
        }
    }
}

fn call(command: &str, code: &str, key: &str, args: &[String]) -> Cmd {
    let mut call = Cmd::with_capacity(4 + args.len(), 64 + args.iter().map(String::len).sum::<usize>());
    call.arg(command).arg(code).arg(1).arg(key).arg(args);
    call
}

/// Whether Redis does not know a function, or no functions at all, or must not run any for this account.
fn is_unknown(error: &RedisError) -> bool {
    match error.code() {
        Some("NOPERM") => true,
        Some("ERR") => {
            let detail = error.detail().unwrap_or_default();
            detail.contains("Function not found") || detail.contains("unknown command")
        }
        _ => false,
    }
}
