//! A job: something that has to happen for a run, now or at a time.
//!
//! Jobs are rows of the database, and the queue only knows which of them are ready and who is at work on them. A run
//! that has not ended always has at least one that [brings it on](JobKey::is_owner) (P4), or a dead letter in its place: even
//! a wait for an event has the job that ends it when time is up.

use std::fmt;
use std::str::FromStr;

use super::{FunctionId, Gates, IdError, Json, Priority, RunId, StepId, Timestamp};

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// Whose executor does it.
    pub function: FunctionId,
    /// Attempts made before, for jobs that call the app.
    pub attempt: u32,
    /// Not before.
    pub due: Timestamp,
    /// Its run's head start.
    pub priority: Priority,
    /// What the job carries: the memo of a [`JobKey::Resume`], the reason of a [`JobKey::Cancel`].
    pub payload: Option<Json>,
    /// What it has to pass: [`Gates::of_job`] of its run's. The store keeps them with the run.
    pub gates: Gates,
}

/// A job's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// The run it belongs to.
    pub run: RunId,
    /// What it does there; a run has each at most once.
    pub key: JobKey,
}

/// What a job does. Naming a job by its purpose makes creating it idempotent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKey {
    /// The first call.
    Start,
    /// A discovery call, because this step completed.
    Discover(StepId),
    /// A call for this planned step.
    Step(StepId),
    /// The end of a sleep.
    Wake(StepId),
    /// The end of a wait's patience.
    Timeout(StepId),
    /// A wait is over; the payload is the step's memo.
    Resume(StepId),
    /// The run is to be cancelled; the payload says why.
    Cancel,
    /// The run is to be cancelled, unless this deadline was met or has moved.
    Deadline(Deadline),
}

/// A deadline of a run; see [`super::Timeouts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deadline {
    /// From its creation to its first call.
    Start,
    /// From its first call to its end.
    Finish,
}

impl JobKey {
    /// Whether the run goes on by it. Deadlines only end runs, so they keep none going (P4).
    #[must_use]
    pub fn is_owner(&self) -> bool {
        !matches!(self, Self::Deadline(_))
    }

    /// Whether the app is called.
    #[must_use]
    pub fn is_call(&self) -> bool {
        matches!(self, Self::Start | Self::Discover(_) | Self::Step(_))
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Discover(step) => write!(f, "discover:{step}"),
            Self::Step(step) => write!(f, "step:{step}"),
            Self::Wake(step) => write!(f, "wake:{step}"),
            Self::Timeout(step) => write!(f, "timeout:{step}"),
            Self::Resume(step) => write!(f, "resume:{step}"),
            Self::Cancel => f.write_str("cancel"),
            Self::Deadline(Deadline::Start) => f.write_str("deadline:start"),
            Self::Deadline(Deadline::Finish) => f.write_str("deadline:finish"),
        }
    }
}

impl FromStr for JobKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let step = || StepId::from(rest);
        match kind {
            "start" => Ok(Self::Start),
            "discover" => Ok(Self::Discover(step())),
            "step" => Ok(Self::Step(step())),
            "wake" => Ok(Self::Wake(step())),
            "timeout" => Ok(Self::Timeout(step())),
            "resume" => Ok(Self::Resume(step())),
            "cancel" => Ok(Self::Cancel),
            "deadline" if rest == "start" => Ok(Self::Deadline(Deadline::Start)),
            "deadline" if rest == "finish" => Ok(Self::Deadline(Deadline::Finish)),
            _ => Err(IdError::new("job", text)),
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text_even_with_odd_step_ids() {
        let step = StepId::from("a:b c");
        let keys = [
            JobKey::Start,
            JobKey::Discover(step.clone()),
            JobKey::Step(step.clone()),
            JobKey::Wake(step.clone()),
            JobKey::Timeout(step.clone()),
            JobKey::Resume(step),
            JobKey::Cancel,
            JobKey::Deadline(Deadline::Start),
            JobKey::Deadline(Deadline::Finish),
        ];
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!("nap:x".parse::<JobKey>().is_err());
        assert!("deadline:x".parse::<JobKey>().is_err());
    }
}
