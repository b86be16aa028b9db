//! Every app and function, ready to be looked up: an immutable snapshot, replaced as a whole after each registration.
//!
//! Triggers are indexed by name and their expressions compiled once, so that routing an event costs a few hash look-ups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::domain::{Cap, Event, Function, FunctionId, LimitOverride, Skip, SkipReason, Timestamp, Trigger};
use crate::engine::{self, Listeners};
use crate::expression::{Expression, Scope, pattern};
use crate::ports::{AppView, CatalogView, SlotLimits};

/// A snapshot of all apps and functions.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: u64,
    apps: Vec<AppView>,
    functions: HashMap<FunctionId, Arc<Function>>,
    by_slug: HashMap<Arc<str>, FunctionId>,
    /// What operators have said of apps' circuit breakers.
    breakers: HashMap<Arc<str>, bool>,
    /// Functions whose app is not to be called.
    paused: Vec<FunctionId>,
    /// Functions that are called over connections of workers.
    connected: Vec<FunctionId>,
    /// Triggers by the event name or pattern they are written with.
    triggers: HashMap<String, Vec<Candidate>>,
    slot_limits: Arc<SlotLimits>,
    overrides: Vec<LimitOverride>,
}

/// A trigger of a live function.
#[derive(Debug, Clone)]
struct Candidate {
    function: Arc<Function>,
    /// Place among the function's triggers.
    place: usize,
    condition: Option<Condition>,
}

/// A trigger's expression. One that does not compile was refused at registration, so it can only come from an older
/// version of the dialect; it never matches, and says why.
#[derive(Debug, Clone)]
enum Condition {
    Compiled(Expression),
    Broken(String),
}

/// Which functions an event starts.
#[derive(Debug, Default)]
pub struct Matches {
    /// These.
    pub functions: Vec<Arc<Function>>,
    /// Not these, although a trigger names the event.
    pub skips: Vec<Skip>,
}

impl Catalog {
    /// A snapshot of what the store holds.
    #[must_use]
    pub fn new(view: CatalogView) -> Self {
        let CatalogView {
            revision,
            apps,
            overrides,
        } = view;
        let mut catalog = Self {
            revision,
            ..Self::default()
        };
        for function in apps.iter().flat_map(|view| &view.functions) {
            let mut function = function.clone();
            for numbers in overrides.iter().filter(|numbers| numbers.function == function.id) {
                numbers.apply(&mut function.flow);
            }
            let function = Arc::new(function);
            catalog.functions.insert(function.id, Arc::clone(&function));
            if function.mode.is_paused() {
                catalog.paused.push(function.id);
            }
            if function.is_connected() {
                catalog.connected.push(function.id);
            }
            if function.archived {
                continue;
            }
            catalog.by_slug.insert(Arc::clone(&function.slug), function.id);
            for (place, trigger) in function.triggers.iter().enumerate() {
                let Trigger::Event { event, expression } = trigger else {
                    continue;
                };
                let condition = expression
                    .as_deref()
                    .filter(|source| !source.trim().is_empty())
                    .map(|source| {
                        Expression::compile(source, &["event"])
                            .map_or_else(|error| Condition::Broken(error.to_string()), Condition::Compiled)
                    });
                let candidate = Candidate {
                    function: Arc::clone(&function),
                    place,
                    condition,
                };
                catalog.triggers.entry(event.clone()).or_default().push(candidate);
            }
        }
        let said = apps
            .iter()
            .filter_map(|view| Some((Arc::clone(&view.app.name), view.breaker?)));
        catalog.breakers = said.collect();
        let slot_limits = catalog.functions.values().filter_map(|function| {
            let (rule, limit) = engine::run_limit(function)?;
            Some((function.id, rule, limit))
        });
        catalog.slot_limits = Arc::new(SlotLimits {
            limits: slot_limits.collect(),
        });
        catalog.apps = apps;
        catalog.overrides = overrides;
        catalog
    }

    /// The numbers that an operator has put in the place of registered ones.
    #[must_use]
    pub fn overrides(&self) -> &[LimitOverride] {
        &self.overrides
    }

    /// A function as it was registered, whatever an operator has changed.
    #[must_use]
    pub fn registered(&self, id: FunctionId) -> Option<&Function> {
        let mut functions = self.apps.iter().flat_map(|view| &view.functions);
        functions.find(|function| function.id == id)
    }

    /// The numbers that count for run slots; functions that were left out go on under theirs.
    pub fn slot_limits(&self) -> &Arc<SlotLimits> {
        &self.slot_limits
    }

    /// Which snapshot it is; later ones have larger numbers.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All apps with their functions as they were registered, archived ones included.
    #[must_use]
    pub fn apps(&self) -> &[AppView] {
        &self.apps
    }

    /// A function by its identity, also when it is archived.
    #[must_use]
    pub fn function(&self, id: FunctionId) -> Option<&Arc<Function>> {
        self.functions.get(&id)
    }

    /// What an operator has said of an app's circuit breaker, if anything.
    #[must_use]
    pub fn breaker_of(&self, app: &str) -> Option<bool> {
        self.breakers.get(app).copied()
    }

