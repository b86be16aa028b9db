//! The app: functions with every kind of step, which keep books of what they were asked and told.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use callboard_actors::domain::RunId;
use serde_json::{Value, json};

use super::gatherings::{BATCHED, Gathered, SETTLED};
use super::load::Doors;
use crate::support::DEADLINE;
use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::server::Server;

/// A step of a run.
pub(super) type StepKey = (String, String);

/// One time that the code of a step was run. In milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Execution {
    /// When the server began the call: the time in the call's own id.
    pub(super) begun: i64,
    /// When the call came. If the server stood still in between, that may be a good while later.
    pub(super) came: i64,
}

/// How many calls for a lane of [`NARROW`] may be at work at a time.
pub(super) const WIDTH: usize = 2;
/// The function that is limited.
const NARROW: &str = "narrow";
/// Calls that come so many milliseconds after they were begun were held up on the way, by whoever stood still: nothing but
/// the app could refuse them.
const HELD_UP: i64 = 1_000;

/// A call of [`NARROW`], from its coming to its answer. In milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) lane: u64,
    pub(super) came: i64,
    pub(super) left: i64,
}

/// What the app knows.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// How often, and when, the code of each step was run.
    pub(super) executions: HashMap<StepKey, Vec<Execution>>,
    /// The memo that the server first gave for each step.
    pub(super) memos: HashMap<StepKey, Value>,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
    /// The calls of the function that is limited, other than those that were held up on the way.
    pub(super) visits: Vec<Visit>,
    /// What each run of the functions that gather events was called with.
    pub(super) gathered: HashMap<String, Gathered>,
    under_way: usize,
    mood: Mood,
}

/// How the app feels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// The code of every step takes so much longer.
    Slow(Duration),
    /// Every call is only answered after so long, with what was true at its beginning.
    Hanging(Duration),
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
    doors: Doors,
    pace: Duration,
}

/// The app.
#[derive(Debug)]
pub(super) struct Workflow {
    app: FakeApp,
    shared: Arc<Shared>,
    retries: u32,
}

