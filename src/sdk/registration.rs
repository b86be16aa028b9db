//! What an app says of itself when it registers, from JSON to a [`Registration`].
//!
//! Two readers share one validation. [`parse`] reads what SDKs send, leniently: keys in any case, unknown keys, nulls
//! and empty texts for what is not set, four shapes of concurrency. [`parse_own`] reads the body of our own API and
//! refuses what it does not know, so that a typing error does not become a function without its trigger.
//!
//! Promises: all problems of all functions are reported together; a [`Registration`] that comes out is valid. Never
//! stores anything, never reads a clock.

mod fields;
mod flow;
mod function;
mod own;
mod sdk;
mod trigger;
mod url;

use callboard_actors::domain::{Registration, Timestamp};
use serde_json::{Map, Value};

pub use own::{DEFAULT_APP, parse_own};
pub use sdk::parse;
pub use url::{loopback_folded, normalise};

use fields::Fields;

/// One thing that is wrong with a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The function's slug or name, or its place in the list if it has neither; `None` for the app itself.
    pub function: Option<String>,
    /// A stable code, where the protocol defines one.
    pub code: Option<&'static str>,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(function) = &self.function {
            write!(f, "{function}: ")?;
        }
        if let Some(code) = self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Why a registration is refused. Nothing of it has been stored then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// Not the JSON object it has to be.
    #[error("Invalid request: {0}")]
    Syntax(String),
    /// Without a name of the app.
    #[error("App ID required")]
    NoApp,
    /// Problems, all of them.
    #[error("At least one function is invalid: {}", list(.0))]
    Invalid(Vec<Problem>),
}

impl RegistrationError {
    /// The code that the protocol has for this error.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        matches!(self, Self::Invalid(_)).then_some("config_invalid")
    }
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Collects what is wrong with one function.
#[derive(Debug, Default)]
struct Problems {
    function: Option<String>,
    found: Vec<Problem>,
}

impl Problems {
    fn of(function: String) -> Self {
        Self {
            function: Some(function),
            found: Vec::new(),
        }
    }

    fn add(&mut self, message: impl Into<String>) {
        self.push(None, message.into());
    }

    fn add_coded(&mut self, code: &'static str, message: impl Into<String>) {
        self.push(Some(code), message.into());
    }

    fn push(&mut self, code: Option<&'static str>, message: String) {
        self.found.push(Problem {
            function: self.function.clone(),
            code,
            message,
        });
    }
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, RegistrationError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(RegistrationError::Syntax("the body must be a JSON object".to_owned())),
        Err(error) => Err(RegistrationError::Syntax(error.to_string())),
    }
}

/// The registration, if nothing is wrong with it: neither what its reader has found, nor a slug that more than one function
/// has (the second would silently replace the first).
fn checked(registration: Registration, mut problems: Vec<Problem>) -> Result<Registration, RegistrationError> {
    let mut seen = std::collections::HashSet::new();
    for function in &registration.functions {
        if !seen.insert(&*function.slug) {
            problems.push(Problem {
                function: Some(function.slug.to_string()),
                code: None,
                message: "more than one function has this id".to_owned(),
            });
        }
    }
    if problems.is_empty() {
        Ok(registration)
    } else {
        Err(RegistrationError::Invalid(problems))
    }
}

/// When something was registered, and what it is called, for both readers.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    app: &'a str,
    now: Timestamp,
}

#[cfg(test)]
mod tests;
