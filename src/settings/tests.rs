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
    load(None, variables.collect::<Vec<_>>(), &[])
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
    let loaded = load(Some(file.path()), environment, &flags).expect("valid");
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
    let settings = load(Some(file.path()), [], &[]).expect("valid").settings;
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
        ("LOG_HANDLER", "json"),
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
    assert_eq!(settings.log.format, LogFormat::Json);
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
    let error = load(Some(file.path()), environment, &[]).expect_err("invalid");
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
#[case(".json", "{}")]
fn a_file_that_can_not_be_read_is_an_error_of_its_own(#[case] extension: &str, #[case] text: &str) {
    let file = file(extension, text);
    let error = load(Some(file.path()), [], &[]).expect_err("unreadable");
    assert_eq!(error.code, Code::UnreadableSettings);
    let missing = load(Some(Path::new("/nonexistent/callboard.toml")), [], &[]).expect_err("missing");
    assert_eq!(missing.code, Code::UnreadableSettings);
}
