//! Whatever text goes in comes out, byte by byte.

use super::fixtures::{self, *};
use crate::domain::{
    Change, DeadLetter, Event, HistoryEntry, HistoryKind, Job, JobKey, Json, Lookup, RunStatus, Step, StepId,
    StepState, Wait, limits,
};
use crate::ports::Except;

/// Quotes, escapes, control characters, several planes of Unicode, and what SQL or JSON could take for their own.
const ODD: &str = "a'b\"c\\d\u{1}\u{1f}\u{7f}\r\n\t ?1 $1 %_ {}[],: \\u0041 null é 漢 \u{1f600} \u{feff}\u{202e}";

/// Canonical JSON that a database might be tempted to reformat: order, numbers, spacing, duplicates of escapes.
fn canonical() -> Json {
    let text = "{\"\":[1e+30,-1,0.1,9007199254740992,1e-7,true,null,\"\"],\"\\u0001\":\"\\\"\\\\\\n\u{7f}\",\"a\":{},\"é\":\"\\u0000 😀\"}";
    Json::from_canonical(text)
}

/// Odd texts wherever a text may stand.
pub async fn texts_come_back_as_they_went_in(store: Shared) {
    let event = Event {
        external_id: ODD.to_owned(),
        has_own_id: true,
        body: canonical(),
        ..event_named(ODD, 1)
    };
    let mut run = keyed_run(&event, "one", ODD);
    run.state.events = vec![canonical()].into();
    run.waits = vec![wait(run.state.id, ODD, ODD, None)];
    let id = run.state.id;
    commit_all(&store, &[accept(&event, vec![run.clone()])]).await;
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
    assert_eq!(load(&store, id).await, Some(run.state));

    let odd_step = StepId::from(ODD);
    let step = Step {
        label: ODD.to_owned(),
        race: true,
        ..step(
            ODD,
            StepState::Done {
                memo: canonical(),
                failed: true,
                position: 0,
                at: at(2),
            },
        )
    };
    let job = Job {
        payload: Some(canonical()),
        ..job(id, JobKey::Resume(odd_step.clone()), 9)
    };
    let wait = Wait {
        lookup: Some(Lookup {
            path: ODD.to_owned(),
            key: ODD.to_owned(),
        }),
        condition: Some(ODD.to_owned()),
        ..wait(id, ODD, ODD, None)
    };
    let noted = HistoryEntry {
        at: at(4),
        kind: HistoryKind::StepFailed,
        step: Some(odd_step.clone()),
        attempt: u32::MAX,
        detail: Some(canonical()),
    };
    let given_up = Job {
        payload: Some(canonical()),
        ..fixtures::job(id, JobKey::Discover(odd_step.clone()), 9)
    };
    let letter = DeadLetter::new(given_up, ODD.to_owned(), 0, at(5));
    let changes = vec![
        Change::StepPut(step.clone()),
        Change::JobPut(job.clone()),
        Change::WaitPut(wait.clone()),
        Change::Group([odd_step].into()),
        Change::Noted(noted.clone()),
        Change::Buried(letter.clone()),
    ];
    commit_all(&store, &[advance(id, 0, changes)]).await;
    let state = load(&store, id).await.expect("is open");
    assert_eq!(state.steps[0], step);
    assert_eq!(state.group.len(), 1);
    assert!(
        store
            .jobs_due(at(100), None, Except::default(), 10)
            .await
            .expect("reads")
            .contains(&job)
    );
    assert_eq!(waits(&store, ODD, std::slice::from_ref(&wait.lookup)).await, [wait]);
    assert_eq!(store.wait_paths(ODD).await.expect("reads"), [Some(ODD.to_owned())]);
    assert_eq!(letters(&store).await, [letter]);
    let change = Change::Ended {
        status: RunStatus::Completed,
        output: canonical(),
        at: at(9),
    };
    commit_all(&store, &[advance(id, 1, vec![change])]).await;
    let view = store.run_view(id).await.expect("reads").expect("exists");
    assert_eq!(view.history, [noted]);
    assert_eq!(view.summary.output, Some(canonical()));
}

/// The largest step output and a large event, several at once.
pub async fn large_texts_come_back_as_they_went_in(store: Shared) {
    let filler = "\"\\é😀 ".chars().cycle();
    let memo = |len: usize| {
        let text: String = filler.clone().take(len / 4).collect();
        json(&serde_json::json!(text))
    };
    let event = Event {
        body: memo(limits::EVENT_BYTES),
        ..event(1)
    };
    let mut run = new_run(&event, "one");
    run.state.events = vec![event.body.clone()].into();
    let mut state = run.state.clone();
    commit_all(&store, &[accept(&event, vec![run])]).await;
    let changes: Vec<_> = (0..3)
        .map(|position| {
            let done = StepState::Done {
                memo: memo(limits::STEP_OUTPUT_BYTES - usize::try_from(position).expect("small")),
                failed: false,
                position,
                at: at(2),
            };
            Change::StepPut(step(&position.to_string(), done))
        })
        .collect();
    commit_all(&store, &[advance(state.id, 0, changes.clone())]).await;
    changes.iter().for_each(|change| state.apply(change));
    state.version = 1;
    assert!(load(&store, state.id).await == Some(state), "the texts differ");
}
