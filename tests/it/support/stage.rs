//! One server with one app per SDK, shared by the tests that don't disturb each other.
//!
//! Tests that share it tell their runs apart by the ids they get, their events by data that is [`super::unique`], and
//! change no setting of the app but for functions that no other test uses.

use std::ops::Deref;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::sdk::{Sdk, SdkApp};
use super::server::{Server, text};

/// A server and an app that is registered with it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) app: SdkApp,
}

impl Stage {
    /// One of its own for a test that changes what others rely on.
    pub(crate) fn of_its_own(sdk: Sdk) -> Self {
        let server = Server::builder()
            .switch("--no-poll")
            .flag("--retry-interval", "1")
            .start();
        let app = SdkApp::builder(sdk, &server.url()).start();
        app.register();
        Self { server, app }
    }

    /// Sends an event through the API, and waits until the one run that it starts has completed; answers the run.
    #[track_caller]
    pub(crate) fn complete(&self, name: &str, data: &Value) -> Value {
        self.server.complete(&json!({"name": name, "data": data}))
    }

    /// The same for a run that fails.
    #[track_caller]
    pub(crate) fn fail(&self, name: &str, data: &Value) -> Value {
        self.server.run_to(&json!({"name": name, "data": data}), "failed")
    }

    /// Sends an event, and waits until it has started a run; answers the run's id.
    #[track_caller]
    pub(crate) fn begin(&self, name: &str, data: &Value) -> String {
        let event = self.server.send(&json!({"name": name, "data": data}));
        self.server.wait_for_start(&event)
    }

    /// The steps of a run that the app executed, one entry for each time, in order.
    #[track_caller]
    pub(crate) fn steps_of(&self, run: &Value) -> Vec<String> {
        let id = text(&run["id"]);
        let entries = self.app.log(&format!("run_id={id}"));
        let steps = entries.iter().filter_map(|entry| entry["step"].as_str());
        steps.map(str::to_owned).collect()
    }

    /// How often the app was called for a run.
    #[track_caller]
    pub(crate) fn calls_of(&self, run: &Value) -> usize {
        self.app.calls(&format!("run_id={}", text(&run["id"]))).len()
    }

    /// The shared one.
    pub(crate) fn shared(sdk: Sdk) -> Shared {
        static STAGES: [OnceLock<Stage>; 3] = [const { OnceLock::new() }; 3];
        Shared(STAGES[sdk as usize].get_or_init(|| Self::of_its_own(sdk)))
    }
}

/// The shared stage on loan to a test; tells what the server has to say if the test fails.
#[derive(Debug)]
pub(crate) struct Shared(&'static Stage);

impl Deref for Shared {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}{}", self.server.diagnosis(), self.app.diagnosis());
        }
    }
}
