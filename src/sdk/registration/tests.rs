//! Tables of what SDKs and people register.

use std::time::Duration;

use callboard_actors::domain::{Function, Scope, SingletonMode, Trigger};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::sdk::testing::fixture;

const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const DEFAULT_URL: &str = "http://127.0.0.1:3000/api/inngest";

fn document(extra: &Value) -> Value {
    let mut document = json!({
        "id": "shop-ship", "name": "Ship", "triggers": [{"event": "shop/paid"}],
        "steps": {"step": {"id": "step", "name": "step", "runtime": {"type": "http", "url":
            "http://127.0.0.1:3000/api/inngest?stepId=step&fnId=shop-ship"}}},
    });
    let (Value::Object(document_map), Value::Object(extra)) = (&mut document, extra) else {
        panic!("objects");
    };
    document_map.extend(extra.clone());
    document
}

fn request(functions: &Value) -> Value {
    json!({"url": DEFAULT_URL, "appName": "shop", "sdk": "js:v4.18.1", "framework": "express", "functions": functions})
}

fn register(extra: &Value) -> Result<Function, Vec<Problem>> {
    let body = request(&json!([document(extra)])).to_string();
    match parse(body.as_bytes(), NOW) {
        Ok(mut registration) => Ok(registration.functions.remove(0)),
        Err(RegistrationError::Invalid(problems)) => Err(problems),
        Err(other) => panic!("{other}"),
    }
}

