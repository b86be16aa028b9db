//! The shapes of answers and errors: JSON as protocol buffers print it. Members that are zero, false or empty are left out, what
//! users sent is not touched.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use callboard_actors::domain::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::{Code, Problem};

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Map<String, Value>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A member of the message, unless it is zero.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !is_zero(&value) {
            self.0.insert(key.to_owned(), value);
        }
        self
    }

    /// A time, if it has come.
    pub(super) fn at(self, key: &str, at: Option<Timestamp>) -> Self {
        self.with(key, at.map(Timestamp::to_rfc3339))
    }

    /// A number of 64 bits, which is printed as text; `None` is left out, zero is not.
    pub(super) fn long(self, key: &str, number: Option<u128>) -> Self {
        self.with(key, number.map(|number| number.to_string()))
    }

    /// A message within this one: there, even if it is empty.
    pub(super) fn message(mut self, key: &str, message: Self) -> Self {
        self.0.insert(key.to_owned(), message.into());
        self
    }

    /// What a user sent, as it is.
    pub(super) fn raw(mut self, key: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value);
        }
        self
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        Self::Object(message.0)
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

/// Leaves out of a message, and of those within it, what is zero.
pub(super) fn without_zeros(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (key, without_zeros(value)));
            Value::Object(members.filter(|(_, value)| !is_zero(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_zeros).collect()),
        other => other,
    }
}

/// What a page says of itself.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// For the next one.
    pub(super) cursor: Option<String>,
    pub(super) has_more: bool,
    pub(super) limit: usize,
}

impl Page {
    /// Cuts a list that holds all there is: the page of these many behind the cursor, by what `key` says of each.
    pub(super) fn cut<T>(
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<T>, Self), Refused> {
        let mut items: Vec<T> = items.collect();
        if let Some(cursor) = cursor {
            let place = items.iter().position(|item| key(item).eq_ignore_ascii_case(cursor));
            let place = place.ok_or_else(|| Refused::field("cursor", "is none of this list"))?;
            items.drain(..=place);
        }
        let has_more = items.len() > limit;
        items.truncate(limit);
        let cursor = items.last().map(&key).filter(|_| has_more);
        Ok((
            items,
            Self {
                cursor,
                has_more,
                limit,
            },
        ))
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    data: Value,
    metadata: Message,
    page: Option<Page>,
}

impl Answer {
    pub(super) fn new(data: impl Into<Value>, now: Timestamp) -> Self {
        Self {
            status: StatusCode::OK,
            data: data.into(),
            metadata: Message::new().at("fetchedAt", Some(now)),
            page: None,
        }
    }

    pub(super) fn list(items: Vec<Message>, page: Page, now: Timestamp) -> Self {
        let items: Vec<Value> = items.into_iter().map(Value::from).collect();
        Self {
            page: Some(page),
            ..Self::new(items, now)
        }
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Between which times a list is.
    pub(super) fn between(self, from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let Some((from, until)) = from.zip(until) else {
            return self;
        };
        let range = Message::new().at("from", Some(from)).at("until", Some(until));
        Self {
            metadata: self.metadata.message("timeRange", range),
            ..self
        }
    }
}

impl From<Answer> for HttpResponse {
    fn from(answer: Answer) -> Self {
        let mut body = Message::new()
            .with("data", answer.data)
            .message("metadata", answer.metadata);
        if let Some(page) = answer.page {
            let page = Message::new()
                .with("cursor", page.cursor)
                .with("hasMore", page.has_more)
                .with("limit", page.limit);
            body = body.message("page", page);
        }
        HttpResponse::build(answer.status).json(Value::from(body))
    }
}

/// A refusal, in the codes that clients of this API know.
#[derive(Debug)]
pub(in crate::http) struct Refused {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refused {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// Whoever asks may not: with a key that is none, or without.
    pub(in crate::http) fn unauthorized(has_header: bool, problem: &Problem) -> Self {
        let code = if has_header {
            "invalid_signing_key"
        } else {
            "authorization_header_missing"
        };
        Self::new(problem.code.status(), code, problem.message.as_str())
    }

    /// A member or parameter that is not what it should be.
    pub(super) fn field(name: &str, what: impl std::fmt::Display) -> Self {
        Self::new(400, "invalid_field_format", format!("`{name}` {what}"))
    }

    /// A member or parameter that is not there.
    pub(super) fn missing(name: &str) -> Self {
        Self::new(400, "missing_field", format!("`{name}` is required"))
    }
}

impl<T: Into<Problem>> From<T> for Refused {
    fn from(problem: T) -> Self {
        let problem: Problem = problem.into();
        let code = match problem.code {
            Code::Unauthorized => "invalid_signing_key",
            Code::Forbidden => "access_denied",
            Code::UnknownRoute | Code::MethodNotAllowed => "api_error",
            Code::NotImplemented => "not_implemented",
            Code::InvalidEvent | Code::InvalidData | Code::InvalidStepInput => "validation_error",
            Code::InvalidParameter => "invalid_field_format",
            code => match code.status() {
                404 => "not_found",
                400..=499 => "invalid_request",
                _ => "internal_error",
            },
        };
        if problem.code.status() == 500 {
            tracing::error!(code = %problem.code, problem.message, "request failed");
        }
        Self::new(problem.code.status(), code, problem.message)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for Refused {
    fn error_response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.insert_header((RETRY_AFTER, "1"));
        }
        answer.insert_header((CONTENT_TYPE, "application/json"));
        answer.json(json!({"errors": [{"code": self.code, "message": self.message}]}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_left_out() {
        let message = Message::new()
            .with("a", 0)
            .with("b", "")
            .with("c", false)
            .with("d", Vec::<Value>::new())
            .with("e", 1)
            .long("f", Some(0))
            .long("g", None)
            .message("h", Message::new())
            .raw("i", Some(json!({"n": 0})));
        assert_eq!(Value::from(message), json!({"e": 1, "f": "0", "h": {}, "i": {"n": 0}}));
        let nested = without_zeros(json!({"a": {"b": 0, "c": [{"d": null, "e": "x"}]}, "f": []}));
        assert_eq!(nested, json!({"a": {"c": [{"e": "x"}]}}));
    }

    #[test]
    fn lists_are_cut_behind_their_cursors() {
        let cut = |cursor, limit| Page::cut(["a", "b", "c"].into_iter(), |item| (*item).to_owned(), cursor, limit);
        let (items, page) = cut(None, 2).expect("a page");
        assert_eq!(
            (items, page.cursor.as_deref(), page.has_more),
            (vec!["a", "b"], Some("b"), true)
        );
        let (items, page) = cut(Some("B"), 2).expect("a page");
        assert_eq!((items, page.cursor, page.has_more), (vec!["c"], None, false));
        assert!(cut(Some("x"), 2).is_err());
    }
}
