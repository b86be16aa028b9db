//! Random histories of requests against what a list of what happened says.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const LEASE: Duration = Duration::from_secs(60);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(n: u8) -> CallKey {
    CallKey::derive(&[&[n]])
}

fn id(n: u8, sending: u128) -> RequestId {
    RequestId {
        key: key(n),
        sending: Ulid(sending),
    }
}

fn sending(n: u8, number: u128, socket: u64) -> Sending {
    Sending {
        id: id(n, number),
        lease: Ulid(number * 1_000),
        socket: SocketId(socket),
        instance: Arc::from(format!("instance-{socket}")),
    }
}

fn sent() -> Requests {
    let mut requests = Requests::new(LEASE);
    assert!(requests.attach(key(0)).is_some());
    assert_eq!(requests.progress(key(0), seconds(0)), Progress::Send);
    requests.sent(sending(0, 1, 1), seconds(0));
    requests
}

#[rstest]
#[case("")]
#[case("-")]
#[case("0123-01JZ0000000000000000000009")]
#[case("+123456789abcdef0123456789abcdef-01JZ0000000000000000000009")]
#[case("0123456789abcdef0123456789abcdef-01JZ000000000000000000000")]
fn what_is_no_request_id_is_none(#[case] text: &str) {
    assert_eq!(text.parse::<RequestId>(), Err(RequestIdError));
}

#[test]
fn what_nobody_acknowledges_is_sent_again_and_in_the_end_lost() {
    let mut requests = sent();
    for round in 1..3_u32 {
        let end = LEASE * round;
        assert_eq!(requests.progress(key(0), end - seconds(1)), Progress::Until(end));
        assert_eq!(requests.progress(key(0), end), Progress::Send);
        requests.sent(sending(0, u128::from(round) + 1, 1), end);
    }
    assert_eq!(requests.progress(key(0), LEASE * 3), Progress::Lost);
}

#[test]
fn what_was_begun_is_waited_for_as_long_as_its_lease_lasts_and_no_longer() {
    let mut requests = sent();
    requests.acknowledge(id(0, 1));
    requests.withdraw(SocketId(1));
    assert_eq!(requests.progress(key(0), seconds(1)), Progress::Until(LEASE + GRACE));
    assert_eq!(
        requests.extend(id(0, 1), Ulid(1_000), "instance-1", Ulid(2_000), seconds(59)),
        Some(Ulid(2_000))
    );
    // The answer to that got lost.
    assert_eq!(
        requests.extend(id(0, 1), Ulid(1_000), "instance-1", Ulid(3_000), seconds(60)),
        Some(Ulid(2_000))
    );
    let end = seconds(59) + LEASE;
    assert_eq!(requests.progress(key(0), end), Progress::Until(end + GRACE));
    assert_eq!(
        requests.extend(id(0, 1), Ulid(2_000), "instance-1", Ulid(4_000), end),
        None
    );
    assert_eq!(requests.progress(key(0), end + GRACE), Progress::Lost);
}

#[test]
fn what_was_not_begun_goes_to_others_when_its_connection_ends() {
    let mut requests = sent();
    requests.withdraw(SocketId(2));
    assert_eq!(requests.progress(key(0), seconds(1)), Progress::Until(LEASE));
    requests.withdraw(SocketId(1));
    assert_eq!(requests.progress(key(0), seconds(1)), Progress::Send);
    requests.sent(sending(0, 2, 2), seconds(1));
    // The first one has begun after all: what it says of its sending is void, what it answers counts.
    requests.acknowledge(id(0, 1));
    assert_eq!(
        requests.extend(id(0, 1), Ulid(1_000), "instance-1", Ulid(5), seconds(2)),
        None
    );
    assert_eq!(
        requests.progress(key(0), seconds(2)),
        Progress::Until(seconds(1) + LEASE)
    );
    requests.answer(id(0, 1), b"late".to_vec(), seconds(3));
    assert_eq!(
        requests.progress(key(0), seconds(3)),
        Progress::Answered(b"late".to_vec())
    );
}

#[test]
fn an_answer_without_a_call_ends_the_call_that_is_made_later() {
    let mut requests = Requests::new(LEASE);
    requests.answer(id(0, 7), b"early".to_vec(), seconds(0));
    requests.purge(KEPT - seconds(1));
    assert!(requests.attach(key(0)).is_some());
    assert_eq!(requests.progress(key(0), KEPT), Progress::Answered(b"early".to_vec()));
    // But not for ever.
    requests.answer(id(1, 7), b"early".to_vec(), seconds(0));
    requests.purge(KEPT);
    assert!(requests.attach(key(1)).is_some());
    assert_eq!(requests.progress(key(1), KEPT), Progress::Send);
}

