//! The PostgreSQL store against the port's suite, and what only it promises.

use std::sync::Arc;

use callboard_actors::ports::Store;
use callboard_backends::postgres::Server;

use super::{Options, PostgresStore};

/// A store on a database of its own, on the server that all tests share.
async fn fresh() -> (Arc<dyn Store>, ()) {
    let url = Server::shared().create_database().expect("makes a database");
    let store = PostgresStore::open(&Options::new(url)).await.expect("opens");
    (Arc::new(store), ())
}

mod conformance {
    callboard_actors::store_conformance!(super::fresh);
}
