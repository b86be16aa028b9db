//! The SQLite store against the port's suite, and what only it promises.

use std::sync::Arc;

use callboard_actors::ports::Store;
use tempfile::TempDir;

use super::SqliteStore;

async fn fresh() -> (Arc<dyn Store>, TempDir) {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    (Arc::new(store), directory)
}

mod conformance {
    callboard_actors::store_conformance!(super::fresh);
}
