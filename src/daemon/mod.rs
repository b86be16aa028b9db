//! The daemon: puts the parts together, runs them, and takes them apart in order.
//!
//! ```text
//!   thread   what lives there
//!   main     the supervisor; signals; nothing that could hold it up
//!   work     HTTP, the actors, calls to apps: an event's way in and a run's way on cross no thread
//!   sqlite   one thread for the writer's connection, one for each reader
//! ```
//!
//! Promises: when [`Daemon::start`] returns, the server answers on its ports and everything that was under way when the
//! last process ended goes on. [`Daemon::stop`] loses nothing: what does not finish in time is in the database.

mod apps;
mod backends;
mod between;
mod breaker;
mod inspect;
mod listen;
mod node;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle, System};
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use anyhow::Context as _;
use callboard_actors::engine::RetryPolicy;
use callboard_actors::janitor::Retention;
use callboard_actors::kernel::RestartPolicy;
use callboard_actors::orchestrator::{self, Orchestrator, World};
use callboard_actors::ports::{Clock, Random};
use callboard_actors::supervisor::StopReason;
use callboard_actors::workers::{self, Workers};
use tokio::sync::oneshot;
use url::Url;

use crate::ambient::{SystemClock, ThreadRandom};
use crate::connect::{ConnectedInvokerFactory, Gateway};
use crate::error::Code;
use crate::http::{self, AppState, Intake, Options, StartOptions};
use crate::otlp::export;
use crate::realtime::Broadcaster;
use crate::sdk::signing::Keys;
use crate::sdk::transport::guard::Guard;
use crate::sdk::{HttpInvokerFactory, ServerKind, Settings as InvokerSettings, SigningKey};
use crate::settings::{Mode, Settings};
use backends::Backends;
pub(crate) use backends::{cannot_use, database_options};

pub use inspect::auditor;

/// Connections to apps, at the most, beyond the calls that may be in flight: syncs, fetches and scans.
const SPARE_CONNECTIONS: usize = 256;
/// How long connections may take to finish their requests once everything behind them has stopped.
const HTTP_GRACE_SECONDS: u64 = 2;

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    orchestrator: Orchestrator,
    server: ServerHandle,
    broadcaster: Broadcaster,
    spans: Option<export::Ending>,
    backends: Backends,
    addresses: Vec<SocketAddr>,
    grace: Duration,
}

impl Daemon {
    /// Starts a server. To be called on the main thread's [`System`], which becomes the supervisor's.
    ///
    /// # Errors
    /// When keys are missing that the mode asks for, the data directory can't be used, a port is taken, or an actor does
    /// not start.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        settings.check_services()?;
        settings.check_keys()?;
        let mut listeners = listen::bind(&settings.api.addr, settings.api.port)?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let port = addresses.first().map_or(settings.api.port, SocketAddr::port);
        let (of_workers, gateway_port) = listen::bind_gateway(settings)?;
        listeners.extend(of_workers);

