//! Keys that operators make: what they are good for, until when, and who may make them.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use callboard_actors::domain::{ApiKey, ApiKeyId, KeyDigest, KeyScope, Timestamp};
use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::fake::{Answer, Fate, NOW, Server, options};
use crate::http::Options;
use crate::sdk::ServerKind;

const OF_SETTINGS: &str = "a-key-of-the-settings";

async fn server() -> Server {
    let options = Options {
        kind: ServerKind::Cloud,
        api_keys: vec![SecretString::from(OF_SETTINGS)],
        event_keys: vec![SecretString::from("an-event-key")],
        require_event_keys: true,
        ..options()
    };
    Server::with(options).await
}

async fn ask(server: &Server, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = TestRequest::default()
        .method(method)
        .uri(path)
        .insert_header(("authorization", format!("Bearer {key}")))
        .insert_header(("content-type", "application/json"));
    server.call(request.set_payload(body.to_string())).await
}

async fn look(server: &Server, key: &str) -> u16 {
    let answer = ask(server, key, "GET", "/api/v1/runs", &Value::Null).await;
    answer.status.as_u16()
}

/// Makes a key; answers what it is and its id.
async fn made(server: &Server, scope: &str) -> (String, String) {
    let wish = json!({"name": scope, "scope": scope});
    let answer = ask(server, OF_SETTINGS, "POST", "/api/v1/keys", &wish).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let text = |member: &str| made[member].as_str().expect("a text").to_owned();
    (text("key"), text("id"))
}

