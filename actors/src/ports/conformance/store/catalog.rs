//! Apps register, change and go.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::*;
use crate::domain::{
    Accept, App, CancelRule, Caps, ConcurrencyLimit, FlowControl, Function, FunctionId, FunctionMode, Registration,
    RunStatus, Scope, SyncOutcome, Throttle, Trigger, Write, Written,
};
use crate::ports::AppView;

const URL: &str = "http://127.0.0.1:3000/api/inngest";

fn app(checksum: &str) -> App {
    App {
        name: Arc::from("shop"),
        url: URL.to_owned(),
        sdk: "js:v4.18.1".to_owned(),
        framework: Some("express".to_owned()),
        version: None,
        checksum: checksum.to_owned(),
        error: None,
        synced_at: at(1),
    }
}

fn shop_function(slug: &str) -> Function {
    Function {
        id: FunctionId::derive("shop", slug),
        slug: Arc::from(slug),
        app: Arc::from("shop"),
        name: format!("The function {slug}"),
        version: 0,
        url: format!("{URL}?fnId={slug}&stepId=step"),
        triggers: vec![
            Trigger::Event {
                event: "shop/*".to_owned(),
                expression: Some("event.data.id == 'x'".to_owned()),
            },
            Trigger::Cron {
                cron: "TZ=Europe/Berlin */5 * * * *".to_owned(),
                jitter: Some(Duration::from_millis(1_500)),
            },
        ],
        retries: 3,
        flow: FlowControl {
            concurrency: vec![ConcurrencyLimit {
                limit: 2,
                key: Some("event.data.id".to_owned()),
                scope: Scope::Env,
            }],
            throttle: Some(Throttle {
                limit: 1,
                period: Duration::from_secs(60),
                burst: 2,
                key: None,
            }),
            cancel: vec![CancelRule {
                event: "shop/cancelled".to_owned(),
                condition: None,
                timeout: Some("1h".to_owned()),
            }],
            ..FlowControl::default()
        },
        config: json(&serde_json::json!({"id": slug, "steps": {"step": {"retries": {"attempts": 4}}}, "n": 0.5})),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

fn registration(checksum: &str, slugs: &[&str]) -> Registration {
    Registration {
        app: app(checksum),
        functions: slugs.iter().map(|slug| shop_function(slug)).collect(),
        keep_others: false,
    }
}

async fn sync(store: &Shared, registration: &Registration) -> bool {
    let SyncOutcome { modified } = store.sync_app(registration).await.expect("writes");
    modified
}

async fn only_app(store: &Shared) -> AppView {
    let mut apps = store.catalog().await.expect("reads").apps;
    assert_eq!(apps.len(), 1, "{apps:?}");
    let mut app = apps.remove(0);
    app.functions.sort_by(|a, b| a.slug.cmp(&b.slug));
    app
}

/// Slug, version and whether it is archived, of each function.
async fn functions(store: &Shared) -> Vec<(String, u32, bool)> {
    let functions = only_app(store).await.functions.into_iter();
    functions.map(|f| (f.slug.to_string(), f.version, f.archived)).collect()
}

fn entry(slug: &str, version: u32, archived: bool) -> (String, u32, bool) {
    (slug.to_owned(), version, archived)
}

/// What was registered comes back, with version 1; a run knows the version it was created under.
pub async fn apps_are_synced(store: Shared) {
    let first = registration("c1", &["a", "b"]);
    assert!(sync(&store, &first).await);
    let found = only_app(&store).await;
    assert_eq!(found.app, first.app);
    let expected: Vec<_> = first
        .functions
        .into_iter()
        .map(|function| Function { version: 1, ..function })
        .collect();
    assert_eq!(found.functions, expected);

    let mut second = registration("c2", &["a", "b", "c"]);
    second.app.sdk = "js:v5.0.0".to_owned();
    second.functions[0].name = "Another name".to_owned();
    assert!(sync(&store, &second).await);
    let found = only_app(&store).await;
    assert_eq!(found.app, second.app);
    assert_eq!(found.functions[0].name, "Another name");
    assert_eq!(
        functions(&store).await,
        [entry("a", 2, false), entry("b", 2, false), entry("c", 1, false)]
    );

    let event = event(1);
    let mut run = new_run(&event, "a");
    run.state.function = FunctionId::derive("shop", "a");
    let id = run.state.id;
    commit_all(&store, &[accept(&event, vec![run])]).await;
    sync(&store, &registration("c3", &["a"])).await;
    let view = store.run_view(id).await.expect("reads").expect("exists");
    assert_eq!(view.summary.function_version, 2);
}

/// The same checksum changes nothing, not even the time.
pub async fn an_unchanged_app_is_not_modified(store: Shared) {
    let mut same = registration("c1", &["a"]);
    assert!(sync(&store, &same).await);
    let before = only_app(&store).await;
    same.app.synced_at = at(99);
    assert!(!sync(&store, &same).await);
    assert_eq!(only_app(&store).await, before);
}

/// After an error the same checksum counts as a change, and the error is gone.
pub async fn a_failed_sync_makes_the_next_one_count(store: Shared) {
    let same = registration("c1", &["a"]);
    sync(&store, &same).await;
    store
        .note_sync_error("http://unknown", Some("no"))
        .await
        .expect("writes");
    assert_eq!(only_app(&store).await.app.error, None);
    store
        .note_sync_error(URL, Some("connection refused"))
        .await
        .expect("writes");
    assert_eq!(only_app(&store).await.app.error.as_deref(), Some("connection refused"));
    assert!(sync(&store, &same).await);
    assert_eq!(only_app(&store).await.app, same.app);
    assert_eq!(functions(&store).await, [entry("a", 2, false)]);

    store.note_sync_error(URL, Some("again")).await.expect("writes");
    store.note_sync_error(URL, None).await.expect("writes");
    assert_eq!(only_app(&store).await.app.error, None);
    assert!(!sync(&store, &same).await);
}

/// Functions that a registration does not name are archived, and come back when one does.
pub async fn functions_left_out_are_archived(store: Shared) {
    sync(&store, &registration("c1", &["a", "b"])).await;
    sync(&store, &registration("c2", &["b"])).await;
    assert_eq!(functions(&store).await, [entry("a", 2, true), entry("b", 2, false)]);
    sync(&store, &registration("c3", &["a", "b"])).await;
    assert_eq!(functions(&store).await, [entry("a", 3, false), entry("b", 3, false)]);
}

/// With `keep_others` nothing is archived.
pub async fn functions_may_be_added_one_by_one(store: Shared) {
    sync(&store, &registration("c1", &["a"])).await;
    let added = Registration {
        keep_others: true,
        ..registration("c2", &["b"])
    };
    assert!(sync(&store, &added).await);
    assert_eq!(functions(&store).await, [entry("a", 2, false), entry("b", 1, false)]);
}

/// A removed app has no URL any more; its functions are archived, and registering revives it.
pub async fn a_removed_app_keeps_its_functions(store: Shared) {
    let same = registration("c1", &["a"]);
    sync(&store, &same).await;
    assert!(!store.remove_app("http://unknown").await.expect("writes"));
    assert!(!store.remove_app("").await.expect("writes"));
    assert!(store.remove_app(URL).await.expect("writes"));
    assert!(!store.remove_app(URL).await.expect("writes"), "it is gone already");
    let found = only_app(&store).await;
    assert_eq!(found.app.url, "");
    assert!(found.functions.iter().all(|function| function.archived));
    assert!(sync(&store, &same).await);
    let found = only_app(&store).await;
    assert_eq!(found.app, same.app);
    assert!(!found.functions[0].archived);
}

/// What is said of an app's circuit breaker raises the revision, and outlives registrations and removals.
pub async fn a_breaker_is_switched_for_an_app(store: Shared) {
    assert!(
        !store.set_breaker("shop", Some(false)).await.expect("writes"),
        "unknown"
    );
    sync(&store, &registration("c1", &["a"])).await;
    assert_eq!(only_app(&store).await.breaker, None);
    let before = store.catalog().await.expect("reads").revision;
    assert!(store.set_breaker("shop", Some(false)).await.expect("writes"));
    assert!(store.catalog().await.expect("reads").revision > before);
    assert_eq!(only_app(&store).await.breaker, Some(false));
    sync(&store, &registration("c2", &["a"])).await;
    assert_eq!(only_app(&store).await.breaker, Some(false));
    assert!(store.remove_app(URL).await.expect("writes"));
    assert!(!store.set_breaker("shop", None).await.expect("writes"), "it is gone");
    sync(&store, &registration("c2", &["a"])).await;
    assert_eq!(only_app(&store).await.breaker, Some(false));
    assert!(store.set_breaker("shop", Some(true)).await.expect("writes"));
    assert_eq!(only_app(&store).await.breaker, Some(true));
    assert!(store.set_breaker("shop", None).await.expect("writes"));
    assert_eq!(only_app(&store).await.breaker, None);
}

/// What an operator lets a function do stays so whatever its app registers, and is a change of the catalog once.
pub async fn a_mode_outlasts_registrations(store: Shared) {
    let id = FunctionId::derive("shop", "a");
    let paused = FunctionMode::Paused { since: at(5) };
    assert!(!store.set_function_mode(id, paused).await.expect("writes"), "unknown");
    sync(&store, &registration("c1", &["a", "b"])).await;
    let before = store.catalog().await.expect("reads").revision;
    assert!(store.set_function_mode(id, paused).await.expect("writes"));
    let again = FunctionMode::Paused { since: at(6) };
    assert!(
        !store.set_function_mode(id, again).await.expect("writes"),
        "it is paused"
    );
    let after = store.catalog().await.expect("reads").revision;
    assert_eq!(after, before + 1);

    let modes = async || {
        only_app(&store)
            .await
            .functions
            .iter()
            .map(|function| function.mode)
            .collect::<Vec<_>>()
    };
    assert_eq!(modes().await, [paused, FunctionMode::Active], "since it first was");
    sync(&store, &registration("c2", &["b"])).await;
    assert_eq!(modes().await, [paused, FunctionMode::Active], "archived, too");
    sync(&store, &registration("c3", &["a", "b"])).await;
    assert_eq!(modes().await, [paused, FunctionMode::Active]);

    let drained = FunctionMode::Draining { since: at(7) };
    assert!(store.set_function_mode(id, drained).await.expect("writes"));
    assert_eq!(modes().await, [drained, FunctionMode::Active]);
    assert!(store.set_function_mode(id, FunctionMode::Active).await.expect("writes"));
    assert_eq!(modes().await, [FunctionMode::Active; 2]);
    let matched = Write::Accept(Accept {
        event: event(1),
        runs: Vec::new(),
        joins: Vec::new(),
        skips: Vec::new(),
        catalog: Some(after),
    });
    assert_eq!(store.commit(&[matched]).await.expect("commits"), [Written::Outdated]);
}

/// Runs that have ended don't count, nor do those of other functions.
pub async fn open_runs_are_counted_by_function(store: Shared) {
    for (number, name) in (0..).zip(["one", "two", "one", "one"]) {
        let event = event(number);
        let run = new_run(&event, name);
        let id = run.state.id;
        commit_all(&store, &[accept(&event, vec![run])]).await;
        if number == 3 {
            commit_all(&store, &[advance(id, 0, vec![ended(RunStatus::Completed, 9)])]).await;
        }
    }
    let function = |name: &str| super::fixtures::function(name);
    let counted = store
        .open_runs(&[function("one"), function("three")])
        .await
        .expect("reads");
    let counted: Vec<_> = counted.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(function("one"), 2)]);
    assert_eq!(store.open_runs(&[]).await.expect("reads"), []);
}

