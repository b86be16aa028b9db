//! Calling apps.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Call, FetchFailure, FetchRequest, FetchResponse, Reply};

/// What became of a call that was offered.
#[derive(Debug, Clone, PartialEq)]
pub enum Offered {
    /// It was made, and this came of it.
    Made(Reply),
    /// Nobody could take it: nothing has happened, and it is worth another try after this time.
    Declined(Duration),
}

/// Calls apps over the wire. Lives on one thread, beside the executors that use it.
#[async_trait(?Send)]
pub trait Invoker: std::fmt::Debug {
    /// Calls an app and reads its answer. Whatever goes wrong on the way is a [`Reply::Failed`], or
    /// [`Reply::Unanswered`] where it says that the app can't be reached.
    ///
    /// Dropping the future gives the call up.
    async fn call(&self, call: Call) -> Reply;

    /// Calls an app if somebody can take the call now. The same as [`Self::call`] where everybody always can.
    async fn offer(&self, call: Call) -> Offered {
        Offered::Made(self.call(call).await)
    }

    /// Makes a request on an app's behalf.
    ///
    /// # Errors
    /// When nobody answered or, for a model provider, when the answer is not a success.
    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, FetchFailure>;
}

/// Makes an [`Invoker`] on the thread that is going to use it.
pub trait InvokerFactory: std::fmt::Debug + Send + Sync {
    /// A new invoker, with connections of its own.
    fn build(&self) -> Rc<dyn Invoker>;
}
