//! `/api/v1/functions/{id}/limits`.

use std::time::Duration;

use callboard_actors::domain::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::app;

const PATH: &str = "/api/v1/functions/shop-charge/limits";

/// A function with a throttle, two limits on calls and one on runs.
async fn server() -> Server {
    let server = Server::start().await;
    let mut app = app();
    let limit = |limit, key: Option<&str>| ConcurrencyLimit {
        limit,
        key: key.map(str::to_owned),
        scope: Scope::Fn,
    };
    let function = &mut app.functions[0];
    assert_eq!(&*function.slug, "shop-charge");
    function.flow.concurrency = vec![limit(3, None), limit(2, Some("event.data.user"))];
    function.flow.run_concurrency = Some(limit(5, None));
    function.flow.throttle = Some(Throttle {
        limit: 10,
        period: Duration::from_secs(60),
        burst: 1,
        key: None,
    });
    server.world.with(|world| world.apps = vec![app]);
    server
}

async fn put(server: &Server, body: &Value) -> (u16, Value) {
    let answer = server.put(PATH, body.to_string()).await;
    (answer.status.into(), answer.json())
}

#[actix_web::test]
async fn the_rule_that_is_meant_gets_other_numbers() {
    let server = server().await;
    let until = NOW.after(Duration::from_secs(1_800));
    let body = json!({"rule": "concurrency", "key": "event.data.user", "limit": 7, "for": "30m"});
    let (status, said) = put(&server, &body).await;
    let expected = json!({"rule": "concurrency", "key": "event.data.user", "limit": 7, "until": until.to_rfc3339()});
    assert_eq!((status, said), (200, expected));
    let body = json!({"rule": "throttle", "limit": 1, "period": "5s", "burst": 0, "until": until.to_rfc3339()});
    let (status, said) = put(&server, &body).await;
    assert_eq!(
        (status, &said["period_ms"], &said["burst"]),
        (200, &json!(5_000), &json!(0))
    );

    let flow = server.get("/api/v1/functions/shop-charge/flow").await.json();
    let shown: Vec<_> = flow["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| {
            (
                rule["kind"].clone(),
                rule["limit"].clone(),
                rule["overridden_until"].is_string(),
            )
        })
        .collect();
    let expected = [
        ("throttle", 1, true),
        ("concurrency", 3, false),
        ("concurrency", 7, true),
        ("run_concurrency", 5, false),
    ];
    assert_eq!(
        shown,
        expected.map(|(kind, limit, is_other)| (json!(kind), json!(limit), is_other))
    );

    let ended = |path: String| {
        let server = &server;
        async move { server.method("DELETE", &path).await.json()["ended"].clone() }
    };
    assert_eq!(ended(format!("{PATH}?rule=run_concurrency")).await, false);
    assert_eq!(ended(format!("{PATH}?rule=throttle")).await, true);
    assert_eq!(ended(PATH.to_owned()).await, true);
    assert_eq!(ended(PATH.to_owned()).await, false);
}

#[rstest]
#[case(json!({"rule": "concurrency", "limit": 1, "for": "1m"}), "several rules `concurrency`")]
#[case(json!({"rule": "debounce", "limit": 1, "for": "1m"}), "no such rule `debounce`")]
#[case(json!({"rule": "throttle", "limit": 0, "for": "1m"}), "limit: at least 1")]
#[case(json!({"rule": "throttle", "limit": 1}), "either `until` when or `for` how long")]
#[case(json!({"rule": "throttle", "limit": 1, "for": "1m", "until": "2999-01-01T00:00:00Z"}), "either `until`")]
#[case(json!({"rule": "throttle", "limit": 1, "until": "1999-01-01T00:00:00Z"}), "is over")]
#[case(json!({"rule": "throttle", "limit": 1, "for": "soon"}), "for: `soon`")]
#[case(json!({"rule": "throttle", "limit": 1, "for": "1m", "period": "1ms"}), "period: `1ms`")]
#[case(json!({"rule": "run_concurrency", "limit": 1, "for": "1m", "burst": 1}), "only a throttle")]
#[case(json!({"rule": "throttle", "limit": 1, "for": "1m", "more": 1}), "unknown field `more`")]
#[actix_web::test]
async fn what_can_t_be_is_refused_and_changes_nothing(#[case] body: Value, #[case] why: &str) {
    let server = server().await;
    let (status, said) = put(&server, &body).await;
    assert_eq!(status, 400, "{said:#}");
    assert!(
        said["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains(why)),
        "{said:#}"
    );
    assert!(server.world.with(|world| world.overrides.is_empty()));
}

#[actix_web::test]
async fn nobody_s_limits_are_not_found() {
    let server = server().await;
    assert_eq!(
        server.method("DELETE", "/api/v1/functions/nobody/limits").await.status,
        404
    );
    assert_eq!(server.method("DELETE", &format!("{PATH}?key=x")).await.status, 400);
}
