//! Heartbeats: one pass over the table, one probe for each child and one for each thread.
//!
//! A beat is armed after the one before, so a supervisor that was held up does not count several at once.
//! A thread that is late excuses its children: only the thread is judged then.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use actix::{ArbiterHandle, AsyncContext, Context};

use super::{StopReason, Supervisor, slot::Phase};
use crate::kernel::{ChildName, Exit, Observation};

impl Supervisor {
    pub(super) fn arm_heartbeat(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.settings.heartbeat, |supervisor, ctx| {
            supervisor.beat();
            supervisor.arm_heartbeat(ctx);
        });
    }

    fn beat(&mut self) {
        let late = self.beat_threads();
        let limit = self.settings.missed_probes;
        let mut condemned: Vec<(ChildName, Exit)> = Vec::new();
        for (name, slot) in &mut self.slots {
            let excused = late.contains(&slot.spec.placement.name);
            let start_grace = slot.spec.start_grace;
            match &mut slot.phase {
                Phase::Starting { since, .. } => {
                    if since.elapsed() > start_grace && !excused {
                        let text = format!("not running after {start_grace:?}");
                        condemned.push((name.clone(), Exit::StartFailed { text }));
                    }
                }
                Phase::Running { live } => {
                    if let Some(ticket) = live.heart.beat() {
                        live.observe(ticket);
                    } else if live.heart.missed() >= limit && !excused {
                        let missed = live.heart.missed();
                        condemned.push((name.clone(), Exit::Unresponsive { missed }));
                    }
                }
                // It may take all of its grace; it is asked only for what it has in flight.
                Phase::Stopping { live, .. } => {
                    if let Some(ticket) = live.heart.beat() {
                        live.observe(ticket);
                    }
                }
                Phase::Pending | Phase::BackingOff { .. } | Phase::Quarantined { .. } | Phase::Stopped => {}
            }
        }
        for (name, cause) in condemned {
            self.condemn(&name, cause);
        }
        self.publish_all();
    }

    /// Probes the threads; gives the names of those that are late.
    fn beat_threads(&mut self) -> HashSet<Arc<str>> {
        let threads: BTreeMap<Arc<str>, ArbiterHandle> = self
            .slots
            .values()
            .filter(|slot| slot.live().is_some())
            .map(|slot| &slot.spec.placement)
            .map(|placement| (Arc::clone(&placement.name), placement.arbiter.clone()))
            .collect();
        self.canaries.retain(|name, _| threads.contains_key(name));
        let mut late = HashSet::new();
        let mut blocked = Vec::new();
        for (name, arbiter) in threads {
            let canary = self.canaries.entry(Arc::clone(&name)).or_default();
            if let Some(ticket) = canary.beat() {
                let pulse = canary.pulse.clone();
                // A dead thread refuses; its children's exits say so.
                arbiter.spawn_fn(move || pulse.answer(ticket, Observation::default()));
            } else {
                late.insert(Arc::clone(&name));
                if canary.missed() >= self.settings.missed_probes {
                    blocked.push((name, canary.missed()));
                }
            }
        }
        for (arbiter, missed) in blocked {
            let children = self
                .slots
                .values()
                .filter(|slot| slot.live().is_some() && slot.spec.placement.name == arbiter)
                .map(|slot| slot.spec.name.clone())
                .collect();
            self.stop_process(&StopReason::ArbiterBlocked {
                arbiter,
                missed,
                children,
            });
        }
        late
    }
}
