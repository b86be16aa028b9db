//! What comes over sockets and is not what it should be: damaged protobuf, frames that break WebSocket's rules, tokens that
//! are none, exports that swell. Against a server at work: a real worker has runs in flight all the while.
//!
//! What is damaged how follows from a seed: `FUZZ_SEED=7 cargo test --test it fuzzing -- --nocapture`; `FUZZ_ROUNDS` makes
//! it longer. What each refusal is stands in the tables of the modules below.
//!
//! Promises: whatever is sent, the server answers about its health, nothing in it panics or restarts, the worker keeps its
//! one connection and does each step once, and connections that have ended leave nothing open. Never: a request that
//! names what the worker is at; who has a token may speak for any worker, and that is no fault.

mod exports;
mod gateway;
mod mutation;
mod realtime;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::chaos::{Dice, number, seed_in};
use crate::support::http::Request;
use crate::support::sdk::{Sdk::Ts4, SdkApp};
use crate::support::server::{Server, text};
use crate::support::{DEADLINE, wait_for};

/// Runs that are in flight from the beginning to the end.
const IN_FLIGHT: usize = 3;
/// Between two questions for the server's health.
const PULSE: Duration = Duration::from_millis(50);
/// Files that a server may open meanwhile for itself: its database's, its log.
const OWN_FILES: usize = 24;

/// Prints the seed, and answers how often something is to be done, `least` if nobody says.
fn dice(what: &str, least: u64) -> (Dice, u64) {
    let seed = seed_in("FUZZ_SEED");
    let rounds = number("FUZZ_ROUNDS").unwrap_or(least);
    println!("fuzzing {what}: FUZZ_SEED={seed} FUZZ_ROUNDS={rounds}");
    (Dice(seed), rounds)
}

/// A server at work, and who sees whether it is disturbed.
struct Scene {
    server: Server,
    app: SdkApp,
    /// The worker's connection.
    connection: String,
    in_flight: Vec<String>,
    open_files: usize,
    is_over: Arc<AtomicBool>,
    /// Asks for the server's health all the while; answers what was amiss.
    pulse: Option<JoinHandle<Vec<String>>>,
}

impl Scene {
    fn set() -> Self {
        let server = Server::builder()
            .switch("--no-poll")
            .flag("--retry-interval", "1")
            .start();
        let app = SdkApp::builder(Ts4, &server.url()).connected("witness").start();
        let connection = wait_for("the worker", DEADLINE, || match connections(&server).as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        });
        let events = json!(vec![json!({"name": "test/gated", "data": {"gate": "end"}}); IN_FLIGHT]);
        let events = server.send_all(&events);
        let in_flight = events.iter().map(|event| server.wait_for_start(event)).collect();
        app.wait_for_log("fn=gated&step=held", IN_FLIGHT);
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, address) = (Arc::clone(&is_over), server.address());
        let pulse = std::thread::spawn(move || {
            let mut amiss = Vec::new();
            while !over.load(Ordering::Relaxed) {
                match Request::get("/health").within(DEADLINE).try_send(address) {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => amiss.push(answer.status.to_string()),
                    Err(error) => amiss.push(error.to_string()),
                }
                std::thread::sleep(PULSE);
            }
            amiss
        });
        let mut scene = Self {
            server,
            app,
            connection,
            in_flight,
            open_files: 0,
            is_over,
            pulse: Some(pulse),
        };
        scene.work();
        scene.open_files = scene.files();
        scene
    }

    /// A run over the worker's connection, from its beginning to its end.
    #[track_caller]
    fn work(&self) -> String {
        let run = self.server.complete(&json!({"name": "test/ten-steps", "data": {}}));
        let id = text(&run["id"]);
        let steps = self.app.log(&format!("run_id={id}"));
        let steps: Vec<&str> = steps.iter().filter_map(|entry| entry["step"].as_str()).collect();
        let each_once: Vec<String> = (0..10).map(|n| format!("step-{n}")).collect();
        assert_eq!(steps, each_once);
        id
    }

    fn files(&mut self) -> usize {
        let id = self.server.process().id();
        std::fs::read_dir(format!("/proc/{id}/fd"))
            .expect("the process lives")
            .count()
    }

    /// The sum of a metric over its labels.
    #[track_caller]
    fn metric(&self, name: &str) -> f64 {
        let all = self.server.get("/metrics").expect(200).text();
        let mut lines = all.lines().filter_map(|line| {
            let (of, value) = line.rsplit_once(' ')?;
            (of.split('{').next() == Some(name)).then(|| value.parse::<f64>().expect("a number"))
        });
        let first = lines.next().unwrap_or_else(|| panic!("no metric {name}"));
        first + lines.sum::<f64>()
    }

    /// Nothing is left of who has gone, and nobody was disturbed.
    #[track_caller]
    fn end(mut self) {
        self.work();
        wait_for("connections to be forgotten", DEADLINE, || {
            let is_left = connections(&self.server) != [self.connection.clone()];
            let is_heard = self.metric("callboard_realtime_subscribers") > 0.0;
            (!is_left && !is_heard).then_some(())
        });
        let most = self.open_files + OWN_FILES;
        wait_for("sockets to be closed", DEADLINE, || {
            (self.files() <= most).then_some(())
        });
        self.app.open("end");
        for run in &self.in_flight {
            let view = self.server.wait_for_status(run, "completed");
            assert_eq!(view["output"], "passed");
            for step in ["before", "held", "after"] {
                let times = self.app.log(&format!("run_id={run}&step={step}")).len();
                assert_eq!(times, 1, "{step} of {run}");
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
        let amiss = self.pulse.take().map(|pulse| pulse.join().expect("it does not panic"));
        assert_eq!(amiss, Some(Vec::new()), "the server was not well");
        assert_eq!(
            connections(&self.server),
            [self.connection.clone()],
            "it never had another"
        );
        for (name, at_the_end) in [
            ("callboard_child_restarts_total", 0.0),
            ("callboard_worker_requests_in_flight", 0.0),
            ("callboard_intake_bytes_in_flight", 0.0),
            ("callboard_intake_events_in_flight", 0.0),
        ] {
            assert!(
                (self.metric(name) - at_the_end).abs() < 0.5,
                "{name} is {}",
                self.metric(name)
            );
        }
        let log = self.server.log();
        let panics = log.lines().find(|line| line.contains("panicked"));
        assert_eq!(panics, None);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The ids of the workers' connections.
fn connections(server: &Server) -> Vec<String> {
    let shown = server.get("/v0/connect/envs/dev/conns").expect(200).json();
    let shown = shown["data"].as_array().expect("a list").clone();
    shown.iter().map(|one| text(&one["id"])).collect()
}