    /// Every function, archived ones included, in no particular order.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values()
    }

    /// Every live function, in no particular order.
    pub fn live_functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values().filter(|function| !function.archived)
    }

    /// Functions whose app is not to be called, archived ones included.
    #[must_use]
    pub fn paused(&self) -> &[FunctionId] {
        &self.paused
    }

    /// Functions that are called over connections of workers, archived ones included.
    #[must_use]
    pub fn connected(&self) -> &[FunctionId] {
        &self.connected
    }

    /// Whether the app is not to be called for this function.
    #[must_use]
    pub fn is_paused(&self, id: FunctionId) -> bool {
        self.function(id).is_some_and(|function| function.mode.is_paused())
    }

    /// A live function by its slug or its UUID.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<&Arc<Function>> {
        let id = self
            .by_slug
            .get(reference)
            .copied()
            .or_else(|| reference.parse().ok())?;
        self.functions.get(&id).filter(|function| !function.archived)
    }

    /// The functions an event starts. Each at most once: the first of its triggers whose name and expression fit counts.
    #[must_use]
    pub fn matching(&self, event: &Event, now: Timestamp) -> Matches {
        let mut candidates: Vec<&Candidate> = self.named(&event.name).collect();
        if candidates.is_empty() {
            return Matches::default();
        }
        candidates.sort_by_key(|candidate| (candidate.function.id, candidate.place));
        // Parsed only if some expression wants to look at it.
        let wants_body = candidates.iter().any(|candidate| candidate.condition.is_some());
        let body = if wants_body { event.body.to_tree() } else { Value::Null };
        let scope = Scope::of_event(&body, now.to_datetime());
        let mut matches = Matches::default();
        for of_function in candidates.chunk_by(|a, b| a.function.id == b.function.id) {
            let mut skip = None;
            for candidate in of_function {
                match candidate.check(&scope) {
                    Ok(()) => {
                        matches.functions.push(Arc::clone(&candidate.function));
                        skip = None;
                        break;
                    }
                    Err((reason, detail)) => {
                        skip = Some(Skip {
                            event: event.id,
                            function: Some(candidate.function.id),
                            reason,
                            detail,
                        });
                    }
                }
            }
            matches.skips.extend(skip);
        }
        matches
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Candidate> {
        let is_internal = name.starts_with(crate::domain::limits::INTERNAL_PREFIX);
        // A catch-all is for what users send; it would otherwise hear of its own runs' ends, for ever.
        let catch_all = (!is_internal).then(|| self.triggers.get("*")).flatten();
        let named = pattern::candidates(name)
            .into_iter()
            .filter_map(|pattern| self.triggers.get(&pattern));
        named.chain(catch_all).flatten()
    }
}

impl Candidate {
    fn check(&self, scope: &Scope<'_>) -> Result<(), (SkipReason, String)> {
        match &self.condition {
            None => Ok(()),
            Some(Condition::Compiled(expression)) => match expression.truth(scope) {
                Ok(true) => Ok(()),
                Ok(false) => Err((SkipReason::ExpressionFalse, expression.source().to_owned())),
                Err(error) => Err((SkipReason::ExpressionError, error.to_string())),
            },
            Some(Condition::Broken(error)) => Err((SkipReason::ExpressionError, error.clone())),
        }
    }
}

impl Listeners for Catalog {
    fn listens(&self, event_name: &str) -> bool {
        self.named(event_name).next().is_some()
    }
}

/// The current snapshot, shared: readers take it without waiting for anybody.
#[derive(Debug, Clone, Default)]
pub struct SharedCatalog {
    current: Arc<ArcSwap<Catalog>>,
    /// What runs of some functions may grow to instead, on this instance and until it ends. Locked while the snapshot is
    /// replaced.
    caps: Arc<Mutex<HashMap<(FunctionId, Cap), usize>>>,
}

impl SharedCatalog {
    /// As of now.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Replaces the snapshot.
    pub fn replace(&self, catalog: Catalog) {
        self.store(catalog, &self.caps());
    }

    /// Lets runs of a function grow to another number, or to the usual one. Answers whether there was another before.
    pub(crate) fn cap(&self, function: FunctionId, cap: Cap, number: Option<usize>) -> bool {
        let mut caps = self.caps();
        let before = match number {
            Some(number) => caps.insert((function, cap), number),
            None => caps.remove(&(function, cap)),
        };
        let current = self.current();
        let view = CatalogView {
            revision: current.revision,
            apps: current.apps.clone(),
            overrides: current.overrides.clone(),
        };
        self.store(Catalog::new(view), &caps);
        before.is_some()
    }

    fn caps(&self) -> MutexGuard<'_, HashMap<(FunctionId, Cap), usize>> {
        self.caps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, mut catalog: Catalog, caps: &HashMap<(FunctionId, Cap), usize>) {
        for ((function, cap), number) in caps {
            if let Some(function) = catalog.functions.get_mut(function) {
                let caps = &mut Arc::make_mut(function).caps;
                match cap {
                    Cap::Steps => caps.steps = *number,
                    Cap::StateBytes => caps.state_bytes = *number,
                }
            }
        }
        self.current.store(Arc::new(catalog));
    }
}
