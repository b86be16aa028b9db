//! Layers, and problems told all at once.

use std::io::Write as _;

use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::*;

fn flag(name: &'static str, key: &'static str, values: &[&str]) -> Flag {
    Flag {
        name,
        key,
        values: values.iter().map(ToString::to_string).collect(),
    }
}

fn with_env(variables: &[(&str, &str)]) -> Result<Loaded, Problem> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Mode::Dev, None, variables.collect::<Vec<_>>(), &[])
}

fn file(extension: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(extension).tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
    file
}

fn problems(error: &Problem) -> Vec<String> {
    let list = error.details.as_ref().and_then(serde_json::Value::as_array);
    let texts = list.into_iter().flatten().filter_map(serde_json::Value::as_str);
    texts.map(str::to_owned).collect()
}

#[test]
fn the_defaults_are_valid() {
    let settings = with_env(&[]).expect("valid").settings;
    assert_eq!(settings.api.port, 8288);
    assert_eq!(settings.sdk.poll_interval, Some(Duration::from_secs(5)));
    assert_eq!(settings.retry.interval, None);
    assert!(settings.keys.signing.is_none() && settings.keys.event.is_empty());
}

#[rstest]
#[case("auto", GatewayPort::Next)]
#[case("0", GatewayPort::None)]
#[case("9000", GatewayPort::Fixed(9000))]
fn workers_may_have_a_port(#[case] text: &str, #[case] port: GatewayPort) {
    for variable in ["CALLBOARD__CONNECT__PORT", "INNGEST_CONNECT_GATEWAY_PORT"] {
        let settings = with_env(&[(variable, text)]).expect("valid").settings;
        assert_eq!(settings.connect.port, port);
    }
    let error = with_env(&[("CALLBOARD__CONNECT__PORT", "70000")]).expect_err("no port");
    assert!(
        problems(&error)[0].contains("`auto`, a port, or 0 for none"),
        "{error:?}"
    );
}

#[test]
fn every_default_is_explained() {
    let mut explained = false;
    for line in DEFAULTS.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(explained, "no comment above `{line}`");
        }
        explained = line.starts_with('#');
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = file(
        ".toml",
        "[api]\nport = 1001\naddr = \"127.0.0.1\"\n[limits]\ncalls = 7\n[log]\nlevel = \"warn\"\n",
    );
    let environment = [
        ("INNGEST_PORT".to_owned(), "1002".to_owned()),
        ("CALLBOARD__API__PORT".to_owned(), "1003".to_owned()),
        ("INNGEST_HOST".to_owned(), "::1".to_owned()),
        ("CALLBOARD__LOG__LEVEL".to_owned(), "debug".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    let flags = [flag("--log-level", "log.level", &["trace"])];
    let loaded = load(Mode::Dev, Some(file.path()), environment, &flags).expect("valid");
    assert_eq!(loaded.settings.api.port, 1003);
    assert_eq!(loaded.settings.api.addr, "::1");
    assert_eq!(loaded.settings.limits.calls, 7);
    assert_eq!(loaded.settings.log.level, "trace");
    let origin = |key: &str| {
        let found = loaded.effective.iter().find(|effective| effective.key == key);
        found.expect("a key").origin.clone()
    };
    assert_eq!(
        origin("api.port"),
        Origin::Environment("CALLBOARD__API__PORT".to_owned())
    );
    assert_eq!(origin("api.addr"), Origin::Environment("INNGEST_HOST".to_owned()));
    assert_eq!(origin("limits.calls"), Origin::File(file.path().display().to_string()));
    assert_eq!(origin("log.level"), Origin::Flag("--log-level"));
    assert_eq!(origin("queue.horizon"), Origin::Default);
}

#[test]
fn yaml_says_the_same_as_toml() {
    let file = file(
        ".yaml",
        "api:\n  port: 8080\nsdk:\n  urls: [\"http://a/x\", \"http://b/y\"]\nretry:\n",
    );
    let settings = load(Mode::Dev, Some(file.path()), [], &[]).expect("valid").settings;
    assert_eq!(settings.api.port, 8080);
    assert_eq!(settings.sdk.urls, ["http://a/x", "http://b/y"]);
}

#[test]
fn inherited_names_mean_what_they_meant() {
    let settings = with_env(&[
        ("INNGEST_SDK_URL", "http://a:1/x, http://b:2/y"),
        ("INNGEST_EVENT_KEY", "one,two"),
        ("INNGEST_SIGNING_KEY", "signkey-test-0a0b"),
        ("INNGEST_NO_DISCOVERY", "true"),
        ("INNGEST_POLL_INTERVAL", "60"),
        ("INNGEST_RETRY_INTERVAL", "2"),
        ("INNGEST_SIGNING_KEY_FALLBACK", "signkey-test-0c0d,0e0f"),
        ("LOG_HANDLER", "json"),
        ("INNGEST_VERBOSE", "true"),
        ("INNGEST_DEV", "1"),
    ]);
    let settings = settings.expect("valid").settings;
    assert_eq!(settings.sdk.urls, ["http://a:1/x", "http://b:2/y"]);
    assert_eq!(settings.keys.event.len(), 2);
    assert_eq!(
        settings.keys.signing.expect("a key").expose_secret(),
        "signkey-test-0a0b"
    );
    assert!(!settings.sdk.discovery);
    assert_eq!(settings.sdk.poll_interval, Some(Duration::from_secs(60)));
    assert_eq!(settings.retry.interval, Some(Duration::from_secs(2)));
    assert_eq!(settings.keys.signing_fallbacks.len(), 2);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, "debug");
}

