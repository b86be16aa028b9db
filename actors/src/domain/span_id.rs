//! The ids of traces and spans, which follow from what they are of.
//!
//! SDKs work out the id of a step's span by themselves, from the step's id, to hang their own spans below it; so the server
//! has to arrive at the same one. A seed makes 32 bytes by SHA-256, those key a generator (the layout of "chacha8rand": eight
//! rounds of `ChaCha` over four blocks whose words are interleaved, with the key alone added back), and the ids are the first
//! bytes it gives.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::textual::textual;
use super::{IdError, RunId, StepId};

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Of these bytes; `None` if all are zero, which is no id.
            #[must_use]
            pub fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// The bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let invalid = || IdError::new($kind, text);
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid())?;
                Self::from_bytes(bytes).ok_or_else(invalid)
            }
        }

        textual!($name);
    };
}

hex_id! {
    /// A trace: there is one for each run.
    TraceId, 16, "trace"
}

hex_id! {
    /// A span of a trace.
    SpanId, 8, "span"
}

impl TraceId {
    /// The trace of a run.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        let [a, b, ..] = stream(&run.to_bytes());
        Self(joined(a, b))
    }
}

impl SpanId {
    /// The span that follows from a seed.
    #[must_use]
    pub fn derive(seed: &[u8]) -> Self {
        let [_, _, c] = stream(seed);
        Self(c)
    }

    /// The root span of a run.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        Self::derive(&run.to_bytes())
    }

    /// The span of a step. SDKs work it out from the step's id alone, so steps of two runs may share it.
    #[must_use]
    pub fn of_step(step: &StepId) -> Self {
        Self::derive(step.as_str().as_bytes())
    }

    /// The span of an attempt at a step, counted from 0.
    #[must_use]
    pub fn of_attempt(step: &StepId, attempt: u32) -> Self {
        Self::derive(format!("{step}:{attempt}").as_bytes())
    }

    /// The span of a call that is for no step: `call` tells it from the run's others.
    #[must_use]
    pub fn of_call(run: RunId, call: &str, attempt: u32) -> Self {
        Self::derive(format!("nonstep:{run}/{call}:{attempt}").as_bytes())
    }

    /// The span that stands for what a run has put off.
    #[must_use]
    pub fn of_deferral(run: RunId, id: &StepId) -> Self {
        Self::derive(format!("defer-span:{run}:{id}").as_bytes())
    }
}

fn joined(a: [u8; 8], b: [u8; 8]) -> [u8; 16] {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&a);
    both[8..].copy_from_slice(&b);
    both
}

/// The first 24 bytes that the generator gives for a seed.
fn stream(seed: &[u8]) -> [[u8; 8]; 3] {
    let key: [u8; 32] = Sha256::digest(seed).into();
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|counter| block(&key, counter));
    // The first words of all four blocks, and then their second ones.
    let pair = |one: u32, other: u32| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&one.to_le_bytes());
        bytes[4..].copy_from_slice(&other.to_le_bytes());
        bytes
    };
    [
        pair(first[0], second[0]),
        pair(third[0], fourth[0]),
        pair(first[1], second[1]),
    ]
}

/// The first two words of a block of `ChaCha8`. They are constants before, which are not added back.
fn block(key: &[u8; 32], counter: u32) -> [u32; 2] {
    let mut words = [0_u32; 16];
    words[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in words[4..12].iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words[12] = counter;
    for _ in 0..4 {
        quarter(&mut words, [0, 4, 8, 12]);
        quarter(&mut words, [1, 5, 9, 13]);
        quarter(&mut words, [2, 6, 10, 14]);
        quarter(&mut words, [3, 7, 11, 15]);
        quarter(&mut words, [0, 5, 10, 15]);
        quarter(&mut words, [1, 6, 11, 12]);
        quarter(&mut words, [2, 7, 8, 13]);
        quarter(&mut words, [3, 4, 9, 14]);
    }
    [words[0], words[1]]
}

fn quarter(words: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        words[x] = words[x].wrapping_add(words[y]);
        words[z] = (words[z] ^ words[x]).rotate_left(turn);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::Timestamp;

    const A: &str = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8";

    #[rstest]
    #[case(b"hello", "b5c2db5b06a644c5")]
    #[case(b"", "dd9fc5ea353468a4")]
    #[case(b"test-seed-for-deterministic-span", "1f9f1fae2c8b51c4")]
    #[case(&[b'a'; 10_000], "955541c801f27c55")]
    fn spans_are_those_that_sdks_work_out(#[case] seed: &[u8], #[case] id: &str) {
        assert_eq!(SpanId::derive(seed).to_string(), id);
    }

    #[test]
    fn steps_and_attempts_have_their_own() {
        let step = StepId::from(A);
        assert_eq!(SpanId::of_step(&step).to_string(), "2d32f4eb8dbb5b91");
        assert_eq!(SpanId::of_attempt(&step, 0).to_string(), "b017a66031df8079");
        let [a, b, _] = stream(b"hello");
        assert_eq!(TraceId(joined(a, b)).to_string(), "71eeab122c16e2337e13aa425bc51912");
        let runs = [1, 2].map(|entropy| RunId::new(Timestamp::from_millis(1), entropy));
        assert_ne!(TraceId::of_run(runs[0]), TraceId::of_run(runs[1]));
    }

    #[test]
    fn ids_survive_their_text() {
        let id = SpanId::derive(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        for odd in [
            "",
            "0000000000000000",
            "b5c2db5b06a644c",
            "b5c2db5b06a644cg",
            "+5c2db5b06a644c5",
            "é5c2db5b06a644c",
        ] {
            assert!(odd.parse::<SpanId>().is_err(), "{odd}");
        }
    }
}
