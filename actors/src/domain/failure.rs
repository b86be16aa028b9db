//! What went wrong, in the shape that SDKs read and write errors.

use serde_json::{Map, Value};

use super::Json;

/// An error object: at least a name and a message, and whatever else the app sent along.
///
/// SDKs rebuild exceptions from it, so members that are not ours are kept as they came; `data` even as an explicit
/// `null`, without which the Go SDK can't decode a step's error.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    name: String,
    message: String,
    members: Map<String, Value>,
    summary: Option<String>,
}

impl Failure {
    /// An error of the server's own.
    #[must_use]
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            message: message.into(),
            members: Map::new(),
            summary: None,
        }
    }

    /// A run has more steps than it may have.
    #[must_use]
    pub fn of_step_limit(limit: usize) -> Self {
        let message = format!("The function run exceeded the step limit of {limit} steps.");
        Self::new("InngestErrFunctionOverflowed", message).with("error", "function has too many steps")
    }

    /// With a further member, such as `stack`.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// An object that an app has sent, summed up by the server: the run's output stays what the app has sent.
    #[must_use]
    pub fn summed_up(mut self, summary: impl Into<String>) -> Self {
        self.summary = Some(summary.into());
        self
    }

    /// Reads an error from what an app sent: an object, an object within `error` or `body`, text, or JSON within text.
    ///
    /// `name` defaults to `Error`, `message` to a text that says no more than that the function failed.
    #[must_use]
    pub fn from_reply(value: &Value) -> Self {
        match value {
            Value::String(text) => match serde_json::from_str::<Value>(text) {
                Ok(inner @ Value::Object(_)) => Self::from_reply(&inner),
                _ => Self::new("Error", text.as_str()),
            },
            Value::Object(map) => {
                let is_bare = !map.contains_key("message") && !map.contains_key("name");
                let inner = ["error", "body"]
                    .iter()
                    .find_map(|key| map.get(*key))
                    .filter(|inner| inner.is_object());
                if let (true, Some(inner)) = (is_bare, inner) {
                    return Self::from_reply(inner);
                }
                Self::from_object(map)
            }
            _ => Self::new("Error", Self::UNKNOWN),
        }
    }

    const UNKNOWN: &'static str = "Function execution error";

    fn from_object(map: &Map<String, Value>) -> Self {
        let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = text("name").unwrap_or("Error").to_owned();
        let message = text("message")
            .or_else(|| text("error"))
            .unwrap_or(Self::UNKNOWN)
            .to_owned();
        let members = map
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "name" | "message"));
        Self {
            name,
            message,
            members: members.map(|(key, value)| (key.clone(), value.clone())).collect(),
            summary: None,
        }
    }

    /// The kind of error.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As an object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = self.members.clone();
        map.insert("name".to_owned(), Value::String(self.name.clone()));
        map.insert("message".to_owned(), Value::String(self.message.clone()));
        Value::Object(map)
    }

    /// As canonical JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::from_value(&self.to_value()).unwrap_or_else(|_| Json::null())
    }

    /// What a failed run has as its output: the object that the app has sent, if it has; else one with `error` summing
    /// it up for those who read one member only.
    #[must_use]
    pub fn to_output(&self) -> Json {
        let mut value = self.to_value();
        if let (Value::Object(map), None) = (&mut value, &self.summary) {
            map.entry("error").or_insert_with(|| Value::String(self.sum()));
        }
        Json::from_value(&value).unwrap_or_else(|_| Json::null())
    }

    /// What others are told, by events and in an invoking step: the members that errors have in every SDK, and no more.
    #[must_use]
    pub fn to_report(&self) -> Json {
        const TOLD: [&str; 3] = ["cause", "data", "stack"];
        let is_told = |key: &str, value: &Value| TOLD.contains(&key) && (key == "data" || !value.is_null());
        let members = self.members.iter().filter(|(key, value)| is_told(key, value));
        let mut map: Map<String, Value> = members.map(|(key, value)| (key.clone(), value.clone())).collect();
        map.insert("error".to_owned(), Value::String(self.sum()));
        map.insert("name".to_owned(), Value::String(self.name.clone()));
        map.insert("message".to_owned(), Value::String(self.message.clone()));
        Json::from_value(&Value::Object(map)).unwrap_or_else(|_| Json::null())
    }

    /// In a line.
    fn sum(&self) -> String {
        let own = self.members.get("error").and_then(Value::as_str);
        let line = own.or(self.summary.as_deref());
        line.map_or_else(|| format!("{}: {}", self.name, self.message), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"name": "TypeError", "message": "x is not a function"}), "TypeError", "x is not a function")]
    #[case(json!({"error": {"name": "E", "message": "inner"}}), "E", "inner")]
    #[case(json!({"body": {"message": "inner"}}), "Error", "inner")]
    #[case(json!("plain text"), "Error", "plain text")]
    #[case(json!("{\"name\":\"E\",\"message\":\"encoded twice\"}"), "E", "encoded twice")]
    #[case(json!(null), "Error", "Function execution error")]
    #[case(json!({"error": "only this"}), "Error", "only this")]
    fn reads_what_apps_send(#[case] reply: Value, #[case] name: &str, #[case] message: &str) {
        let failure = Failure::from_reply(&reply);
        assert_eq!((failure.name(), failure.message()), (name, message));
    }

    #[test]
    fn keeps_members_it_does_not_know_and_explicit_nulls() {
        let value = json!({"name": "E", "message": "m", "data": null, "code": "x", "stack": "s"});
        assert_eq!(Failure::from_reply(&value).to_value(), value);
    }

    #[test]
    fn a_runs_output_is_what_the_app_sent_and_others_are_told_what_all_sdks_know() {
        let sent = json!({"name": "E", "message": "m", "code": "x", "stack": null, "cause": {"name": "C"}});
        let failure = Failure::from_reply(&sent).summed_up("invalid status code: 500");
        assert_eq!(failure.to_output().to_tree(), sent);
        let told = json!({"error": "invalid status code: 500", "name": "E", "message": "m", "cause": {"name": "C"}});
        assert_eq!(failure.to_report().to_tree(), told);
        let own = Failure::new("E", "m").to_output().to_tree();
        assert_eq!(own, json!({"error": "E: m", "name": "E", "message": "m"}));
    }
}
