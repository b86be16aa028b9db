//! What takes messages to other processes and brings theirs.
//!
//! Never waits, and never fails: what can't be taken is lost, and counted.

use std::fmt::Debug;

use tokio::sync::oneshot;

use super::{Frame, Topic};

/// Between the broadcasters of several processes.
pub(crate) trait Carrier: Debug + Send + Sync {
    /// Takes this to whoever else is subscribed to the topic. Answers whether it was taken.
    fn carry(&self, topic: &Topic, frame: &Frame) -> bool;

    /// Brings what is published on these, from the moment the receiver hears of something: done, or not possible now.
    /// `None`: there is nobody to bring anything from. Called in the order in which topics are followed and left.
    fn follow(&self, topics: &[Topic]) -> Option<oneshot::Receiver<()>>;

    /// Brings nothing of these any more.
    fn unfollow(&self, topics: &[Topic]);
}

/// There are no other processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Alone;

impl Carrier for Alone {
    fn carry(&self, _: &Topic, _: &Frame) -> bool {
        true
    }

    fn follow(&self, _: &[Topic]) -> Option<oneshot::Receiver<()>> {
        None
    }

    fn unfollow(&self, _: &[Topic]) {}
}
