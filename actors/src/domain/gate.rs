//! Gates: what a job has to pass before it is handed out, besides its time.
//!
//! A run's gates are worked out once, from its first event, and stay with it: which *buckets* it shares with others (all
//! runs with the same value of a key, for instance), and under which *rule* of its function. How many a bucket lets
//! through is not written there: the queue is told the numbers of each function ([`Limits`]), so a change of them
//! reaches runs that have begun.
//!
//! A *slot* is held exactly as long as a lease, so sleeping, waiting and retrying later hold nothing. A *throttle* is
//! passed once, by the job that starts the run, and nothing is given back. A *run slot* is held from the run's first
//! call to its end; it is the store's ([`crate::ports::RunSlots`]), and the queue hears nothing of it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{FunctionId, JobKey, Rate, Scope};

/// Characters of a key's value that are kept for people.
const SHOWN: usize = 120;
/// Characters of a gate's fixed part in text: kind, rule, bucket.
const FIXED: usize = 1 + 8 + 32;

/// Which rule of a function: it stays the same when its numbers change, and becomes another when scope or key do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u32);

/// What is counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(u128);

/// What a gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateKind {
    /// Lets starts through at a rate. Of the function alone.
    Throttle,
    /// So many leases at a time, of the function alone.
    Slot,
    /// So many leases at a time, of all functions that name the same key.
    SharedSlot,
    /// So many runs between their first call and their end.
    RunSlot,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gate {
    /// What it does.
    pub kind: GateKind,
    /// Where its numbers are found.
    pub rule: RuleId,
    /// What it counts with.
    pub bucket: BucketId,
    /// The value of the rule's key, for people, shortened; empty for a rule without a key.
    pub key: Arc<str>,
}

/// The gates of a run or a job: a throttle first, a run slot last, no bucket twice. Cheap to clone; without gates it is
/// nothing at all.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Gates(Option<Arc<Set>>);

#[derive(PartialEq, Eq, Hash)]
struct Set {
    gates: Vec<Gate>,
    /// What the start has to pass in the queue, if that is not all.
    queued: Option<Gates>,
    /// What is left of that without a throttle, if there is one.
    later: Option<Gates>,
}

/// The numbers of a function's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    rules: Vec<(RuleId, Limit)>,
    is_shut: bool,
}

/// The number of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many leases at a time, at least 1.
    Slots(u32),
    /// So many starts in time.
    Rate(Rate),
}

impl RuleId {
    /// The rule of this kind, scope and key expression.
    #[must_use]
    pub fn derive(kind: GateKind, scope: Scope, key: Option<&str>) -> Self {
        let digest = digest(kind, scope, None, key, None);
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }
}

impl BucketId {
    /// As a number; even over all of them.
    #[must_use]
    pub fn to_bits(self) -> u128 {
        self.0
    }
}

impl Gate {
    /// The gate of `function` for a rule and the value of its key. Whoever shares the scope and says the same has the same
    /// bucket.
    #[must_use]
    pub fn new(kind: GateKind, scope: Scope, function: FunctionId, expression: Option<&str>, value: &str) -> Self {
        let owner = (scope == Scope::Fn).then_some(function);
        let digest = digest(kind, scope, owner, expression, Some(value));
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        let key = match value.char_indices().nth(SHOWN) {
            _ if expression.is_none() => String::new(),
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.to_owned(),
        };
        Self {
            kind,
            rule: RuleId::derive(kind, scope, expression),
            bucket: BucketId(u128::from_be_bytes(bits)),
            key: key.into(),
        }
    }
}

impl GateKind {
    fn letter(self) -> char {
        match self {
            Self::Throttle => 't',
            Self::Slot => 's',
            Self::SharedSlot => 'S',
            Self::RunSlot => 'r',
        }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        [Self::Throttle, Self::Slot, Self::SharedSlot, Self::RunSlot]
            .into_iter()
            .find(|kind| letter.len() == 1 && letter.starts_with(kind.letter()))
    }
}

impl Gates {
    /// None at all.
    pub const NONE: Self = Self(None);

    /// These, in the order that the type has them.
    #[must_use]
    pub fn new(mut gates: Vec<Gate>) -> Self {
        gates.sort_by_key(|gate| (gate.kind, gate.bucket));
        gates.dedup_by_key(|gate| gate.bucket);
        if gates.is_empty() {
            return Self::NONE;
        }
        let without = |kind| {
            let kept: Vec<_> = gates.iter().filter(|gate| gate.kind != kind).cloned().collect();
            (kept.len() < gates.len()).then(|| Self::new(kept))
        };
        let queued = without(GateKind::RunSlot);
        let later = match &queued {
            None => without(GateKind::Throttle),
            Some(queued) => Some(queued.without_throttle()),
        };
        Self(Some(Arc::new(Set { gates, queued, later })))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Gate] {
        self.0.as_deref().map_or(&[], |set| &set.gates)
    }

    /// The slot that the run has to hold from its first call on, if there is one.
    #[must_use]
    pub fn run_slot(&self) -> Option<&Gate> {
        self.as_slice().last().filter(|gate| gate.kind == GateKind::RunSlot)
    }

