//! The demo's app: what an SDK makes of a function, written out by hand.
//!
//! It is called again and again with the results so far, and each time answers what it has found next.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::sdk::headers;

/// Serves the app on a free port; answers its URL. It ends with the process.
pub(super) async fn serve() -> anyhow::Result<String> {
    let server = HttpServer::new(|| App::new().route("/api/inngest", web::post().to(call)))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .context("the demo's app can't listen")?;
    let address = server
        .addrs()
        .first()
        .copied()
        .context("the demo's app listens nowhere")?;
    actix_rt::spawn(server.run());
    Ok(format!("http://{address}/api/inngest"))
}

/// What the app would send to register.
pub(super) fn registration(url: &str, event: &str) -> String {
    let runtime = json!({ "type": "http", "url": format!("{url}?fnId=demo-fulfil-order&stepId=step") });
    json!({
        "url": url,
        "appName": "demo",
        "deployType": "ping",
        "sdk": concat!("demo:v", env!("CARGO_PKG_VERSION")),
        "v": "0.1",
        "functions": [{
            "id": "demo-fulfil-order",
            "name": "Fulfil order",
            "triggers": [{ "event": event }],
            "steps": { "step": { "id": "step", "name": "step", "runtime": runtime } },
        }],
    })
    .to_string()
}

#[derive(Deserialize)]
struct Query {
    #[serde(rename = "stepId")]
    step: String,
}

#[derive(Deserialize)]
struct Call {
    ctx: Attempt,
    event: Value,
    steps: Map<String, Value>,
}

#[derive(Deserialize)]
struct Attempt {
    attempt: u32,
}

async fn call(query: web::Query<Query>, call: web::Json<Call>) -> HttpResponse {
    let done = |step: &str| call.steps.contains_key(step);
    if query.step == "charge" && call.ctx.attempt == 0 {
        let error = json!([{ "op": "StepError", "id": "charge", "displayName": "charge card",
            "error": { "name": "CardError", "message": "the bank does not answer" } }]);
        return answer(StatusCode::PARTIAL_CONTENT)
            .insert_header((RETRY_AFTER, "1"))
            .json(error);
    }
    let found = match query.step.as_str() {
        "charge" => vec![ran(
            "charge",
            "charge card",
            &json!({ "charged": call.event["data"]["total"] }),
        )],
        "label" => vec![ran("label", "print label", &json!("L-1042"))],
        _ if !done("reserve") => vec![ran("reserve", "reserve items", &json!({ "reserved": 3 }))],
        _ if !done("charge") || !done("label") => vec![
            json!({ "op": "StepPlanned", "id": "charge", "displayName": "charge card" }),
            json!({ "op": "StepPlanned", "id": "label", "displayName": "print label" }),
        ],
        _ if !done("pause") => {
            vec![json!({ "op": "Sleep", "id": "pause", "name": "1s", "displayName": "wait for the courier" })]
        }
        _ if !done("receipt") => vec![ran("receipt", "send receipt", &json!({ "sent": true }))],
        _ => {
            return answer(StatusCode::OK).json(json!({ "order": call.event["data"]["order"], "status": "fulfilled" }));
        }
    };
    answer(StatusCode::PARTIAL_CONTENT).json(found)
}

fn ran(id: &str, name: &str, data: &Value) -> Value {
    json!({ "op": "StepRun", "id": id, "displayName": name, "data": data })
}

fn answer(status: StatusCode) -> actix_web::HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((headers::SDK, "demo:v1"))
        .insert_header((headers::REQUEST_VERSION, "2"));
    answer
}
