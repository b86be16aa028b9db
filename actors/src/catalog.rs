//! Every app and function, ready to be looked up: an immutable snapshot, replaced as a whole after each registration.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Function, FunctionId};
use crate::ports::AppView;

/// A snapshot of all apps and functions.
#[derive(Debug, Default)]
pub struct Catalog {
    apps: Vec<AppView>,
    functions: HashMap<FunctionId, Arc<Function>>,
}

impl Catalog {
    /// All apps with their functions, archived ones included.
    #[must_use]
    pub fn apps(&self) -> &[AppView] {
        &self.apps
    }

    /// A function by its identity, also when it is archived.
    #[must_use]
    pub fn function(&self, id: FunctionId) -> Option<&Arc<Function>> {
        self.functions.get(&id)
    }

    /// A live function by its slug or its UUID.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<&Arc<Function>> {
        let by_id = reference.parse().ok().and_then(|id| self.functions.get(&id));
        by_id
            .or_else(|| self.functions.values().find(|function| &*function.slug == reference))
            .filter(|f| !f.archived)
    }
}
