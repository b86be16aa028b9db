//! Durable endpoints: the beginning of a run, its steps, and the answer for whoever holds its token.

use actix_web::test::TestRequest;
use callboard_actors::domain::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::fake::{Answer, NOW, Server};
use super::sdk::{run_id, view};

fn request() -> Value {
    json!({
        "run_id": run_id(), "retries": 2, "request_version": 2, "ts": 1,
        "event": {"name": "inngest/http.request", "data": {
            "domain": "http://shop:3000", "path": "/order", "method": "POST", "query_params": "a=1", "ip": "",
            "content_type": "text/plain", "body": "hello", "fn": "",
        }},
        "steps": [{"op": "StepRun", "id": "aa", "data": 1}],
    })
}

async fn begin(server: &Server, body: &Value, sdk: &str) -> Answer {
    let request = TestRequest::post().uri("/v1/checkpoint").set_payload(body.to_string());
    server.call(request.insert_header(("x-inngest-sdk", sdk))).await
}

#[rstest]
#[case("inngest-js:v4.24.0", false)]
#[case("inngest-go:v0.15.1", true)]
#[actix_web::test]
async fn an_app_begins_a_run_by_itself(#[case] sdk: &str, #[case] has_encoded_bodies: bool) {
    let server = Server::start().await;
    let answer = begin(&server, &request(), sdk).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data = answer.json()["data"].clone();
    let id = FunctionId::derive("http://shop:3000", "POST /order");
    assert_eq!((&data["run_id"], &data["fn_id"]), (&json!(run_id()), &json!(id)));
    for member in ["app_id", "token", "realtime_token"] {
        assert!(
            data[member].as_str().is_some_and(|text| !text.is_empty()),
            "{member}: {data}"
        );
    }
    let (attendance, attended) = server
        .world
        .with(|world| (world.attendances.remove(0), world.attended.remove(0)));
    let function = attendance.function;
    assert_eq!((function.id, &*function.slug, function.retries), (id, "POST /order", 2));
    assert_eq!(function.url, "http://shop:3000/order");
    assert_eq!(function.endpoint, Some(Endpoint { has_encoded_bodies }));
    assert_eq!(attendance.request.to_tree(), request()["event"]["data"]);
    assert_eq!((attended.0, attended.1.len()), (run_id(), 1));
}

#[actix_web::test]
async fn a_run_is_begun_by_one_request() {
    let server = Server::start().await;
    begin(&server, &request(), "").await;
    let again = begin(&server, &request(), "").await;
    assert_eq!(
        (again.status.as_u16(), again.json()["status"].clone()),
        (409, json!(409))
    );
}

#[rstest]
#[case("/run_id", json!("nonsense"))]
#[case("/run_id", json!("01ARZ3NDEKTSV4RRFFQ69G5FAV"))]
#[case("/event/data/domain", json!("shop"))]
#[case("/event/data/domain", json!("ftp://shop"))]
#[case("/event/data/method", json!(""))]
#[case("/event/data", json!([]))]
#[case("/steps", json!([{"op": "Nonsense", "id": "aa"}]))]
#[actix_web::test]
async fn what_is_no_run_is_not_begun(#[case] place: &str, #[case] value: Value) {
    let server = Server::start().await;
    let mut body = request();
    *body.pointer_mut(place).expect("it is there") = value;
    let answer = begin(&server, &body, "").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(server.world.with(|world| world.attendances.is_empty()));
}

#[actix_web::test]
async fn steps_may_ask_for_anything() {
    let server = Server::start().await;
    let path = format!("/v1/http/runs/{}/steps", run_id());
    let steps = json!({"steps": [{"op": "Sleep", "id": "aa", "name": "1s"}, {"op": "DiscoveryRequest", "id": "bb"}]});
    assert_eq!(server.post(&path, steps.to_string()).await.status, 200);
    assert_eq!(server.world.with(|world| world.attended.remove(0)).1.len(), 2);
    server
        .world
        .with(|world| world.report_refused = Some(ReportRefused::Stale));
    assert_eq!(server.post(&path, steps.to_string()).await.status, 409);
    assert_eq!(server.post(&path, "{}").await.status, 400);
}

fn ended(status: RunStatus, output: &Value) -> callboard_actors::ports::RunView {
    let mut view = view(status);
    view.summary.output = Some(Json::from_value(output).expect("JSON"));
    view
}

#[actix_web::test]
async fn the_answer_is_for_who_holds_the_token() {
    let server = Server::start().await;
    let token = begin(&server, &request(), "").await.json()["data"]["token"].clone();
    let token = token.as_str().expect("a token").to_owned();
    let path = |run: RunId, token: &str| format!("/v1/checkpoint/{run}/output?token={token}");
    let output = json!({"status": 201, "headers": {"X-Shop": "yes", "Content-Length": "99"}, "body": "made"});
    server
        .world
        .with(|world| world.runs = vec![ended(RunStatus::Completed, &output)]);
    let answer = server.get(&path(run_id(), &token)).await;
    assert_eq!((answer.status.as_u16(), &*answer.text()), (201, "made"));
    assert_eq!(answer.header("x-shop"), Some("yes"));
    let failed = json!({"name": "Error", "message": "m"});
    server
        .world
        .with(|world| world.runs = vec![ended(RunStatus::Failed, &failed)]);
    let answer = server.get(&path(run_id(), &token)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, failed));
    for (run, token) in [(run_id(), ""), (run_id(), &token[1..]), (RunId::new(NOW, 8), &*token)] {
        assert_eq!(server.get(&path(run, token)).await.status, 401);
    }
}
