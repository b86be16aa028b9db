//! An app in Rust whose answers are closures, down to the bytes: for what no SDK produces.
//!
//! A thread per connection on `std` sockets, because no framework lets go of a connection in the middle of an answer.

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{header, read_body, read_head};
use super::server::Server;
use super::{DEADLINE, unique};

/// One request to the app.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// 0 for the first request of this app.
    pub(crate) index: usize,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// A parameter of the query, as it was sent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The function's slug.
    pub(crate) fn function(&self) -> &str {
        self.parameter("fnId").unwrap_or_default()
    }

    /// The body of a call by the server; null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// How many times this call was tried before.
    pub(crate) fn attempt(&self) -> u64 {
        self.json()["ctx"]["attempt"].as_u64().unwrap_or(0)
    }

    /// Whether the result of this step came with the call.
    pub(crate) fn has_step(&self, id: &str) -> bool {
        self.json()["steps"].get(id).is_some()
    }
}

/// What the app does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A proper answer. `content-length` is added, and nothing else.
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// These bytes, whatever they are; then the connection is closed.
    Raw(Vec<u8>),
    /// The connection is closed without an answer.
    Reset,
    /// No answer for so long (or until the app is dropped), then this one.
    After(Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn http(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Http {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// As an SDK answers.
    pub(crate) fn sdk(status: u16, body: &Value) -> Self {
        Self::http(status, body.to_string())
            .header("content-type", "application/json")
            .header("x-inngest-sdk", "fake:v1.0.0")
            .header("x-inngest-req-version", "2")
    }

    /// The function's end.
    pub(crate) fn done(output: &Value) -> Self {
        Self::sdk(200, output)
    }

    /// Steps for the server.
    pub(crate) fn ops(ops: &Value) -> Self {
        Self::sdk(206, ops)
    }

    /// A step that was run.
    pub(crate) fn step(id: &str, data: &Value) -> Self {
        Self::ops(&json!([{"op": "StepRun", "id": id, "name": id, "displayName": id, "data": data}]))
    }

    /// The function failed; to be tried again unless `no_retry`.
    pub(crate) fn error(message: &str, no_retry: bool) -> Self {
        Self::sdk(500, &json!({"name": "Error", "message": message}))
            .header("x-inngest-no-retry", if no_retry { "true" } else { "false" })
    }

    /// One more header of a proper answer.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

type Answer = dyn Fn(&Call) -> Reply + Send + Sync;

#[derive(Default)]
struct Journal {
    calls: Vec<Call>,
    is_closed: bool,
}

struct Inner {
    answer: Box<Answer>,
    journal: Mutex<Journal>,
    changed: Condvar,
}

impl Inner {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running fake app. When it is dropped its port is closed and what it held back is let go.
pub(crate) struct FakeApp {
    id: String,
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl std::fmt::Debug for FakeApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeApp").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FakeApp {
    /// Listens, under an id of its own.
    pub(crate) fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let inner = Arc::new(Inner {
            answer: Box::new(answer),
            journal: Mutex::default(),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.journal().is_closed {
                    return;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(&shared, &stream));
                }
            }
        });
        Self {
            id: unique("fake"),
            address,
            inner,
        }
    }

    /// Listens, and registers one function `fn` for the event `<app id>/go`.
    pub(crate) fn with_function(
        server: &Server,
        retries: u32,
        answer: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let app = Self::start(answer);
        app.register(server, &[app.function("fn", &format!("{}/go", app.id), retries)]);
        app
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/inngest", self.address)
    }

    /// The event that starts what [`FakeApp::with_function`] registered.
    pub(crate) fn event(&self) -> Value {
        json!({"name": format!("{}/go", self.id), "data": {}})
    }

    /// A function as an SDK registers it; more keys may be added.
    pub(crate) fn function(&self, name: &str, event: &str, retries: u32) -> Value {
        let slug = format!("{}-{name}", self.id);
        let url = format!("{}?fnId={slug}&stepId=step", self.url());
        json!({
            "id": slug, "name": name, "triggers": [{"event": event}],
            "steps": {"step": {
                "id": "step", "name": "step", "runtime": {"type": "http", "url": url}, "retries": {"attempts": retries},
            }},
        })
    }

    /// Registers exactly these functions.
    #[track_caller]
    pub(crate) fn register(&self, server: &Server, functions: &[Value]) -> Value {
        let registration = json!({
            "url": self.url(), "deployType": "ping", "appName": self.id, "framework": "fake", "sdk": "fake:v1.0.0",
            "v": "0.1", "functions": functions,
        });
        server.post("/fn/register", &registration).expect(200).json()
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.journal().calls.clone()
    }

    /// Waits for so many calls.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, count: usize) -> Vec<Call> {
        let start = Instant::now();
        let mut journal = self.inner.journal();
        while journal.calls.len() < count {
            let left = DEADLINE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "{count} calls, but there are {}", journal.calls.len());
            let waited = self.inner.changed.wait_timeout(journal, left);
            journal = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        journal.calls.clone()
    }
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.inner.journal().is_closed = true;
        self.inner.changed.notify_all();
        // Wakes the listener, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of a connection until one side ends it.
fn serve(inner: &Inner, stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some((first, headers))) = read_head(&mut reader) {
        let Ok(body) = read_body(&mut reader, &headers, false) else {
            return;
        };
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return;
        };
        let mut journal = inner.journal();
        let index = journal.calls.len();
        let call = Call {
            method,
            path,
            headers,
            body,
            index,
        };
        journal.calls.push(call.clone());
        drop(journal);
        inner.changed.notify_all();
        if !write(inner, stream, (inner.answer)(&call)) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Answers whether the connection goes on.
fn write(inner: &Inner, mut stream: &TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Reset => false,
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
            false
        }
        Reply::After(delay, reply) => {
            let start = Instant::now();
            let mut journal = inner.journal();
            while !journal.is_closed && start.elapsed() < delay {
                let left = delay.saturating_sub(start.elapsed());
                let waited = inner.changed.wait_timeout(journal, left);
                journal = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(journal);
            write(inner, stream, *reply)
        }
        Reply::Http { status, headers, body } => {
            let mut message = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in &headers {
                message += &format!("{name}: {value}\r\n");
            }
            message += "\r\n";
            stream
                .write_all(message.as_bytes())
                .and_then(|()| stream.write_all(&body))
                .is_ok()
        }
    }
}
