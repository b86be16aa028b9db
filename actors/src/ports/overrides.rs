//! Numbers of rules that an operator has replaced until a time.
//!
//! They are part of the catalog: every change raises its revision, so that all instances hear of it as they hear of a sync, and
//! the queue they share counts by it as soon as the first of them has.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{FunctionId, LimitOverride, RuleId, Timestamp};

/// The part of a store that is about overrides.
#[async_trait]
pub trait Overrides {
    /// From now on these numbers count for the rule; they replace those that an operator has given before.
    async fn put_override(&self, numbers: &LimitOverride) -> Result<(), StoreError>;

    /// The registered numbers count again: of one rule of a function, or of all. Answers whether they did not.
    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError>;

    /// Ends those whose time is over. Answers whether there were any.
    async fn expire_overrides(&self, now: Timestamp) -> Result<bool, StoreError>;
}
