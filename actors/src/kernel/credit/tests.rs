//! Credits under use, panic, change of limits, and any sequence of takes and drops.

use std::{future::Future, time::Duration};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

fn credits(total: usize, per_key: usize) -> Credits {
    Credits::new(Limits {
        total,
        per_key,
        waiting: 64,
    })
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await })
        .expect("ends in time")
}

#[test]
fn both_limits_hold_and_a_drop_gives_back() {
    let credits = credits(3, 2);
    let a1 = credits.try_acquire("a").expect("room");
    let _a2 = credits.try_acquire("a").expect("room");
    assert_eq!(credits.try_acquire("a").expect_err("refused"), NoCredit::KeyExhausted);
    let _b1 = credits.try_acquire("b").expect("room");
    assert_eq!(credits.try_acquire("c").expect_err("refused"), NoCredit::Exhausted);
    assert_eq!((credits.available("b"), credits.in_use_by("a")), (0, 2));
    drop(a1);
    assert_eq!((credits.available("b"), credits.available("a")), (1, 1));
    assert_eq!(
        credits.gauges(),
        Gauges {
            limit: 3,
            in_use: 2,
            keys: 2,
            waiting: 0
        }
    );
}

#[test]
fn a_permit_comes_back_from_another_thread_and_from_a_panic() {
    let credits = credits(2, 2);
    let carried = credits.try_acquire("a").expect("room");
    let _held = credits.try_acquire("a").expect("room");
    let thread = std::thread::spawn(move || {
        let _permit = carried;
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(credits.gauges().in_use, 1);
    assert_eq!(credits.available("a"), 1);
}

#[test]
fn waiters_are_served_in_turn_but_an_exhausted_key_holds_nobody_up() {
    run(async {
        let credits = credits(2, 1);
        let a = credits.try_acquire("a").expect("room");
        let b = credits.try_acquire("b").expect("room");
        let mut second_a = Box::pin(credits.acquire("a"));
        let mut first_c = Box::pin(credits.acquire("c"));
        let mut first_d = Box::pin(credits.acquire("d"));
        assert!((&mut second_a).now_or_never().is_none());
        assert!((&mut first_c).now_or_never().is_none());
        assert!((&mut first_d).now_or_never().is_none());

        drop(b);
        let c = first_c.now_or_never().expect("served").expect("a permit");
        assert_eq!(c.key(), "c");
        assert!((&mut second_a).now_or_never().is_none(), "its key is exhausted");
        assert!((&mut first_d).now_or_never().is_none(), "all are out again");

        drop(a);
        assert!(second_a.now_or_never().expect("served before d").is_ok());
        drop(c);
        assert!(first_d.now_or_never().expect("served").is_ok());
    });
}

#[test]
fn who_gives_up_waiting_neither_keeps_a_place_nor_a_permit() {
    run(async {
        let credits = credits(1, 1);
        let held = credits.try_acquire("a").expect("room");
        let mut impatient = Box::pin(credits.acquire("b"));
        let mut patient = Box::pin(credits.acquire("c"));
        assert!((&mut impatient).now_or_never().is_none());
        assert!((&mut patient).now_or_never().is_none());
        drop(impatient);
        drop(held);
        assert_eq!(patient.await.expect("a permit").key(), "c");
        assert_eq!(credits.gauges().in_use, 0);

        // Granted, but never looked at: the permit is in the future that is dropped.
        let held = credits.try_acquire("a").expect("room");
        let mut granted = Box::pin(credits.acquire("b"));
        assert!((&mut granted).now_or_never().is_none());
        drop(held);
        assert_eq!(credits.gauges().in_use, 1);
        drop(granted);
        assert_eq!(credits.gauges().in_use, 0);
    });
}

#[test]
fn the_line_is_bounded() {
    let credits = Credits::new(Limits {
        total: 0,
        per_key: 1,
        waiting: 1,
    });
    let mut first = Box::pin(credits.acquire("a"));
    assert!((&mut first).now_or_never().is_none());
    let second = credits.acquire("a").now_or_never().expect("answers at once");
    assert_eq!(second.expect_err("refused"), NoCredit::Crowded);
    drop(first);
    assert!(credits.acquire("a").now_or_never().is_none(), "its place is free");
}

#[test]
fn limits_can_be_withdrawn_raised_and_set_for_one_key() {
    let credits = credits(2, 1);
    credits.set_total(0);
    assert_eq!(credits.try_acquire("a").expect_err("refused"), NoCredit::Exhausted);
    let mut waiting = Box::pin(credits.acquire("a"));
    assert!((&mut waiting).now_or_never().is_none());
    credits.set_total(3);
    let _first = waiting.now_or_never().expect("served").expect("a permit");
    let mut second = Box::pin(credits.acquire("a"));
    assert!((&mut second).now_or_never().is_none());
    credits.set_limit_of("a", Some(2));
    let _second = second.now_or_never().expect("served").expect("a permit");
    credits.set_limit_of("a", None);
    assert_eq!(credits.available("a"), 0);
    assert_eq!(credits.available("b"), 1);
}

#[test]
fn closing_turns_everybody_away_and_leaves_permits_valid() {
    let credits = credits(1, 1);
    let held = credits.try_acquire("a").expect("room");
    let mut waiting = Box::pin(credits.acquire("a"));
    assert!((&mut waiting).now_or_never().is_none());
    credits.close();
    let turned_away = waiting.now_or_never().expect("told at once");
    assert_eq!(turned_away.expect_err("refused"), NoCredit::Closed);
    assert_eq!(credits.try_acquire("b").expect_err("refused"), NoCredit::Closed);
    assert_eq!((credits.available("b"), credits.available_in_all()), (0, 0));
    drop(held);
    assert_eq!(credits.gauges().in_use, 0);
}

proptest! {
    #[test]
    fn counts_agree_with_the_permits_that_are_out(
        total in 0..6_usize,
        per_key in 0..4_usize,
        steps in prop::collection::vec((any::<bool>(), 0..4_u8, any::<prop::sample::Index>()), 0..100),
    ) {
        let credits = credits(total, per_key);
        let mut out: Vec<Permit> = Vec::new();
        for (take, key, at) in steps {
            let key = key.to_string();
            if take {
                let of_key = out.iter().filter(|permit| permit.key() == key).count();
                let may = out.len() < total && of_key < per_key;
                match credits.try_acquire(&key) {
                    Ok(permit) => {
                        prop_assert!(may);
                        out.push(permit);
                    }
                    Err(_) => prop_assert!(!may),
                }
            } else if !out.is_empty() {
                out.swap_remove(at.index(out.len()));
            }
            prop_assert_eq!(credits.gauges().in_use, out.len());
            prop_assert_eq!(credits.available_in_all(), total - out.len());
        }
    }
}
