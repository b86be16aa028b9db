//! Chance.

use std::fmt::Debug;

/// A source of randomness, good enough for ids that nobody must guess a collision of.
pub trait Random: Debug + Send + Sync {
    /// 128 random bits.
    fn bits(&self) -> u128;

    /// A number in [0, 1).
    fn unit(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let numerator = (self.bits() >> 75) as f64;
        numerator / 9_007_199_254_740_992.0
    }
}