#[actix_web::test]
async fn a_key_is_good_for_its_scope() {
    let server = server().await;
    let query = json!({"query": "{apps{id}}"});
    let mutation = json!({"query": r#"mutation { invokeFunction(functionSlug: "missing") }"#});
    let wish = json!({"name": "another", "scope": "admin"});
    let doors = [
        ("GET", "/api/v1/runs", Value::Null, KeyScope::Read),
        ("GET", "/metrics", Value::Null, KeyScope::Read),
        ("GET", "/v2/runs", Value::Null, KeyScope::Read),
        ("POST", "/v0/gql", query, KeyScope::Read),
        ("POST", "/v0/gql", mutation, KeyScope::Write),
        ("POST", "/api/v1/events", json!({"name": "a"}), KeyScope::Write),
        ("POST", "/v1/signals", json!({"signal": "s"}), KeyScope::Write),
        ("GET", "/api/v1/keys", Value::Null, KeyScope::Admin),
        ("POST", "/api/v1/keys", wish, KeyScope::Admin),
        (
            "DELETE",
            "/api/v1/keys/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Value::Null,
            KeyScope::Admin,
        ),
        // Another spelling, which leads there too.
        (
            "DELETE",
            "/api/v1/ke%79s/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Value::Null,
            KeyScope::Admin,
        ),
    ];
    for held in KeyScope::ALL {
        let (key, _) = made(&server, held.as_str()).await;
        for (method, path, body, needed) in &doors {
            let answer = ask(&server, &key, method, path, body).await;
            let is_open = held.includes(*needed);
            let case = format!("{} at {method} {path}: {}", held.as_str(), answer.text());
            assert_eq!(answer.status != 403, is_open, "{case}");
            assert_ne!(answer.status, 401, "{case}");
            if !is_open {
                let code = if path.starts_with("/v2") {
                    "access_denied"
                } else {
                    "CB-1015"
                };
                // Who may not even look hears no more than that.
                let named = [needed.as_str(), "`read`"];
                let is_named = named.iter().any(|scope| answer.text().contains(scope));
                assert!(answer.text().contains(code) && is_named, "{case}");
            }
        }
        let sent = server.post(&format!("/e/{key}"), r#"{"name":"a"}"#).await;
        assert_eq!(sent.status, if held == KeyScope::Events { 200 } else { 401 });
    }
}

#[actix_web::test]
async fn a_key_is_shown_once_and_listed_ever_after() {
    let server = server().await;
    let (key, id) = made(&server, "write").await;
    assert!(key.starts_with("cbk_") && key.len() == 68, "{key}");
    assert_eq!(look(&server, &key).await, 200);
    let noted = async {
        while server.world.with(|world| world.api_keys[0].last_used_at.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted)
        .await
        .expect("its use is noted");
    let list = ask(&server, OF_SETTINGS, "GET", "/api/v1/keys", &Value::Null).await;
    let shown = list.text();
    assert!(!shown.contains(&key) && !shown.contains(OF_SETTINGS), "{shown}");
    let keys = &list.json()["keys"];
    let at = NOW.to_rfc3339();
    let hint = format!("***{}", &key[64..]);
    let expected = json!({
        "id": id, "name": "write", "scope": "write", "state": "active", "source": "database", "created_at": at,
        "hint": hint, "last_used_at": at,
    });
    assert_eq!(keys[0], expected);
    let of_settings = |name, scope, hint| {
        json!({
            "name": name, "scope": scope, "state": "active", "source": "settings", "hint": hint,
        })
    };
    assert_eq!(keys[1], of_settings("keys.api", "admin", "***ings"));
    assert_eq!(keys[2], of_settings("keys.event", "events", "***-key"));
}

#[actix_web::test]
async fn a_revoked_key_is_good_for_nothing() {
    let server = server().await;
    let (key, id) = made(&server, "read").await;
    assert_eq!(look(&server, &key).await, 200);
    let path = format!("/api/v1/keys/{id}");
    let revoked = ask(&server, OF_SETTINGS, "DELETE", &path, &Value::Null).await;
    assert_eq!(
        (revoked.status.as_u16(), &revoked.json()["state"]),
        (200, &json!("revoked"))
    );
    assert_eq!(look(&server, &key).await, 401, "at once, where it was revoked");
    let unknown = path.replace(&id, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let missing = ask(&server, OF_SETTINGS, "DELETE", &unknown, &Value::Null).await;
    assert_eq!(
        (missing.status.as_u16(), &missing.json()["error"]["code"]),
        (404, &json!("CB-1318"))
    );
}

#[actix_web::test]
async fn what_another_instance_revokes_is_good_for_nothing_soon() {
    let server = server().await;
    let (key, _) = made(&server, "read").await;
    assert_eq!(look(&server, &key).await, 200);
    server.world.with(|world| world.api_keys[0].revoked_at = Some(NOW));
    let refused = async {
        while look(&server, &key).await != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused)
        .await
        .expect("refused within seconds");
}

#[actix_web::test]
async fn a_key_that_has_expired_is_good_for_nothing() {
    let server = server().await;
    let text = |digit: char| format!("cbk_{}", digit.to_string().repeat(64));
    let put = |digit: char, end: i64| {
        let key = ApiKey {
            id: ApiKeyId::new(NOW, u128::from(digit)),
            name: "k".to_owned(),
            scope: KeyScope::Read,
            digest: KeyDigest::of(&text(digit)),
            hint: String::new(),
            expires_at: Some(Timestamp::from_millis(end)),
            last_used_at: None,
            revoked_at: None,
        };
        server.world.with(|world| world.api_keys.push(key));
    };
    put('a', NOW.as_millis());
    put('b', NOW.as_millis() + 1);
    for (digit, status) in [('a', 401), ('b', 200), ('c', 401)] {
        assert_eq!(look(&server, &text(digit)).await, status, "{digit}");
    }
    let list = ask(&server, OF_SETTINGS, "GET", "/api/v1/keys", &Value::Null)
        .await
        .json();
    assert_eq!(
        (&list["keys"][0]["state"], &list["keys"][1]["state"]),
        (&json!("expired"), &json!("active"))
    );
}

/// Nobody gets in while it is not known which keys count; who has one of the settings does.
#[actix_web::test]
async fn without_the_database_there_are_the_keys_of_the_settings() {
    let server = server().await;
    let (key, _) = made(&server, "read").await;
    server.world.with(|world| world.database = Fate::Refused);
    let document = "/api/v1/openapi.json";
    let by_key = ask(&server, &key, "GET", document, &Value::Null).await;
    assert_eq!((by_key.status.as_u16(), by_key.header("retry-after")), (503, Some("1")));
    let by_settings = ask(&server, OF_SETTINGS, "GET", document, &Value::Null).await;
    assert_eq!(by_settings.status, 200);
    let junk = ask(&server, "undefined", "GET", document, &Value::Null).await;
    assert_eq!(junk.status, 401, "what has not the form of a key needs no database");
}

#[actix_web::test]
async fn a_flood_of_wrong_keys_costs_a_question_now_and_then() {
    let server = server().await;
    let started = std::time::Instant::now();
    for n in 0..200 {
        assert_eq!(look(&server, &format!("cbk_{n:064x}")).await, 401);
    }
    let loads = server.world.with(|world| world.key_loads);
    assert!(loads as u64 <= 1 + started.elapsed().as_secs() / 2, "{loads}");
}

#[actix_web::test]
async fn a_server_without_keys_stays_open() {
    let server = Server::start().await;
    let made = server.post("/api/v1/keys", r#"{"name":"k","scope":"read"}"#).await;
    assert_eq!(made.status, 201);
    assert_eq!(server.get("/api/v1/keys").await.status, 200);
    assert_eq!(server.post("/e/any", r#"{"name":"a"}"#).await.status, 200);
}

#[rstest]
#[case(json!({"name": "", "scope": "read"}), "name")]
#[case(json!({"name": "a\nb", "scope": "read"}), "name")]
#[case(json!({"name": "a".repeat(101), "scope": "read"}), "name")]
#[case(json!({"name": "a", "scope": "root"}), "scope")]
#[case(json!({"name": "a"}), "scope")]
#[case(json!({"name": "a", "scope": "read", "expires_in": "soon"}), "expires_in")]
#[case(json!({"name": "a", "scope": "read", "expires_at": "2001-01-01T00:00:00Z"}), "expires_at")]
#[case(json!({"name": "a", "scope": "read", "expires_at": "2101-01-01T00:00:00Z", "expires_in": "1d"}), "expires_in")]
#[case(json!({"name": "a", "scope": "read", "colour": "red"}), "colour")]
#[actix_web::test]
async fn what_is_no_wish_for_a_key_is_told(#[case] wish: Value, #[case] mentions: &str) {
    let server = server().await;
    let refused = ask(&server, OF_SETTINGS, "POST", "/api/v1/keys", &wish).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains(mentions), "{}", refused.text());
    assert!(server.world.with(|world| world.api_keys.is_empty()));
}

#[rstest]
#[case("expires_in", "90d", 90 * 24 * 60 * 60 * 1_000)]
#[case("expires_at", "1750000000001", 1)]
#[actix_web::test]
async fn a_key_may_end_by_itself(#[case] member: &str, #[case] value: &str, #[case] millis: i64) {
    let server = server().await;
    let wish = json!({"name": "k", "scope": "read", member: value});
    let made = ask(&server, OF_SETTINGS, "POST", "/api/v1/keys", &wish).await.json();
    let end = Timestamp::from_millis(NOW.as_millis() + millis);
    assert_eq!(made["expires_at"], json!(end.to_rfc3339()));
}