#[test]
fn no_polling_is_no_polling_whatever_the_interval() {
    let settings = with_env(&[("INNGEST_NO_POLL", "1"), ("INNGEST_POLL_INTERVAL", "60")]);
    assert_eq!(settings.expect("valid").settings.sdk.poll_interval, None);
}

#[test]
fn all_problems_are_told_together_with_a_suggestion_where_there_is_one() {
    let file = file(
        ".toml",
        "[api]\nprot = 1\nport = 70000\n[limits]\ncalls = 0\n[zebra]\nstripes = 3\n",
    );
    let environment = [("CALLBOARD__SDK__CALL_TIMEOUT".to_owned(), "soon".to_owned())];
    let error = load(Mode::Dev, Some(file.path()), environment, &[]).expect_err("invalid");
    assert_eq!(error.code, Code::InvalidSettings);
    let problems = problems(&error);
    assert_eq!(problems.len(), 5, "{problems:?}");
    for expected in [
        "did you mean `api.port`?",
        "must be a whole number from 0 to 65535",
        "`limits.calls`",
        "`zebra.stripes`",
        "(environment CALLBOARD__SDK__CALL_TIMEOUT) is `soon`; must be a duration from 1s to 2h",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected} in {problems:?}"
        );
    }
    assert!(
        !problems
            .iter()
            .any(|problem| problem.contains("zebra") && problem.contains("did you mean"))
    );
}

#[rstest]
#[case("CALLBOARD__API__ADDR", "example.com")]
#[case("CALLBOARD__API__PORT", "80.5")]
#[case("CALLBOARD__API__PORT", "-1")]
#[case("CALLBOARD__SDK__URLS", "localhost:3000")]
#[case("CALLBOARD__SDK__DISCOVERY", "perhaps")]
#[case("CALLBOARD__SDK__CALL_TIMEOUT", "3h")]
#[case("CALLBOARD__SDK__CALL_TIMEOUT", "0")]
#[case("CALLBOARD__SDK__CALL_TIMEOUT", "99999999999999999999d")]
#[case("CALLBOARD__RETRY__INTERVAL", "500ms")]
#[case("CALLBOARD__KEYS__SIGNING", "not hex")]
#[case("CALLBOARD__KEYS__SIGNING", "abc")]
#[case("CALLBOARD__KEYS__SIGNING", "signkey-test-")]
#[case("CALLBOARD__LOG__LEVEL", "loud")]
#[case("CALLBOARD__LOG__FORMAT", "xml")]
#[case("CALLBOARD__DATA__DIR", "")]
#[case("CALLBOARD__LIMITS__INTAKE_BYTES", "70000")]
#[case("CALLBOARD__SUPERVISION__BACKOFF_FACTOR", "0.5")]
#[case("CALLBOARD__SUPERVISION__BACKOFF_CAP", "1ms")]
#[case("CALLBOARD__SUPERVISION__MAX_RESTARTS", "0")]
#[case("CALLBOARD__KEYS__SIGNNIG", "0a")]
#[case("INNGEST_SIGNING_KEY_FALLBACK", "0a0b")]
#[case("INNGEST_VERBOSE", "very")]
#[case("CALLBOARD__KEYS__API", "0123456789abcdef,short")]
#[case("CALLBOARD__DATABASE__MAX_CONNECTIONS", "1")]
#[case("CALLBOARD__DATABASE__POOLER", "often")]
#[case("CALLBOARD__REDIS__PREFIX", "a{b}")]
#[case("CALLBOARD__REDIS__SESSION_TTL", "2s")]
#[case("CALLBOARD__REDIS__SESSION_TTL", "16s")]
#[case("CALLBOARD__FETCH__ALLOW", "10.0.0.0/8,10.1.0.0/8")]
#[case("CALLBOARD__FETCH__ALLOW", "example.com")]
#[case("INNGEST_NO_DISCOVERY", "perhaps")]
fn refuses(#[case] variable: &str, #[case] value: &str) {
    let error = with_env(&[(variable, value)]).expect_err("invalid");
    assert_eq!(problems(&error).len(), 1, "{error}");
    assert!(error.message.contains(variable), "{error}");
}