    /// What a start has to pass in the queue.
    fn queued(&self) -> Self {
        match self.0.as_deref() {
            Some(Set {
                queued: Some(queued), ..
            }) => queued.clone(),
            _ => self.clone(),
        }
    }

    /// What is left to pass in the queue for a start that has passed its throttle.
    #[must_use]
    pub fn without_throttle(&self) -> Self {
        match self.0.as_deref() {
            Some(Set { later: Some(later), .. }) => later.clone(),
            _ => self.clone(),
        }
    }

    /// Of a run's gates, those of one of its jobs: only calls pass gates, and only the first attempt at starting the run is
    /// throttled.
    #[must_use]
    pub fn of_job(&self, key: &JobKey, attempt: u32) -> Self {
        match key {
            JobKey::Start if attempt == 0 => self.queued(),
            key if key.is_call() => self.without_throttle(),
            _ => Self::NONE,
        }
    }

    /// The text that [`parse`](Self::parse) reads; empty without gates. The number of gates, then the kind (a letter), rule
    /// (8 digits) and bucket (32 digits) of each, then each key with its length in bytes before it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let gates = self.as_slice();
        if gates.is_empty() {
            return String::new();
        }
        let keys: usize = gates.iter().map(|gate| gate.key.len() + 4).sum();
        let mut text = String::with_capacity(1 + gates.len() * FIXED + keys);
        text.push_str(&gates.len().to_string());
        for gate in gates {
            text.push(gate.kind.letter());
            text.push_str(&gate.rule.to_string());
            text.push_str(&gate.bucket.to_string());
        }
        for gate in gates {
            text.push_str(&gate.key.len().to_string());
            text.push(':');
            text.push_str(&gate.key);
        }
        text
    }

    /// From the beginning of a text, with what follows; `None` if it is not one of ours.
    #[must_use]
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        if text.is_empty() {
            return Some((Self::NONE, text));
        }
        let count: usize = text.get(..1)?.parse().ok()?;
        let mut fixed = text.get(1..=count * FIXED)?;
        let mut rest = text.get(1 + count * FIXED..)?;
        let mut gates = Vec::with_capacity(count);
        while !fixed.is_empty() {
            let (length, after) = rest.split_once(':')?;
            let length: usize = length.parse().ok()?;
            gates.push(Gate {
                kind: GateKind::of_letter(fixed.get(..1)?)?,
                rule: RuleId(u32::from_str_radix(fixed.get(1..9)?, 16).ok()?),
                bucket: BucketId(u128::from_str_radix(fixed.get(9..FIXED)?, 16).ok()?),
                key: after.get(..length)?.into(),
            });
            rest = after.get(length..)?;
            fixed = fixed.get(FIXED..)?;
        }
        Some((Self::new(gates), rest))
    }

    /// From a text; `None` if it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (gates, rest) = Self::parse_prefix(text)?;
        rest.is_empty().then_some(gates)
    }
}

impl Limits {
    /// These numbers; of two for one rule the lower counts.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = (RuleId, Limit)>) -> Self {
        let mut limits = Self::default();
        for (rule, limit) in rules {
            match limits.rules.iter_mut().find(|(known, _)| *known == rule) {
                None => limits.rules.push((rule, limit)),
                Some((_, Limit::Slots(known))) => {
                    if let Limit::Slots(slots) = limit {
                        *known = slots.min(*known);
                    }
                }
                Some(_) => {}
            }
        }
        limits
    }

    /// The same of a function that is paused: nothing that has gates passes them.
    #[must_use]
    pub fn shut(self) -> Self {
        Self { is_shut: true, ..self }
    }

    /// Whether nothing that has gates passes them, whatever the numbers.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.is_shut
    }

    /// The number of a rule; a rule that the function has no more has none, and lets everything through.
    #[must_use]
    pub fn of(&self, rule: RuleId) -> Option<Limit> {
        self.rules
            .iter()
            .find(|(known, _)| *known == rule)
            .map(|(_, limit)| *limit)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RuleId, Limit)> {
        self.rules.iter().copied()
    }
}

