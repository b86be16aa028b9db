//! How one actor finds another: by its name in the address book, anew for every message.
//!
//! Nobody keeps an address, so nobody talks to an incarnation that is gone.

use std::sync::Arc;

use actix::Message;
use actix::dev::ToEnvelope;
use actix::{Actor, Handler};

use crate::domain::{Advance, Change, FunctionId, RunId, Write, Written};
use crate::kernel::AddressBook;
use crate::metrics::{Metrics, Tally};
use crate::ports::StoreError;
use crate::registrar::{self, Registrar};
use crate::spans;
use crate::state_writer::{Commit, StateWriter};
use tokio::sync::oneshot;

/// Names of the children there is one of.
pub(crate) mod names {
    pub(crate) const WRITER: &str = "state-writer";
    pub(crate) const ROUTER: &str = "router";
    pub(crate) const REGISTRAR: &str = "registrar";
    pub(crate) const SCHEDULER: &str = "scheduler";
    pub(crate) const JANITOR: &str = "janitor";
    pub(crate) const STEWARD: &str = "steward";
    pub(crate) const PRESENCE: &str = "presence";
    pub(crate) const CONSUMER: &str = "consumer";
    pub(crate) const GATEWAY: &str = "gateway";
}

/// Why a message was not delivered, or not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The actor is being restarted, or the process is stopping.
    #[error("the {0} is not running")]
    Down(&'static str),
    /// The actor died on it: whether it was done is not known.
    #[error("the {0} died")]
    Died(&'static str),
    /// The store can't.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends a message to the child `name`.
pub(crate) fn tell<A, M>(book: &AddressBook, name: &'static str, message: M) -> Result<(), LinkError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let address = book.find::<A>(name).address().ok_or(LinkError::Down(name))?;
    // Mailboxes are no backpressure (credits are), so the capacity is not asked.
    address.do_send(message);
    Ok(())
}

/// Makes writes durable and waits for it.
pub(crate) async fn commit(book: &AddressBook, writes: Vec<Write>, fail_fast: bool) -> Result<Vec<Written>, LinkError> {
    let (reply, outcome) = oneshot::channel();
    tell::<StateWriter, _>(
        book,
        names::WRITER,
        Commit {
            writes,
            fail_fast,
            reply,
        },
    )?;
    Ok(outcome.await.map_err(|_| LinkError::Died(names::WRITER))??)
}

/// Has the catalog read anew and waits for it.
pub(crate) async fn refresh_catalog(book: &AddressBook) -> Result<(), LinkError> {
    let (reply, outcome) = oneshot::channel();
    tell::<Registrar, _>(book, names::REGISTRAR, registrar::Change::Refresh(Some(reply)))?;
    Ok(outcome.await.map_err(|_| LinkError::Died(names::REGISTRAR))??)
}

/// Moves one run of a function on. `false` if somebody else has moved it on since `expected`.
pub(crate) async fn advance(
    book: &AddressBook,
    metrics: &Metrics,
    (run, function): (RunId, FunctionId),
    expected: u64,
    changes: Vec<Change>,
) -> Result<bool, LinkError> {
    let tally = Tally::of(&changes);
    let told = metrics
        .spans
        .of(run)
        .map(|sink| (Arc::clone(sink), spans::of_changes(run, function, &changes)));
    let write = Write::Advance(Advance { run, expected, changes });
    let written = commit(book, vec![write], false).await?;
    let is_done = matches!(written.first(), Some(Written::Done { .. }));
    if is_done {
        metrics.decided(function, tally);
        if let Some((sink, spans)) = told.filter(|(_, spans)| !spans.is_empty()) {
            sink.take(spans);
        }
    }
    Ok(is_done)
}
