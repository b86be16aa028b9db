//! Spans that the newest TypeScript SDK sends of what goes on in its functions.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::graphql::{child, children};
use crate::support::sdk::{Sdk::Ts4, SdkApp};
use crate::support::server::{Server, text};
use crate::support::{DEADLINE, wait_for};

const SPAN: &str = "name isUserland status stepID userlandSpan { spanName scopeName spanAttrs serviceName }";

fn trace(server: &Server, run: &str) -> Value {
    let query = format!(
        "query ($id: String!) {{ run(runID: $id) {{ trace(preview: true) {{ {SPAN} childrenSpans {{ {SPAN}
            childrenSpans {{ {SPAN} childrenSpans {{ {SPAN} }} }} }} }} }} }}"
    );
    server.graphql(&query, &json!({"id": run}))["run"]["trace"].clone()
}

/// Called at its URL, and over its connection.
#[rstest]
#[case::by_url(false)]
#[case::connected(true)]
fn spans_are_shown_below_the_steps_that_they_are_of(#[case] is_connected: bool) {
    let server = Server::builder().switch("--no-poll").start();
    let builder = SdkApp::builder(Ts4, &server.url()).env("EXTENDED_TRACES", "1");
    let app = if is_connected {
        builder.connected("one").start()
    } else {
        builder.start()
    };
    if !is_connected {
        app.register();
    }
    let run = server.complete(&json!({"name": "test/traced"}));
    let run = text(&run["id"]);
    let own = wait_for("the spans", DEADLINE, || {
        let own = server.get(&format!("/api/v1/runs/{run}/spans")).expect(200).json();
        let has = |name: &str| {
            own["spans"]
                .as_array()
                .is_some_and(|all| all.iter().any(|span| span["name"] == name))
        };
        ["in the body", "outer", "inner", "alone"]
            .into_iter()
            .all(has)
            .then_some(own)
    });
    let trace = trace(&server, &run);
    let outer = child(child(&trace, "first"), "outer");
    let inner = child(outer, "inner");
    let alone = child(child(&trace, "second"), "alone");
    for span in [outer, inner, alone] {
        assert_eq!(span["isUserland"], true);
        assert_eq!(span["userlandSpan"]["scopeName"], "inngest");
    }
    assert_eq!(
        (&outer["status"], &inner["status"]),
        (&json!("COMPLETED"), &json!("FAILED"))
    );
    assert_eq!(
        inner["userlandSpan"]["spanAttrs"]
            .as_str()
            .map(|text| text.contains("place")),
        Some(true)
    );
    let root: Vec<&Value> = children(&trace).iter().map(|span| &span["name"]).collect();
    assert!(root.contains(&&json!("in the body")), "{root:?}");
    assert!(!root.contains(&&json!("inngest.execution")), "nobody needs to see it");
    let hidden = own["spans"].as_array().expect("an array");
    assert!(
        hidden.iter().any(|span| span["name"] == "inngest.execution"),
        "it is kept all the same"
    );
}
