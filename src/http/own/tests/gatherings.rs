//! `/api/v1/functions/{id}/gatherings`.

use std::time::Duration;

use callboard_actors::domain::*;
use serde_json::json;

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::app;

const PATH: &str = "/api/v1/functions/shop-charge/gatherings";

fn gathering(number: u128, function: &str) -> Gathered {
    let function = FunctionId::derive("shop", function);
    Gathered {
        gathering: Gathering {
            id: GatheringId::new(NOW, number),
            function,
            bucket: ClaimId::of_batch(function, None),
            is_batch: number > 1,
            version: 3,
            key: (number > 1).then(|| "7".to_owned()),
            standing: Standing {
                opened_at: NOW,
                due_at: NOW.after(Duration::from_secs(60)),
                due_by: DueBy::Timeout,
                newest: NOW,
                count: 4,
                bytes: 99,
            },
        },
        events: Vec::new(),
    }
}

async fn server() -> Server {
    let server = Server::start().await;
    server.world.with(|world| {
        world.apps.push(app());
        world.gatherings = vec![
            gathering(1, "shop-charge"),
            gathering(2, "shop-charge"),
            gathering(3, "another"),
        ];
    });
    server
}

#[actix_web::test]
async fn those_of_a_function_are_listed_page_by_page() {
    let server = server().await;
    let first = server.get(&format!("{PATH}?limit=1")).await.json();
    let expected = json!({
        "id": GatheringId::new(NOW, 1), "kind": "debounce", "events": 4, "bytes": 99, "due_by": "timeout",
        "opened_at": NOW.to_rfc3339(), "due_at": NOW.after(Duration::from_secs(60)).to_rfc3339(),
    });
    assert_eq!(first["gatherings"], json!([expected]));
    let cursor = first["cursor"].as_str().expect("there is another page");
    let second = server.get(&format!("{PATH}?limit=1&cursor={cursor}")).await.json();
    assert_eq!(second["gatherings"][0]["kind"], "batch");
    assert_eq!(second["gatherings"][0]["key"], "7");
    assert_eq!(
        (second["gatherings"].as_array().map(Vec::len), second.get("cursor")),
        (Some(1), None)
    );
}

#[actix_web::test]
async fn one_of_the_function_is_fired_once() {
    let server = server().await;
    let fire = |number: u128| format!("{PATH}/{}/fire", GatheringId::new(NOW, number));
    let fired = server.post(&fire(2), "{}").await;
    assert_eq!(fired.status, 200);
    let run = RunId::of_gathering(GatheringId::new(NOW, 2), NOW);
    assert_eq!(fired.json()["run_id"], json!(run));
    for unknown in [2, 3] {
        let refused = server.post(&fire(unknown), "{}").await;
        assert_eq!(refused.json()["error"]["code"], "CB-1313");
    }
    let odd = server.post(&format!("{PATH}/x/fire"), "{}").await;
    assert_eq!(odd.json()["error"]["code"], "CB-1007");
    let nobody = server.get("/api/v1/functions/nobody/gatherings").await;
    assert_eq!(nobody.json()["error"]["code"], "CB-1202");
}