fn accepted(extra: &Value) -> Function {
    register(extra).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[rstest]
#[case("ts4", "js:v4.24.0")]
#[case("ts3", "js:v3.54.2")]
#[case("python", "py:v0.5.19")]
fn real_apps_register(#[case] sdk: &str, #[case] version: &str) {
    for name in ["register", "register-signed"] {
        let body = fixture(sdk, name)["body"].clone();
        let functions = body["functions"].as_array().map_or(0, Vec::len);
        assert!(functions > 60);
        let body = body.to_string();
        let registration = parse(body.as_bytes(), NOW).expect("valid");
        assert_eq!(
            (&*registration.app.name, registration.functions.len()),
            (sdk, functions)
        );
        assert_eq!(registration.app.sdk, version);
        assert_eq!(registration.app.url, "http://localhost:3000/api/inngest");
        let find = |name: &str| {
            let slug = format!("{sdk}-{name}");
            let mut found = registration.functions.iter().filter(|function| *function.slug == *slug);
            found.next().unwrap_or_else(|| panic!("{slug}"))
        };
        let hello = find("hello");
        assert_eq!((hello.retries, hello.max_attempts()), (4, 5));
        assert_eq!(
            hello.config.to_tree()["steps"],
            json!([{"id": "step", "name": "step",
                "uri": format!("http://localhost:3000/api/inngest?fnId={sdk}-hello&stepId=step")}])
        );
        assert_eq!(find("concurrency").flow.concurrency[0].limit, 1);
        assert_eq!(
            find("idempotency").flow.rate_limit.as_ref().map(|limit| limit.limit),
            Some(1)
        );
        assert_eq!(find("batch").flow.batch.as_ref().map(|batch| batch.max_size), Some(3));
        assert_eq!(find("several-triggers").triggers.len(), 3);
        assert_eq!(
            find("timeout-finish").flow.timeouts.finish,
            Some(Duration::from_secs(2))
        );
    }
}

/// The Go SDK: no `type`, another query, zero values and nulls, a capital letter, retries beside the steps.
#[test]
fn the_go_spelling_is_understood() {
    let body = json!({
        "url": "http://0.0.0.0:3000/api/inngest", "v": "1", "deployType": "ping", "sdk": "go:v0.15.1",
        "framework": "", "appName": "shop", "appVersion": "", "headers": {"env": "", "platform": ""},
        "capabilities": {"in_band_sync": "v1"}, "idempotencyKey": "x",
        "functions": [{
            "name": "Ship order", "id": "shop-ship", "priority": null, "concurrency": null, "idempotency": null,
            "retries": 2, "cancel": null, "debounce": null, "timeouts": null, "throttle": null, "rateLimit": null,
            "batchEvents": null, "Singleton": {"mode": "cancel", "key": null}, "checkpoint": null,
            "triggers": [{"event": "a/b", "expression": null}, {"cron": "0 9 * * 1"}],
            "steps": {"step": {"id": "step", "name": "Ship order", "retries": null,
                "runtime": {"url": "http://0.0.0.0:3000/api/inngest?fnId=shop-ship&step=step"}}},
        }],
    });
    let registration = parse(body.to_string().as_bytes(), NOW).expect("valid");
    let function = &registration.functions[0];
    assert_eq!(function.retries, 2);
    assert_eq!(
        function.url,
        "http://localhost:3000/api/inngest?fnId=shop-ship&step=step"
    );
    let singleton = function.flow.singleton.as_ref().expect("a singleton");
    assert_eq!((singleton.mode, &singleton.key), (SingletonMode::Cancel, &None));
    assert_eq!((registration.app.framework, registration.app.version), (None, None));
    let shown = function.config.to_tree();
    assert_eq!(shown["triggers"], json!([{"event": "a/b"}, {"cron": "0 9 * * 1"}]));
    assert_eq!(shown["steps"][0].get("retries"), None);
    assert_eq!(shown["slug"], json!("shop-ship"));
}

#[rstest]
#[case(json!({}), 4)]
#[case(json!({"retries": 0}), 0)]
#[case(json!({"retries": 99}), 20)]
#[case(json!({"retries": -1}), 0)]
#[case(json!({"retries": null}), 4)]
fn retries_are_clamped(#[case] extra: Value, #[case] retries: u32) {
    assert_eq!(accepted(&extra).retries, retries);
}

#[test]
fn the_steps_retries_win_and_are_shown() {
    let function = accepted(
        &json!({"retries": 7, "steps": {"step": {"name": "step", "retries": {"attempts": 2},
        "runtime": {"url": "https://h:443/x?probe=a&deployId=1"}}}}),
    );
    assert_eq!((function.retries, function.url.as_str()), (2, "https://h/x"));
    assert_eq!(
        function.config.to_tree()["steps"],
        json!([{"id": "step", "name": "step", "uri": "https://h/x", "retries": {"attempts": 2}}])
    );
}

/// Limit, key and scope of each limit, then of the limit on runs.
#[rstest]
#[case(json!(5), &[(5, None, Scope::Fn)], None)]
#[case(json!({"limit": 5}), &[(5, None, Scope::Fn)], None)]
#[case(json!([{"limit": 9, "key": ""}, {"limit": 5, "key": "'k'", "scope": "account"}]),
    &[(5, Some("'k'"), Scope::Account), (9, None, Scope::Fn)], None)]
#[case(json!({"step": [{"limit": 3}], "fn": [{"limit": 1, "key": "event.data.a"}]}),
    &[(3, None, Scope::Fn)], Some((1, Some("event.data.a"), Scope::Fn)))]
#[case(json!({"fn": 2}), &[], Some((2, None, Scope::Fn)))]
#[case(json!(0), &[], None)]
#[case(json!([]), &[], None)]
#[case(json!(null), &[], None)]
fn concurrency_in_its_four_forms(
    #[case] value: Value,
    #[case] steps: &[(u32, Option<&str>, Scope)],
    #[case] runs: Option<(u32, Option<&str>, Scope)>,
) {
    let flow = accepted(&json!({"concurrency": value})).flow;
    let found: Vec<_> = flow
        .concurrency
        .iter()
        .map(|l| (l.limit, l.key.as_deref(), l.scope))
        .collect();
    assert_eq!(found, steps);
    assert_eq!(
        flow.run_concurrency
            .as_ref()
            .map(|l| (l.limit, l.key.as_deref(), l.scope)),
        runs
    );
}

