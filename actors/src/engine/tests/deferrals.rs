//! What runs put off until their end.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{DeferralStatus, Target, limits};

fn add(id: &str) -> Value {
    json!({"op": "DeferAdd", "id": id, "displayName": id, "userland": {"id": format!("the {id}")},
        "opts": {"fn_slug": format!("shop-{id}"), "input": {"a": 1}}})
}

fn abort(id: &str) -> Value {
    json!({"op": "DeferAbort", "id": format!("{id}:abort"), "opts": {"target_hashed_id": id, "fn_slug": "f"}})
}

fn sized(id: &str, bytes: usize) -> Value {
    // `{"a":"…"}` has eight bytes beside the text.
    json!({"op": "DeferAdd", "id": id, "opts": {"fn_slug": "f", "input": {"a": "x".repeat(bytes - 8)}}})
}

fn status(case: &Case, id: &str) -> Option<DeferralStatus> {
    Some(case.run.deferrals.get(&StepId::from(id))?.status)
}

/// The slugs for which there is an event.
fn scheduled(case: &Case) -> Vec<String> {
    let events = case.events.iter().filter(|event| event.name == Event::DEFERRED);
    events
        .map(|event| {
            event.body.to_tree()["data"]["_inngest"]["fn_slug"]
                .as_str()
                .expect("a slug")
                .to_owned()
        })
        .collect()
}

#[test]
fn what_is_put_off_starts_when_the_run_ends() {
    let mut case = Case::new();
    case.listens = true;
    let meta = json!({"sessions": {"user": 7}, "propagated_sessions": {"user": "old", "chat": "c"}});
    let mut mail = add("mail");
    mail["opts"]["meta"] = meta;
    let changes = case.ops(
        "start",
        json!([mail, {"op": "RunComplete", "id": "end", "data": "done"}]),
    );
    assert_eq!(case.run.status, RunStatus::Completed);
    let event = case
        .events
        .iter()
        .find(|event| event.name == Event::DEFERRED)
        .expect("an event");
    let own = json!({
        "fn_slug": "shop-mail", "parent_app_id": FunctionId::app_uuid("shop"), "parent_fn_id": case.function.id,
        "parent_fn_slug": "shop-charge", "parent_run_id": case.run.id,
        "parent_defer_span": crate::domain::SpanId::of_deferral(case.run.id, &StepId::from("mail")),
    });
    let body = event.body.to_tree();
    assert_eq!(body["data"], json!({"a": 1, "_inngest": own}));
    assert_eq!(body["meta"], json!({"sessions": {"chat": "c", "user": "7"}}));
    assert_eq!(event.body, Json::from_value(&body).expect("JSON"), "it is canonical");
    let is_routed = |change: &Change| matches!(change, Change::Emit { event: emitted, has_listeners: true } if emitted.id == event.id);
    assert!(changes.iter().any(is_routed));
    let deferral = &case.run.deferrals[&StepId::from("mail")];
    assert_eq!(
        (deferral.status, deferral.event),
        (DeferralStatus::Scheduled, Some(event.id))
    );
    assert_eq!((&*deferral.name, &deferral.input), ("the mail", &None));
}

#[test]
fn it_starts_whatever_the_end_is() {
    for end in 0..4 {
        let mut case = Case::with(function(0), &event(json!({"id": 7})));
        case.ops("start", json!([add("a"), {"op": "StepRun", "id": "s"}]));
        assert_eq!(scheduled(&case), [] as [&str; 0], "not before");
        match end {
            0 => drop(case.returns("discover:s", &json!(null))),
            1 => drop(case.fails("discover:s", false)),
            2 => drop(case.give(Input::Cancelled("enough".to_owned()))),
            _ => drop(case.give(Input::Overflowed)),
        }
        assert!(case.run.status.is_final());
        assert_eq!(scheduled(&case), ["shop-a"]);
    }
}

#[test]
fn what_comes_with_an_error_is_put_off_all_the_same() {
    let mut case = Case::new();
    let error = json!({"op": "StepError", "id": "s", "error": {"message": "m"}});
    case.ops("start", json!([error, add("a")]));
    assert_eq!(
        (case.attempt("start"), status(&case, "a")),
        (1, Some(DeferralStatus::Pending))
    );
    // An opcode that makes no sense fails the attempt, and nothing of it has happened but this.
    case.ops("start", json!([{"op": "Sleep", "id": "t", "name": "soon"}, add("b")]));
    assert_eq!(
        (case.attempt("start"), status(&case, "b")),
        (2, Some(DeferralStatus::Pending))
    );
}

