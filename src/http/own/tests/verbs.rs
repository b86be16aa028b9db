//! Functions are paused, drained and resumed, and runs done again.

use callboard_actors::domain::*;
use callboard_actors::engine::rerun::FromStepError;
use callboard_actors::rerun::{FromStep, RerunError};
use rstest::rstest;
use serde_json::{Value, json};

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::{app, run_id, view};

async fn server() -> Server {
    let server = Server::start().await;
    server.world.with(|world| {
        world.apps.push(app());
        world.runs.push(view(RunStatus::Running));
    });
    server
}

#[rstest]
#[case("pause", "paused", Some(NOW))]
#[case("drain", "draining", Some(NOW))]
#[case("resume", "active", None)]
#[actix_web::test]
async fn an_operator_says_what_a_function_does(
    #[case] wish: &str,
    #[case] mode: &str,
    #[case] since: Option<Timestamp>,
) {
    let server = server().await;
    let id = FunctionId::derive("shop", "shop-charge");
    for reference in ["shop-charge".to_owned(), id.to_string()] {
        let path = format!("/api/v1/functions/{reference}/{wish}");
        let outcome = server.post(&path, "").await;
        assert_eq!(outcome.status, 200, "{}", outcome.json());
        let function = &outcome.json()["function"];
        assert_eq!((&function["mode"], &function["open_runs"]), (&json!(mode), &json!(3)));
        assert_eq!(function["mode_since"], json!(since.map(Timestamp::to_rfc3339)));
    }
    let set = server.world.with(|world| world.modes.clone());
    assert_eq!(set.len(), 2);
    assert!(
        set.iter()
            .all(|(of, set)| *of == id && set.as_str() == mode && set.since() == since)
    );
    let listed = server.get("/api/v1/functions").await.json();
    let charge = listed["functions"].as_array().expect("a list").iter();
    let charge = charge
        .clone()
        .find(|function| function["slug"] == "shop-charge")
        .expect("listed");
    let expected = if since.is_some() { json!(3) } else { Value::Null };
    assert_eq!(
        (&charge["mode"], &charge["open_runs"]),
        (&json!(mode), &expected),
        "counted if it matters"
    );
    let unknown = server.post(&format!("/api/v1/functions/nobody/{wish}"), "").await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["error"]["code"]),
        (404, &json!("CB-1202"))
    );
}

#[actix_web::test]
async fn a_run_is_done_again_as_it_is_asked_for() {
    let server = server().await;
    let path = format!("/api/v1/runs/{}/rerun", run_id());
    let first = json!({ "from_step": { "step": "a", "input": [1, { "b": 2 }] } });
    for body in [String::new(), "{}".to_owned(), first.to_string()] {
        let outcome = server.post(&path, body).await;
        assert_eq!(outcome.status, 201);
        assert_eq!(
            outcome.json(),
            json!({ "id": RunId::new(NOW, 77), "original_id": run_id() })
        );
    }
    let from = FromStep {
        step: "a".to_owned(),
        input: Some(Json::parse(r#"[1,{"b":2}]"#).expect("JSON")),
    };
    let asked = server.world.with(|world| world.reruns.clone());
    assert_eq!(asked, [(run_id(), None), (run_id(), None), (run_id(), Some(from))]);
}

#[rstest]
#[case(RerunError::UnknownRun(run_id()), 404, "CB-1302")]
#[case(FromStepError::Unknown("x".to_owned()).into(), 404, "CB-1306")]
#[case(FromStepError::Ambiguous("x".to_owned(), "a, b".to_owned()).into(), 409, "CB-1307")]
#[case(FromStepError::MissingOutput("x".to_owned()).into(), 409, "CB-1308")]
#[case(FromStepError::TooLarge.into(), 400, "CB-1309")]
#[case(RerunError::NoEditedInput("py:v0.5".to_owned()), 409, "CB-1310")]
#[case(RerunError::Archived, 409, "CB-1311")]
#[case(RerunError::Skipped(SkipReason::Singleton, "held by run 01".to_owned()), 409, "CB-1311")]
#[case(RerunError::Unavailable("registrar"), 503, "CB-2002")]
#[actix_web::test]
async fn a_rerun_that_can_t_be_says_why(#[case] error: RerunError, #[case] status: u16, #[case] code: &str) {
    let server = server().await;
    server.world.with(|world| world.rerun_error = Some(error));
    let answer = server.post(&format!("/api/v1/runs/{}/rerun", run_id()), "{}").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (status, &json!(code))
    );
}

#[actix_web::test]
async fn a_held_call_says_so() {
    let server = server().await;
    let path = format!("/api/v1/runs/{}", run_id());
    let waiting = server.get(&path).await.json()["waiting_for"].clone();
    assert!(waiting[0]["owner"] != "pause", "{waiting}");
    server.post("/api/v1/functions/shop-charge/pause", "").await;
    let waiting = server.get(&path).await.json()["waiting_for"].clone();
    assert_eq!(
        (&waiting[0]["owner"], &waiting[0]["since"]),
        (&json!("pause"), &json!(NOW.to_rfc3339()))
    );
}