#[test]
fn idempotency_replaces_a_rate_limit() {
    let flow = accepted(&json!({"idempotency": "event.data.id", "rateLimit": {"limit": 9, "period": "1m"}})).flow;
    let limit = flow.rate_limit.expect("a limit");
    assert_eq!((limit.limit, limit.period), (1, Duration::from_secs(86_400)));
    assert_eq!(limit.key.as_deref(), Some("event.data.id"));
}

#[test]
fn what_the_original_server_does_not_check_is_accepted() {
    let flow = accepted(
        &json!({"throttle": {"limit": 0, "period": "1m"}, "timeouts": {"start": "soon", "finish": "1h"},
        "debounce": {"period": "1s", "timeout": "later", "key": ""}}),
    )
    .flow;
    assert_eq!(flow.throttle.map(|throttle| throttle.limit), Some(1));
    assert_eq!(
        (flow.timeouts.start, flow.timeouts.finish),
        (None, Some(Duration::from_secs(3600)))
    );
    assert_eq!(
        flow.debounce.map(|debounce| (debounce.timeout, debounce.key)),
        Some((None, None))
    );
}

#[test]
fn cron_with_jitter() {
    let function = accepted(&json!({"triggers": [{"cron": "TZ=Europe/Paris 0 9 * * 1", "jitter": "30s"}]}));
    assert_eq!(
        function.triggers,
        [Trigger::Cron {
            cron: "TZ=Europe/Paris 0 9 * * 1".to_owned(),
            jitter: Some(Duration::from_secs(30))
        }]
    );
}

fn triggers(count: usize) -> Value {
    (0..count)
        .map(|n| json!({"event": format!("a/{n}")}))
        .collect::<Vec<_>>()
        .into()
}

#[rstest]
#[case(json!({"name": ""}), None, "A function name is required")]
#[case(json!({"steps": {}}), None, "Functions must contain one step")]
#[case(json!({"steps": {"a": {}, "b": {}}}), None, "Functions must contain one step")]
#[case(json!({"steps": {"step": {"runtime": {"url": "http://h/"}}}}), None, "All steps must have a name")]
#[case(json!({"steps": {"step": {"name": "s", "runtime": {"url": "ftp://h/"}}}}), None, "Non-supported step schema: ftp")]
#[case(json!({"steps": {"step": {"name": "s"}}}), None, "No SDK URL provided for function 'Ship'")]
#[case(json!({"triggers": triggers(11)}), None, "This function exceeds the max number of triggers: 10")]
#[case(json!({"triggers": [{"event": "a"}, {"event": "a"}]}), None, "duplicate trigger event: a")]
#[case(json!({"triggers": [{"cron": "* * * * *"}, {"cron": "* * * * *"}]}), None, "duplicate trigger cron: * * * * *")]
#[case(json!({"triggers": [{"cron": "* * * * *"}, {"cron": "* * * * *", "jitter": "5s"}]}), None,
    "duplicate cron expression: * * * * *")]