#[rstest]
#[case("CALLBOARD__LOG__LEVEL", "info,callboard=debug")]
#[case("CALLBOARD__LOG__LEVEL", "WARN")]
#[case("CALLBOARD__API__ADDR", "localhost")]
#[case("CALLBOARD__API__ADDR", "[::]")]
#[case("CALLBOARD__RETENTION__EVENTS", "0")]
#[case("CALLBOARD__SDK__URLS", "")]
#[case("CALLBOARD__KEYS__SIGNING", "")]
#[case("CALLBOARD__KEYS__API", "0123456789abcdef,fedcba9876543210")]
#[case("INNGEST_SIGNING_KEY_FALLBACK", "")]
#[case("CALLBOARD__DATABASE__URL", "")]
#[case("CALLBOARD__REDIS__SESSION_TTL", "15s")]
#[case("CALLBOARD__FETCH__ALLOW", "10.1.0.0/16, 10.2.3.4,fd00::/8")]
#[case("INNGEST_BASE_URL", "http://localhost:8288")]
fn accepts(#[case] variable: &str, #[case] value: &str) {
    with_env(&[(variable, value)]).expect("valid");
}

#[test]
fn secrets_do_not_print() {
    let loaded = with_env(&[
        ("INNGEST_SIGNING_KEY", "5ec2e7"),
        ("INNGEST_EVENT_KEY", "5ec2e7,5ec2e7"),
    ])
    .expect("valid");
    assert!(!format!("{loaded:?}").contains("5ec2e7"));
    let shown = |key: &str| {
        let found = loaded.effective.iter().find(|effective| effective.key == key);
        found.expect("a key").value.clone()
    };
    assert_eq!(shown("keys.signing"), "\"***\"");
    assert_eq!(
        with_env(&[])
            .expect("valid")
            .effective
            .iter()
            .find(|e| e.key == "keys.signing")
            .expect("a key")
            .value,
        "\"\""
    );
    let error = with_env(&[("INNGEST_SIGNING_KEY", "s3cret!")]).expect_err("invalid");
    assert!(!format!("{error} {error:?}").contains("s3cret!"));
}

#[rstest]
#[case(".toml", "[api\n")]
#[case(".yaml", "api: [1\n")]
#[case(".json", "{")]
#[case(".ini", "")]
fn a_file_that_can_not_be_read_is_an_error_of_its_own(#[case] extension: &str, #[case] text: &str) {
    let file = file(extension, text);
    let error = load(Mode::Dev, Some(file.path()), [], &[]).expect_err("unreadable");
    assert_eq!(error.code, Code::UnreadableSettings);
    let missing = load(Mode::Dev, Some(Path::new("/nonexistent/callboard.toml")), [], &[]).expect_err("missing");
    assert_eq!(missing.code, Code::UnreadableSettings);
}

fn shown(loaded: &Loaded, key: &str) -> (String, String) {
    let found = loaded.effective.iter().find(|effective| effective.key == key);
    let Effective { value, origin, .. } = found.expect("a key");
    (value.clone(), origin.to_string())
}

fn start(variables: &[(&str, &str)]) -> Result<Loaded, Problem> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Mode::Start, None, variables.collect::<Vec<_>>(), &[])
}

