//! What the list endpoints have in common: limits, cursors, filters.

use std::fmt::Display;
use std::str::FromStr;

use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{FunctionId, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{Code, Problem};
use crate::http::sdk::stored_events::instant;

/// Items a list has unless told otherwise, and at most.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// How many items to list.
///
/// # Errors
/// When it is not a number from 1 to 100.
pub(super) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| invalid("limit", text, "a number from 1 to 100"))
}

/// Which page of a list without filters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Of the page before.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

impl PageQuery {
    /// What the page before ended with, and how many items to list.
    ///
    /// # Errors
    /// When they are none.
    pub(super) fn read<T: FromStr>(&self) -> Result<(Option<T>, usize), Problem> {
        let cursor = given(self.cursor.as_ref()).map(|text| id("cursor", text)).transpose()?;
        Ok((cursor, limit(given(self.limit.as_ref()))?))
    }
}

/// An id of the path or of a cursor.
///
/// # Errors
/// When it is none.
pub(super) fn id<T: FromStr>(key: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| invalid(key, text, "an id of 26 letters and digits"))
}

/// A parameter that may be left out or empty.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A time that may be left out.
///
/// # Errors
/// When it is neither RFC 3339 nor milliseconds.
pub(super) fn time(key: &str, text: Option<&String>) -> Result<Option<Timestamp>, Problem> {
    given(text).map(|text| instant(text, key)).transpose()
}

/// The functions meant by a function, an app or both; archived ones too, for their runs remain. `None`: all of them.
///
/// # Errors
/// When there is no such app or function.
pub(super) fn functions(
    catalog: &Catalog,
    function: Option<&str>,
    app: Option<&str>,
) -> Result<Option<Vec<FunctionId>>, Problem> {
    if function.is_none() && app.is_none() {
        return Ok(None);
    }
    if let Some(app) = app.filter(|app| !catalog.apps().iter().any(|view| *view.app.name == **app)) {
        return Err(Problem::new(Code::UnknownApp, format!("there is no app `{app}`")));
    }
    let of_app = catalog
        .apps()
        .iter()
        .filter(|view| app.is_none_or(|app| *view.app.name == *app));
    let meant: Vec<FunctionId> = of_app
        .flat_map(|view| &view.functions)
        .filter(|one| function.is_none_or(|text| *one.slug == *text || one.id.to_string().eq_ignore_ascii_case(text)))
        .map(|one| one.id)
        .collect();
    match function {
        Some(function) if meant.is_empty() => Err(unknown_function(function)),
        _ => Ok(Some(meant)),
    }
}

/// A function of the path: by its slug (the live one, if an archived one has the same), or by its UUID.
///
/// # Errors
/// When there is no such function.
pub(super) fn function(catalog: &Catalog, text: &str) -> Result<FunctionId, Problem> {
    if let Some(live) = catalog.find(text) {
        return Ok(live.id);
    }
    let meant = functions(catalog, Some(text), None)?.unwrap_or_default();
    meant.first().copied().ok_or_else(|| unknown_function(text))
}

/// There is no function of this slug or UUID.
pub(super) fn unknown_function(text: impl Display) -> Problem {
    Problem::new(Code::UnknownFunction, format!("there is no function `{text}`"))
}

/// A parameter that is not what it may be.
pub(super) fn invalid(key: &str, text: &str, expected: &str) -> Problem {
    let shown: String = text.chars().take(64).collect();
    Problem::new(
        Code::InvalidParameter,
        format!("`{key}` is `{shown}`; it may be {expected}"),
    )
}
