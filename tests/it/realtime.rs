//! Realtime with the real SDKs: what runs and apps publish, and who is subscribed to it.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::http::Request;
use crate::support::sdk::Sdk::{self, Ts3, Ts4};
use crate::support::sdk::SdkApp;
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server, text};
use crate::support::stage::Stage;
use crate::support::unique;

/// Has the SDK subscribe; what it hears is in the app's log.
pub(crate) fn subscribe(app: &SdkApp, channel: &str, topics: &[&str]) {
    app.ask(&Request::post("/subscribe", &json!({"channel": channel, "topics": topics})).within(DEADLINE));
}

/// What has been heard on this channel: kind and data.
fn heard(app: &SdkApp, channel: &str, count: usize) -> Vec<(String, Value)> {
    let entries = app.wait_for_log(&format!("fn=@realtime&channel={channel}"), count);
    let each = entries
        .iter()
        .map(|entry| (text(&entry["kind"]), entry["data"].clone()));
    each.collect()
}

fn data(value: Value) -> (String, Value) {
    ("data".to_owned(), value)
}

#[rstest]
fn what_a_run_publishes_is_heard_while_it_is_under_way(#[values(Ts4, Ts3)] sdk: Sdk) {
    let stage = Stage::shared(sdk);
    let channel = unique("channel");
    subscribe(&stage.app, &channel, &["news"]);
    let run = stage.complete("test/publish", &json!({ "channel": channel }));
    assert_eq!(run["output"], "told");
    let heard = heard(&stage.app, &channel, 2);
    assert_eq!(heard, [data(json!({"n": 1})), data(json!("plain text"))], "each once");
    let entries = stage.app.log(&format!("fn=@realtime&channel={channel}"));
    assert!(
        entries
            .iter()
            .all(|entry| entry["run_id"] == run["id"] && entry["topic"] == "news"),
        "{entries:#?}"
    );
    // Publishing is a step like any other.
    let steps = run["steps"].as_array().expect("a list");
    assert_eq!(steps.len(), 3, "{steps:#?}");
}

#[test]
fn with_keys_the_sdk_shows_its_own() {
    let server = Server::builder().production().start();
    let app = SdkApp::builder(Ts4, &server.url())
        .env("INNGEST_SIGNING_KEY", SIGNING_KEY)
        .env("INNGEST_EVENT_KEY", EVENT_KEY)
        .start();
    app.register();
    subscribe(&app, "keyed", &["news"]);
    server.complete(&json!({"name": "test/publish", "data": {"channel": "keyed"}}));
    assert_eq!(heard(&app, "keyed", 2).len(), 2);
    for path in ["publish?channel=keyed&topic=news", "publish/tee?channel=keyed", "token"] {
        let request = Request::post(format!("/v1/realtime/{path}"), &json!([]));
        request.send(server.address()).expect(401);
    }
}

#[test]
fn an_app_publishes_by_itself_and_piece_by_piece() {
    let stage = Stage::shared(Ts4);
    let channel = unique("channel");
    // The SDK's own reader throws at the start of a stream.
    let wish = json!({"channel": channel, "topics": ["news"], "plain": true});
    stage.app.ask(&Request::post("/subscribe", &wish).within(DEADLINE));
    let publish = |body: &Value| stage.app.ask(&Request::post("/publish", body));
    publish(&json!({"channel": channel, "topic": "other", "data": "for nobody"}));
    publish(&json!({"channel": channel, "topic": "news", "data": [1, 2]}));
    let pieces = ["once ", "upön ", "a time"];
    publish(&json!({"channel": channel, "topic": "news", "pieces": pieces}));
    let end = stage
        .app
        .wait_for_log(&format!("fn=@realtime&channel={channel}&kind=datastream-end"), 1);
    let stream = text(&end[0]["data"]);
    let all = heard(&stage.app, &channel, 4);
    let (first, chunks) = all.split_at(2);
    assert_eq!(
        first,
        [data(json!([1, 2])), ("datastream-start".to_owned(), json!(stream))]
    );
    let chunks = chunks[..chunks.len() - 1].iter().map(|(kind, piece)| {
        assert_eq!(kind, "chunk");
        text(piece)
    });
    assert_eq!(chunks.collect::<String>(), pieces.concat());
    let query = format!("fn=@realtime&channel={channel}&stream_id={stream}&topic=news");
    assert_eq!(
        stage.app.log(&query).len(),
        all.len() - 3,
        "each piece names what it is for"
    );
}