#[test]
fn production_has_defaults_of_its_own_which_everything_else_wins_over() {
    let loaded = start(&[("INNGEST_POLL_INTERVAL", "7"), ("INNGEST_NO_UI", "true")]).expect("valid");
    assert!(!loaded.settings.api.graphql);
    assert_eq!(loaded.settings.mode, Mode::Start);
    assert!(!loaded.settings.sdk.discovery);
    assert_eq!(loaded.settings.sdk.poll_interval, Some(Duration::from_secs(7)));
    let origin = "default of `start`".to_owned();
    assert_eq!(shown(&loaded, "api.addr"), ("\"0.0.0.0\"".to_owned(), origin));
    assert_eq!(shown(&loaded, "api.port"), ("8288".to_owned(), "default".to_owned()));
    let bare = start(&[]).expect("valid").settings;
    assert_eq!((bare.sdk.poll_interval, bare.api.graphql), (None, true));
    assert!(bare.fetch.guard && !with_env(&[]).expect("valid").settings.fetch.guard);
    assert!(!loaded.settings.node.name.is_empty(), "the machine has a name");
}

#[rstest]
#[case("true", true)]
#[case("1", true)]
#[case("false", false)]
#[case("integration", false)]
fn the_variable_of_tests_is_a_switch_or_somebody_elses(#[case] value: &str, #[case] testing: bool) {
    let loaded = start(&[("TEST_MODE", value)]).expect("valid");
    assert_eq!(loaded.settings.api.testing, testing);
}

#[rstest]
#[case(&[], &["signing key", "event key"])]
#[case(&[("INNGEST_SIGNING_KEY", "0a0b")], &["event key"])]
#[case(&[("INNGEST_EVENT_KEY", "one")], &["signing key"])]
#[case(&[("INNGEST_EVENT_KEY", "one"), ("CALLBOARD__KEYS__SIGNING", "0a0b")], &[])]
fn production_needs_keys(#[case] given: &[(&str, &str)], #[case] missing: &[&str]) {
    let checked = start(given).expect("valid").settings.check_keys();
    for what in ["signing key", "event key"] {
        let said = checked.as_ref().err().is_some_and(|problem| {
            assert_eq!(problem.code, Code::KeysRequired);
            problem.message.contains(what)
        });
        assert_eq!(said, missing.contains(&what), "{checked:?}");
    }
    assert_eq!(with_env(given).expect("valid").settings.check_keys(), Ok(()));
}

#[test]
fn database_and_redis_come_together() {
    let database = ("INNGEST_POSTGRES_URI", "postgresql://u:5ec2e7@db/callboard");
    let redis = ("INNGEST_REDIS_URI", "rediss://:5ec2e7@cache:6380");
    let loaded = start(&[database, redis, ("INNGEST_POSTGRES_MAX_OPEN_CONNS", "20")]).expect("valid");
    let Settings {
        database: d, redis: r, ..
    } = &loaded.settings;
    assert_eq!(loaded.settings.check_services(), Ok(()));
    assert_eq!(d.url.as_ref().map(SecretUrl::expose), Some(database.1));
    assert_eq!(r.url.as_ref().map(SecretUrl::expose), Some(redis.1));
    assert_eq!((d.max_connections, r.session_ttl), (20, Duration::from_secs(10)));
    let masked = "\"postgresql://u:***@db/callboard\"".to_owned();
    let origin = "environment INNGEST_POSTGRES_URI".to_owned();
    assert_eq!(shown(&loaded, "database.url"), (masked, origin));
    assert!(!format!("{loaded:?}").contains("5ec2e7"));
    for alone in [database, redis] {
        let settings = start(&[alone]).expect("valid for who needs one of them").settings;
        let error = settings.check_services().expect_err("a server needs both");
        assert!(error.message.contains("set both, or neither"), "{error}");
    }
}

#[rstest]
#[case("host=db user=u password=5ec2e7")]
#[case("mysql://u:5ec2e7@db/x")]
#[case("postgres://u:5ec#2e7@db/x")]
fn a_url_that_is_none_does_not_print(#[case] url: &str) {
    let error = start(&[
        ("CALLBOARD__DATABASE__URL", url),
        ("CALLBOARD__REDIS__URL", "redis://r"),
    ]);
    let error = error.expect_err("invalid");
    assert_eq!(problems(&error).len(), 1, "{error}");
    assert!(error.message.contains("CALLBOARD__DATABASE__URL"), "{error}");
    assert!(!format!("{error} {error:?}").contains("2e7"), "{error}");
}

