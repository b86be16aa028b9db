//! `/api/v1/functions/{id}/slots`.

use std::time::Duration;

use callboard_actors::domain::*;
use callboard_actors::scheduler::ledger::{Outcome, PastSlot, Slot, SlotFilter, SlotPage};
use rstest::rstest;
use serde_json::json;

use crate::http::tests::fake::{NOW, Server};
use crate::http::tests::sdk::{app, run_id};

fn slot(seconds: u64) -> Slot {
    Slot {
        schedule: "0 * * * *".into(),
        at: NOW.before(Duration::from_secs(seconds)),
        fires_at: NOW.before(Duration::from_secs(seconds - 1)),
    }
}

async fn with_slots(outcomes: Vec<Outcome>) -> Server {
    let server = Server::start().await;
    let past = (1..).zip(outcomes).map(|(seconds, outcome)| PastSlot {
        slot: slot(seconds),
        outcome,
    });
    server.world.with(|world| {
        world.apps.push(app());
        world.slots = SlotPage {
            slots: past.collect(),
            cursor: "1750000000000-2".parse().ok(),
            upcoming: vec![slot(1)],
        };
    });
    server
}

const PATH: &str = "/api/v1/functions/shop-charge/slots";

#[actix_web::test]
async fn each_outcome_is_shown_as_what_it_is() {
    let ran = |late| Outcome::Ran {
        event: EventId::new(NOW, 1),
        run: run_id(),
        status: Some(RunStatus::Running),
        fired_at: NOW,
        late,
    };
    let skipped = |reason, detail: Option<&str>| Outcome::Skipped {
        reason,
        detail: detail.map(str::to_owned),
    };
    let server = with_slots(vec![
        ran(None),
        ran(Some(Duration::from_millis(61_007))),
        skipped("superseded", None),
        skipped("duplicate", Some("of another")),
        Outcome::Due,
        Outcome::Unknown { expired: true },
        Outcome::Unknown { expired: false },
    ])
    .await;
    let shown = server.get(PATH).await.json();
    let at = |seconds: u64| NOW.before(Duration::from_secs(seconds)).to_rfc3339();
    let mut first = json!({
        "schedule": "0 * * * *", "scheduled_at": at(1), "fires_at": at(0), "status": "ran",
        "event_id": EventId::new(NOW, 1), "run_id": run_id(), "run_status": "running", "fired_at": at(0),
    });
    assert_eq!(shown["slots"][0], first);
    first["status"] = json!("late");
    first["late_ms"] = json!(61_007);
    first["scheduled_at"] = json!(at(2));
    first["fires_at"] = json!(at(1));
    assert_eq!(shown["slots"][1], first);
    let told: Vec<_> = shown["slots"].as_array().expect("a list")[2..]
        .iter()
        .map(|slot| {
            assert!(slot.get("run_id").is_none() && slot.get("fired_at").is_none(), "{slot}");
            [&slot["status"], &slot["reason"], &slot["detail"]].map(|value| value.as_str().unwrap_or("-").to_owned())
        })
        .collect();
    let expected = [
        ["skipped", "superseded", "-"],
        ["skipped", "duplicate", "of another"],
        ["due", "-", "-"],
        ["unknown", "expired", "-"],
        ["unknown", "unrecorded", "-"],
    ];
    assert_eq!(told, expected);
    assert_eq!(
        shown["upcoming"],
        json!([{"schedule": "0 * * * *", "scheduled_at": at(1), "fires_at": at(0)}])
    );
    assert_eq!(shown["cursor"], "1750000000000-2");
}

#[actix_web::test]
async fn the_filter_is_passed_on() {
    let server = with_slots(Vec::new()).await;
    let query = "from=1750000000000&until=1750000000009&cursor=1750000000005-1&limit=7";
    assert_eq!(server.get(&format!("{PATH}?{query}")).await.status, 200);
    let id = FunctionId::derive("shop", "shop-charge");
    assert_eq!(server.get(&format!("/api/v1/functions/{id}/slots")).await.status, 200);
    let filters = server.world.with(|world| world.slot_filters.clone());
    let filter = SlotFilter {
        from: Some(NOW),
        until: Some(Timestamp::from_millis(NOW.as_millis() + 9)),
        before: "1750000000005-1".parse().ok(),
        limit: 7,
    };
    let unfiltered = SlotFilter {
        limit: 20,
        ..SlotFilter::default()
    };
    assert_eq!(filters, [(id, filter), (id, unfiltered)]);
}

#[rstest]
#[case("shop-nothing/slots", 404, "CB-1202")]
#[case("shop-charge/slots?limit=101", 400, "CB-1007")]
#[case("shop-charge/slots?cursor=x", 400, "CB-1007")]
#[case("shop-charge/slots?from=soon", 400, "CB-1007")]
#[case("shop-charge/slots?colour=red", 400, "CB-1007")]
#[actix_web::test]
async fn what_makes_no_sense_is_refused(#[case] rest: &str, #[case] status: u16, #[case] code: &str) {
    let server = with_slots(Vec::new()).await;
    let answer = server.get(&format!("/api/v1/functions/{rest}")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (status, &json!(code))
    );
}
