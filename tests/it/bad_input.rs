//! What nobody should send, and places where nobody should start: each is answered with its code, and changes nothing.

mod disk;
mod places;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::http::Request;
use crate::support::server::Server;

/// The code of an answer in whichever shape the route has.
fn code(body: &Value) -> &str {
    let code = body["error"]["code"].as_str().or_else(|| body["code"].as_str());
    code.unwrap_or_else(|| panic!("no code in {body}"))
}

/// Sends bytes to a server of its own; answers status and code. Afterwards the server must be as it was.
fn refused(method: &'static str, path: &str, body: Vec<u8>) -> (u16, String) {
    let server = Server::start();
    let answer = Request::new(method, path).body(body).send(server.address());
    let refusal = (answer.status, code(&answer.json()).to_owned());
    for (list, member) in [("events", "events"), ("runs", "runs"), ("functions", "functions")] {
        let kept = server.get(&format!("/api/v1/{list}")).expect(200).json();
        assert_eq!(kept[member], json!([]), "nothing is kept of {path}");
    }
    refusal
}

/// An event with data nested so deep, and a list long enough to be in several packets.
fn nested(depth: usize) -> Vec<u8> {
    let data = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    format!(r#"{{"name":"test/deep","data":{data}}}"#).into_bytes()
}

#[rstest]
#[case::cut_off(b"{\"name\":".to_vec(), 400, "CB-1001")]
#[case::empty(Vec::new(), 400, "CB-1101")]
#[case::not_an_object(b"[1]".to_vec(), 400, "CB-1001")]
#[case::no_text(b"{\"name\":\"\xff\xfe\"}".to_vec(), 400, "CB-1002")]
#[case::lone_surrogate(br#"{"name":"\ud800"}"#.to_vec(), 400, "CB-1001")]
#[case::too_deep(nested(200), 400, "CB-1003")]
#[case::abyss(nested(100_000), 400, "CB-1003")]
#[case::too_large(vec![b' '; 17 * 1024 * 1024], 413, "CB-1004")]
#[case::no_name(br#"{"data":{}}"#.to_vec(), 400, "CB-1102")]
#[case::reserved(br#"{"name":"inngest/function.invoked"}"#.to_vec(), 400, "CB-1102")]
#[case::reserved_in_disguise(br#"{"name":"INNGEST/function.invoked"}"#.to_vec(), 400, "CB-1102")]
#[case::no_object(br#"{"name":"a","data":7}"#.to_vec(), 400, "CB-1102")]
#[case::bad_time(br#"{"name":"a","ts":-1}"#.to_vec(), 400, "CB-1102")]
#[case::huge_event(format!(r#"{{"name":"a","data":{{"x":"{}"}}}}"#, "x".repeat(3 * 1024 * 1024)).into_bytes(), 400, "CB-1102")]
#[case::too_many(format!("[{}]", vec![r#"{"name":"a"}"#; 5_001].join(",")).into_bytes(), 400, "CB-1103")]
fn events_that_can_not_be_taken(
    #[case] body: Vec<u8>,
    #[case] status: u16,
    #[case] code: &str,
    #[values("/e/test-event-key", "/api/v1/events")] path: &str,
) {
    assert_eq!(refused("POST", path, body), (status, code.to_owned()));
}

#[rstest]
#[case::bad_cron(json!({ "cron": "* * *" }), "isn't a valid cron schedule")]
#[case::impossible_cron(json!({ "cron": "61 * * * *" }), "isn't a valid cron schedule")]
#[case::bad_expression(json!({ "event": "a", "expression": "event.data. ==" }), "invalid trigger expression")]
#[case::endless_expression(json!({ "event": "a", "expression": "(".repeat(10_000) }), "invalid trigger expression")]
fn functions_that_can_not_be_registered(#[case] trigger: Value, #[case] message: &str) {
    let server = Server::start();
    let functions = json!({ "app": "a", "functions": [{ "id": "f", "triggers": [trigger] }] });
    let answer = server.post("/api/v1/functions", &functions).expect(400);
    assert_eq!(code(&answer.json()), "CB-1201");
    assert!(answer.text().contains(message), "{}", answer.text());
    assert_eq!(
        server.get("/api/v1/functions").expect(200).json()["functions"],
        json!([])
    );
}

#[test]
fn all_problems_of_a_registration_are_told_together_and_none_of_it_is_kept() {
    let server = Server::start();
    let app = FakeApp::start(|_| Reply::done(&json!(null)));
    let mut bad = app.function("bad", "a", 3);
    bad["triggers"] = json!([{ "cron": "nope" }, { "event": "a", "expression": "a +" }]);
    bad["rateLimit"] = json!({ "limit": 1, "period": "soon" });
    let registration = json!({
        "url": app.url(), "deployType": "ping", "appName": "a", "framework": "fake", "sdk": "fake:v1", "v": "0.1",
        "functions": [app.function("good", "a", 3), bad],
    });
    let answer = server.post("/fn/register", &registration).expect(400);
    for part in ["cron schedule", "trigger expression", "rate limit period"] {
        assert!(answer.text().contains(part), "{part} is missing in {}", answer.text());
    }
    assert_eq!(
        server.get("/api/v1/functions").expect(200).json()["functions"],
        json!([])
    );
}

#[rstest]
#[case("GET", "/api/v1/nowhere", 404, "CB-1008")]
#[case("GET", "/api/v1/runs/zzz", 400, "CB-1007")]
#[case("GET", "/api/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "CB-1302")]
#[case("POST", "/api/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", 404, "CB-1302")]
#[case("GET", "/api/v1/events/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "CB-1301")]
#[case("GET", "/api/v1/runs?limit=0", 400, "CB-1007")]
#[case("GET", "/api/v1/runs?status=odd", 400, "CB-1007")]
#[case("GET", "/api/v1/runs?from=yesterday", 400, "CB-1007")]
#[case("GET", "/api/v1/runs?cursor=%ff", 400, "CB-1007")]
#[case("GET", "/api/v1/functions?app=nobody", 404, "CB-1203")]
#[case("DELETE", "/api/v1/events", 405, "CB-1009")]
#[case("GET", "/e/test-event-key", 405, "CB-1009")]
#[case("PUT", "/e/test-event-key", 405, "CB-1009")]
fn requests_that_lead_nowhere(
    #[case] method: &'static str,
    #[case] path: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    assert_eq!(refused(method, path, Vec::new()), (status, code.to_owned()));
}

#[test]
fn operands_that_make_no_sense_fail_the_run_and_nothing_else() {
    let server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    let opcodes = [
        json!({ "op": "Sleep", "id": "s", "name": "soonish" }),
        json!({ "op": "WaitForEvent", "id": "s", "name": "s", "opts": { "event": "e", "timeout": "later" } }),
        json!({ "op": "WaitForEvent", "id": "s", "name": "s",
            "opts": { "event": "e", "timeout": "1h", "if": "event.data ==" } }),
        json!({ "op": "Teleport", "id": "s", "name": "s" }),
        json!({ "op": "Sleep", "id": "s", "name": "99999d" }),
        json!("not an opcode"),
    ];
    for opcode in opcodes {
        let shown = opcode.to_string();
        let app = FakeApp::with_function(&server, 0, move |_| Reply::ops(&json!([opcode.clone()])));
        let run = server.run_to(&app.event(), "failed");
        assert!(!run["output"].is_null(), "{shown}: {run}");
    }
    let app = FakeApp::with_function(&server, 0, |_| Reply::done(&json!("fine")));
    assert_eq!(server.complete(&app.event())["output"], json!("fine"));
}

#[test]
fn two_values_in_one_body_are_refused_by_our_own_api() {
    let body = br#"{"name":"a"} {"name":"b"}"#.to_vec();
    assert_eq!(refused("POST", "/api/v1/events", body), (400, "CB-1001".to_owned()));
}
