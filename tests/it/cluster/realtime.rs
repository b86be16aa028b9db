//! Subscribers of one instance hear what is published on another.

use std::cell::Cell;

use serde_json::{Value, json};

use super::{Pair, sdk_app};
use crate::realtime::subscribe;
use crate::support::installation::Installation;
use crate::support::sdk::SdkApp;
use crate::support::server::Server;
use crate::support::{DEADLINE, unique, wait_for};

fn publish(server: &Server, channel: &str, data: &Value) {
    let path = format!("/v1/realtime/publish?channel={channel}&topic=news");
    server.post(&path, data).expect(200);
}

fn heard(app: &SdkApp, channel: &str) -> Vec<Value> {
    let entries = app.log(&format!("fn=@realtime&channel={channel}"));
    entries.iter().map(|entry| entry["data"].clone()).collect()
}

#[test]
fn what_is_published_anywhere_is_heard_everywhere() {
    const MESSAGES: usize = 200;
    let pair = Pair::shared();
    let channel = unique("channel");
    // The app asks the first instance, which has told Redis before it answers.
    subscribe(&pair.app, &channel, &["news"]);
    for number in 0..MESSAGES {
        publish(pair.other(), &channel, &json!(number));
        publish(pair.other(), "elsewhere", &json!("not for it"));
    }
    let entries = pair
        .app
        .wait_for_log(&format!("fn=@realtime&channel={channel}"), MESSAGES);
    let order: Vec<Value> = entries.iter().map(|entry| entry["data"].clone()).collect();
    let expected: Vec<Value> = (0..MESSAGES).map(|number| json!(number)).collect();
    assert_eq!(order, expected, "each once, in order");
    publish(pair.one(), &channel, &json!("from here"));
    pair.app
        .wait_for_log(&format!("fn=@realtime&channel={channel}"), MESSAGES + 1);
    assert_eq!(
        heard(&pair.app, &channel).len(),
        MESSAGES + 1,
        "not twice by way of Redis"
    );
}

#[test]
fn without_redis_messages_stay_on_their_instance_and_with_it_they_travel_again() {
    let mut installation = Installation::builder().start();
    let app = sdk_app(&installation[0]);
    subscribe(&app, "channel", &["news"]);
    publish(&installation[1], "channel", &json!("before"));
    app.wait_for_log("fn=@realtime&channel=channel&data=before", 1);
    installation.redis.kill().expect("Redis can be killed");
    publish(&installation[0], "channel", &json!("here"));
    app.wait_for_log("fn=@realtime&channel=channel&data=here", 1);
    // It is lost, and nobody waits for that.
    publish(&installation[1], "channel", &json!("lost"));
    wait_for("the loss to be counted", DEADLINE, || {
        let metrics = installation[1].get("/metrics").expect(200).text();
        (!metrics.contains("callboard_realtime_lost_total 0\n")).then_some(())
    });
    installation.redis.restart_empty().expect("Redis starts");
    let number = Cell::new(0);
    wait_for("messages to travel again", DEADLINE, || {
        number.set(number.get() + 1);
        publish(&installation[1], "channel", &json!({"again": number.get()}));
        heard(&app, "channel")
            .iter()
            .any(|data| data["again"].is_number())
            .then_some(())
    });
    assert!(
        !heard(&app, "channel").contains(&json!("lost")),
        "nothing is kept for later"
    );
    let said = installation[0].log().matches("are lost until Redis answers").count();
    assert_eq!(said, 1, "once, not every time");
    let mut app = app;
    app.kill();
    wait_for("nobody to be subscribed", DEADLINE, || {
        let metrics = installation[0].get("/metrics").expect(200).text();
        metrics.contains("callboard_realtime_subscribers 0").then_some(())
    });
}
