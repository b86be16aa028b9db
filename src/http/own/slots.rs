//! `/api/v1/functions/{id}/slots`: what became of each time that a function's crons name, and which come next.

use actix_web::HttpResponse;
use actix_web::web::{Path, Query};
use callboard_actors::domain::RunStatus;
use callboard_actors::scheduler::ledger::{Outcome, PastSlot, Slot as StoredSlot, SlotFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::reading;
use super::view::millis;
use crate::error::Problem;
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Slots of then or later: RFC 3339, or milliseconds since 1970.
    from: Option<String>,
    /// Slots of before.
    until: Option<String>,
    /// Of the page before.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u8>)]
    limit: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<SlotFilter, Problem> {
        let cursor = reading::given(self.cursor.as_ref());
        let cursor = cursor.map(|text| {
            let parsed = text.parse();
            parsed.map_err(|_| reading::invalid("cursor", text, "the `cursor` of the page before"))
        });
        Ok(SlotFilter {
            from: reading::time("from", self.from.as_ref())?,
            until: reading::time("until", self.until.as_ref())?,
            before: cursor.transpose()?,
            limit: reading::limit(reading::given(self.limit.as_ref()))?,
        })
    }
}

/// A slot that has passed.
#[derive(Serialize, ToSchema)]
pub(super) struct Slot {
    #[schema(example = "TZ=Europe/Paris 0 9 * * 1-5")]
    schedule: String,
    /// When the schedule says.
    scheduled_at: String,
    /// When it had to fire: later by its jitter.
    fires_at: String,
    /// `ran`; `late`, which ran more than ten seconds after `fires_at`; `skipped`; `due`, which has not been dealt with so
    /// far; `unknown`, of which nothing is recorded.
    #[schema(example = "ran")]
    status: &'static str,
    /// Of `skipped`: `down` (nobody was there, and it was not made up for), `superseded` (nobody was there, and a later
    /// one made up for it), `archived` (the function was), `removed` (the schedule was, before its jitter was over), or why
    /// the event started no run. Of `unknown`: `expired` (events of that time are not kept), or `unrecorded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The particulars of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    /// Absent too if the run is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_status: Option<&'static str>,
    /// When it fired.
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_at: Option<String>,
    /// Of `late`: how long after `fires_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<u64>,
}

impl Slot {
    fn of(past: PastSlot) -> Self {
        let mut slot = Self {
            schedule: past.slot.schedule.to_string(),
            scheduled_at: past.slot.at.to_rfc3339(),
            fires_at: past.slot.fires_at.to_rfc3339(),
            status: "due",
            reason: None,
            detail: None,
            event_id: None,
            run_id: None,
            run_status: None,
            fired_at: None,
            late_ms: None,
        };
        match past.outcome {
            Outcome::Ran {
                event,
                run,
                status,
                fired_at,
                late,
            } => {
                slot.status = if late.is_some() { "late" } else { "ran" };
                slot.event_id = Some(event.to_string());
                slot.run_id = Some(run.to_string());
                slot.run_status = status.map(RunStatus::as_str);
                slot.fired_at = Some(fired_at.to_rfc3339());
                slot.late_ms = late.map(millis);
            }
            Outcome::Skipped { reason, detail } => {
                slot.status = "skipped";
                slot.reason = Some(reason);
                slot.detail = detail;
            }
            Outcome::Due => {}
            Outcome::Unknown { expired } => {
                slot.status = "unknown";
                slot.reason = Some(if expired { "expired" } else { "unrecorded" });
            }
        }
        slot
    }
}

/// A slot to come.
#[derive(Serialize, ToSchema)]
pub(super) struct UpcomingSlot {
    #[schema(example = "TZ=Europe/Paris 0 9 * * 1-5")]
    schedule: String,
    /// When the schedule says.
    scheduled_at: String,
    /// When it fires: later by its jitter.
    fires_at: String,
}

impl UpcomingSlot {
    fn of(slot: &StoredSlot) -> Self {
        Self {
            schedule: slot.schedule.to_string(),
            scheduled_at: slot.at.to_rfc3339(),
            fires_at: slot.fires_at.to_rfc3339(),
        }
    }
}

/// A page of a function's slots.
#[derive(Serialize, ToSchema)]
pub(super) struct Slots {
    /// Those that have passed since the schedule was known, from new to old.
    slots: Vec<Slot>,
    /// The ten that fire next.
    upcoming: Vec<UpcomingSlot>,
    /// For the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// List the slots of a function's crons: which ran, which were skipped and why, and which come next.
#[utoipa::path(
    get, path = "/api/v1/functions/{id}/slots", tag = "functions",
    params(("id" = String, Path, description = "A function's slug or UUID."), ListQuery),
    responses((status = 200, body = Slots), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(id: Path<String>, query: Query<ListQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let filter = query.filter()?;
    let function = reading::function(&api.catalog(), &id)?;
    let page = api.slots(function, filter).await?;
    let page = page.ok_or_else(|| reading::unknown_function(&id))?;
    Ok(HttpResponse::Ok().json(Slots {
        slots: page.slots.into_iter().map(Slot::of).collect(),
        upcoming: page.upcoming.iter().map(UpcomingSlot::of).collect(),
        cursor: page.cursor.map(|cursor| cursor.to_string()),
    }))
}
