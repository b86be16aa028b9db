//! `callboard demo`: the main job within seconds, for someone who has no app yet.
//!
//! Starts the real server and, beside it, a small app that speaks the SDKs' protocol; sends it an event and prints the
//! run as it happens: a step, two in parallel of which one fails and is tried again, a sleep, a last step.

mod app;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use callboard_actors::domain::{Event, EventId, IncomingEvent, RunId};
use callboard_actors::ports::Clock as _;
use callboard_actors::ports::Random as _;
use serde_json::json;

use crate::ambient::{SystemClock, ThreadRandom};
use crate::cli::flags::SettingsArgs;
use crate::cli::{DemoArgs, timeline};
use crate::daemon::{self, Daemon, Then};
use crate::sdk;
use crate::settings::Mode;

/// What the demo's function is triggered by.
const EVENT: &str = "demo/order.placed";

/// Runs the demo.
///
/// # Errors
/// When the server does not start, or the run does not end as it should.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    let loaded = scratch.settings(&args.settings).load(Mode::Dev)?;
    crate::telemetry::start(&loaded.settings.log);
    daemon::run(&loaded.settings, async |daemon| {
        show(daemon).await?;
        if args.keep_running {
            println!("\nThe server keeps running; stop it with Ctrl-C.");
            return Ok(Then::Serve);
        }
        println!("\nThat was the demo. `callboard dev` serves your own app.");
        Ok(Then::Stop)
    })
}

async fn show(daemon: &Daemon) -> anyhow::Result<()> {
    let address = daemon.addresses().first().context("the server listens nowhere")?;
    println!("Callboard {} listens on http://{address}.", env!("CARGO_PKG_VERSION"));
    let url = app::serve().await?;
    println!("A small app serves one function at {url}.\n");
    let orchestrator = daemon.orchestrator();
    let registration = sdk::parse(app::registration(&url, EVENT).as_bytes(), SystemClock.now())?;
    let function = registration
        .functions
        .first()
        .context("the demo's app has a function")?
        .id;
    orchestrator.register(registration).await?;

    let now = SystemClock.now();
    let incoming: IncomingEvent =
        serde_json::from_value(json!({ "name": EVENT, "data": { "order": 1042, "total": 99.5 } }))?;
    let event = Event::accept(incoming, EventId::new(now, ThreadRandom.bits()), now)?;
    println!("Event {EVENT} {}", json!({ "order": 1042, "total": 99.5 }));
    let run = RunId::derive(event.id, function);
    orchestrator.accept(vec![event]).await?;
    let store = Arc::clone(orchestrator.store());
    let end = timeline::follow(|| store.run_view(run), &mut std::io::stdout()).await?;
    anyhow::ensure!(end.is_some(), "the run was not found");
    Ok(())
}

/// The demo's own data directory, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("callboard-demo-{}", std::process::id())))
    }

    /// What was not given gets values that disturb nobody: a free port, a directory of its own, a quiet log.
    fn settings(&self, given: &SettingsArgs) -> SettingsArgs {
        let or = |given: &Option<String>, other: &str| Some(given.clone().unwrap_or_else(|| other.to_owned()));
        SettingsArgs {
            host: or(&given.host, "localhost"),
            port: or(&given.port, "0"),
            data_dir: or(&given.data_dir, &self.0.to_string_lossy()),
            log_level: or(&given.log_level, "warn"),
            no_discovery: true,
            no_poll: given.poll_interval.is_none(),
            ..given.clone()
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not there if another directory was given.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
