//! Who gets what, with one subscriber, with many, and against a model.

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

fn topic(name: &str) -> Topic {
    Topic::new("c", name)
}

fn frame(text: &str) -> Frame {
    Frame::Message(text.into())
}

/// What waits for it.
fn waiting(subscription: &Subscription) -> Vec<Frame> {
    std::iter::from_fn(|| subscription.next().now_or_never()?.ok()).collect()
}

fn subscribe(broadcaster: &Broadcaster, names: &[&str]) -> Result<Subscription, Refused> {
    let topics = names.iter().map(|name| topic(name)).collect();
    broadcaster
        .subscribe(topics)
        .now_or_never()
        .expect("nobody else is asked")
}

#[test]
fn a_channel_is_no_other_and_a_topic_is_no_other() {
    let broadcaster = Broadcaster::default();
    let subscription = subscribe(&broadcaster, &["a"]).expect("room");
    for elsewhere in [Topic::new("c", "b"), Topic::new("d", "a"), Topic::new("", "ca")] {
        broadcaster.publish(&elsewhere, &frame("not for it"));
    }
    broadcaster.publish(&topic("a"), &frame("for it"));
    assert_eq!(waiting(&subscription), [frame("for it")]);
    let counts = broadcaster.counts();
    assert_eq!((counts.published, counts.delivered, counts.subscribers), (4, 1, 1));
}

#[test]
fn topics_come_and_go() {
    let broadcaster = Broadcaster::default();
    let mut subscription = subscribe(&broadcaster, &["a", "a", "b"]).expect("room");
    let added = subscription.add(vec![topic("b"), topic("c")]);
    added.now_or_never().expect("nobody else is asked").expect("room");
    subscription.remove(&[topic("b"), topic("unknown")]);
    for name in ["a", "b", "c"] {
        broadcaster.publish(&topic(name), &frame(name));
    }
    assert_eq!(waiting(&subscription), [frame("a"), frame("c")], "each once");
    drop(subscription);
    assert_eq!(
        (broadcaster.topics(), broadcaster.counts().subscribers),
        (Vec::new(), 0)
    );
}

#[test]
fn there_is_so_much_room() {
    let broadcaster = Broadcaster::default();
    let mut all: Vec<_> = (0..OF_TOPIC)
        .map(|_| subscribe(&broadcaster, &["a"]).expect("room"))
        .collect();
    assert_eq!(subscribe(&broadcaster, &["b", "a"]).err(), Some(Refused::Full));
    assert_eq!(broadcaster.counts().subscribers, OF_TOPIC, "nothing is left of it");
    assert_eq!(broadcaster.topics(), [topic("a")]);
    drop(all.pop());
    subscribe(&broadcaster, &["a"]).expect("room again");
    let names: Vec<String> = (0..=OF_SUBSCRIBER).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(subscribe(&broadcaster, &names).err(), Some(Refused::TooManyTopics));
}

#[test]
fn one_that_does_not_read_costs_nobody_else_anything() {
    let broadcaster = Broadcaster::default();
    let slow = subscribe(&broadcaster, &["a"]).expect("room");
    let quick = subscribe(&broadcaster, &["a"]).expect("room");
    for number in 0..5_000 {
        broadcaster.publish(&topic("a"), &frame(&number.to_string()));
        assert_eq!(waiting(&quick).len(), 1);
    }
    assert_eq!(slow.next().now_or_never(), Some(Err(End::TooSlow)));
    assert_eq!(broadcaster.counts().too_slow, 1);
}

#[test]
fn whoever_closes_lets_everybody_read_to_the_end() {
    let broadcaster = Broadcaster::default();
    let subscription = subscribe(&broadcaster, &["a"]).expect("room");
    broadcaster.announce_end();
    assert_eq!(subscribe(&broadcaster, &["a"]).err(), Some(Refused::Closing));
    broadcaster.publish(&topic("a"), &frame("last"));
    broadcaster.close();
    broadcaster.publish(&topic("a"), &frame("too late"));
    assert_eq!(waiting(&subscription), [Frame::Closing, frame("last")]);
    assert_eq!(subscription.next().now_or_never(), Some(Err(End::Closing)));
}

#[derive(Debug, Clone)]
enum Act {
    Subscribe(Vec<u8>),
    Add(usize, u8),
    Remove(usize, u8),
    Leave(usize),
    Publish(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..4_u8;
    prop_oneof![
        prop::collection::vec(name.clone(), 0..3).prop_map(Act::Subscribe),
        (any::<usize>(), name.clone()).prop_map(|(who, name)| Act::Add(who, name)),
        (any::<usize>(), name.clone()).prop_map(|(who, name)| Act::Remove(who, name)),
        any::<usize>().prop_map(Act::Leave),
        name.prop_map(Act::Publish),
    ]
}

proptest! {
    /// Against lists of who wants what.
    #[test]
    fn everybody_gets_what_they_are_subscribed_to(acts in prop::collection::vec(act(), 0..60)) {
        let broadcaster = Broadcaster::default();
        let mut world: Vec<(Subscription, HashSet<u8>, Vec<Frame>)> = Vec::new();
        let names = |numbers: &[u8]| numbers.iter().map(|number| topic(&number.to_string())).collect::<Vec<_>>();
        for (number, act) in acts.into_iter().enumerate() {
            let count = world.len().max(1);
            match act {
                Act::Subscribe(wanted) => {
                    let subscribed = broadcaster.subscribe(names(&wanted)).now_or_never();
                    let subscription = subscribed.expect("at once").expect("room");
                    world.push((subscription, wanted.into_iter().collect(), Vec::new()));
                }
                Act::Add(who, name) => if let Some((subscription, wanted, _)) = world.get_mut(who % count) {
                    subscription.add(names(&[name])).now_or_never().expect("at once").expect("room");
                    wanted.insert(name);
                },
                Act::Remove(who, name) => if let Some((subscription, wanted, _)) = world.get_mut(who % count) {
                    subscription.remove(&names(&[name]));
                    wanted.remove(&name);
                },
                Act::Leave(who) => if who % count < world.len() {
                    world.swap_remove(who % count);
                },
                Act::Publish(name) => {
                    let message = frame(&number.to_string());
                    broadcaster.publish(&topic(&name.to_string()), &message);
                    for (_, wanted, expected) in &mut world {
                        if wanted.contains(&name) {
                            expected.push(message.clone());
                        }
                    }
                }
            }
        }
        let followed: HashSet<Topic> = broadcaster.topics().into_iter().collect();
        let wanted = world.iter().flat_map(|(_, wanted, _)| wanted);
        prop_assert_eq!(followed, wanted.map(|name| topic(&name.to_string())).collect());
        for (subscription, _, expected) in &world {
            prop_assert_eq!(&waiting(subscription), expected);
        }
    }
}