#[test]
fn a_call_that_is_made_again_waits_for_the_worker_that_is_at_work_on_it() {
    let mut requests = sent();
    requests.acknowledge(id(0, 1));
    assert!(requests.attach(key(0)).is_none(), "somebody waits");
    requests.let_go(key(0), seconds(1));
    requests.purge(seconds(2));
    assert!(requests.attach(key(0)).is_some());
    assert_eq!(requests.progress(key(0), seconds(2)), Progress::Until(LEASE + GRACE));
}

#[test]
fn answers_that_nobody_waits_for_take_a_bounded_room() {
    let mut requests = Requests::new(LEASE);
    let quarter = vec![0; KEPT_BYTES / 4];
    for n in 0..6 {
        requests.answer(id(n, 1), quarter.clone(), seconds(0));
    }
    assert_eq!((requests.entries.len(), requests.kept), (4, KEPT_BYTES));
    requests.purge(KEPT);
    assert_eq!((requests.entries.len(), requests.kept), (0, 0));
}

#[test]
fn a_lease_given_elsewhere_is_kept_and_the_call_made_here_waits_for_it() {
    let mut requests = Requests::new(LEASE);
    assert!(requests.adopt(&sending(0, 3, 1), seconds(0)));
    assert!(!requests.adopt(&sending(0, 4, 1), seconds(0)), "it is known by now");
    assert_eq!(requests.in_hand("instance-1", seconds(0)), 1);
    assert!(requests.attach(key(0)).is_some());
    assert_eq!(requests.progress(key(0), seconds(1)), Progress::Until(LEASE + GRACE));
    assert!(
        requests
            .extend(id(0, 3), Ulid(3_000), "instance-1", Ulid(9), seconds(2))
            .is_some()
    );
    requests.answer(id(0, 3), b"done".to_vec(), seconds(3));
    assert_eq!(
        requests.progress(key(0), seconds(3)),
        Progress::Answered(b"done".to_vec())
    );
}

#[test]
fn who_waits_hears_of_extensions_elsewhere() {
    let mut requests = sent();
    requests.extended(id(0, 1), Ulid(1_000), Ulid(2_000), seconds(50));
    requests.extended(id(0, 1), Ulid(7), Ulid(8), seconds(59));
    requests.extended(id(0, 2), Ulid(2_000), Ulid(8), seconds(59));
    let end = seconds(50) + LEASE;
    assert_eq!(requests.progress(key(0), seconds(60)), Progress::Until(end + GRACE));
    assert!(
        requests
            .extend(id(0, 1), Ulid(2_000), "instance-1", Ulid(9), seconds(60))
            .is_some()
    );
}

#[derive(Debug, Clone)]
enum Step {
    Attach(u8),
    LetGo(u8),
    GiveUp(u8),
    Progress(u8),
    Acknowledge(u8, u128),
    Extend(u8, u128, u128, u64),
    Answer(u8, u128),
    Withdraw(u64),
    Pass(u64),
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let (n, sending, socket) = (0..2_u8, 1..6_u128, 0..3_u64);
    prop_oneof![
        1 => n.clone().prop_map(Step::Attach),
        1 => n.clone().prop_map(Step::LetGo),
        1 => n.clone().prop_map(Step::GiveUp),
        4 => n.clone().prop_map(Step::Progress),
        1 => (n.clone(), sending.clone()).prop_map(|(n, sending)| Step::Acknowledge(n, sending)),
        3 => (n.clone(), sending.clone(), 0..8_u128, socket.clone())
            .prop_map(|(n, sending, lease, socket)| Step::Extend(n, sending, lease, socket)),
        1 => (n, sending).prop_map(|(n, sending)| Step::Answer(n, sending)),
        1 => socket.prop_map(Step::Withdraw),
        1 => (1..70_u64).prop_map(Step::Pass),
        1 => Just(Step::Purge),
    ]
}

/// What is known of one request by remembering everything.
#[derive(Debug, Default, Clone)]
struct Known {
    is_awaited: bool,
    answer: Option<(Vec<u8>, Duration)>,
    /// The last sending: its number, its socket, the leases it has had, when the last ends.
    last: Option<(u128, u64, Vec<u128>, Duration)>,
}