#[case(json!({"triggers": [{}]}), None, "A trigger must specify an event or a cron schedule")]
#[case(json!({"triggers": [{"event": "a", "cron": "* * * * *"}]}), None, "not both")]
#[case(json!({"triggers": [{"event": ""}]}), None, "An event trigger must specify an event name")]
#[case(json!({"triggers": [{"event": "x".repeat(256)}]}), Some("event_name_invalid"), "longer")]
#[case(json!({"triggers": [{"event": "a*b"}]}), Some("event_name_invalid"), "'*'")]
#[case(json!({"triggers": [{"event": "*"}]}), Some("event_name_invalid"), "'*'")]
#[case(json!({"triggers": [{"cron": "0 ".repeat(200)}]}), Some("schedule_invalid"), "longer")]
#[case(json!({"triggers": [{"cron": "@daily"}]}), None, "'@daily' isn't a valid cron schedule")]
#[case(json!({"triggers": [{"cron": "* * * * *", "jitter": "6m"}]}), None, "between 1s (min) and 5m (max)")]
#[case(json!({"triggers": [{"cron": "* * * * *", "jitter": "-1s"}]}), None, "between 1s (min) and 5m (max)")]
#[case(json!({"triggers": [{"cron": "* * * * *", "jitter": "soon"}]}), None, "between 1s (min) and 5m (max)")]
#[case(json!({"triggers": [{"event": "a", "expression": "event.data.("}]}), None, "invalid trigger expression on 'a': ")]
#[case(json!({"concurrency": [{"limit": 1}, {"limit": 2}, {"limit": 3}]}), Some("concurrency_limit_invalid"), "2")]
#[case(json!({"concurrency": {"limit": 1, "scope": "env"}}), None, "key must be specified")]
#[case(json!({"concurrency": {"limit": 1, "scope": "moon"}}), None, "unknown concurrency scope: moon")]
#[case(json!({"concurrency": {"fn": [{"limit": 1}, {"limit": 2}]}}), Some("concurrency_limit_invalid"), "1")]
#[case(json!({"concurrency": {"fn": [{"limit": 0}]}}), Some("concurrency_limit_invalid"), "greater than 0")]
#[case(json!({"concurrency": -1}), Some("concurrency_limit_invalid"), "-1")]
#[case(json!({"batchEvents": {"maxSize": 1, "timeout": "5s"}}), Some("batch_size_invalid"),
    "batch size cannot be smaller than 2: 1")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "500ms"}}), Some("batch_timeout_invalid"), "500ms")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "soon"}}), Some("batch_timeout_invalid"), "soon")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s", "key": "("}}), Some("batch_key_expression_invalid"), "")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s", "if": "("}}), Some("batch_if_expression_invalid"), "")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s"}, "cancel": [{"event": "a"}]}), Some("combo_unsupported"), "cancel")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s"}, "debounce": {"period": "5s"}}), Some("combo_unsupported"), "debounce")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s"}, "singleton": {"mode": "skip"}}), Some("combo_unsupported"), "singleton")]
#[case(json!({"batchEvents": {"maxSize": 2, "timeout": "5s"}, "priority": {"run": "1"}}), None, "priority")]
#[case(json!({"priority": {"run": "("}}), None, "Priority.Run expression is invalid: ")]
#[case(json!({"cancel": triggers(6)}), None, "This function exceeds the max number of cancellation events: 5")]
#[case(json!({"cancel": [{"event": "a", "if": "size(async.data) > 1"}]}), None, "Cancellation expression is invalid: ")]
#[case(json!({"cancel": [{"if": "true"}]}), None, "event name")]
#[case(json!({"debounce": {"period": "500ms"}}), None, "168h0m0s")]
#[case(json!({"debounce": {"period": "8d"}}), None, "168h0m0s")]
#[case(json!({"debounce": {}}), None, "168h0m0s")]
#[case(json!({"debounce": {"period": "5s", "key": "("}}), None, "Debounce expression is invalid: ")]
#[case(json!({"rateLimit": {"limit": 0, "period": "1m"}}), None, "limit must be greater than 0")]
#[case(json!({"rateLimit": {"limit": 1, "period": "25h"}}), None, "24h")]
#[case(json!({"rateLimit": {"limit": 1}}), None, "period")]
#[case(json!({"rateLimit": {"limit": 1, "period": "1m", "key": "("}}), None, "Rate limit key is invalid: ")]
#[case(json!({"throttle": {"limit": 1, "period": "often"}}), None, "invalid throttle period 'often'")]
#[case(json!({"singleton": {"mode": "perhaps"}}), None, "unknown singleton mode: perhaps")]
#[case(json!({"idempotency": "("}), None, "Idempotency expression is invalid: ")]
#[case(json!({"triggers": "a"}), None, "`triggers` must be an array")]
#[case(json!({"retries": "many"}), None, "`retries` must be a whole number")]
fn refuses(#[case] extra: Value, #[case] code: Option<&str>, #[case] message: &str) {
    let problems = register(&extra).expect_err("refused");
    assert_eq!(problems.len(), 1, "one mistake is one problem: {problems:?}");
    assert_eq!(problems[0].code, code, "{problems:?}");
    assert!(problems[0].message.contains(message), "{problems:?}");
}

