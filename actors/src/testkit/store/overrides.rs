//! Overrides of limits.

use async_trait::async_trait;

use super::FakeStore;
use crate::domain::{FunctionId, LimitOverride, RuleId, Timestamp};
use crate::ports::{Overrides, StoreError};

impl super::Inner {
    /// Keeps those; answers whether any went.
    fn keep(&mut self, is_kept: impl Fn(&LimitOverride) -> bool) -> bool {
        let before = self.overrides.len();
        self.overrides.retain(is_kept);
        let has_gone = self.overrides.len() < before;
        self.revision += u64::from(has_gone);
        has_gone
    }
}

#[async_trait]
impl Overrides for FakeStore {
    async fn put_override(&self, numbers: &LimitOverride) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.keep(|known| (known.function, known.rule) != (numbers.function, numbers.rule));
        inner.overrides.push(numbers.clone());
        inner.revision += 1;
        Ok(())
    }

    async fn end_overrides(&self, function: FunctionId, rule: Option<RuleId>) -> Result<bool, StoreError> {
        let is_meant = |of: &LimitOverride| of.function == function && rule.is_none_or(|rule| rule == of.rule);
        Ok(self.lock().keep(|known| !is_meant(known)))
    }

    async fn expire_overrides(&self, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.lock().keep(|known| known.until > now))
    }
}
