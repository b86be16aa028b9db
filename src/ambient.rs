//! The time and chance of the machine we run on.

use std::time::{SystemTime, UNIX_EPOCH};

use callboard_actors::domain::Timestamp;
use callboard_actors::ports::{Clock, Random};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is as good as one at 1970: everything is due, nothing is lost.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The thread's generator, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadRandom;

impl Random for ThreadRandom {
    fn bits(&self) -> u128 {
        rand::random()
    }
}
