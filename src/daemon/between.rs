//! What instances tell each other, where there are several: of workers, and what is published.

use std::sync::Arc;

use actix_rt::ArbiterHandle;
use anyhow::Context as _;
use callboard_actors::orchestrator::Orchestrator;

use super::backends::redis_options;
use crate::realtime::{self, Broadcaster, Relay, Work};
use crate::settings::Settings;

/// Who is subscribed to what is published, and what is to be taken to other instances if there may be some.
pub(super) fn broadcaster(settings: &Settings) -> (Broadcaster, Option<Work>) {
    if settings.redis.url.is_none() {
        return (Broadcaster::default(), None);
    }
    let (relay, work) = Relay::new();
    (Broadcaster::new(Arc::new(relay)), Some(work))
}

/// Has instances talk, and write down what others are to see. On the work thread, where the connections live.
///
/// # Errors
/// When the settings name no Redis that could be talked over.
pub(super) fn talk(
    settings: &Settings,
    thread: &ArbiterHandle,
    orchestrator: &Orchestrator,
    broadcaster: Broadcaster,
    published: Option<Work>,
) -> anyhow::Result<()> {
    let (node, workers) = (orchestrator.node().id.to_string(), orchestrator.workers().clone());
    let (store, clock) = (Arc::clone(orchestrator.store()), Arc::clone(orchestrator.clock()));
    thread.spawn(crate::connect::ledger::run(store, clock, node.clone(), workers.clone()));
    let Some(url) = &settings.redis.url else { return Ok(()) };
    let servers = crate::queue::redis::servers(url.expose()).context("`redis.url`")?;
    let prefix = settings.redis.prefix.clone();
    thread.spawn(crate::connect::relay::run(
        servers.clone(),
        prefix.clone(),
        node.clone(),
        workers,
    ));
    let places = orchestrator.workers().places();
    thread.spawn(crate::connect::places::run(redis_options(settings, url), places));
    if let Some(published) = published {
        thread.spawn(realtime::relay(servers, prefix, node, published, broadcaster));
    }
    Ok(())
}
