//! Questions that are put together: as many at a time as were asked while the last ones were being answered.
//!
//! One question alone is asked at once; many cost little more than one. Promises: everybody gets an answer, also when the
//! answering dies over a batch. Never: waits for more questions to come.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use crate::ports::StoreError;

/// A question, and who waits for the answer.
type Asked<Q, A> = (Q, oneshot::Sender<Result<A, StoreError>>);

/// Answers in the order of the questions.
type Answers<A> = LocalBoxFuture<'static, Result<Vec<A>, StoreError>>;

/// Where questions of one kind are asked, on one thread.
pub(crate) struct Batched<Q, A> {
    waiting: RefCell<Vec<Asked<Q, A>>>,
    is_busy: Cell<bool>,
    most: usize,
    answer: Box<dyn Fn(Vec<Q>) -> Answers<A>>,
}

impl<Q, A> std::fmt::Debug for Batched<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batched")
            .field("waiting", &self.waiting.borrow().len())
            .finish_non_exhaustive()
    }
}

impl<Q: 'static, A: 'static> Batched<Q, A> {
    /// Has `answer` answer up to `most` questions at a time.
    pub(crate) fn new<F>(most: usize, answer: impl Fn(Vec<Q>) -> F + 'static) -> Rc<Self>
    where
        F: Future<Output = Result<Vec<A>, StoreError>> + 'static,
    {
        Rc::new(Self {
            waiting: RefCell::default(),
            is_busy: Cell::new(false),
            most,
            answer: Box::new(move |questions| Box::pin(answer(questions))),
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the whole batch has failed with.
    pub(crate) async fn ask(self: Rc<Self>, question: Q) -> Result<A, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().push((question, sender));
        if !self.is_busy.replace(true) {
            actix::spawn(self.work());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("whoever was asked is gone".to_owned())))
    }

    async fn work(self: Rc<Self>) {
        let _working = Working(&self);
        loop {
            let (questions, senders): (Vec<Q>, Vec<_>) = {
                let mut waiting = self.waiting.borrow_mut();
                let count = waiting.len().min(self.most);
                waiting.drain(..count).unzip()
            };
            if questions.is_empty() {
                return;
            }
            // Whoever does not wait any more has no need to know.
            match (self.answer)(questions).await {
                Ok(answers) => senders
                    .into_iter()
                    .zip(answers)
                    .for_each(|(sender, answer)| drop(sender.send(Ok(answer)))),
                Err(error) => senders
                    .into_iter()
                    .for_each(|sender| drop(sender.send(Err(error.clone())))),
            }
        }
    }
}

/// Lets the next question be answered, whatever becomes of this batch: one that dies takes nobody's answer along but by
/// telling him so.
struct Working<'a, Q, A>(&'a Batched<Q, A>);

impl<Q, A> Drop for Working<'_, Q, A> {
    fn drop(&mut self) {
        self.0.is_busy.set(false);
        // Empty unless the work has died.
        self.0.waiting.take();
    }
}

#[cfg(test)]
mod tests {
    use actix::System;

    use super::*;

    type Sizes = Rc<RefCell<Vec<usize>>>;

    /// Doubles numbers, up to three at a time, and tells the sizes of its batches.
    fn doubling() -> (Rc<Batched<u32, u32>>, Sizes) {
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&sizes);
        let batched = Batched::new(3, move |numbers: Vec<u32>| {
            noted.borrow_mut().push(numbers.len());
            async move {
                tokio::task::yield_now().await;
                assert!(!numbers.contains(&13), "an unlucky number");
                match numbers.contains(&7) {
                    true => Err(StoreError::Refused("seven".to_owned())),
                    false => Ok(numbers.into_iter().map(|number| 2 * number).collect()),
                }
            }
        });
        (batched, sizes)
    }

    #[test]
    fn what_is_asked_meanwhile_is_answered_together() {
        System::new().block_on(async {
            let (batched, sizes) = doubling();
            let asked = (0..5).map(|number| Rc::clone(&batched).ask(number));
            let answers = futures_util::future::join_all(asked).await;
            let answers: Vec<u32> = answers.into_iter().collect::<Result<_, _>>().expect("answers");
            assert_eq!(answers, [0, 2, 4, 6, 8]);
            assert_eq!(*sizes.borrow(), [3, 2]);
            assert!(matches!(batched.ask(9).await, Ok(18)));
        });
    }

    #[test]
    fn a_batch_fails_for_all_in_it_and_for_nobody_else() {
        System::new().block_on(async {
            let (batched, _) = doubling();
            let asked = [7, 1, 2, 3].map(|number| Rc::clone(&batched).ask(number));
            let answers = futures_util::future::join_all(asked).await;
            assert!(answers[..3].iter().all(Result::is_err));
            assert!(matches!(answers[3], Ok(6)));
        });
    }

    #[test]
    fn death_over_a_batch_is_told_and_survived() {
        System::new().block_on(async {
            let (batched, _) = doubling();
            let asked = [13, 1, 2, 3].map(|number| Rc::clone(&batched).ask(number));
            let answers = futures_util::future::join_all(asked).await;
            assert!(answers.iter().all(Result::is_err), "{answers:?}");
            assert!(matches!(batched.ask(4).await, Ok(8)));
        });
    }
}
