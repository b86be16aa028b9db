//! Searches of the fake store: filters are remembered, and everything there is comes back.

use async_trait::async_trait;
use callboard_actors::domain::*;
use callboard_actors::ports::*;

use super::backends::{FakeStore, Read};

#[async_trait]
impl Search for FakeStore {
    async fn find_runs(&self, search: &RunSearch) -> Read<Page<RunSummary>> {
        Ok(self.0.with(|world| {
            world.run_searches.push(search.clone());
            let runs = world.runs.iter().map(|view| view.summary.clone());
            let place = search.after;
            let all: Vec<_> = runs.filter(|run| place.is_none_or(|place| run.id < place.id)).collect();
            Page {
                has_more: all.len() > search.limit,
                items: all.into_iter().take(search.limit).collect(),
            }
        }))
    }
    async fn count_runs(&self, search: &RunSearch) -> Read<u64> {
        Ok(self.0.with(|world| {
            world.run_searches.push(search.clone());
            world.runs.len() as u64
        }))
    }
    async fn find_events(&self, search: &EventSearch) -> Read<Page<Event>> {
        Ok(self.0.with(|world| {
            world.event_searches.push(search.clone());
            let events = world.events.iter().map(|view| view.event.clone());
            let before = search.before;
            let all: Vec<_> = events
                .filter(|event| before.is_none_or(|before| event.id < before))
                .collect();
            Page {
                has_more: all.len() > search.limit,
                items: all.into_iter().take(search.limit).collect(),
            }
        }))
    }
    async fn count_events(&self, search: &EventSearch) -> Read<u64> {
        Ok(self.0.with(|world| {
            world.event_searches.push(search.clone());
            world.events.len() as u64
        }))
    }
    async fn runs_of_events(&self, events: &[EventId]) -> Read<Vec<(EventId, RunSummary)>> {
        Ok(self.0.with(|world| {
            world.batch_loads += 1;
            let asked = world.events.iter().filter(|view| events.contains(&view.event.id));
            asked
                .flat_map(|view| view.runs.iter().map(|run| (view.event.id, run.clone())))
                .collect()
        }))
    }
}
