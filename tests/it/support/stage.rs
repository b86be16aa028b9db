//! One server with one app per SDK, shared by the tests that don't disturb each other.
//!
//! Tests that share it tell their runs apart by the ids they get, their events by data that is [`super::unique`], and
//! change no setting of the app but for functions that no other test uses.

use std::ops::Deref;
use std::sync::OnceLock;

use super::sdk::{Sdk, SdkApp};
use super::server::Server;

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
            eprintln!("{}", self.server.diagnosis());
        }
    }
}
