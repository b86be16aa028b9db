//! `/api/v1/operations`.

use callboard_actors::domain::*;
use callboard_actors::orchestrator::OperationWish;
use rstest::rstest;
use serde_json::json;

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::app;

#[actix_web::test]
async fn an_operation_is_counted_begun_looked_at_and_stopped() {
    let server = Server::start().await;
    server.world.with(|world| world.apps.push(app()));
    let wish = json!({
        "kind": "replay", "function": "shop-charge", "status": "failed,cancelled", "from": "1750000000000",
        "until": "2026-01-01T00:00:00Z", "if": "event.data.n > 7", "rate": 9,
    });
    let counted = server.post("/api/v1/operations/preview", wish.to_string()).await;
    assert_eq!(
        (counted.status.as_u16(), counted.json()),
        (200, json!({"count": 7, "precision": "at_least"}))
    );
    let begun = server.post("/api/v1/operations", wish.to_string()).await;
    assert_eq!(begun.status, 201);
    let begun = begun.json();
    let filter = OperationFilter {
        functions: Some(vec![FunctionId::derive("shop", "shop-charge")]),
        statuses: vec![RunStatus::Failed, RunStatus::Cancelled],
        from: Some(NOW),
        until: Some(Timestamp::from_millis(1_767_225_600_000)),
        condition: Some("event.data.n > 7".to_owned()),
    };
    let expected = OperationWish {
        kind: OperationKind::Replay,
        filter,
        rate: 9,
    };
    let asked = server.world.with(|world| world.wishes.clone());
    assert_eq!(asked, [expected.clone(), expected]);
    assert_eq!(
        (&begun["state"], &begun["done"], &begun["failed"], &begun["skipped"]),
        (&json!("running"), &json!(3), &json!(2), &json!(1))
    );
    assert_eq!(begun["filter"]["functions"][0]["slug"], "shop-charge");
    assert_eq!(begun["filter"]["if"], "event.data.n > 7");

    let id = begun["id"].as_str().expect("an id");
    let path = format!("/api/v1/operations/{id}");
    assert_eq!(server.get(&path).await.json(), begun);
    let listed = server.get("/api/v1/operations?limit=1").await.json();
    assert_eq!(listed, json!({"operations": [begun]}));
    let stopped = server.post(&format!("{path}/cancel"), "").await.json();
    assert_eq!(stopped["state"], "cancelled");
}

#[actix_web::test]
async fn what_is_left_out_means_everything() {
    let server = Server::start().await;
    let begun = server
        .post("/api/v1/operations", json!({"kind": "cancel"}).to_string())
        .await
        .json();
    assert_eq!(begun["filter"], json!({"statuses": ["queued", "running"]}));
    let asked = server.world.with(|world| world.wishes.clone());
    assert_eq!((&asked[0].filter, asked[0].rate), (&OperationFilter::default(), 50));
}

#[rstest]
#[case(json!({"kind": "undo"}), 400, "CB-1007")]
#[case(json!({}), 400, "CB-1001")]
#[case(json!({"kind": "cancel", "colour": "red"}), 400, "CB-1001")]
#[case(json!({"kind": "cancel", "function": "nobody"}), 404, "CB-1202")]
#[case(json!({"kind": "cancel", "app": "nobody"}), 404, "CB-1203")]
#[case(json!({"kind": "cancel", "status": "lost"}), 400, "CB-1007")]
#[case(json!({"kind": "cancel", "from": "yesterday"}), 400, "CB-1007")]
#[actix_web::test]
async fn a_wish_that_can_t_be_understood_is_refused(
    #[case] wish: serde_json::Value,
    #[case] status: u16,
    #[case] code: &str,
) {
    let server = Server::start().await;
    for path in ["/api/v1/operations", "/api/v1/operations/preview"] {
        let answer = server.post(path, wish.to_string()).await;
        let told = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &told["error"]["code"]),
            (status, &json!(code)),
            "{told}"
        );
    }
    assert_eq!(server.world.with(|world| world.wishes.len()), 0);
}

#[actix_web::test]
async fn an_operation_that_is_not_there_is_said_so() {
    let server = Server::start().await;
    let path = format!("/api/v1/operations/{}", OperationId::new(NOW, 9));
    for answer in [
        server.get(&path).await,
        server.post(&format!("{path}/cancel"), "").await,
    ] {
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (404, &json!("CB-1312"))
        );
    }
    assert_eq!(server.get("/api/v1/operations/nonsense").await.status, 400);
}
