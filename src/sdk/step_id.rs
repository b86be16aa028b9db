//! From the id that a user gives a step to the one that SDKs report.

use callboard_actors::domain::StepId;
use sha1::{Digest as _, Sha1};

/// The id of the n-th step of that name, counted from 0. As the protocol has it, that is no secret: it only gives all ids one
/// length.
#[must_use]
pub fn step_id(name: &str, index: u32) -> StepId {
    let digest = match index {
        0 => Sha1::digest(name),
        _ => Sha1::digest(format!("{name}:{index}")),
    };
    StepId::from(hex::encode(digest).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_sdks() {
        assert_eq!(step_id("a", 0).as_str(), "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8");
        assert_eq!(step_id("a", 1), step_id("a:1", 0));
    }
}
