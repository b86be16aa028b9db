//! Between the sync client, which talks to apps, and the orchestrator, which knows them.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_actors::domain::is_connection;
use callboard_actors::orchestrator::Orchestrator;

use crate::http::Syncer;
use crate::sdk::ServerKind;
use crate::sdk::discovery::{Apps, Poller, SyncClient, SyncError, Watch, ports};
use crate::sdk::signing::Keys;
use crate::sdk::transport::Transport;
use crate::settings::Settings;

/// For a connection to an app.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to talk to apps.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransportSettings {
    /// Connections at the most.
    pub(super) connections: usize,
}

thread_local! {
    /// The client of this thread: connections can't leave theirs.
    static CLIENT: OnceCell<SyncClient> = const { OnceCell::new() };
}

/// Asks apps to register.
#[derive(Debug, Clone)]
pub(super) struct Sync {
    transport: TransportSettings,
    keys: Option<Arc<Keys>>,
    kind: ServerKind,
}

impl Sync {
    pub(super) fn new(transport: TransportSettings, keys: Option<Arc<Keys>>, kind: ServerKind) -> Self {
        Self { transport, keys, kind }
    }

    fn client(&self) -> SyncClient {
        CLIENT.with(|client| {
            let make = || {
                let transport = Transport::new(CONNECT_TIMEOUT, self.transport.connections);
                SyncClient::new(transport, self.keys.clone(), self.kind)
            };
            client.get_or_init(make).clone()
        })
    }
}

#[async_trait(?Send)]
impl Syncer for Sync {
    async fn sync(&self, url: &str) -> Result<(), SyncError> {
        self.client().sync(url).await
    }
}

/// What to poll, if anything. The server's own port is not looked at.
pub(super) fn watch(settings: &Settings, own_port: u16) -> Option<Watch> {
    let interval = settings.sdk.poll_interval;
    let urls = settings.sdk.urls.clone();
    if urls.is_empty() && !settings.sdk.discovery && interval.is_none() {
        return None;
    }
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let ports = || ports(port).into_iter().filter(|port| *port != own_port).collect();
    Some(Watch {
        urls,
        ports: settings.sdk.discovery.then(ports),
        interval,
    })
}

/// Polls until the thread ends.
pub(super) async fn poll(sync: &Sync, orchestrator: Orchestrator, watch: Watch) {
    Poller::new(sync.client(), Rc::new(Known(orchestrator)), watch)
        .run()
        .await;
}

/// The apps there are.
struct Known(Orchestrator);

#[async_trait(?Send)]
impl Apps for Known {
    fn known(&self) -> Vec<String> {
        // Without an SDK's name they were registered by hand, and nobody may answer there.
        let catalog = self.0.catalog();
        // Those whose workers connect register by themselves.
        let with_sdk = catalog
            .apps()
            .iter()
            .filter(|view| !view.app.sdk.is_empty() && !is_connection(&view.app.url));
        with_sdk.map(|view| view.app.url.clone()).collect()
    }

    async fn has_turn(&self, lasting: Duration) -> bool {
        self.0.take_turn("discovery", lasting).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "apps are not asked now");
            false
        })
    }

    async fn note(&self, url: &str, error: Option<&SyncError>) {
        self.0.note_sync(url, error.map(ToString::to_string));
    }
}