        let keys = signing_keys(settings)?;
        let transport = apps::TransportSettings {
            connections: settings.limits.calls + SPARE_CONNECTIONS,
        };
        let syncer = apps::Sync::new(transport, keys.clone(), server_kind(settings.mode));
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(ThreadRandom));
        let workers = Workers::new(
            workers::Settings {
                heartbeat: settings.connect.heartbeat,
                lease: settings.connect.lease,
                has_others: settings.database.url.is_some(),
            },
            Arc::clone(&clock),
            Arc::clone(&random),
        );
        let gateway = Gateway::new(workers.clone(), keys.as_deref());
        let (broadcaster, published) = between::broadcaster(settings);
        let options = Options {
            gateway_port,
            realtime: broadcaster.clone(),
            ..options(settings, keys.clone(), syncer.clone(), gateway)
        };
        let state = web::Data::new(AppState::new(options));

        let (server, work) = serve(listeners, state.clone()).await?;
        let invoker = HttpInvokerFactory::new(InvokerSettings {
            call_timeout: settings.sdk.call_timeout,
            connections: transport.connections,
            keys,
            guard: guard(settings),
            broadcaster: broadcaster.clone(),
            ..InvokerSettings::default()
        });
        // Health answers from here on, however long the database takes.
        let backends = backends::open(settings, |problem| state.waits_for(problem)).await?;
        let world = World {
            store: Arc::clone(&backends.store),
            queue: Arc::clone(&backends.queue),
            invoker: Arc::new(ConnectedInvokerFactory::new(
                Arc::new(invoker),
                workers.clone(),
                settings.sdk.call_timeout,
            )),
            workers,
            clock,
            random,
            node: node::this(&settings.node.name, &addresses),
            is_shared: backends.is_shared,
        };
        let orchestrator =
            orchestrator::build(world, tree_settings(settings), &Arbiter::current(), work.clone()).await?;
        state.ready(Arc::new(orchestrator.clone()));
        look_at_queue(&work, &orchestrator);
        between::talk(settings, &work, &orchestrator, broadcaster.clone(), published)?;
        let spans = export_spans(settings, &work, &orchestrator)?;
        if let Some(watch) = apps::watch(settings, port) {
            let (syncer, orchestrator) = (syncer, orchestrator.clone());
            work.spawn_fn(move || {
                actix_rt::spawn(async move { apps::poll(&syncer, orchestrator, watch).await });
            });
        }
        let grace = settings.shutdown.grace;
        Ok(Self {
            orchestrator,
            server,
            broadcaster,
            spans,
            backends,
            addresses,
            grace,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it runs.
    #[must_use]
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.orchestrator
    }

    /// Waits until an actor that the process can't do without can't be kept running.
    pub async fn broken(&self) -> StopReason {
        self.orchestrator.stop_signal().fired().await
    }

    /// Stops in order: no new job is begun, calls in flight get the grace period, the writer and the server leave last.
    ///
    /// # Errors
    /// When the database can't be closed; nothing is lost even then.
    pub async fn stop(self) -> anyhow::Result<()> {
        // What runs publish while they end still arrives.
        self.broadcaster.announce_end();
        let report = self.orchestrator.drain(self.grace).await;
        for orphan in &report.orphans {
            tracing::warn!(name = %orphan.name, in_flight = orphan.in_flight, "stopped before it was done; it goes on at the next start");
        }
        // The answers of workers are in; they connect elsewhere, or again.
        self.orchestrator.workers().close();
        self.broadcaster.close();
        if let Some(spans) = self.spans {
            spans.flush().await;
        }
        self.server.stop(true).await;
        self.backends.close().await
    }
}

/// Says if the queue does not answer: without it nothing begins, and an operator should not have to wonder why. On the
/// work thread, where its connections live.
fn look_at_queue(work: &ArbiterHandle, orchestrator: &Orchestrator) {
    let queue = Arc::clone(orchestrator.queue());
    work.spawn(async move {
        if let Err(error) = queue.ping().await {
            tracing::error!(code = %Code::QueueUnreachable, "{error}; it is tried again until it answers");
        }
    });
}

/// Has a collector of the user's told of what is done here, if there is one.
fn export_spans(
    settings: &Settings,
    work: &ArbiterHandle,
    orchestrator: &Orchestrator,
) -> anyhow::Result<Option<export::Ending>> {
    let Some(otlp) = &settings.telemetry.otlp else {
        return Ok(None);
    };
    let target = export::Target {
        url: Url::parse(otlp.url.expose()).context("`telemetry.otlp.endpoint`")?,
        is_json: otlp.is_json,
        headers: otlp.headers.clone(),
        per_million: otlp.per_million,
        service: otlp.service.clone(),
        node: orchestrator.node().id.to_string(),
    };
    let metrics = orchestrator.metrics();
    let (exporter, sending, ending) = export::Exporter::new(target, metrics.clone());
    metrics.spans.connect(Arc::new(exporter));
    // Its connections belong to that thread.
    work.spawn_fn(move || {
        actix_rt::spawn(sending.run());
    });
    Ok(Some(ending))
}

/// Starts the HTTP server with one worker, whose thread the actors share. Answers that thread's arbiter.
async fn serve(
    listeners: Vec<std::net::TcpListener>,
    state: web::Data<AppState>,
) -> anyhow::Result<(ServerHandle, ArbiterHandle)> {
    let (sender, arbiter) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let mut server = HttpServer::new(move || {
        // The first worker is the only one; a second would be the first one's successor, and the process stops then.
        if let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = sender.send(Arbiter::current());
        }
        let state = state.clone();
        App::new().configure(move |cfg| http::configure(cfg, state.clone()))
    })
    .workers(1)
    .disable_signals()
    .keep_alive(Duration::from_secs(75))
    .shutdown_timeout(HTTP_GRACE_SECONDS);
    for listener in listeners {
        server = server.listen(listener).context("the port can't be listened on")?;
    }
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let arbiter = arbiter.await.context("the HTTP server did not start")?;
    Ok((handle, arbiter))
}

fn signing_keys(settings: &Settings) -> anyhow::Result<Option<Arc<Keys>>> {
    use secrecy::ExposeSecret as _;
    let Some(current) = &settings.keys.signing else {
        return Ok(None);
    };
    let current = SigningKey::parse(current.expose_secret()).context("the signing key")?;
    let fallbacks = settings.keys.signing_fallbacks.iter();
    let fallbacks = fallbacks.map(|key| SigningKey::parse(key.expose_secret()));
    let fallbacks = fallbacks.collect::<Result<_, _>>().context("a signing key beside it")?;
    Ok(Some(Arc::new(Keys::new(current, fallbacks))))
}

