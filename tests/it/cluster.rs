//! Several instances of `callboard start` on one PostgreSQL and one Redis: what one is told, all know; what one begins, any
//! goes on with; and what befalls one is made good by the others.

mod failures;
mod flow;
mod realtime;
mod sharing;
mod surroundings;
mod verbs;
mod workers;

use std::sync::OnceLock;

use crate::support::fake::{Call, FakeApp, Reply};
use crate::support::installation::{Builder, Installation};
use crate::support::sdk::{Sdk, SdkApp};
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server};

/// Two instances, and a real app that is registered at the first one.
#[derive(Debug)]
struct Pair {
    installation: Installation,
    app: SdkApp,
}

impl Pair {
    fn start(builder: Builder) -> Self {
        let installation = builder.start();
        let app = sdk_app(&installation[0]);
        Self { installation, app }
    }

    /// One that is shared by tests that do it no harm, and tell their runs apart by data of their own.
    fn shared() -> Loan {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        Loan(PAIR.get_or_init(|| Self::start(Installation::builder())))
    }

    fn one(&self) -> &Server {
        &self.installation[0]
    }

    fn other(&self) -> &Server {
        &self.installation[1]
    }
}

/// The shared pair; tells what its servers have to say if the test fails.
#[derive(Debug)]
struct Loan(&'static Pair);

impl std::ops::Deref for Loan {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}{}", self.installation.diagnosis(), self.app.diagnosis());
        }
    }
}

/// The TypeScript app, registered at this instance.
fn sdk_app(server: &Server) -> SdkApp {
    let app = SdkApp::builder(Sdk::Ts4, &server.url())
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start();
    app.register();
    app
}

/// An app with one function `fn` for the event `<app id>/go`, registered at this instance.
fn fake_app(server: &Server, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> FakeApp {
    FakeApp::with_function(server, 5, answer)
}
