//! `callboard-bench`: starts a server with what it needs, an SDK-protocol app and a load generator on this machine, and prints one table.
//!
//! Promises: loopback only; bounded in count and time; what it started is gone when it returns. Exits with 1 when a run
//! was lost or a step executed twice, and with `--check` also when a figure misses its limit.
//! Never: builds anything; compares with figures of another run.

mod app;
mod goals;
mod installation;
mod ledger;
mod load;
mod process;
mod report;
mod scenario;
mod seed;
mod server;
mod workload;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;

use crate::app::App;
use crate::goals::Goals;
use crate::installation::{Backend, Installation};
use crate::ledger::Ledger;
use crate::load::Load;
use crate::report::Report;
use crate::scenario::{Plan, Scenario, Stage};
use crate::workload::Workload;

/// Load, latency and memory figures of a Callboard server, all on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// What to measure; may be repeated. Everything by default.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// What the server keeps its data in.
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    backend: Backend,
    /// Instances of the server, with `--backend production`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    instances: u8,
    /// Print after each throughput scenario which statements and commands took the databases' time. It costs some of it;
    /// PostgreSQL has to have pg_stat_statements.
    #[arg(long)]
    statements: bool,
    /// Runs in flight of the throughput scenarios.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5000))]
    in_flight: u16,
    /// Seconds of warm-up before each throughput window.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=60))]
    warm_up: u64,
    /// Seconds of each window.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Runs of the sleepers scenario.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sleepers: u32,
    /// Runs of the waiters scenario.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    waiters: u32,
    /// Seconds each of them sleeps.
    #[arg(long, env = "CALLBOARD_BENCH_SLEEP_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    sleep_seconds: u64,
    /// The server's binary; by default the one next to this program.
    #[arg(long, env = "CALLBOARD_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
    /// One more argument for the started server; may be repeated.
    #[arg(long, allow_hyphen_values = true, value_name = "ARG")]
    server_arg: Vec<String>,
    /// Measure this running server instead of starting one.
    #[arg(long, conflicts_with_all = ["binary", "server_arg", "backend", "instances", "statements"])]
    url: Option<String>,
    /// The process of the server given with --url, for memory and CPU figures.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// Exit with 1 when a figure misses its limit.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match actix_rt::System::new().block_on(run(&options)) {
        Ok(report) => {
            print!("{}", report.table());
            let good = report.exact() && (!options.check || report.keeps_limits());
            ExitCode::from(u8::from(!good))
        }
        Err(error) => {
            eprintln!("callboard-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<Report> {
    let client = client();
    let mut installation = match &options.url {
        Some(url) => {
            let mut attached = Installation::attach(url, options.pid);
            attached.instances[0].ready(&client).await?;
            attached
        }
        None => {
            let plan = installation::plan(
                options.binary.as_deref(),
                options.backend,
                options.instances.into(),
                &options.server_arg,
                options.statements && options.backend == Backend::Production,
            )?;
            Installation::start(plan, &client).await?
        }
    };
    let measured = measure(options, &client, &mut installation).await;
    measured.map_err(|error| match installation.last_output() {
        output if output.is_empty() => error,
        output => error.context(format!("the server's last output:\n{output}\n")),
    })
}

async fn measure(options: &Options, client: &awc::Client, installation: &mut Installation) -> anyhow::Result<Report> {
    let plan = Plan {
        in_flight: options.in_flight.into(),
        warm_up: Duration::from_secs(options.warm_up),
        window: Duration::from_secs(options.seconds),
        sleepers: options.sleepers as usize,
        waiters: options.waiters as usize,
        sleep: Duration::from_secs(options.sleep_seconds),
        goals: Goals(options.backend),
        shows_statistics: options.statements,
    };
    let ledger = Rc::new(RefCell::new(Ledger::open(plan.sleep)));
    let app = App::serve(Rc::clone(&ledger), plan.sleep).await?;
    app.register(client, &installation.instances[0].url, installation.api_key())
        .await?;
    let load = Load {
        client: client.clone(),
        servers: installation.instances.iter().map(|server| server.url.clone()).collect(),
        event_key: installation.event_key(),
        api_key: installation.api_key(),
        fails_over: false,
        ledger: Rc::clone(&ledger),
        refused: Rc::new(Cell::new(0)),
    };
    if installation.instances.len() > 1 {
        installation.has_function(&Workload::NoStep.slug(), client).await?;
    }

    let mut report = Report::default();
    for scenario in Scenario::ALL {
        let is_named = options.scenario.contains(&scenario);
        let is_asked_for = is_named || (options.scenario.is_empty() && scenario != Scenario::Waiters);
        let is_possible = scenario != Scenario::Recovery || options.backend == Backend::Production;
        if !(is_asked_for && is_possible) {
            continue;
        }
        eprintln!("{scenario:?} …");
        let mut stage = Stage {
            plan: &plan,
            installation,
            load: &load,
            report: &mut report,
        };
        stage.play(scenario).await?;
    }
    let ledger = ledger.borrow();
    report.fault("all", ledger.retried, "retried calls");
    report.fault("all", ledger.twins, "calls of a second run for one event");
    report.fault("all", ledger.unknown, "calls that made no sense");
    if installation.api_key().is_some() {
        report.fault("all", ledger.unsigned, "calls without a signature");
    }
    if load.refused.get() > 0 {
        eprintln!("the server asked {} times to send an event later", load.refused.get());
    }
    Ok(report)
}

fn client() -> awc::Client {
    // Shorter than any server's own keep-alive, so that no event is sent into a connection that is being closed.
    let connector = awc::Connector::new()
        .limit(8192)
        .conn_keep_alive(Duration::from_secs(2));
    awc::Client::builder()
        .connector(connector)
        .timeout(Duration::from_secs(30))
        .disable_redirects()
        .finish()
}
