//! Which of several workers gets a call. Pure: the dice are an argument.
//!
//! Workers with the same functions are a *group*. Newer groups get more: the weights of groups rise evenly from
//! [`OLDEST`] to [`NEWEST`] in the order in which the groups were first seen, so that a new version of an app takes over
//! while it is rolled out. Within a group all are equal.
//!
//! Promises: somebody is chosen if there is anybody; nobody who could be chosen never is.

/// Weight of the oldest group, where there are several.
const OLDEST: f64 = 1.0;
/// Weight of the newest one.
const NEWEST: f64 = 10.0;

/// Picks one of those whose groups have these ages (higher is newer), by dice in [0, 1). Answers its place.
pub(super) fn choose(ages: &[u64], dice: f64) -> Option<usize> {
    let mut groups: Vec<u64> = ages.to_vec();
    groups.sort_unstable();
    groups.dedup();
    let weights: Vec<f64> = (0..groups.len()).map(|place| weight(place, groups.len())).collect();
    let total: f64 = weights.iter().sum();
    let mut left = dice.clamp(0.0, 1.0) * total;
    let mut chosen = groups.len().checked_sub(1)?;
    for (place, weight) in weights.iter().enumerate() {
        if left < *weight {
            chosen = place;
            break;
        }
        left -= weight;
    }
    let members: Vec<usize> = (0..ages.len()).filter(|place| ages[*place] == groups[chosen]).collect();
    // What is left of the dice is as even as the dice were.
    let share = (left / weights[chosen]).clamp(0.0, 1.0);
    members.get(nth(share, members.len())).copied()
}

#[expect(clippy::cast_precision_loss, reason = "there are few groups")]
fn weight(place: usize, count: usize) -> f64 {
    if count < 2 {
        return OLDEST;
    }
    OLDEST + (NEWEST - OLDEST) * place as f64 / (count - 1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a small number, rounded down"
)]
fn nth(share: f64, count: usize) -> usize {
    ((share * count as f64) as usize).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn somebody_is_chosen_if_there_is_anybody(ages in prop::collection::vec(0_u64..5, 0..20), dice in 0.0..1.0_f64) {
            let chosen = choose(&ages, dice);
            prop_assert_eq!(chosen.is_some(), !ages.is_empty());
            prop_assert!(chosen.is_none_or(|place| place < ages.len()));
        }

        #[test]
        fn everybody_has_a_share_and_newer_groups_have_a_larger_one(ages in prop::collection::vec(0_u64..4, 1..8)) {
            const ROLLS: u32 = 20_000;
            let mut counts = vec![0_u32; ages.len()];
            for roll in 0..ROLLS {
                counts[choose(&ages, f64::from(roll) / f64::from(ROLLS)).expect("there is somebody")] += 1;
            }
            prop_assert!(counts.iter().all(|count| *count > 0), "{:?} {:?}", ages, counts);
            let of = |age| ages.iter().zip(&counts).filter(|(of, _)| **of == age).map(|(_, count)| *count).sum::<u32>();
            let mut groups = ages.clone();
            groups.sort_unstable();
            groups.dedup();
            for pair in groups.windows(2) {
                prop_assert!(of(pair[0]) < of(pair[1]), "{:?} {:?}", ages, counts);
            }
            // Equals within a group, but for rounding.
            for (age, count) in ages.iter().zip(&counts) {
                let members = u32::try_from(ages.iter().filter(|of| *of == age).count()).expect("few");
                prop_assert!((of(*age) / members).abs_diff(*count) <= 2, "{:?} {:?}", ages, counts);
            }
        }
    }

    #[test]
    fn the_newest_group_weighs_ten_times_the_oldest() {
        let rolls = 11_000_u32;
        let newest = (0..rolls).filter(|roll| choose(&[7, 9], f64::from(*roll) / f64::from(rolls)) == Some(1));
        assert_eq!(newest.count(), 10_000);
    }
}
