//! What an app tells of a call while it is still at work on it.
//!
//! An app that runs several steps in one call reports each as it is done. Such a report says which call it comes from,
//! by the [`Ticket`] that the call brought: what comes from a call that another has taken the place of is refused.

use std::fmt;
use std::str::FromStr;

use super::{IdError, Job, JobKey, Opcode, RequestId};

/// A call of an app, as one of the attempts at a job of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRef {
    /// The job that asked for it.
    pub job: JobKey,
    /// The job's attempts before.
    pub attempt: u32,
    /// Which call of this attempt: the newest counts, where there are several.
    pub request: RequestId,
}

impl CallRef {
    /// The call that is made for a job.
    #[must_use]
    pub fn new(job: &Job, request: RequestId) -> Self {
        Self {
            job: job.id.key.clone(),
            attempt: job.attempt,
            request,
        }
    }

    /// Whether both are calls of the same attempt at the same job.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.attempt == other.attempt && self.job == other.job
    }
}

impl fmt::Display for CallRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.attempt, self.request, self.job)
    }
}

impl FromStr for CallRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or_else(|| IdError::new("call", text));
        Ok(Self {
            attempt: next()?.parse().map_err(|_| IdError::new("call", text))?,
            request: next()?.parse()?,
            job: next()?.parse()?,
        })
    }
}

/// What an app shows to report about a call: opaque to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The call.
    pub call: CallRef,
    /// The lease under which it was made.
    pub epoch: u64,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.call)
    }
}

impl FromStr for Ticket {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let invalid = || IdError::new("ticket", text);
        let (epoch, call) = text.split_once('.').ok_or_else(invalid)?;
        Ok(Self {
            epoch: epoch.parse().map_err(|_| invalid())?,
            call: call.parse()?,
        })
    }
}

/// Steps that an app has done in a call that is still under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The call.
    pub call: CallRef,
    /// What it reports, in order. Only what is over can be reported; see [`Opcode::is_reportable`].
    pub ops: Vec<Opcode>,
}

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// The call does not count any more: its run has ended, its job is done, or another call has been made for it.
    #[error("the call has been superseded")]
    Stale,
    /// With this the results of the run's steps would be larger than they may be.
    #[error(
        "the function run would exceed the state size limit of {} bytes",
        super::limits::RUN_STATE_BYTES
    )]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{StepId, Timestamp};

    #[test]
    fn tickets_survive_their_text_even_with_odd_step_ids() {
        for job in [JobKey::Start, JobKey::Discover(StepId::from("a.b:c d"))] {
            let ticket = Ticket {
                call: CallRef {
                    job,
                    attempt: 3,
                    request: RequestId::new(Timestamp::from_millis(1_750_000_000_000), 7),
                },
                epoch: u64::MAX,
            };
            assert_eq!(ticket.to_string().parse(), Ok(ticket));
        }
        for text in [
            "",
            "1",
            "1.2.3.4",
            "x.0.01JZ0000000000000000000009.start",
            "1.0.01JZ0000000000000000000009",
        ] {
            assert!(text.parse::<Ticket>().is_err(), "{text}");
        }
    }
}
