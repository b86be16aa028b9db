//! The circuit breaker of an app.

use std::collections::BTreeSet;

use callboard_actors::breaker::{Breakers, Position, Reading, endpoint};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::Timestamp;
use callboard_actors::ports::AppView;
use serde::Serialize;
use utoipa::ToSchema;

/// What keeps an app that can't be reached from costing its runs their attempts, as this instance sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Breaker {
    /// Whether the app's calls go through one.
    enabled: bool,
    /// What an operator has said of this app; `null` where the settings decide.
    set: Option<bool>,
    /// `closed`: calls are made; `open`: they wait; `half_open`: a few are made, more with each wave that goes well;
    /// `off`.
    #[schema(example = "closed")]
    state: &'static str,
    /// Since when.
    since: Option<String>,
    /// Calls that it judges by; while it is open, those that made it open.
    calls: u32,
    /// Of these, those that were not answered, or with 502, 503 or 504.
    failed: u32,
    /// From 0 to 1; absent without calls.
    failure_rate: Option<f64>,
    /// While it is open: when the app is called again to see how it goes.
    next_probe_at: Option<String>,
    /// How often it has opened since this instance started.
    pub(in crate::http) openings: u64,
    /// How often a call has had to wait.
    pub(in crate::http) parked: u64,
    /// Where it calls; of several places, one that is worst off.
    endpoint: Option<String>,
}

impl Breaker {
    /// Of each app of a catalog, in its order.
    pub(in crate::http) fn of_all<'a>(
        breakers: &'a Breakers,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = (&'a AppView, Self)> {
        let readings = breakers.readings();
        let of = move |app| (app, Self::new(breakers, &readings, catalog, app));
        catalog.apps().iter().map(of)
    }

    /// Of one app.
    pub(in crate::http) fn of(breakers: &Breakers, catalog: &Catalog, app: &AppView) -> Self {
        Self::new(breakers, &breakers.readings(), catalog, app)
    }

    fn new(breakers: &Breakers, readings: &[Reading], catalog: &Catalog, app: &AppView) -> Self {
        let enabled = breakers.settings().applies_to(catalog, &app.app.name);
        let own: BTreeSet<&str> = app.functions.iter().map(|function| endpoint(&function.url)).collect();
        let of_app = || readings.iter().filter(|reading| own.contains(&*reading.endpoint));
        let worst = of_app()
            .max_by_key(|reading| severity(reading.position))
            .filter(|_| enabled);
        let tally = worst.map(|reading| reading.tally).unwrap_or_default();
        Self {
            enabled,
            set: app.breaker,
            state: match worst {
                Some(Reading { position, .. }) => position.as_str(),
                None if enabled => Position::Closed.as_str(),
                None => "off",
            },
            since: worst.map(|reading| reading.since.to_rfc3339()),
            calls: tally.calls,
            failed: tally.failed,
            failure_rate: (tally.calls > 0).then(|| f64::from(tally.failed) / f64::from(tally.calls)),
            next_probe_at: worst.and_then(|reading| reading.next_probe).map(Timestamp::to_rfc3339),
            openings: of_app().map(|reading| reading.openings).sum(),
            parked: of_app().map(|reading| reading.parked).sum(),
            endpoint: worst.map(|reading| reading.endpoint.to_string()),
        }
    }

    /// 0 for closed or off, 1 for half open, 2 for open.
    pub(in crate::http) fn severity(&self) -> u8 {
        let all = [Position::Closed, Position::Open, Position::HalfOpen];
        let found = all.into_iter().find(|position| position.as_str() == self.state);
        found.map_or(0, severity)
    }
}

fn severity(position: Position) -> u8 {
    match position {
        Position::Closed => 0,
        Position::HalfOpen => 1,
        Position::Open => 2,
    }
}
