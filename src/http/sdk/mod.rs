//! What SDKs call. Paths, bodies, statuses and envelopes are the protocol's, down to their oddities; sources in
//! `docs/compatibility.md`.

pub(super) mod connect;
pub(super) mod dev;
pub(super) mod events;
mod functions;
mod invoke;
pub(super) mod registration;
mod run_state;
pub(super) mod runs;
mod signals;
pub(super) mod stored_events;
mod traces;

use actix_web::web::{self, ServiceConfig};

use super::state::Options;
use crate::sdk::ServerKind;

/// The one environment and the one account there are, in the ids that the original server gives them.
pub(super) const ENVIRONMENT: &str = "00000000-0000-4000-b000-000000000000";
const ACCOUNT: &str = "00000000-0000-4000-a000-000000000000";

/// Everything but `/e`, which is mounted first.
pub(super) fn routes(cfg: &mut ServiceConfig, options: &Options) {
    cfg.service(web::scope("/invoke").configure(invoke::routes));
    cfg.service(web::scope("/fn").configure(registration::routes));
    cfg.service(
        web::scope("/v0")
            .configure(run_state::routes)
            .configure(|cfg| connect::routes(cfg, options.kind))
            .configure(traces::telemetry)
            .configure(|cfg| {
                if options.graphql {
                    super::graphql::routes(cfg);
                }
            }),
    );
    cfg.service(
        web::scope("/v1")
            .configure(signals::routes)
            .configure(stored_events::routes)
            .configure(runs::routes)
            .configure(functions::routes)
            .configure(traces::userland),
    );
    cfg.configure(traces::dev);
    if options.kind == ServerKind::Dev {
        cfg.service(web::scope("/dev").configure(dev::routes));
    }
}
