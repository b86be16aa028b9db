//! What an app says of itself when it registers.

use serde::{Deserialize, Serialize};

use super::{App, Function};

/// A valid registration: every function of the app as it is now. Functions it leaves out are archived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The app.
    pub app: App,
    /// All its functions; `version` is filled in when they are stored.
    pub functions: Vec<Function>,
    /// Whether functions that are not named here stay. Our own API adds functions one by one; SDKs name them all.
    pub keep_others: bool,
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncOutcome {
    /// Whether anything changed.
    pub modified: bool,
}
