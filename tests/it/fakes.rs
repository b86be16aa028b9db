//! Answers that no SDK gives.

use serde_json::json;

use crate::support::fake::{FakeApp, Reply};
use crate::support::server::Server;

#[test]
fn a_fake_app_runs_a_step_and_ends() {
    let server = Server::start();
    let app = FakeApp::with_function(&server, 0, |call| {
        if call.has_step("one") {
            Reply::done(&json!({"ok": true}))
        } else {
            Reply::step("one", &json!(1))
        }
    });
    let run = server.complete(&app.event());
    assert_eq!(run["output"], json!({"ok": true}));
    assert_eq!(app.calls().len(), 2);
}