/// Which addresses requests that are made for functions may go to.
fn guard(settings: &Settings) -> Guard {
    if settings.fetch.guard {
        Guard::closed(settings.fetch.allow.as_slice())
    } else {
        Guard::open()
    }
}

/// What SDKs are told of the mode: they refuse to talk to the other kind.
fn server_kind(mode: Mode) -> ServerKind {
    match mode {
        Mode::Dev => ServerKind::Dev,
        Mode::Start => ServerKind::Cloud,
    }
}

fn options(settings: &Settings, keys: Option<Arc<Keys>>, syncer: apps::Sync, gateway: Gateway) -> Options {
    Options {
        kind: server_kind(settings.mode),
        signing_keys: keys,
        api_keys: settings.keys.api.clone(),
        event_keys: settings.keys.event.clone(),
        require_event_keys: settings.mode == Mode::Start,
        request_bytes: settings.limits.request_bytes,
        intake: Intake::new(settings.limits.intake_events, settings.limits.intake_bytes),
        default_app_url: settings.sdk.default_app_url.clone(),
        syncer: Box::new(syncer),
        graphql: settings.api.graphql,
        testing: settings.api.testing,
        gateway,
        gateway_port: None,
        gateway_url: settings.connect.url.clone(),
        realtime: Broadcaster::default(),
        start: StartOptions {
            urls: settings.sdk.urls.clone(),
            discovery: settings.sdk.discovery,
            poll_interval: settings.sdk.poll_interval.map_or(0, |interval| interval.as_secs()),
            retry_interval: settings.retry.interval.map_or(0, |interval| interval.as_secs()),
            calls: settings.limits.calls,
            directory: match &settings.database.url {
                Some(_) => String::new(),
                None => settings.data.dir.display().to_string(),
            },
        },
    }
}

/// What the process tree is told of the settings.
fn tree_settings(settings: &Settings) -> orchestrator::Settings {
    /// Stands for ever.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let supervision = settings.supervision;
    orchestrator::Settings {
        retry: settings.retry.interval.map_or(RetryPolicy::Backoff, RetryPolicy::Fixed),
        jobs_in_flight: settings.limits.calls,
        jobs_per_function: settings.limits.calls_per_function,
        horizon: settings.queue.horizon,
        catch_up: settings.cron.catch_up,
        breaker: breaker::settings(&settings.breaker),
        look_back: settings.waits.look_back,
        retention: Retention {
            finished_runs: settings.retention.finished_runs.unwrap_or(CENTURY),
            failed_runs: settings.retention.failed_runs.unwrap_or(CENTURY),
            events: settings.retention.events.unwrap_or(CENTURY),
        },
        restart: RestartPolicy {
            base: supervision.backoff_base,
            factor: supervision.backoff_factor,
            cap: supervision.backoff_cap,
            max_restarts: supervision.max_restarts,
            window: supervision.window,
            ..RestartPolicy::default()
        },
        drain_grace: settings.shutdown.grace,
        ..orchestrator::Settings::default()
    }
}

/// Runs a server until it is told to stop or can't go on. To be called from `main`.
///
/// # Errors
/// When the server does not start, or had to stop.
pub fn run(settings: &Settings, started: impl AsyncFnOnce(&Daemon) -> anyhow::Result<Then>) -> anyhow::Result<()> {
    System::new().block_on(async {
        let daemon = Daemon::start(settings).await?;
        let mut signals = listen::Signals::new()?;
        let serving = async {
            match started(&daemon).await? {
                Then::Stop => Ok(None),
                Then::Serve => Ok::<_, anyhow::Error>(Some(())),
            }
        };
        let broken = tokio::select! {
            outcome = serving => match outcome? {
                None => None,
                Some(()) => tokio::select! {
                    reason = daemon.broken() => Some(reason),
                    () = signals.stop() => None,
                },
            },
            reason = daemon.broken() => Some(reason),
            () = signals.stop() => None,
        };
        tracing::info!("stopping");
        tokio::select! {
            stopped = daemon.stop() => stopped?,
            () = signals.stop() => anyhow::bail!("stopped at once, as asked twice; what was under way goes on at the next start"),
        }
        match broken {
            None => Ok(()),
            Some(reason) => anyhow::bail!("the server had to stop: {reason}"),
        }
    })
}

/// What a command wants once the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Serve until told to stop.
    Serve,
    /// Stop: it has seen what it wanted.
    Stop,
}
