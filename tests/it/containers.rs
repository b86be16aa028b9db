//! What makes containers of the server, as far as it can be checked without an engine: the files agree with each other, with
//! the settings and with the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callboard::cli::Cli;
use callboard::settings::{self, Mode, Settings};
use clap::Parser as _;
use config::{Config, File, FileFormat};
use rstest::rstest;
use serde_json::Value;

use crate::support::command::{callboard, callboard_with, stderr, stdout};
use crate::support::fake::{FakeApp, Reply};
use crate::support::server::Server;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Lines without comments and without empty ones; those that end with a backslash together with the next.
fn instructions(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The arguments of each instruction of this name in the Dockerfile.
fn dockerfile(name: &str) -> Vec<String> {
    let found = instructions(&text("Dockerfile")).into_iter().filter_map(|line| {
        let (instruction, arguments) = line.split_once(' ')?;
        (instruction == name).then(|| arguments.trim().to_owned())
    });
    found.collect()
}

/// A list in the exec form, without the word before it.
fn exec(arguments: &str) -> Vec<String> {
    let list = &arguments[arguments.find('[').expect("the exec form")..];
    serde_json::from_str(list).expect("a list of texts")
}

/// What the build copies from the repository.
fn copied() -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    for arguments in dockerfile("COPY") {
        let words: Vec<_> = arguments.split_whitespace().collect();
        if words[0].starts_with("--from=") {
            continue;
        }
        sources.extend(words[..words.len() - 1].iter().map(ToString::to_string));
    }
    sources
}

fn compose() -> Value {
    let source = File::from_str(&text("compose.yaml"), FileFormat::Yaml);
    let parsed = Config::builder().add_source(source).build().expect("YAML");
    parsed.try_deserialize().expect("what YAML has, JSON has")
}

/// The names in `.env.example`.
fn documented() -> BTreeSet<String> {
    let lines = instructions(&text(".env.example")).into_iter();
    let names = lines.map(|line| line.split_once('=').expect("NAME=value").0.to_owned());
    names.collect()
}

/// The names of all `${NAME…}` in this text.
fn interpolated(text: &str) -> BTreeSet<String> {
    let after = text.split("${").skip(1);
    let names = after.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next());
    names.flatten().map(str::to_owned).collect()
}

/// With a word for every `${NAME:?…}`, and with what `${NAME:-…}` says.
fn filled(value: &str) -> String {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}').expect("a closing bracket");
        filled.push_str(before);
        filled.push_str(match variable.split_once(":-") {
            Some((_, default)) => default,
            None => "00112233445566778899aabbccddeeff",
        });
        rest = after;
    }
    filled + rest
}

/// The settings that the instances of `compose.yaml` have.
fn composed() -> Settings {
    let compose = compose();
    let environment = compose["services"]["callboard"]["environment"].as_object();
    let mut variables: BTreeMap<String, String> = environment
        .expect("variables")
        .iter()
        .map(|(name, value)| (name.clone(), filled(value.as_str().expect("a text"))))
        .collect();
    for assignment in dockerfile("ENV") {
        let (name, value) = assignment.split_once('=').expect("NAME=value");
        variables.insert(name.to_owned(), value.to_owned());
    }
    let loaded = settings::load(Mode::Start, None, variables, &[]).expect("valid settings");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.settings
}

fn seconds(duration: &Value) -> Duration {
    let text = duration.as_str().expect("a duration");
    Duration::from_secs(text.strip_suffix('s').expect("seconds").parse().expect("a number"))
}

#[test]
fn the_image_is_made_of_what_is_there() {
    for source in copied() {
        assert!(path(&source).exists(), "{source}");
    }
    let allowed: BTreeSet<String> = instructions(&text(".dockerignore"))
        .into_iter()
        .filter_map(|line| line.strip_prefix('!').map(str::to_owned))
        .collect();
    assert_eq!(allowed, copied());
    // Cargo wants to see every member of the workspace.
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = "));
    let members: Vec<String> = serde_json::from_str(members.expect("members")).expect("a list");
    for member in members.iter().filter(|member| *member != ".") {
        assert!(copied().contains(member), "{member}");
    }
}

