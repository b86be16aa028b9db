//! Numbers that somebody has to be asked for: asked at most now and then, and never waited for longer than a while.
//!
//! Promises: one question at a time, however many want to know; an answer that comes late is kept for the next who asks;
//! what takes long is asked less often, so that asking takes a hundredth of the time at the most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An answer that took this share of the time is worth asking for again only then.
const SHARE: u32 = 100;

/// The last answer to one question. Clones share it.
#[derive(Debug)]
pub(super) struct Cached<T> {
    inner: Arc<Mutex<Inner<T>>>,
    keep: Duration,
    patience: Duration,
}

#[derive(Debug)]
struct Inner<T> {
    answer: Option<T>,
    fresh_until: Option<Instant>,
    is_asking: bool,
}

impl<T: Clone + 'static> Cached<T> {
    /// Answers are good for `keep`; nobody waits longer than `patience` for one.
    pub(super) fn new(keep: Duration, patience: Duration) -> Self {
        let inner = Inner {
            answer: None,
            fresh_until: None,
            is_asking: false,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            keep,
            patience,
        }
    }

    /// The last answer, which is a new one where it is time and `question` is answered soon enough. `None` if there never
    /// was one. An answer of `None` leaves the last one in place.
    pub(super) async fn get(&self, question: impl Future<Output = Option<T>> + 'static) -> Option<T> {
        if self.begin() {
            let asking = Asking(Arc::clone(&self.inner));
            let keep = self.keep;
            // A task of its own: it is not given up with the request that asked first.
            let asked = actix_web::rt::spawn(async move {
                let begun = Instant::now();
                let answer = question.await;
                let mut inner = lock(&asking.0);
                inner.answer = answer.or(inner.answer.take());
                inner.fresh_until = Instant::now().checked_add(good_for(keep, begun.elapsed()));
            });
            let _ = tokio::time::timeout(self.patience, asked).await;
        }
        lock(&self.inner).answer.clone()
    }

    /// Whether it is time to ask, and nobody is doing so.
    fn begin(&self) -> bool {
        let mut inner = lock(&self.inner);
        let is_fresh = inner.fresh_until.is_some_and(|until| Instant::now() < until);
        !is_fresh && !std::mem::replace(&mut inner.is_asking, true)
    }
}

/// How long an answer is good that took so long.
fn good_for(keep: Duration, took: Duration) -> Duration {
    keep.max(took.saturating_mul(SHARE))
}

/// Lets the next one ask, whatever becomes of this question.
struct Asking<T>(Arc<Mutex<Inner<T>>>);

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        lock(&self.0).is_asking = false;
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;

    /// Longer than any test.
    const LONG: Duration = Duration::from_secs(3_600);
    /// Of somebody who waits for what does not come.
    const SHORT: Duration = Duration::from_millis(5);

    /// Answers how often it was asked.
    #[derive(Clone, Default)]
    struct Source(Rc<Cell<u32>>);

    impl Source {
        fn ask(&self) -> impl Future<Output = Option<u32>> + 'static {
            let asked = Rc::clone(&self.0);
            async move {
                asked.set(asked.get() + 1);
                Some(asked.get())
            }
        }

        /// The same, once somebody opens the gate.
        fn ask_behind(&self, gate: oneshot::Receiver<()>) -> impl Future<Output = Option<u32>> + 'static {
            let ask = self.ask();
            async move {
                let _ = gate.await;
                ask.await
            }
        }
    }

    /// Waits until it is so.
    async fn soon(is_so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !is_so().await {
                tokio::task::yield_now().await;
            }
        };
        let deadline = Duration::from_secs(30);
        tokio::time::timeout(deadline, waiting).await.expect("not in time");
    }

    #[actix_web::test]
    async fn an_answer_is_good_for_a_while() {
        let source = Source::default();
        let lasting = Cached::new(LONG, LONG);
        assert_eq!(
            (lasting.get(source.ask()).await, lasting.get(source.ask()).await),
            (Some(1), Some(1))
        );
        let fleeting = Cached::new(Duration::ZERO, LONG);
        let first = fleeting.get(source.ask()).await;
        // What took no time at all to answer is asked again at once; otherwise a hundred times that later.
        soon(async || fleeting.get(source.ask()).await != first).await;
    }

    #[actix_web::test]
    async fn who_takes_too_long_is_not_waited_for_and_not_asked_twice() {
        let (cached, source) = (Cached::new(LONG, SHORT), Source::default());
        let (open, gate) = oneshot::channel();
        assert_eq!(cached.get(source.ask_behind(gate)).await, None);
        assert_eq!(cached.get(source.ask()).await, None, "one question at a time");
        open.send(()).expect("the question is still open");
        // The late answer, as soon as its task has had its turn.
        soon(async || cached.get(source.ask()).await.is_some()).await;
        assert_eq!(source.0.get(), 1);
    }

    #[actix_web::test]
    async fn a_question_that_dies_can_be_asked_again() {
        let (cached, source) = (Cached::new(LONG, LONG), Source::default());
        assert_eq!(cached.get(async { panic!("as the test wants it") }).await, None);
        assert_eq!(cached.get(source.ask()).await, Some(1));
    }

    #[actix_web::test]
    async fn no_answer_leaves_the_last_one() {
        let cached = Cached::new(Duration::ZERO, LONG);
        assert_eq!(cached.get(async { Some(1) }).await, Some(1));
        assert_eq!(cached.get(async { None }).await, Some(1));
    }

    #[test]
    fn what_takes_long_is_asked_less_often() {
        let seconds = Duration::from_secs;
        assert_eq!(good_for(seconds(60), Duration::from_millis(10)), seconds(60));
        assert_eq!(good_for(seconds(60), seconds(3)), seconds(300));
        assert_eq!(good_for(seconds(60), Duration::MAX), Duration::MAX);
    }
}
