//! Calling apps.

use std::rc::Rc;

use async_trait::async_trait;

use crate::domain::{Call, FetchFailure, FetchRequest, FetchResponse, Reply};

/// Calls apps over the wire. Lives on one thread, beside the executors that use it.
#[async_trait(?Send)]
pub trait Invoker: std::fmt::Debug {
    /// Calls an app and reads its answer. Whatever goes wrong on the way is a [`Reply::Failed`], or
    /// [`Reply::Unanswered`] where it says that the app can't be reached.
    ///
    /// Dropping the future gives the call up.
    async fn call(&self, call: Call) -> Reply;

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