#[test]
fn the_image_does_what_the_program_can() {
    let (entry, command) = (exec(&dockerfile("ENTRYPOINT")[0]), exec(&dockerfile("CMD")[0]));
    let health = exec(&dockerfile("HEALTHCHECK")[0]);
    for arguments in [[entry, command].concat(), health] {
        Cli::try_parse_from(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
    let defaults = settings::load(Mode::Start, None, [], &[]).expect("valid").settings;
    assert_eq!(dockerfile("EXPOSE"), [defaults.api.port.to_string()]);
    assert_eq!(dockerfile("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(dockerfile("VOLUME"), [composed().data.dir.display().to_string()]);
    let user = dockerfile("USER");
    assert!(
        user.len() == 1 && !user[0].starts_with("root") && !user[0].starts_with('0'),
        "{user:?}"
    );
}

#[test]
fn the_instances_share_a_database_and_a_queue_and_may_finish_their_work() {
    let settings = composed();
    settings.check_keys().expect("keys");
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    let host = |url: &str| url::Url::parse(url).expect("a URL").host_str().map(str::to_owned);
    let database = host(settings.database.url.expect("a database").expose()).expect("a host");
    let redis = host(settings.redis.url.expect("a queue").expose()).expect("a host");
    let callboard = &services["callboard"];
    for service in [&database, &redis] {
        assert!(services[service]["healthcheck"]["test"].is_array(), "{service}");
        assert_eq!(callboard["depends_on"][service]["condition"], "service_healthy");
    }
    assert_eq!(callboard["deploy"]["replicas"], 2);
    assert!(seconds(&callboard["stop_grace_period"]) >= settings.shutdown.grace + Duration::from_secs(5));
    let health: Vec<String> = serde_json::from_value(callboard["healthcheck"]["test"].clone()).expect("a list");
    Cli::try_parse_from(&health[1..]).unwrap_or_else(|error| panic!("{health:?}: {error}"));

    let redis: Vec<String> = serde_json::from_value(services[&redis]["command"].clone()).expect("a list");
    assert!(
        redis
            .windows(2)
            .any(|words| words == ["--maxmemory-policy", "noeviction"])
    );
    // A volume that is used is declared, and the other way round.
    let volumes = compose["volumes"].as_object().expect("volumes");
    assert_eq!(volumes.keys().collect::<Vec<_>>(), ["postgres"]);
    assert_eq!(services[&database]["volumes"][0], "postgres:/var/lib/postgresql/data");
}

#[test]
fn every_variable_of_the_composition_is_documented() {
    assert_eq!(documented(), interpolated(&text("compose.yaml")));
    let ignored = text(".gitignore");
    assert!(
        ignored.lines().any(|line| line == ".env"),
        "keys get into the repository"
    );
}

#[test]
fn the_balancer_asks_the_instances_where_they_listen() {
    let compose = compose();
    let balancer = &compose["services"]["balancer"];
    let volume = balancer["volumes"][0].as_str().expect("a text");
    let (file, _) = volume.split_once(':').expect("host:container");
    let said = text(file);
    let port = composed().api.port;
    assert!(said.contains(&format!("callboard:{port}")), "{said}");
    assert!(said.contains("GET /health/ready"), "{said}");
    assert!(
        balancer["ports"][0]
            .as_str()
            .is_some_and(|ports| ports.ends_with(":8288"))
    );
    assert!(said.contains("bind :8288"), "{said}");
}

#[test]
fn the_health_of_a_server() {
    let server = Server::start();
    let said = stdout(&callboard(&["health", "--url", &server.url()]));
    assert!(said.contains("OK"), "{said}");
    // As in a container: where it listens is in the environment.
    let port = server.address().port().to_string();
    let environment = [("CALLBOARD__API__PORT", port.as_str())];
    stdout(&callboard_with(&environment, &["health"]));
}

#[rstest]
#[case(&[], "/health")]
#[case(&["--ready"], "/health/ready")]
fn a_server_that_is_not_well_fails_the_check(#[case] flags: &[&str], #[case] path: &str) {
    let fake = FakeApp::start(|_| Reply::sdk(503, &serde_json::json!({"checks": {"database": "gone"}})));
    let origin = fake.url();
    let origin = origin.strip_suffix("/api/inngest").unwrap_or(&origin);
    let output = callboard(&[&["health", "--url", origin], flags].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("CB-2002") && said.contains("503") && said.contains("gone"),
        "{said}"
    );
    assert_eq!(fake.wait_for_calls(1)[0].path, path);
}

#[test]
fn a_server_that_is_not_there_fails_the_check() {
    let output = callboard(&["health", "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("CB-3003"));
}
