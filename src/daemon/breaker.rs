//! The circuit breakers: what the settings say of them, and what the log does.

use callboard_actors::breaker::{self, Changed, Policy, Position};

use crate::error::Code;
use crate::settings::BreakerSettings;

/// What the orchestrator is told.
pub(super) fn settings(settings: &BreakerSettings) -> breaker::Settings {
    breaker::Settings {
        enabled: settings.enabled,
        except: settings.except.clone(),
        policy: Policy {
            window: settings.window,
            min_calls: settings.min_calls,
            failure_rate: settings.failure_rate,
            open: settings.open,
            open_cap: settings.open_cap,
            ..Policy::default()
        },
        notice: log,
    }
}

/// One line for each change.
fn log(changed: &Changed) {
    let Changed {
        endpoint, from, tally, ..
    } = changed;
    let (calls, failed) = (tally.calls, tally.failed);
    match changed.to {
        Position::Open => tracing::warn!(
            code = %Code::AppUnreachable, %endpoint, was = from.as_str(), calls, failed,
            open_for = ?changed.open_for.unwrap_or_default(),
            "an app can't be reached: its calls wait, and are not made in vain"
        ),
        Position::HalfOpen => tracing::info!(
            code = %Code::AppUnreachable, %endpoint, "a few calls are made to see whether an app is back"
        ),
        Position::Closed => {
            tracing::info!(code = %Code::AppUnreachable, %endpoint, "an app is back: its calls are made");
        }
    }
}
