//! What becomes of slots, against what the policies promise.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn ago(seconds: u64) -> Tick {
    let at = NOW.before(Duration::from_secs(seconds));
    Tick { at, fires_at: at }
}

fn judged(policy: Policy, window: u64, due: &[u64]) -> Verdict {
    let window = Duration::from_secs(window);
    CatchUp { policy, window }.judge(due.iter().map(|seconds| ago(*seconds)).collect(), NOW)
}

#[rstest]
#[case::on_time(Policy::Nothing, &[0], &[0])]
#[case::a_restart_that_takes_a_moment(Policy::Nothing, &[10], &[10])]
#[case::nothing(Policy::Nothing, &[120, 60], &[])]
#[case::nothing_but_what_is_on_time(Policy::Nothing, &[65, 5], &[5])]
#[case::last(Policy::Last, &[180, 120, 60], &[60])]
#[case::last_at_the_edge_of_the_window(Policy::Last, &[7_200, 3_600], &[3_600])]
#[case::too_old(Policy::Last, &[7_200, 3_601], &[])]
#[case::one_on_time_makes_up_for_all(Policy::Last, &[125, 65, 5], &[5])]
#[case::all(Policy::All, &[180, 120, 60], &[180, 120, 60])]
#[case::all_within_the_window(Policy::All, &[7_200, 3_600, 60, 1], &[3_600, 60, 1])]
#[case::none_is_due(Policy::All, &[], &[])]
fn the_policies(#[case] policy: Policy, #[case] due: &[u64], #[case] fire: &[u64]) {
    let expected: Vec<_> = fire.iter().map(|seconds| ago(*seconds)).collect();
    assert_eq!(judged(policy, 3_600, due).fire, expected);
}

#[test]
fn the_reasons_say_who_could_have() {
    let verdict = judged(Policy::Last, 3_600, &[7_200, 3_600, 1_800, 60]);
    let reasons: Vec<_> = verdict.skip.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [GapReason::Down, GapReason::Superseded, GapReason::Superseded]);
    let spans = [
        (ago(7_200).at, ago(7_200).at, GapReason::Down),
        (ago(3_600).at, ago(1_800).at, GapReason::Superseded),
    ];
    assert_eq!(verdict.spans(), spans);
}

#[test]
fn all_are_at_most_so_many() {
    let due: Vec<u64> = (1..=250).rev().map(|minute| minute * 60).collect();
    let verdict = judged(Policy::All, 86_400, &due);
    assert_eq!(verdict.fire.len(), MOST);
    assert_eq!(
        verdict.fire.first(),
        Some(&ago(100 * 60)),
        "the newest, the oldest of them first"
    );
    assert!(verdict.skip.iter().all(|(_, reason)| *reason == GapReason::Down));
}

#[test]
fn a_slot_whose_jitter_has_just_ended_is_on_time() {
    let tick = Tick {
        at: NOW.before(Duration::from_secs(290)),
        fires_at: NOW.before(Duration::from_secs(1)),
    };
    let catch_up = CatchUp {
        policy: Policy::Nothing,
        window: Duration::ZERO,
    };
    assert_eq!(catch_up.judge(vec![tick], NOW).fire, [tick]);
}

proptest! {
    /// Every slot gets one verdict, in order; what is on time fires, what is older than the window does not.
    #[test]
    fn every_slot_is_dealt_with_once(
        policy in prop_oneof![Just(Policy::Nothing), Just(Policy::Last), Just(Policy::All)],
        window in 0_u64..10_000,
        mut ages in prop::collection::btree_set(0_u64..20_000, 0..300).prop_map(|ages| ages.into_iter().collect::<Vec<_>>()),
    ) {
        ages.reverse();
        let verdict = judged(policy, window, &ages);
        prop_assert!(verdict.fire.is_sorted_by_key(|tick| tick.at));
        let mut all: Vec<_> = verdict.fire.iter().chain(verdict.skip.iter().map(|(tick, _)| tick)).map(|tick| tick.at).collect();
        all.sort();
        prop_assert_eq!(all, ages.iter().map(|age| ago(*age).at).collect::<Vec<_>>());
        let missed: Vec<_> = verdict.fire.iter().map(|tick| NOW.since(tick.at)).filter(|age| *age > LATE).collect();
        prop_assert!(missed.iter().all(|age| age.as_secs() <= window));
        prop_assert!(verdict.skip.iter().all(|(tick, _)| NOW.since(tick.at) > LATE));
        let most = match policy { Policy::Nothing => 0, Policy::Last => 1, Policy::All => MOST };
        prop_assert!(missed.len() <= most);
        // Whoever was skipped for a later one has one.
        let superseded = verdict.skip.iter().filter(|(_, reason)| *reason == GapReason::Superseded);
        for (tick, _) in superseded {
            prop_assert!(verdict.fire.iter().any(|fired| fired.at > tick.at));
        }
    }
}