impl Workflow {
    /// An app whose steps take at most about `pace`, registered at one server and to be reached through all doors.
    /// `retries` is how many attempts at the same thing it can do without.
    pub(super) fn start(server: &Server, doors: Doors, pace: Duration, retries: u32) -> Self {
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            changed: Condvar::new(),
            doors,
            pace,
        });
        let known = Arc::clone(&shared);
        let app = FakeApp::start(move |call| known.answer(call));
        let workflow = Self { app, shared, retries };
        workflow.register(server, &json!({ "cron": "* * * * *" }));
        workflow
    }

    /// Ends the cron, which nobody sends: else something may begin at any full minute.
    pub(super) fn stop_the_clock(&self, server: &Server) {
        self.register(server, &json!({ "event": "load/never" }));
    }

    fn register(&self, server: &Server, tick_trigger: &Value) {
        let function = |name: &str, event: &str| self.app.function(name, event, self.retries);
        let mut fussy = function("fussy", "load/go");
        fussy["triggers"] = json!([{ "event": "load/go", "expression": "event.data.even == true" }]);
        let mut narrow = function(NARROW, "load/go");
        narrow["concurrency"] = json!([{ "limit": WIDTH, "key": "event.data.lane" }]);
        let gathering = super::gatherings::functions(function);
        let mut tick = function("tick", "load/never");
        tick["triggers"] = json!([tick_trigger]);
        let others = [
            function("mixed", "load/go"),
            function("short", "load/go"),
            function("stepwise", "load/go"),
            narrow,
            fussy,
            function("child", "load/never"),
            tick,
        ];
        let functions: Vec<Value> = others.into_iter().chain(gathering).collect();
        self.app.register(server, &functions);
    }

    /// The slugs of the functions that each event starts by itself, with whether its data has to be even for it.
    pub(super) fn triggered(&self) -> [(String, bool); 5] {
        [
            ("mixed", false),
            ("short", false),
            ("stepwise", false),
            (NARROW, false),
            ("fussy", true),
        ]
        .map(|(name, even)| (self.slug(name), even))
    }

    pub(super) fn slug(&self, name: &str) -> String {
        format!("{}-{name}", self.app.id())
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book()
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        self.book().mood = mood;
    }

    /// Waits until the code of so many steps runs at the same time.
    pub(super) fn wait_for_executions_under_way(&self, count: usize) {
        let start = Instant::now();
        let mut book = self.book();
        while book.under_way < count {
            let left = DEADLINE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "only {} of {count} steps at a time", book.under_way);
            let waited = self.shared.changed.wait_timeout(book, left);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// When the server began the call that came at that time.
fn begun(call: &Call, came: i64) -> i64 {
    let id = call.json()["ctx"]["request_id"]
        .as_str()
        .and_then(|id| id.parse::<RunId>().ok());
    id.map_or(came, |id| id.at().as_millis())
}

fn op(op: &str, id: &str) -> Value {
    json!({ "op": op, "id": id, "name": id, "displayName": id })
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, call: &Call) -> Reply {
        let at = now();
        let reply = self.react(call, at);
        let mood = self.book().mood;
        if let Mood::Hanging(delay) = mood {
            std::thread::sleep(delay);
        }
        reply
    }

    fn react(&self, call: &Call, at: i64) -> Reply {
        let body = call.json();
        let run = body["ctx"]["run_id"].as_str().unwrap_or_default().to_owned();
        self.compare(&run, &body);
        let target = call.parameter("stepId").unwrap_or("step");
        if target != "step" {
            return self.execute(&run, target, call, at);
        }
        let function = call.function().rsplit('-').next().unwrap_or_default();
        if matches!(function, BATCHED | SETTLED) {
            self.book().gather(&run, function == BATCHED, &body);
        }
        match function {
            "mixed" => self.mixed(&run, &body, call, at),
            "stepwise" => self.stepwise(&run, &body, call, at),
            // What a run puts out is what it was told of its steps.
            "short" | "child" | "fussy" | "tick" | NARROW | BATCHED | SETTLED if call.has_step("only") => {
                Reply::done(&body["steps"])
            }
            "short" | "child" | "fussy" | "tick" | BATCHED | SETTLED => self.execute(&run, "only", call, at),
            NARROW => {
                let reply = self.execute(&run, "only", call, at);
                if at - begun(call, at) <= HELD_UP {
                    let lane = body["event"]["data"]["lane"].as_u64().unwrap_or(u64::MAX);
                    let visit = Visit {
                        lane,
                        came: at,
                        left: now(),
                    };
                    self.book().visits.push(visit);
                }
                reply
            }
            other => Reply::error(&format!("no function {other}"), true),
        }
    }

    /// Several steps in one call, each reported before the next begins, as the TypeScript SDK does.
    fn stepwise(&self, run: &str, body: &Value, call: &Call, at: i64) -> Reply {
        const STEPS: [&str; 4] = ["one", "two", "three", "four"];
        /// How often a report is sent until the call is answered instead.
        const TRIES: u32 = 5;
        let mut known = body["steps"].as_object().cloned().unwrap_or_default();
        for step in STEPS {
            if known.contains_key(step) {
                continue;
            }
            // The first one is what the call was made for.
            let begun = if step == STEPS[0] { begun(call, at) } else { now() };
            let ran = self.run_code(run, step, call, Execution { begun, came: now() });
            known.insert(step.to_owned(), json!({ "data": ran["data"] }));
            let report = json!({
                "run_id": run, "fn_id": body["ctx"]["fn_id"], "qi_id": body["ctx"]["qi_id"], "steps": [ran],
                "request_id": body["ctx"]["request_id"], "generation_id": body["ctx"]["generation_id"],
            });
            let mut answer = None;
            for attempt in 0..TRIES {
                let door = call.index + usize::try_from(attempt).unwrap_or(0);
                answer = self.doors.report(run, &report, door).ok().map(|answer| answer.status);
                if matches!(answer, Some(200 | 409)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50) * 2_u32.pow(attempt));
            }
            match answer {
                Some(200) => {}
                Some(409) => return Reply::error("the call is stale", true),
                _ => return Reply::ops(&report["steps"]),
            }
        }
        let mut complete = op("RunComplete", "complete");
        complete["data"] = Value::Object(known);
        Reply::ops(&json!([complete]))
    }

    fn mixed(&self, run: &str, body: &Value, call: &Call, at: i64) -> Reply {
        if !call.has_step("first") {
            return self.execute(run, "first", call, at);
        }
        if !call.has_step("nap") {
            let mut sleep = op("Sleep", "nap");
            sleep["name"] = json!("300ms");
            return Reply::ops(&json!([sleep]));
        }
        let missing: Vec<_> = ["left", "right", "flaky"]
            .into_iter()
            .filter(|id| !call.has_step(id))
            .collect();
        if !missing.is_empty() {
            let plans: Vec<_> = missing.into_iter().map(|id| op("StepPlanned", id)).collect();
            return Reply::ops(&json!(plans));
        }
        if !call.has_step("news") {
            let mut wait = op("WaitForEvent", "news");
            wait["opts"] = json!({ "event": "load/news", "timeout": "4s", "if": "event.data.n == async.data.n" });
            self.tell_soon(body["event"]["data"]["n"].clone());
            return Reply::ops(&json!([wait]));
        }
        if !call.has_step("other") {
            let mut invoke = op("InvokeFunction", "other");
            let slug = call.function().replace("-mixed", "-child");
            invoke["opts"] = json!({ "function_id": slug, "payload": { "data": {} }, "timeout": "1h" });
            return Reply::ops(&json!([invoke]));
        }
        if !call.has_step("last") {
            return self.execute(run, "last", call, at);
        }
        Reply::done(&body["steps"])
    }

    /// Runs the code of a step, for which the app was called at that time.
    fn execute(&self, run: &str, step: &str, call: &Call, at: i64) -> Reply {
        let execution = Execution {
            begun: begun(call, at),
            came: at,
        };
        let ran = self.run_code(run, step, call, execution);
        if step == "flaky" && call.attempt() == 0 {
            let mut failure = op("StepError", step);
            failure["error"] = json!({ "name": "Error", "message": "the first attempt always fails" });
            return Reply::ops(&json!([failure]));
        }
        Reply::ops(&json!([ran]))
    }

    /// Runs the code of a step and writes it down; answers the opcode.
    fn run_code(&self, run: &str, step: &str, call: &Call, execution: Execution) -> Value {
        let key = (run.to_owned(), step.to_owned());
        let mut book = self.book();
        let executions = book.executions.entry(key).or_default();
        executions.push(execution);
        let count = executions.len();
        book.under_way += 1;
        let mood = book.mood;
        drop(book);
        self.changed.notify_all();
        // User code takes its time, so that there is something to kill.
        let share = u32::try_from(call.index % 5).unwrap_or(0);
        let strain = if let Mood::Slow(delay) = mood {
            delay
        } else {
            Duration::ZERO
        };
        std::thread::sleep(self.pace * share / 4 + strain);
        self.book().under_way -= 1;
        let mut ran = op("StepRun", step);
        ran["data"] = json!({ "execution": count });
        ran
    }

    /// What is recorded never changes.
    fn compare(&self, run: &str, body: &Value) {
        let mut book = self.book();
        for (step, memo) in body["steps"].as_object().into_iter().flatten() {
            let key = (run.to_owned(), step.clone());
            let known = book.memos.entry(key).or_insert_with(|| memo.clone()).clone();
            if known != *memo {
                let violation = format!("P3: step {step} of run {run} was {known} and is now {memo}");
                book.violations.push(violation);
            }
        }
    }

    /// Sends what a run waits for, a moment after it has said so, until it is acknowledged.
    fn tell_soon(&self, n: Value) {
        let doors = self.doors.clone();
        std::thread::spawn(move || {
            let event = json!({ "name": "load/news", "data": { "n": n } });
            let start = Instant::now();
            std::thread::sleep(Duration::from_millis(150));
            let mut door = usize::try_from(n.as_u64().unwrap_or(0)).unwrap_or(0);
            while start.elapsed() < DEADLINE {
                match doors.send(&event, door) {
                    Ok(answer) if answer.status == 200 => return,
                    _ => std::thread::sleep(Duration::from_millis(50)),
                }
                door += 1;
            }
        });
    }
}
