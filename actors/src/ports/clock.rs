//! What time it is.

use std::fmt::Debug;

use crate::domain::Timestamp;

/// The wall clock. It may jump; nothing but labels and due times depends on it.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}
