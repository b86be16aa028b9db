//! `POST /e/{key}`: how events come in. The hot path.
//!
//! A body is walked once: each element of the array is read, checked and canonicalised as it is met. Events before a bad
//! one are accepted, as the protocol has it; a retry with the same seed header gives them the same ids and is harmless.

use std::fmt::Write as _;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::web::{self, Bytes, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{Event, EventError, EventId, EventIdSeed, IncomingEvent, Timestamp, limits};
use callboard_actors::ports::Random;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Code, Problem};
use crate::http::answer::events_error;
use crate::http::state::{AppState, State};
use crate::http::{auth, body};

static SEED: HeaderName = HeaderName::from_static("x-inngest-event-id-seed");

pub(in crate::http) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/e/{key:.*}").route(web::post().to(ingest)));
}

async fn ingest(req: HttpRequest, key: web::Path<String>, payload: Payload, state: State) -> HttpResponse {
    match take_in(&req, &key, payload, &state).await {
        Ok(ids) => accepted(&ids),
        Err(failure) => {
            state.refusals.count(&failure.problem);
            let ids: Vec<String> = failure.accepted.iter().map(ToString::to_string).collect();
            events_error(&failure.problem, &ids)
        }
    }
}

/// `{"ids":[…],"status":200}`. SDKs look for the status in the body.
fn accepted(ids: &[EventId]) -> HttpResponse {
    let mut text = String::with_capacity(32 + ids.len() * 29);
    text.push_str("{\"ids\":[");
    for (position, id) in ids.iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"{id}\"");
    }
    text.push_str("],\"status\":200}");
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(text)
}

/// A refusal that may have come too late for some events.
struct Failure {
    problem: Problem,
    accepted: Vec<EventId>,
}

impl<T: Into<Problem>> From<T> for Failure {
    fn from(problem: T) -> Self {
        Self {
            problem: problem.into(),
            accepted: Vec::new(),
        }
    }
}

async fn take_in(req: &HttpRequest, key: &str, payload: Payload, state: &AppState) -> Result<Vec<EventId>, Failure> {
    let options = &state.options;
    auth::check_event_key(key, state).await?;
    let api = state.api()?;
    let mut permit = options.intake.permit();
    let body = body::read_with(req, payload, options.request_bytes, &mut permit).await?;
    let read = read_events(&body, req, api.clock().now(), Arc::clone(api.random())).await?;
    if !permit.add_events(read.events.len()) {
        return Err(Problem::new(Code::Overloaded, "too many events are on their way in").into());
    }
    let accepted: Vec<EventId> = read.events.iter().map(|event| event.id).collect();
    if !read.events.is_empty() {
        api.accept(read.events).await?;
    }
    match read.failure {
        None => Ok(accepted),
        Some((_, problem)) => Err(Failure { problem, accepted }),
    }
}

/// What a body holds.
#[derive(Debug)]
pub(in crate::http) struct Incoming {
    /// The valid events, up to the first that is not.
    pub(in crate::http) events: Vec<Event>,
    /// What is wrong with the next one, and its position.
    pub(in crate::http) failure: Option<(usize, Problem)>,
}

/// Reads the events of a request's body, received at that time.
///
/// # Errors
/// When it holds no events at all, or too many; nothing of it counts then.
pub(in crate::http) async fn read_events(
    body: &Bytes,
    req: &HttpRequest,
    now: Timestamp,
    random: Arc<dyn Random>,
) -> Result<Incoming, Problem> {
    let headers = req.headers();
    let seed = headers.get(&SEED).and_then(|value| value.to_str().ok());
    let ids = Ids {
        seed: seed.and_then(EventIdSeed::parse),
        now,
        random,
    };
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => {}
        _ => {
            return Err(not_events(
                headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()),
            ));
        }
    }
    body::understand(body.clone(), body.len(), move |body| walk(&body, &ids)).await
}

fn not_events(content_type: Option<&str>) -> Problem {
    let what = "Request body must contain an event object or an array of event objects";
    let form = content_type.filter(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.starts_with("multipart/") || kind.starts_with("application/x-www-form-urlencoded")
    });
    let message = match form {
        Some(form) => format!("{what}; {form} is not supported, send JSON"),
        None => what.to_owned(),
    };
    Problem::new(Code::NotAnEvent, message)
}

struct Ids {
    seed: Option<EventIdSeed>,
    now: Timestamp,
    random: Arc<dyn Random>,
}

impl Ids {
    /// Of the event at this position, counted from 0 (the protocol counts from 1).
    fn at(&self, position: usize) -> EventId {
        let position = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
        match &self.seed {
            Some(seed) => seed.event_id(position),
            None => EventId::new(self.now, self.random.bits()),
        }
    }
}

fn walk(body: &[u8], ids: &Ids) -> Result<Incoming, Problem> {
    let mut walk = Walk {
        ids,
        events: Vec::new(),
        refused: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let outcome = walk
        .deserialize_from(&mut deserializer)
        .and_then(|()| deserializer.end());
    let position = walk.events.len();
    let failure = match (walk.refused, outcome) {
        (Some(Stop::TooMany), _) => {
            let message = format!("Cannot have more than {} events in a batch", limits::EVENTS_PER_REQUEST);
            return Err(Problem::new(Code::TooManyEvents, message));
        }
        (Some(Stop::Invalid(error)), _) => Some(Problem::new(Code::InvalidEvent, error.to_string())),
        (None, Err(error)) => Some(body::malformed(body, &error)),
        (None, Ok(())) => None,
    };
    Ok(Incoming {
        events: walk.events,
        failure: failure.map(|problem| (position, problem)),
    })
}

/// The walk over a body.
struct Walk<'a> {
    ids: &'a Ids,
    events: Vec<Event>,
    refused: Option<Stop>,
}

enum Stop {
    TooMany,
    Invalid(EventError),
}

impl Walk<'_> {
    fn deserialize_from<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    /// An error ends the walk; `refused` says why.
    fn take<E: serde::de::Error>(&mut self, incoming: IncomingEvent) -> Result<(), E> {
        let position = self.events.len();
        let stop = if position == limits::EVENTS_PER_REQUEST {
            Stop::TooMany
        } else {
            match Event::accept(incoming, self.ids.at(position), self.ids.now) {
                Ok(event) => {
                    self.events.push(event);
                    return Ok(());
                }
                Err(error) => Stop::Invalid(error),
            }
        };
        self.refused = Some(stop);
        Err(E::custom("refused"))
    }
}

impl<'de> Visitor<'de> for &mut Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event object or an array of event objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Element(incoming)) = seq.next_element()? {
            self.take(incoming)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let incoming = IncomingEvent::deserialize(MapAccessDeserializer::new(map))?;
        self.take(incoming)
    }
}

/// An event that has to be an object: what is derived would take an array of members in order, too.
struct Element(IncomingEvent);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Element;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
                IncomingEvent::deserialize(MapAccessDeserializer::new(map)).map(Element)
            }
        }

        deserializer.deserialize_map(Object)
    }
}
