//! `/api/v1/apps`: the circuit breaker of each, and its switch.

use callboard_actors::breaker::{Admission, Breakers};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::FunctionId;
use callboard_actors::ports::CatalogView;
use serde_json::{Value, json};

use crate::http::tests::exposition::Exposition;
use crate::http::tests::fake::Server;
use crate::http::tests::sdk::app;

async fn server() -> Server {
    let server = Server::start().await;
    server.world.with(|world| world.apps.push(app()));
    server
}

/// Calls of `shop-charge` until they have to wait; whether each was answered.
fn call(breakers: &Breakers, answers: impl IntoIterator<Item = bool>) {
    let catalog = Catalog::new(CatalogView {
        revision: 0,
        apps: vec![app()],
        overrides: Vec::new(),
    });
    for is_answered in answers {
        let asked = breakers.ask(&catalog, FunctionId::derive("shop", "shop-charge"));
        let Admission::Go(Some(pass)) = asked else {
            panic!("{asked:?}")
        };
        pass.report(!is_answered);
    }
}

async fn breaker(server: &Server) -> Value {
    server.get("/api/v1/apps").await.json()["apps"][0]["breaker"].clone()
}

#[actix_web::test]
async fn an_app_says_whether_it_is_called() {
    let server = server().await;
    let closed = breaker(&server).await;
    assert_eq!((&closed["enabled"], &closed["state"]), (&json!(true), &json!("closed")));
    assert_eq!((&closed["set"], &closed["failure_rate"]), (&json!(null), &json!(null)));
    call(
        &server.breakers,
        std::iter::repeat_n(true, 10).chain(std::iter::repeat_n(false, 10)),
    );
    let open = breaker(&server).await;
    assert_eq!(
        (&open["state"], &open["failure_rate"]),
        (&json!("open"), &json!(0.5)),
        "{open}"
    );
    assert_eq!((&open["calls"], &open["failed"]), (&json!(20), &json!(10)));
    assert_eq!(
        (&open["openings"], &open["endpoint"]),
        (&json!(1), &json!("http://a/x"))
    );
    assert!(open["since"].is_string() && open["next_probe_at"].is_string(), "{open}");
    let scraped = server.get("/metrics").await;
    let scraped = Exposition::parse(&String::from_utf8(scraped.body).expect("a text"));
    assert!((scraped.value("callboard_breaker_state{app=\"shop\"}") - 2.0).abs() < f64::EPSILON);
    assert!((scraped.value("callboard_breaker_openings_total{app=\"shop\"}") - 1.0).abs() < f64::EPSILON);
}

#[actix_web::test]
async fn a_breaker_is_switched() {
    let server = server().await;
    let put = async |body: &str| server.put("/api/v1/apps/shop/breaker", body.to_owned()).await;
    let off = put(r#"{"enabled":false}"#).await;
    assert_eq!(off.status, 200);
    let off = off.json();
    assert_eq!(
        (&off["enabled"], &off["set"], &off["state"]),
        (&json!(false), &json!(false), &json!("off"))
    );
    assert_eq!(breaker(&server).await, off);
    let as_set = put(r#"{"enabled":null}"#).await.json();
    assert_eq!((&as_set["enabled"], &as_set["set"]), (&json!(true), &json!(null)));
    assert_eq!(put(r#"{"on":true}"#).await.status, 400);
    let unknown = server.put("/api/v1/apps/nobody/breaker", r#"{"enabled":true}"#).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "CB-1203", "{}", unknown.json());
}