#[test]
fn all_problems_of_all_functions_are_reported_together() {
    let bad =
        document(&json!({"triggers": [{"event": "a*b"}], "debounce": {"period": "x"}, "rateLimit": {"limit": 0}}));
    let unnamed = json!({"steps": {}});
    let body = request(&json!([bad, document(&json!({})), unnamed, 7])).to_string();
    let error = parse(body.as_bytes(), NOW).expect_err("refused");
    assert_eq!(error.code(), Some("config_invalid"));
    assert!(error.to_string().starts_with("At least one function is invalid"));
    let RegistrationError::Invalid(problems) = error else {
        panic!("{error}");
    };
    let of = |name: &str| problems.iter().filter(|p| p.function.as_deref() == Some(name)).count();
    assert_eq!(
        (of("shop-ship"), of("functions[2]"), of("functions[3]")),
        (5, 2, 1),
        "{problems:?}"
    );
}

#[rstest]
#[case("", RegistrationError::Syntax(String::new()))]
#[case("[]", RegistrationError::Syntax(String::new()))]
#[case("{}", RegistrationError::NoApp)]
#[case(r#"{"appname":" "}"#, RegistrationError::NoApp)]
fn refuses_bodies(#[case] body: &str, #[case] expected: RegistrationError) {
    let error = parse(body.as_bytes(), NOW).expect_err("refused");
    assert_eq!(
        std::mem::discriminant(&error),
        std::mem::discriminant(&expected),
        "{error}"
    );
}

#[test]
fn an_app_may_be_empty() {
    let registration = parse(
        br#"{"appName":"shop","url":"http://h:80/x?b=2&a=1#y","functions":null}"#,
        NOW,
    )
    .expect("valid");
    assert_eq!(registration.app.url, "http://h/x?a=1&b=2");
    assert!(registration.functions.is_empty() && !registration.keep_others);
}

#[test]
fn the_checksum_sees_what_the_app_says_of_itself_only() {
    let checksum = |extra: Value| {
        let mut body = request(&json!([document(&json!({}))]));
        body.as_object_mut()
            .expect("object")
            .extend(extra.as_object().expect("object").clone());
        parse(body.to_string().as_bytes(), NOW).expect("valid").app.checksum
    };
    let plain = checksum(json!({}));
    assert_eq!(plain.len(), 64);
    assert_eq!(
        checksum(json!({"featureObservations": {"a": 1}, "deployId": "7"})),
        plain
    );
    assert_ne!(checksum(json!({"appVersion": "2"})), plain);
}

#[test]
fn a_missing_id_is_made_from_the_name() {
    let function = accepted(&json!({"id": "", "name": "  Ship: the Order! (2)"}));
    assert_eq!(&*function.slug, "ship-the-order-2");
}

fn by_hand(body: &Value) -> Result<Registration, RegistrationError> {
    parse_own(body.to_string().as_bytes(), DEFAULT_URL, NOW)
}

#[test]
fn functions_by_hand_belong_to_the_default_url() {
    let body = json!({"functions": [{"id": "hello-world", "name": "Hello World Function",
        "triggers": [{"event": "user.signup"}, {"event": "*"}]}]});
    let registration = by_hand(&body).expect("valid");
    assert!(registration.keep_others);
    assert_eq!(&*registration.app.name, DEFAULT_APP);
    assert_eq!(registration.app.url, "http://localhost:3000/api/inngest");
    let function = &registration.functions[0];
    assert_eq!(
        (&*function.slug, function.name.as_str()),
        ("hello-world", "Hello World Function")
    );
    assert_eq!(
        function.url,
        "http://localhost:3000/api/inngest?fnId=hello-world&stepId=step"
    );
    assert_eq!(function.triggers.len(), 2);
    assert_eq!(function.config.to_tree()["steps"][0]["uri"], json!(function.url));
}

