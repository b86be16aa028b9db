//! An event: what an app or the server itself says has happened.
//!
//! [`IncomingEvent`] is what a sender wrote; [`Event::accept`] checks and normalises it. From then on the event is its
//! canonical JSON [`Event::body`], exactly what functions and expressions see.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{EventId, Json, JsonError, Timestamp, limits};

/// An event as a sender wrote it. Unknown members are dropped.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IncomingEvent {
    /// What happened; required.
    pub name: Option<String>,
    /// The payload: an object, or null.
    pub data: Option<Value>,
    /// When it happened, in milliseconds; absent or 0 means now. The future delays the runs it starts.
    pub ts: Option<Value>,
    /// The sender's idempotency key.
    pub id: Option<Value>,
    /// The sender's version label, passed through.
    pub v: Option<Value>,
    /// Deprecated by the SDKs, passed through.
    pub user: Option<Value>,
    /// Sessions; other members are dropped.
    pub meta: Option<Value>,
}

/// Why an event is refused.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No name, or an empty one.
    #[error("event name is empty")]
    NoName,
    /// A name longer than [`limits::EVENT_NAME_BYTES`].
    #[error("event name is too long: {0} bytes of at most {max}", max = limits::EVENT_NAME_BYTES)]
    NameTooLong(usize),
    /// A name reserved for the server.
    #[error("event name is reserved for internal use: {0}")]
    Reserved(String),
    /// `data` is neither an object nor null.
    #[error("event data must be an object")]
    Data,
    /// `user` is neither an object nor null.
    #[error("event user must be an object")]
    User,
    /// `id` is not a text.
    #[error("event id must be a string")]
    Id,
    /// `ts` is not a whole number of milliseconds between 1980 and 2100.
    #[error("event ts must be milliseconds since 1970, in the years 1980 to 2099")]
    Ts,
    /// `meta.sessions` breaks its limits.
    #[error("event sessions are invalid: {0}")]
    Sessions(&'static str),
    /// Larger than [`limits::EVENT_BYTES`].
    #[error("Event is over the max size: Max {max} bytes / Size {0} bytes", max = limits::EVENT_BYTES)]
    TooLarge(usize),
    /// Numbers out of range.
    #[error("event is not representable: {0}")]
    Json(#[from] JsonError),
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The server's id.
    pub id: EventId,
    /// The sender's id, or the server's own where there was none. Never empty.
    pub external_id: String,
    /// Whether the sender chose `external_id`: then it is an idempotency key.
    pub has_own_id: bool,
    /// What happened.
    pub name: String,
    /// When it happened, as the sender says.
    pub ts: Timestamp,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// What functions and expressions see: `data`, `id`, `name`, `ts`, `user`, and `v`, `meta` if given.
    pub body: Json,
}

impl Event {
    /// Name of the event that starts a function which another run has put off.
    pub const DEFERRED: &'static str = "inngest/deferred.schedule";
    /// Name of the event of a cron tick.
    pub const SCHEDULED: &'static str = "inngest/scheduled.timer";

    /// Checks and normalises an event from outside.
    ///
    /// # Errors
    /// See [`EventError`]; nothing is kept of a refused event.
    pub fn accept(incoming: IncomingEvent, id: EventId, received_at: Timestamp) -> Result<Self, EventError> {
        let name = incoming
            .name
            .filter(|name| !name.is_empty())
            .ok_or(EventError::NoName)?;
        if name.len() > limits::EVENT_NAME_BYTES {
            return Err(EventError::NameTooLong(name.len()));
        }
        if name
            .get(..limits::INTERNAL_PREFIX.len())
            .is_some_and(|p| p.eq_ignore_ascii_case(limits::INTERNAL_PREFIX))
        {
            return Err(EventError::Reserved(name));
        }
        let mut data = object_or_null(incoming.data).ok_or(EventError::Data)?;
        // Only the server writes here: it is how invokes are addressed.
        data.remove("_inngest");
        let user = object_or_null(incoming.user).ok_or(EventError::User)?;
        let external_id = match incoming.id {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text).filter(|text| !text.is_empty()),
            Some(_) => return Err(EventError::Id),
        };
        let ts = timestamp(incoming.ts.as_ref(), received_at)?;
        let meta = resolve_meta(incoming.meta)?;
        let event = Self::assemble(name, id, external_id, ts, received_at, data, user, incoming.v, meta)?;
        if event.body.len() > limits::EVENT_BYTES {
            return Err(EventError::TooLarge(event.body.len()));
        }
        Ok(event)
    }

    /// The server's own event that runs one function; what the invoker chose is passed on.
    ///
    /// # Errors
    /// When a number can't be represented; numbers that came in through JSON always can.
    pub fn invoked(
        id: EventId,
        at: Timestamp,
        data: Map<String, Value>,
        user: Map<String, Value>,
        version: Option<Value>,
        meta: Option<Value>,
    ) -> Result<Self, JsonError> {
        Self::assemble(
            "inngest/function.invoked".to_owned(),
            id,
            None,
            at,
            at,
            data,
            user,
            version,
            meta,
        )
    }

    /// The server's own event of a cron tick. Its external id is the tick, as functions see it.
    ///
    /// # Errors
    /// Never with the texts that the scheduler passes.
    pub fn scheduled(id: EventId, tick: String, at: Timestamp, data: Map<String, Value>) -> Result<Self, JsonError> {
        Self::assemble(
            Self::SCHEDULED.to_owned(),
            id,
            Some(tick),
            at,
            at,
            data,
            Map::new(),
            None,
            None,
        )
    }

    /// The schedule whose tick this is.
    #[must_use]
    pub fn cron(&self) -> Option<String> {
        let data = (self.name == Self::SCHEDULED).then(|| self.body.to_tree())?;
        Some(data.pointer("/data/cron")?.as_str()?.to_owned())
    }

    /// An event of the server's own whose `data` is canonical JSON text already.
    #[must_use]
    pub fn glued(name: &str, id: EventId, external_id: String, at: Timestamp, data: &str) -> Self {
        Self::glued_with(name, id, external_id, at, data, None)
    }

    /// The same with a `meta`, as [`resolve_meta`] gives it.
    #[must_use]
    pub fn glued_with(
        name: &str,
        id: EventId,
        external_id: String,
        at: Timestamp,
        data: &str,
        meta: Option<&Json>,
    ) -> Self {
        let quoted = |text: &str| Value::from(text).to_string();
        let meta = meta.map_or_else(String::new, |meta| format!("\"meta\":{meta},"));
        let body = format!(
            "{{\"data\":{data},\"id\":{},{meta}\"name\":{},\"ts\":{},\"user\":{{}}}}",
            quoted(&external_id),
            quoted(name),
            at.as_millis()
        );
        let has_own_id = external_id != id.to_string();
        let body = Json::from_canonical(body);
        Self {
            id,
            external_id,
            has_own_id,
            name: name.to_owned(),
            ts: at,
            received_at: at,
            body,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call per kind of event, both above")]
    fn assemble(
        name: String,
        id: EventId,
        external_id: Option<String>,
        ts: Timestamp,
        received_at: Timestamp,
        data: Map<String, Value>,
        user: Map<String, Value>,
        version: Option<Value>,
        meta: Option<Value>,
    ) -> Result<Self, JsonError> {
        let has_own_id = external_id.is_some();
        let external_id = external_id.unwrap_or_else(|| id.to_string());
        let mut body = Map::new();
        body.insert("data".to_owned(), Value::Object(data));
        body.insert("id".to_owned(), Value::String(external_id.clone()));
        body.insert("name".to_owned(), Value::String(name.clone()));
        body.insert("ts".to_owned(), Value::from(ts.as_millis()));
        body.insert("user".to_owned(), Value::Object(user));
        for (key, value) in [("v", version), ("meta", meta)] {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                body.insert(key.to_owned(), value);
            }
        }
        let body = Json::from_value(&body)?;
        Ok(Self {
            id,
            external_id,
            has_own_id,
            name,
            ts,
            received_at,
            body,
        })
    }

    /// Whether only the server can have made it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.name.starts_with(limits::INTERNAL_PREFIX)
    }
}