/// What was matched against a catalog that has changed since does not happen, and can be matched again.
pub async fn what_was_matched_against_an_older_catalog_is_outdated(store: Shared) {
    let before = store.catalog().await.expect("reads").revision;
    assert!(sync(&store, &registration("a", &["one"])).await);
    let revision = store.catalog().await.expect("reads").revision;
    assert!(revision > before);

    let (paid, sent) = (event(1), event(2));
    let matched = |event: &crate::domain::Event, catalog| {
        Write::Accept(Accept {
            event: event.clone(),
            runs: vec![new_run(event, "one")],
            joins: Vec::new(),
            skips: Vec::new(),
            catalog,
        })
    };
    let batch = [
        matched(&paid, Some(before)),
        matched(&sent, Some(revision)),
        matched(&paid, Some(revision)),
    ];
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(written[0], Written::Outdated);
    assert!(matches!(written[1], Written::Done { .. }), "{written:?}");
    assert!(matches!(written[2], Written::Done { .. }), "{written:?}");
    assert_eq!(store.counts().await.expect("reads").open_runs, 2);

    assert!(store.remove_app(URL).await.expect("writes"));
    let written = store.commit(&[matched(&event(3), Some(revision))]).await;
    assert_eq!(written.expect("commits"), [Written::Outdated]);
    let written = store.commit(&[matched(&event(3), None)]).await.expect("commits");
    assert!(matches!(written[0], Written::Done { .. }), "{written:?}");
}

/// A registration that changes nothing makes nobody read the catalog again.
pub async fn an_unchanged_app_makes_nothing_outdated(store: Shared) {
    assert!(sync(&store, &registration("a", &["one"])).await);
    let revision = store.catalog().await.expect("reads").revision;
    assert!(!sync(&store, &registration("a", &["one"])).await);
    assert!(!store.remove_app("http://nowhere").await.expect("writes"));
    store.note_sync_error(URL, None).await.expect("writes");
    assert_eq!(store.catalog().await.expect("reads").revision, revision);
}

/// Some registration or other.
pub(super) async fn register(store: &Shared) {
    assert!(sync(store, &registration("a", &["one"])).await);
}