#[test]
fn functions_by_hand_may_name_app_and_url() {
    let body = json!({"app": "shop", "url": "https://h/in", "functions": [
        {"id": "a"}, {"id": "b", "url": "http://other:9/x", "retries": 1, "triggers": [{"cron": "* * * * *"}]}]});
    let registration = by_hand(&body).expect("valid");
    let [a, b] = &registration.functions[..] else {
        panic!("two functions");
    };
    assert_eq!(
        (&*a.slug, a.name.as_str(), a.url.as_str()),
        ("shop-a", "a", "https://h/in?fnId=shop-a&stepId=step")
    );
    assert_eq!(
        (b.url.as_str(), b.retries),
        ("http://other:9/x?fnId=shop-b&stepId=step", 1)
    );
}

#[rstest]
#[case(json!({"functions": []}), "at least one")]
#[case(json!({"functions": [{"id": "a"}], "fnuctions": 1}), "unknown field `fnuctions`")]
#[case(json!({"functions": [{"id": "a", "trigers": []}]}), "a: unknown field `trigers`")]
#[case(json!({"functions": [{"id": "a", "triggers": [{"evnt": "x", "event": "y"}]}]}), "unknown field `triggers.evnt`")]
#[case(json!({"functions": [{"name": "a"}]}), "functions[0]: `id` is required")]
#[case(json!({"functions": [{"id": "a b"}]}), "white space")]
#[case(json!({"functions": [{"id": "a"}, {"id": "a"}]}), "more than one function has this id")]
#[case(json!({"functions": "a"}), "`functions` must be an array")]
#[case(json!({"functions": [{"id": "a"}], "url": "nonsense"}), "is not valid")]
#[case(json!({"functions": [{"id": "a"}], "app": 7}), "`app` must be a string")]
fn mistakes_by_hand_are_named(#[case] body: Value, #[case] message: &str) {
    let error = by_hand(&body).expect_err("refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[rstest]
#[case(
    "http://127.0.0.1:3000/a?z=1&deployId=2&b=%20c&probe=trust",
    "http://localhost:3000/a?b=+c&z=1"
)]
#[case("http://0.0.0.0/", "http://localhost/")]
#[case("https://h:443/a", "https://h/a")]
#[case("http://h:443/a", "http://h:443/a")]
#[case("http://[::1]:3000/a", "http://[::1]:3000/a")]
#[case("wss://h/x", "wss://h/x")]
#[case(" not a url ", "not a url")]
fn urls_have_one_spelling(#[case] url: &str, #[case] expected: &str) {
    assert_eq!(normalise(url), expected);
    assert_eq!(normalise(expected), expected);
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9/*.: ()-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop::sample::select(vec![
            "event",
            "cron",
            "jitter",
            "expression",
            "limit",
            "key",
            "period",
            "scope",
            "step",
            "fn",
            "name",
            "runtime",
            "url",
            "retries",
            "attempts",
            "timeout",
            "maxSize",
            "mode",
            "run",
            "if",
            "id",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, NOW);
        let _ = parse_own(&body, DEFAULT_URL, NOW);
    }

    #[test]
    fn no_shape_panics(
        key in prop::sample::select(vec![
            "id", "name", "triggers", "steps", "retries", "concurrency", "batchEvents", "idempotency", "rateLimit",
            "throttle", "debounce", "priority", "timeouts", "cancel", "singleton",
        ]),
        value in anything(),
    ) {
        let _ = register(&json!({key: value}));
        let _ = by_hand(&json!({"functions": [{"id": "a", key: value}]}));
        let _ = by_hand(&json!({"functions": value}));
    }

    #[test]
    fn one_spelling_is_stable(url in "(http|https|ws)://[a-z0-9.]{1,8}(:[0-9]{1,4})?/[a-z?&=#%]{0,12}") {
        let once = normalise(&url);
        prop_assert_eq!(normalise(&once), once);
    }
}
