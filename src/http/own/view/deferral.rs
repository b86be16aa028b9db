//! What a run has put off until its end.

use callboard_actors::domain::Deferral as Stored;
use serde::Serialize;
use utoipa::ToSchema;

/// A function that a run has put off until its end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deferral {
    /// As the SDK computed it.
    id: String,
    /// The id that the function's author gave.
    name: String,
    /// Slug of the function.
    function: String,
    /// `pending`, `scheduled`, `aborted` or `rejected`.
    #[schema(example = "scheduled")]
    status: &'static str,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The event that starts the function, once the run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
}

impl Deferral {
    pub(super) fn of(deferral: &Stored) -> Self {
        Self {
            id: deferral.id.to_string(),
            name: deferral.name.clone(),
            function: deferral.function.clone(),
            status: deferral.status.as_str(),
            reason: deferral.reason.clone(),
            event_id: deferral.event.map(|event| event.to_string()),
        }
    }
}
