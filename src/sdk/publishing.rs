//! Publishes the answer to a request that was made on an app's behalf, while it comes.
//!
//! Promises: what is published is the answer's text, as subscribers read any other stream, and where it comes from: without
//! the query of its URL, which may hold a credential. An answer that breaks off ends. Each attempt is a stream of its own.
//! What becomes of it does not touch the request.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use callboard_actors::domain::FetchRequest;
use serde_json::json;
use ulid::Ulid;
use url::Url;

use super::transport::Tap;
use crate::ambient::SystemClock;
use crate::realtime::{About, Broadcaster, Datastream, Topic, one_line};

/// Tells of an answer, if it is to be told.
#[derive(Debug)]
pub(super) struct Told {
    to: Option<(Topic, Broadcaster)>,
    stream: Option<Datastream>,
}

impl Told {
    pub(super) fn new(request: &FetchRequest, broadcaster: &Broadcaster) -> Self {
        let to = request.options.publish.as_ref();
        let to = to.filter(|to| !to.channel.is_empty() && !to.topic.is_empty());
        Self {
            to: to.map(|to| (Topic::new(&to.channel, &to.topic), broadcaster.clone())),
            stream: None,
        }
    }
}

impl Tap for Told {
    fn begin(&mut self, url: &Url, headers: &HeaderMap) {
        let Some((topic, broadcaster)) = self.to.clone() else {
            return;
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let metadata = json!({
            "url": bare(url),
            "content-type": header("content-type"),
            "request_id": header("x-request-id").or_else(|| header("request-id")),
        });
        let about = About {
            topic,
            run: None,
            metadata: one_line(&metadata.to_string()),
        };
        self.stream = Some(Datastream::begin(broadcaster, Arc::new(SystemClock), about, fresh()));
    }

    fn more(&mut self, piece: &[u8]) {
        // What is too long ends before it is over; the step gets all of it.
        if self.stream.as_mut().is_some_and(|stream| stream.push(piece).is_err()) {
            self.stream = None;
        }
    }
}

/// An id unlike any other.
fn fresh() -> Ulid {
    Ulid::from_parts(
        super::invoker::now_seconds().saturating_mul(1_000),
        rand::random::<u128>() & ((1 << 80) - 1),
    )
}

/// A URL without what may be secret about it.
fn bare(url: &Url) -> String {
    let path = url.path();
    format!("{}{path}", super::transport::place(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_is_published() {
        let url = Url::parse("https://user:secret@h:8443/v1/chat?key=secret#secret").expect("a URL");
        assert_eq!(bare(&url), "https://h:8443/v1/chat");
    }
}