/// A digest over what makes a rule, or a bucket of it: parts are told apart by their lengths.
fn digest(
    kind: GateKind,
    scope: Scope,
    owner: Option<FunctionId>,
    expression: Option<&str>,
    value: Option<&str>,
) -> [u8; 32] {
    let scope = match scope {
        Scope::Fn => 'f',
        Scope::Env => 'e',
        Scope::Account => 'a',
    };
    let kind = match kind {
        GateKind::Throttle => 't',
        // One kind for both sorts: the scope tells them apart.
        GateKind::Slot | GateKind::SharedSlot => 's',
        GateKind::RunSlot => 'r',
    };
    let owner = owner.map_or_else(String::new, |owner| owner.to_string());
    let mut hasher = Sha256::new();
    hasher.update(format!("{kind}{scope}{owner}"));
    for part in [expression, value] {
        let part = part.unwrap_or_default();
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for RuleId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::StepId;

    fn gate(kind: GateKind, scope: Scope, function: &str, value: &str) -> Gate {
        let function = FunctionId::derive("app", function);
        Gate::new(kind, scope, function, Some("event.data.k"), value)
    }

    #[test]
    fn gates_survive_their_text() {
        let throttle = gate(GateKind::Throttle, Scope::Fn, "a", "ü:1\n");
        let slot = gate(GateKind::Slot, Scope::Fn, "a", "");
        let shared = gate(GateKind::SharedSlot, Scope::Env, "a", &"x".repeat(1_000));
        for gates in [
            vec![],
            vec![slot.clone()],
            vec![shared.clone(), slot.clone(), throttle.clone()],
        ] {
            let gates = Gates::new(gates);
            assert_eq!(Gates::parse(&gates.to_text()), Some(gates.clone()));
            let text = gates.to_text() + "|rest";
            if !gates.is_empty() {
                assert_eq!(Gates::parse_prefix(&text), Some((gates, "|rest")));
            }
        }
        for odd in ["x", "1", "9s", "1s00", "3é"] {
            assert_eq!(Gates::parse(odd), None, "{odd}");
        }
        let cut = Gates::new(vec![slot]).to_text();
        assert_eq!(Gates::parse(&cut[..cut.len() - 1]), None);
    }

    #[test]
    fn a_bucket_is_shared_by_scope_key_and_value() {
        let of = |scope, function: &str, value: &str| gate(GateKind::SharedSlot, scope, function, value).bucket;
        assert_eq!(of(Scope::Account, "a", "x"), of(Scope::Account, "b", "x"));
        assert_ne!(of(Scope::Account, "a", "x"), of(Scope::Env, "a", "x"));
        assert_ne!(of(Scope::Account, "a", "x"), of(Scope::Account, "a", "y"));
        let own = |function: &str| gate(GateKind::Slot, Scope::Fn, function, "x");
        assert_ne!(own("a").bucket, own("b").bucket);
        assert_eq!(own("a").rule, own("b").rule);
        assert_eq!(
            own("a").rule,
            RuleId::derive(GateKind::Slot, Scope::Fn, Some("event.data.k"))
        );
    }

    #[test]
    fn only_the_first_attempt_at_a_start_is_throttled_and_only_calls_hold_slots() {
        let throttle = gate(GateKind::Throttle, Scope::Fn, "a", "x");
        let slot = gate(GateKind::Slot, Scope::Fn, "a", "x");
        let gates = Gates::new(vec![slot.clone(), throttle.clone()]);
        let step = StepId::from("s");
        assert_eq!(
            gates.of_job(&JobKey::Start, 0).as_slice(),
            [throttle.clone(), slot.clone()]
        );
        for key in [JobKey::Discover(step.clone()), JobKey::Step(step.clone())] {
            assert_eq!(gates.of_job(&key, 0).as_slice(), std::slice::from_ref(&slot));
        }
        assert_eq!(gates.of_job(&JobKey::Start, 1).as_slice(), [slot]);
        for key in [JobKey::Wake(step.clone()), JobKey::Resume(step), JobKey::Cancel] {
            assert!(gates.of_job(&key, 0).is_empty());
        }
        let only = Gates::new(vec![throttle]);
        assert!(only.of_job(&JobKey::Start, 1).is_empty());
    }

    #[test]
    fn a_run_s_slot_is_none_of_its_jobs() {
        let of = |kind| gate(kind, Scope::Fn, "a", "x");
        let (throttle, slot, run) = (of(GateKind::Throttle), of(GateKind::Slot), of(GateKind::RunSlot));
        assert_ne!(run.bucket, slot.bucket);
        let step = JobKey::Step(StepId::from("s"));
        let all = Gates::new(vec![run.clone(), slot.clone(), throttle.clone()]);
        assert_eq!(all.run_slot(), Some(&run));
        assert_eq!(all.of_job(&JobKey::Start, 0).as_slice(), [throttle, slot.clone()]);
        assert_eq!(all.of_job(&step, 0).as_slice(), std::slice::from_ref(&slot));
        assert_eq!(all.of_job(&step, 0).run_slot(), None);
        let two = Gates::new(vec![run.clone(), slot.clone()]);
        assert_eq!(two.of_job(&JobKey::Start, 0).as_slice(), [slot]);
        assert_eq!(Gates::parse(&two.to_text()), Some(two));
        let one = Gates::new(vec![run]);
        assert!(one.of_job(&JobKey::Start, 0).is_empty() && one.of_job(&step, 0).is_empty());
    }

    #[test]
    fn of_two_numbers_for_a_rule_the_lower_counts() {
        let rule = RuleId::derive(GateKind::Slot, Scope::Fn, None);
        let limits = Limits::new([
            (rule, Limit::Slots(5)),
            (rule, Limit::Slots(2)),
            (rule, Limit::Slots(3)),
        ]);
        assert_eq!(limits.of(rule), Some(Limit::Slots(2)));
        assert_eq!(limits.iter().count(), 1);
    }
}