proptest! {
    #[test]
    fn every_history_ends_as_it_should(steps in prop::collection::vec(step(), 1..80)) {
        let mut requests = Requests::new(LEASE);
        let mut known = [Known::default(), Known::default()];
        let (mut now, mut number, mut fresh) = (seconds(0), 0_u128, 10_000_u128);
        for step in steps {
            match step {
                Step::Attach(n) => {
                    let known = &mut known[usize::from(n)];
                    prop_assert_eq!(requests.attach(key(n)).is_none(), known.is_awaited);
                    known.is_awaited = true;
                }
                Step::LetGo(n) => {
                    requests.let_go(key(n), now);
                    let known = &mut known[usize::from(n)];
                    let was_awaited = std::mem::take(&mut known.is_awaited);
                    if let Some((_, until)) = known.answer.as_mut().filter(|_| was_awaited) {
                        *until = now + KEPT;
                    }
                }
                Step::GiveUp(n) if known[usize::from(n)].is_awaited => {
                    requests.give_up(key(n));
                    known[usize::from(n)] = Known::default();
                }
                Step::Progress(n) if known[usize::from(n)].is_awaited => {
                    let known = &mut known[usize::from(n)];
                    match requests.progress(key(n), now) {
                        Progress::Answered(answer) => {
                            let first = known.answer.take().map(|(answer, _)| answer);
                            prop_assert_eq!(Some(answer), first);
                            *known = Known::default();
                        }
                        Progress::Send => {
                            prop_assert!(known.answer.is_none());
                            number += 1;
                            let next = sending(n, number, u64::try_from(number % 3).expect("small"));
                            known.last = Some((number, next.socket.0, vec![next.lease.0], now + LEASE));
                            requests.sent(next, now);
                        }
                        Progress::Until(end) => {
                            prop_assert!(known.answer.is_none());
                            let (.., expires) = known.last.clone().expect("it was sent");
                            prop_assert!(now < end && (end == expires || end == expires + GRACE));
                        }
                        Progress::Lost => {
                            prop_assert!(known.answer.is_none());
                            *known = Known::default();
                        }
                    }
                }
                Step::GiveUp(_) | Step::Progress(_) => {}
                Step::Acknowledge(n, sending) => requests.acknowledge(id(n, sending)),
                Step::Extend(n, sending, lease, socket) => {
                    let known = &mut known[usize::from(n)];
                    fresh += 1;
                    // A lease that was real, or one that never was.
                    let leases = known.last.as_ref().map(|(_, _, leases, _)| leases.clone()).unwrap_or_default();
                    let lease = leases.iter().rev().nth(usize::try_from(lease).expect("small")).copied().unwrap_or(lease);
                    let by = format!("instance-{socket}");
                    if let Some(held) = requests.extend(id(n, sending), Ulid(lease), &by, Ulid(fresh), now) {
                        prop_assert!(known.answer.is_none());
                        let (last, of, leases, expires) = known.last.as_mut().expect("it was sent");
                        prop_assert_eq!((*last, *of), (sending, socket));
                        prop_assert!(now < *expires);
                        if held.0 == fresh {
                            prop_assert_eq!(leases.last(), Some(&lease));
                            leases.push(fresh);
                            *expires = now + LEASE;
                        } else {
                            prop_assert_eq!(leases.last(), Some(&held.0));
                            prop_assert_eq!(leases.iter().rev().nth(1), Some(&lease));
                        }
                    }
                }
                Step::Answer(n, sending) => {
                    let text = format!("{sending} at {now:?}").into_bytes();
                    requests.answer(id(n, sending), text.clone(), now);
                    known[usize::from(n)].answer.get_or_insert((text, now + KEPT));
                }
                Step::Withdraw(socket) => requests.withdraw(SocketId(socket)),
                Step::Pass(time) => now += seconds(time),
                Step::Purge => {
                    requests.purge(now);
                    for known in &mut known {
                        if !known.is_awaited && known.answer.as_ref().is_some_and(|(_, until)| *until <= now) {
                            *known = Known::default();
                        }
                    }
                }
            }
            let unasked = requests.entries.values().filter(|entry| !entry.is_awaited);
            let kept: usize = unasked
                .map(|entry| match &entry.state {
                    State::Answered { answer, .. } => answer.len(),
                    _ => 0,
                })
                .sum();
            prop_assert_eq!(kept, requests.kept);
            for (n, known) in (0_u8..).zip(&known) {
                let is_there = requests.entries.get(&key(n)).is_some_and(|entry| entry.is_awaited);
                prop_assert_eq!(is_there, known.is_awaited);
            }
        }
        for n in 0..2 {
            requests.let_go(key(n), now);
        }
        requests.purge(now + LEASE + GRACE + KEPT);
        prop_assert_eq!((requests.entries.len(), requests.kept), (0, 0));
    }
}
