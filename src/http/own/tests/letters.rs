//! `/api/v1/dead-letters`.

use callboard_actors::domain::*;
use rstest::rstest;
use serde_json::json;

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::{app, run_id, view};

fn letter(version: u64) -> DeadLetter {
    let id = JobId {
        run: run_id(),
        key: JobKey::Start,
    };
    let job = Job {
        id,
        function: FunctionId::derive("shop", "shop-charge"),
        attempt: 2,
        due: NOW,
        priority: Priority::NONE,
        payload: Some(Json::parse(r#"{"data":7}"#).expect("JSON")),
        gates: callboard_actors::domain::Gates::NONE,
    };
    DeadLetter::new(job, "panicked three times".to_owned(), version, NOW)
}

async fn with_letters(versions: std::ops::Range<u64>) -> Server {
    let server = Server::start().await;
    server.world.with(|world| {
        world.dead_letters.extend(versions.map(letter));
        world.apps.push(app());
        world.runs.push(view(RunStatus::Running));
    });
    server
}

#[actix_web::test]
async fn letters_are_listed_in_pages() {
    let server = with_letters(0..3).await;
    let listed = server.get("/api/v1/dead-letters?limit=2").await.json();
    let second = letter(1).id.to_string();
    assert_eq!(
        (&listed["cursor"], &listed["dead_letters"][1]["id"]),
        (&json!(second), &json!(second))
    );
    let first = &listed["dead_letters"][0];
    assert_eq!(first["run_id"], json!(run_id()));
    assert_eq!((&first["job"], &first["attempt"]), (&json!("start"), &json!(2)));
    assert_eq!(first["reason"], "panicked three times");
    assert_eq!(first["function"]["slug"], "shop-charge");
    assert_eq!(first["at"], NOW.to_rfc3339());
    let last = server.get("/api/v1/dead-letters").await.json();
    assert!(last.get("cursor").is_none(), "{last}");
}

#[actix_web::test]
async fn letters_are_filtered() {
    let server = with_letters(0..0).await;
    let before = letter(4).id;
    let query = format!("function=shop-charge&from=1750000000000&until=1750000000009&cursor={before}&limit=7");
    let list = format!("/api/v1/dead-letters?{query}");
    let retry = format!("/api/v1/dead-letters/retry?{query}");
    assert_eq!(server.get(&list).await.status, 200);
    assert_eq!(
        server.post(&retry, "").await.json(),
        json!({"retried": 0, "has_more": false})
    );
    for filter in server.world.with(|world| world.letter_filters.clone()) {
        assert_eq!(filter.functions, Some(vec![FunctionId::derive("shop", "shop-charge")]));
        assert_eq!((filter.from, filter.limit, filter.before), (Some(NOW), 7, Some(before)));
        assert_eq!(filter.until, Some(Timestamp::from_millis(NOW.as_millis() + 9)));
    }
}

#[rstest]
#[case("?function=shop-nothing", 404, "CB-1202")]
#[case("?app=nothing", 404, "CB-1203")]
#[case("?limit=101", 400, "CB-1007")]
#[case("?cursor=x", 400, "CB-1007")]
#[case("?from=soon", 400, "CB-1007")]
#[case("/01JXWP3V00000000000000000A", 404, "CB-1305")]
#[case("/x", 400, "CB-1007")]
#[actix_web::test]
async fn what_makes_no_sense_is_refused(#[case] rest: &str, #[case] status: u16, #[case] code: &str) {
    let server = with_letters(0..1).await;
    let answer = server.get(&format!("/api/v1/dead-letters{rest}")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (status, &json!(code))
    );
}

#[actix_web::test]
async fn a_letter_is_shown_with_its_job_and_run() {
    let server = with_letters(0..1).await;
    let shown = server
        .get(&format!("/api/v1/dead-letters/{}", letter(0).id))
        .await
        .json();
    assert_eq!(
        (&shown["payload"], &shown["due"]),
        (&json!({"data": 7}), &json!(NOW.to_rfc3339()))
    );
    assert_eq!(
        (&shown["run"]["id"], &shown["run"]["status"]),
        (&json!(run_id()), &json!("running"))
    );
    assert_eq!((&shown["run_id"], &shown["job"]), (&json!(run_id()), &json!("start")));
}

#[actix_web::test]
async fn a_letter_is_settled_once() {
    let server = with_letters(0..2).await;
    let (first, second) = (letter(0).id, letter(1).id);
    let answer = server.post(&format!("/api/v1/dead-letters/{first}/retry"), "").await;
    assert_eq!(answer.json(), json!({"id": first, "run_id": run_id(), "job": "start"}));
    assert_eq!(server.world.with(|world| world.retried.clone()), [first]);
    let answer = server.method("DELETE", &format!("/api/v1/dead-letters/{second}")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (200, &json!(second)));
    assert_eq!(
        server.world.with(|world| world.retried.len()),
        1,
        "a discard is no retry"
    );
    for gone in [
        server.post(&format!("/api/v1/dead-letters/{first}/retry"), "").await,
        server.method("DELETE", &format!("/api/v1/dead-letters/{second}")).await,
    ] {
        assert_eq!(
            (gone.status.as_u16(), &gone.json()["error"]["code"]),
            (404, &json!("CB-1305"))
        );
    }
}

#[actix_web::test]
async fn many_are_retried_so_many_at_a_time() {
    let server = with_letters(0..30).await;
    let answer = server.post("/api/v1/dead-letters/retry?app=shop", "").await.json();
    assert_eq!(answer, json!({"retried": 20, "has_more": true}));
}

#[actix_web::test]
async fn a_held_run_says_who_has_to_decide() {
    let server = with_letters(0..0).await;
    server.world.with(|world| world.runs[0].held.push(letter(0)));
    let shown = server.get(&format!("/api/v1/runs/{}", run_id())).await.json();
    let holds: Vec<_> = shown["waiting_for"].as_array().expect("a list").iter().collect();
    let hold = holds.iter().find(|pending| pending["owner"] == "hold").expect("a hold");
    assert_eq!(
        (&hold["what"], &hold["dead_letter"]),
        (&json!("call"), &json!(letter(0).id))
    );
}