fn object_or_null(value: Option<Value>) -> Option<Map<String, Value>> {
    match value {
        None | Some(Value::Null) => Some(Map::new()),
        Some(Value::Object(map)) => Some(map),
        Some(_) => None,
    }
}

fn timestamp(ts: Option<&Value>, now: Timestamp) -> Result<Timestamp, EventError> {
    /// 1980-01-01 and 2100-01-01.
    const RANGE: std::ops::Range<i64> = 315_532_800_000..4_102_444_800_000;
    let millis = match ts {
        None | Some(Value::Null) => 0,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within the range of i64: checked beside it"
        )]
        Some(Value::Number(number)) => number
            .as_i64()
            .or_else(|| {
                number
                    .as_f64()
                    .filter(|f| f.fract() == 0.0 && f.abs() < 9e15)
                    .map(|f| f as i64)
            })
            .ok_or(EventError::Ts)?,
        Some(_) => return Err(EventError::Ts),
    };
    match millis {
        0 => Ok(now),
        millis if RANGE.contains(&millis) => Ok(Timestamp::from_millis(millis)),
        _ => Err(EventError::Ts),
    }
}

/// An event's `meta` as it is kept: `{"sessions"}` with the inherited ones merged below the sender's own, or nothing.
///
/// A `null` of the sender's removes an inherited key, `sessions: null` all of them; inherited keys fill what places are
/// left, in byte order.
///
/// # Errors
/// When a session breaks its limits, or is neither text nor number.
pub fn resolve_meta(meta: Option<Value>) -> Result<Option<Value>, EventError> {
    let Some(Value::Object(mut meta)) = meta else {
        return Ok(None);
    };
    let own = match meta.remove("sessions") {
        None => Map::new(),
        Some(Value::Null) => return Ok(None),
        Some(Value::Object(own)) => own,
        Some(_) => return Err(EventError::Sessions("`sessions` must be an object")),
    };
    let inherited = match meta.remove("propagated_sessions") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(inherited)) => inherited,
        Some(_) => return Err(EventError::Sessions("`propagated_sessions` must be an object")),
    };
    let mut merged = Map::new();
    for (key, id) in &own {
        if !id.is_null() {
            merged.insert(key.clone(), Value::String(session_id(key, id)?));
        }
    }
    if merged.len() > limits::SESSIONS_PER_EVENT {
        return Err(EventError::Sessions("more than 5"));
    }
    let mut free = Vec::with_capacity(inherited.len());
    for (key, id) in inherited {
        let id = session_id(&key, &id)?;
        if !own.contains_key(&key) {
            free.push((key, id));
        }
    }
    free.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    free.truncate(limits::SESSIONS_PER_EVENT - merged.len());
    merged.extend(free.into_iter().map(|(key, id)| (key, Value::String(id))));
    if merged.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::json!({ "sessions": merged })))
}