#[test]
fn what_is_known_stays_as_it_is() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([add("a"), add("b"), abort("b"), abort("unknown"), {"op": "StepRun", "id": "s"}]),
    );
    let known = case.run.deferrals.clone();
    assert_eq!(status(&case, "b"), Some(DeferralStatus::Aborted));
    let again = json!({"op": "DeferAdd", "id": "a", "opts": {"fn_slug": "other", "input": {}}});
    case.ops(
        "discover:s",
        json!([again, add("b"), abort("b"), {"op": "StepRun", "id": "t"}]),
    );
    assert_eq!(case.run.deferrals, known);
    case.returns("discover:t", &json!(null));
    assert_eq!(scheduled(&case), ["shop-a"]);
}

#[test]
fn steps_have_ids_of_their_own() {
    let mut case = Case::new();
    case.ops("start", json!([{"op": "StepRun", "id": "a"}, add("b")]));
    case.ops("discover:a", json!([add("a"), {"op": "StepRun", "id": "b", "data": 1}]));
    assert_eq!(status(&case, "a"), Some(DeferralStatus::Pending));
    assert_eq!(case.memo("b").as_deref(), Some(r#"{"data":1}"#));
    assert!(!case.run.plan_only, "it is no parallel step");
}

#[test]
fn limits_are_soft() {
    let mut case = Case::new();
    let half = limits::DEFERRAL_INPUT_BYTES / 2;
    let bad = json!({"op": "DeferAdd", "id": "bad", "opts": {"fn_slug": "f", "input": 7}});
    let nameless = json!({"op": "DeferAdd", "id": "nameless", "opts": {"input": {}}});
    let unnamed = json!({"op": "DeferAdd", "opts": {"fn_slug": "f", "input": {}}});
    let step = json!({"op": "StepRun", "id": "s"});
    case.ops(
        "start",
        json!([
            sized("1", half),
            sized("2", half),
            sized("3", 9),
            bad,
            nameless,
            unnamed,
            step
        ]),
    );
    let is = |id: &str| status(&case, id);
    assert_eq!(
        (is("1"), is("2")),
        (Some(DeferralStatus::Pending), Some(DeferralStatus::Pending))
    );
    assert_eq!(
        (is("3"), is("bad")),
        (Some(DeferralStatus::Rejected), Some(DeferralStatus::Rejected))
    );
    assert_eq!((is("nameless"), case.run.deferrals.len()), (None, 4));
    // What is taken back gives its room back.
    case.ops(
        "discover:s",
        json!([abort("1"), sized("4", half), {"op": "StepRun", "id": "t"}]),
    );
    assert_eq!(status(&case, "4"), Some(DeferralStatus::Pending));
    let many: Vec<Value> = (10..40)
        .map(|id| add(&id.to_string()))
        .chain([json!({"op": "StepRun", "id": "u"})])
        .collect();
    case.ops("discover:t", json!(many));
    assert_eq!(case.run.deferrals.len(), limits::DEFERRALS_PER_RUN);
    assert_eq!(status(&case, "25"), None, "nothing is remembered of what is too many");
    case.returns("discover:u", &json!(null));
    assert_eq!(case.run.status, RunStatus::Completed);
}

#[test]
fn an_answer_of_nothing_else_has_the_app_called_again_once() {
    let mut case = Case::new();
    case.ops("start", json!([add("a")]));
    assert_eq!((case.keys(), case.attempt("start")), (keys(["start"]), 0));
    case.ops("start", json!([add("a")]));
    assert_eq!(case.attempt("start"), 1, "it says nothing new: a failed attempt");
}

#[test]
fn the_app_is_told_what_is_known() {
    let mut case = Case::new();
    case.ops(
        "start",
        json!([add("b"), add("a"), abort("a"), {"op": "StepRun", "id": "s"}]),
    );
    let Next::Call(call) = dispatched(&case, "discover:s") else {
        panic!("a call")
    };
    assert_eq!(call.target, Target::Discovery);
    assert_eq!(call.defers, [(StepId::from("a"), false), (StepId::from("b"), true)]);
}

#[test]
fn reports_put_off_as_well() {
    let mut case = Case::new();
    let call = CallRef::new(&job_of(&case, "start"), RequestId::first_at(NOW));
    let report = |ops: Value| {
        let ops = Opcode::parse_reply(ops.to_string().as_bytes()).expect("valid opcodes");
        Report {
            call: call.clone(),
            ops,
        }
    };
    let lone = report(json!([add("a")]));
    assert!(!is_known(&case.run, &lone));
    case.give(Input::Reported(Box::new(lone.clone())));
    assert_eq!(status(&case, "a"), Some(DeferralStatus::Pending));
    assert!(is_known(&case.run, &lone));
    assert!(case.give(Input::Reported(Box::new(lone))).is_empty());
    case.give(Input::Reported(Box::new(report(
        json!([abort("a"), {"op": "StepRun", "id": "s"}]),
    ))));
    assert_eq!(status(&case, "a"), Some(DeferralStatus::Aborted));
    assert!(case.memo("s").is_some());
}

#[test]
fn lifecycle_events_carry_the_sessions_of_what_they_are_about() {
    let incoming = json!({"name": "shop/order.paid", "data": {"meta": 1}, "meta": {"sessions": {"user": "u"}}});
    let incoming = serde_json::from_value(incoming).expect("an event");
    let event = Event::accept(incoming, EventId::new(NOW, 7), NOW).expect("a valid event");
    let mut case = Case::with(function(0), &event);
    case.returns("start", &json!(null));
    let finished = case.events[0].body.to_tree();
    assert_eq!(finished["meta"], json!({"sessions": {"user": "u"}}));
    assert_eq!(
        case.events[0].body,
        Json::from_value(&finished).expect("JSON"),
        "it is canonical"
    );
    let mut plain = Case::new();
    plain.returns("start", &json!(null));
    assert_eq!(plain.events[0].body.to_tree().get("meta"), None);
}

#[test]
fn sessions_of_an_invoke_go_by_the_rules_of_events() {
    let invoke = |meta: Value| {
        let payload = json!({"data": {}, "meta": meta});
        json!([{"op": "InvokeFunction", "id": "i", "opts": {"function_id": "shop-other", "payload": payload}}])
    };
    let mut case = Case::new();
    let inherited = json!({"user": "old", "chat": 7});
    case.ops(
        "start",
        invoke(json!({"sessions": {"user": "new"}, "propagated_sessions": inherited})),
    );
    let invoked = case.events[0].body.to_tree();
    assert_eq!(invoked["meta"], json!({"sessions": {"chat": "7", "user": "new"}}));
    let mut case = Case::new();
    case.ops("start", invoke(json!({"sessions": {"user": true}})));
    assert_eq!((case.attempt("start"), case.events.len()), (1, 0), "a failed attempt");
}

/// One opcode of a random history.
#[derive(Debug, Clone)]
enum Said {
    Add(u8),
    Abort(u8),
}

/// What a reader of the rules would keep: for each id its status, in the order of first mention.
#[derive(Debug, Default)]
struct Model(Vec<(u8, DeferralStatus)>);

impl Model {
    fn hear(&mut self, said: &Said) {
        match said {
            Said::Add(id) if self.0.iter().all(|(known, _)| known != id) => {
                if self.0.len() < limits::DEFERRALS_PER_RUN {
                    self.0.push((*id, DeferralStatus::Pending));
                }
            }
            Said::Add(_) => {}
            Said::Abort(id) => {
                let known = self.0.iter_mut().find(|(known, _)| known == id);
                if let Some((_, status @ DeferralStatus::Pending)) = known {
                    *status = DeferralStatus::Aborted;
                }
            }
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![3 => (0_u8..30).prop_map(Said::Add), 1 => (0_u8..30).prop_map(Said::Abort)]
}

proptest! {
    /// Whether by answers, by reports or by answers that fail: what is pending at the end starts, in order, and nothing else.
    #[test]
    fn what_starts_is_what_a_reader_of_the_rules_expects(
        rounds in prop::collection::vec((prop::collection::vec(said(), 0..12), 0_u8..3), 0..8),
        end in 0_u8..3,
    ) {
        let mut case = Case::with(function(20), &event(json!({"id": 7})));
        let mut model = Model::default();
        for (round, (all, way)) in rounds.iter().enumerate() {
            let key = case.run.jobs.keys().next().expect("it is open").to_string();
            let ops = all.iter().map(|said| match said {
                Said::Add(id) => add(&id.to_string()),
                Said::Abort(id) => abort(&id.to_string()),
            });
            let last = match way {
                0 => json!({"op": "StepError", "id": "flaky", "error": {"message": "m"}}),
                _ => json!({"op": "StepRun", "id": format!("s{round}")}),
            };
            let ops = json!(ops.chain([last]).collect::<Vec<_>>());
            if *way == 2 {
                let replied = case.replied(&key, steps(2, &ops));
                let Reply::Steps { ops, .. } = replied.reply.clone() else { panic!("steps") };
                case.give(Input::Reported(Box::new(Report { call: replied.call(), ops })));
            } else {
                case.ops(&key, ops);
            }
            all.iter().for_each(|said| model.hear(said));
            let known = case.run.deferrals.values().map(|known| (known.id.to_string(), known.status));
            let expected = model.0.iter().map(|(id, status)| (id.to_string(), *status));
            prop_assert_eq!(known.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        let key = case.run.jobs.keys().next().expect("it is open").to_string();
        match end {
            0 => drop(case.returns(&key, &json!(null))),
            1 => drop(case.fails(&key, true)),
            _ => drop(case.give(Input::Cancelled(String::new()))),
        }
        let pending = model.0.iter().filter(|(_, status)| *status == DeferralStatus::Pending);
        let expected: Vec<_> = pending.map(|(id, _)| format!("shop-{id}")).collect();
        prop_assert_eq!(scheduled(&case), expected);
    }
}
