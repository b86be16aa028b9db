//! What SDKs call. Paths, bodies, statuses and envelopes are the protocol's, down to their oddities; sources in
//! `docs/compatibility.md`.

mod cancellations;
mod checkpoint;
pub(super) mod connect;
pub(super) mod dev;
pub(super) mod events;
mod functions;
mod invoke;
pub(super) mod metadata;
mod prom;
pub(super) mod realtime;
pub(super) mod registration;
mod run_state;
pub(super) mod runs;
mod signals;
mod sizes;
pub(super) mod stored_events;
mod testing;
mod traces;
pub(super) mod v2;

use actix_web::web::{self, ServiceConfig};

use super::state::Options;
use crate::sdk::ServerKind;

/// The one environment and the one account there are, in the ids that the original server gives them.
pub(super) const ENVIRONMENT: &str = "00000000-0000-4000-b000-000000000000";
const ACCOUNT: &str = "00000000-0000-4000-a000-000000000000";

/// Everything but `/e`, which is mounted first.
pub(super) fn routes(cfg: &mut ServiceConfig, options: &Options) {
    cfg.service(web::scope("/invoke").configure(invoke::routes));
    cfg.service(web::scope("/fn").configure(registration::routes).configure(|cfg| {
        if options.kind == ServerKind::Dev {
            sizes::routes(cfg);
        }
    }));
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
            .configure(checkpoint::routes)
            .configure(signals::routes)
            .configure(stored_events::routes)
            .configure(runs::routes)
            .configure(cancellations::routes)
            .configure(functions::routes)
            .configure(metadata::routes)
            .configure(realtime::routes)
            .configure(prom::routes)
            .configure(traces::userland),
    );
    for prefix in ["/v2", "/api/v2"] {
        cfg.service(web::scope(prefix).configure(v2::routes));
    }
    cfg.configure(traces::dev);
    if options.kind == ServerKind::Dev {
        cfg.service(web::scope("/dev").configure(dev::routes));
        if options.testing {
            cfg.service(web::scope("/test").configure(testing::routes));
        }
    }
}