fn session_id(key: &str, id: &Value) -> Result<String, EventError> {
    let id = match id {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err(EventError::Sessions("ids must be strings or numbers")),
    };
    if key.len() > limits::SESSION_KEY_BYTES || id.len() > limits::SESSION_ID_BYTES {
        return Err(EventError::Sessions("a key or id is too long"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn accept(event: Value) -> Result<Event, EventError> {
        let incoming = serde_json::from_value(event).expect("an event-shaped object");
        Event::accept(incoming, EventId::new(NOW, 1), NOW)
    }

    #[test]
    fn fills_in_what_functions_rely_on() {
        let event = accept(json!({"name": "a/b"})).expect("valid");
        let id = EventId::new(NOW, 1).to_string();
        let expected = json!({"data": {}, "id": id, "name": "a/b", "ts": 1_750_000_000_000_i64, "user": {}});
        assert_eq!(event.body.to_tree(), expected);
        assert!(!event.has_own_id);
    }

    #[test]
    fn drops_the_servers_own_member_and_unknown_ones() {
        let event =
            accept(json!({"name": "a", "data": {"_inngest": {"fn_id": "x"}, "k": 1}, "extra": 1})).expect("valid");
        assert_eq!(event.body.to_tree()["data"], json!({"k": 1}));
        assert_eq!(event.body.to_tree().get("extra"), None);
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"name": ""}))]
    #[case(json!({"name": "inngest/function.failed"}))]
    #[case(json!({"name": "InnGest/x"}))]
    #[case(json!({"name": "a", "data": [1]}))]
    #[case(json!({"name": "a", "user": "x"}))]
    #[case(json!({"name": "a", "ts": 5}))]
    #[case(json!({"name": "a", "ts": "now"}))]
    #[case(json!({"name": "a", "ts": 1.5}))]
    #[case(json!({"name": "a", "id": 5}))]
    #[case(json!({"name": "x".repeat(513)}))]
    #[case(json!({"name": "a", "meta": {"sessions": {"k": true}}}))]
    fn refuses(#[case] event: Value) {
        assert!(accept(event).is_err());
    }

    #[test]
    fn refuses_what_is_too_large() {
        assert!(matches!(
            accept(json!({"name": "a", "data": {"x": "y".repeat(limits::EVENT_BYTES)}})),
            Err(EventError::TooLarge(_))
        ));
    }

    #[test]
    fn own_sessions_win_over_inherited_ones() {
        let event = accept(json!({"name": "a", "meta": {
            "sessions": {"user": 7, "gone": null},
            "propagated_sessions": {"user": "old", "gone": "x", "f": "6", "e": "5", "d": "4", "c": "3", "b": "2"},
        }}));
        let body = event.expect("valid").body.to_tree();
        assert_eq!(
            body["meta"],
            json!({"sessions": {"user": "7", "b": "2", "c": "3", "d": "4", "e": "5"}})
        );
    }

    #[rstest]
    #[case(json!({"propagated_sessions": {"n": 7}}), Some(json!({"sessions": {"n": "7"}})))]
    #[case(json!({"sessions": {"n": null}, "propagated_sessions": {"n": 7}}), None)]
    #[case(json!({"sessions": null, "propagated_sessions": {"n": 7}}), None)]
    #[case(json!({"sessions": {}, "propagated_sessions": null, "more": 1}), None)]
    fn sessions_come_to(#[case] meta: Value, #[case] resolved: Option<Value>) {
        assert_eq!(resolve_meta(Some(meta)).expect("valid"), resolved);
    }

    #[rstest]
    #[case(json!({"propagated_sessions": {"n": null}}))]
    #[case(json!({"propagated_sessions": {"n": true}}))]
    #[case(json!({"propagated_sessions": [1]}))]
    #[case(json!({"propagated_sessions": {"n": "x".repeat(513)}}))]
    #[case(json!({"sessions": {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}}))]
    #[case(json!({"sessions": {"x".repeat(129): 1}}))]
    fn sessions_are_refused(#[case] meta: Value) {
        assert!(resolve_meta(Some(meta)).is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn member() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "name", "data", "ts", "id", "v", "user", "meta", "sessions", "other",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        /// Whatever a sender writes is refused or becomes an event whose body is canonical and would be accepted again.
        #[test]
        fn any_object_is_refused_or_becomes_a_sound_event(
            members in prop::collection::btree_map(member(), json(), 0..8),
            name in prop::option::of("[a-z/.]{1,20}"),
        ) {
            let mut object: Map<String, Value> = members.into_iter().collect();
            if let Some(name) = name {
                object.insert("name".to_owned(), Value::from(name));
            }
            let Ok(incoming) = serde_json::from_value::<IncomingEvent>(Value::Object(object)) else { return Ok(()) };
            let Ok(event) = Event::accept(incoming, EventId::new(NOW, 1), NOW) else { return Ok(()) };
            prop_assert_eq!(&Json::parse(event.body.as_str()).expect("JSON"), &event.body);
            prop_assert!(!event.external_id.is_empty());
            let again = Event::accept(event.body.to().expect("an event"), event.id, NOW).expect("accepted before");
            prop_assert_eq!(again.body, event.body);
        }
    }
}