#[rstest]
#[case(
    ".yaml",
    "sdk-url: [\"http://a/x\"]\nevent-key: one\nno-discovery: true\nno-poll: false\nport: 1001\ntick: 5\n"
)]
#[case(
    ".json",
    r#"{"sdk-url": ["http://a/x"], "event-key": ["one"], "no-discovery": true, "port": 1001, "tick": 5}"#
)]
#[case(
    ".toml",
    "sdk-url = [\"http://a/x\"]\nevent-key = \"one\"\nno-discovery = true\nport = 1001\ntick = 5\n"
)]
fn a_file_of_the_original_server_is_understood(#[case] extension: &str, #[case] text: &str) {
    let file = file(extension, text);
    let loaded = load(Mode::Dev, Some(file.path()), [], &[]).expect("valid");
    let Settings { api, sdk, keys, .. } = &loaded.settings;
    assert_eq!(
        (api.port, &sdk.urls[..], sdk.discovery),
        (1001, &["http://a/x".to_owned()][..], false)
    );
    assert_eq!((keys.event.len(), sdk.poll_interval), (1, Some(Duration::from_secs(5))));
    assert!(
        matches!(&loaded.warnings[..], [one] if one.contains("`tick`")),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn our_names_win_over_inherited_ones_in_a_file_too() {
    let file = file(".yaml", "port: 1001\napi:\n  port: 1002\n");
    let settings = load(Mode::Dev, Some(file.path()), [], &[]).expect("valid").settings;
    assert_eq!(settings.api.port, 1002);
}

#[test]
fn what_has_no_counterpart_is_ignored_with_a_warning() {
    let loaded = with_env(&[
        ("INNGEST_QUEUE_WORKERS", "50"),
        ("INNGEST_DEV", "1"),
        ("INNGEST_TICK", ""),
        ("INNGEST_VERBOSE", "false"),
        ("DEBUG", "*"),
    ]);
    let warnings = loaded.expect("valid").warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("`INNGEST_QUEUE_WORKERS`") && one.contains("`limits.calls`")),
        "{warnings:?}"
    );
}

#[rstest]
#[case(".yaml", "keys:\n  signing: 00112233\n")]
#[case(".toml", "[keys]\nsigning = 11223344\n")]
#[case(".yaml", "keys:\n  event: [1234]\n")]
fn a_key_without_quotes_would_be_another_key(#[case] extension: &str, #[case] text: &str) {
    let file = file(extension, text);
    let error = load(Mode::Dev, Some(file.path()), [], &[]).expect_err("invalid");
    assert!(error.message.contains("must be in quotes"), "{error}");
    assert!(
        !error.message.contains("112233") && !error.message.contains("1234"),
        "{error}"
    );
}

#[rstest]
#[case(".toml", "[keys]\nsigning = 5ec2e7f00d\n")]
#[case(".yaml", "keys:\n  signing: \"5ec2e7f00d\n")]
#[case(".json", "{\"keys\": {\"signing\": 5ec2e7f00d}}")]
fn a_file_that_does_not_parse_is_not_quoted(#[case] extension: &str, #[case] text: &str) {
    let file = file(extension, text);
    let error = load(Mode::Dev, Some(file.path()), [], &[]).expect_err("unreadable");
    assert!(!format!("{error} {error:?}").contains("5ec2e7"), "{error}");
    assert!(error.message.contains("line"), "{error}");
}

#[test]
fn flags_make_a_list_whatever_the_environment_says() {
    let environment = [("INNGEST_EVENT_KEY".to_owned(), "one".to_owned())];
    let flags = [flag("--event-key", "keys.event", &["two", "three"])];
    let settings = load(Mode::Dev, None, environment, &flags).expect("valid").settings;
    assert_eq!(settings.keys.event.len(), 2);
}

#[rstest]
#[case("none", "1m", Some((Policy::Nothing, MINUTE)))]
#[case("last", "1d", Some((Policy::Last, DAY)))]
#[case("All", "90", Some((Policy::All, Duration::from_secs(90))))]
#[case("some", "1h", None)]
#[case("last", "59s", None)]
#[case("last", "25h", None)]
fn what_was_missed_is_made_up_for_as_set(
    #[case] catch_up: &str,
    #[case] window: &str,
    #[case] expected: Option<(Policy, Duration)>,
) {
    let variables = [
        ("CALLBOARD__CRON__CATCH_UP", catch_up),
        ("CALLBOARD__CRON__CATCH_UP_WINDOW", window),
    ];
    let loaded = with_env(&variables).ok().map(|loaded| loaded.settings.cron.catch_up);
    let expected = expected.map(|(policy, window)| CatchUp { policy, window });
    assert_eq!(loaded, expected);
}
