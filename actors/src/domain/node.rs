//! A node: one running process of an installation, as the others and its operators see it.

use serde::{Deserialize, Serialize};

use super::{NodeId, Timestamp};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Which: another one after every start.
    pub id: NodeId,
    /// What its operator calls it, such as the name of its host.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// What it is about.
    pub state: NodeState,
    /// Jobs it has in hand.
    pub jobs_in_flight: u64,
}

/// What a node is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It takes part.
    Serving,
    /// It ends what it has begun and takes no more.
    Draining,
}

impl NodeState {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }

    /// From the stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Serving, Self::Draining]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
