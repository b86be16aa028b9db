//! A run's gates are kept with it, and its jobs come with theirs.

use super::fixtures::*;
use crate::domain::{Change, FunctionId, Gate, GateKind, Gates, JobKey, Scope, StepId};

use crate::ports::Except;
/// What a run has to pass comes back with the run and, as far as it concerns them, with the jobs that are due.
pub async fn gates_are_kept_with_the_run(store: Shared) {
    let event = event(1);
    let mut new = new_run(&event, "one");
    let id: FunctionId = new.state.function;
    let gate = |kind, key| Gate::new(kind, Scope::Fn, id, Some("event.data.k"), key);
    let odd = "a|b:c \u{0}ü\n\"";
    new.state.gates = Gates::new(vec![gate(GateKind::Throttle, odd), gate(GateKind::Slot, odd)]);
    new.job.gates = new.state.gates.clone();
    let (run, start, gates) = (new.state.id, new.job.clone(), new.state.gates.clone());
    commit_all(&store, &[accept(&event, vec![new])]).await;
    let due = store
        .jobs_due(at(1_000_000), None, Except::default(), 10)
        .await
        .expect("answers");
    assert_eq!(due, [start]);
    assert_eq!(due[0].gates, gates);

    let step = |key: fn(StepId) -> JobKey| {
        let key = key(StepId::from("s"));
        let gates = gates.of_job(&key, 0);
        let mut job = job(run, key, 5);
        job.gates = gates;
        job
    };
    let jobs = [
        step(JobKey::Step),
        step(JobKey::Discover),
        step(JobKey::Wake),
        step(JobKey::Timeout),
    ];
    let mut changes: Vec<_> = jobs.iter().cloned().map(Change::JobPut).collect();
    changes.push(Change::Started { at: at(77) });
    changes.push(Change::JobDone(JobKey::Start));
    assert_eq!(store.starts_of(id, 10).await.expect("answers"), [], "it has not begun");
    commit_all(&store, &[advance(run, 0, changes)]).await;
    let mut due = store
        .jobs_due(at(1_000_000), None, Except::default(), 10)
        .await
        .expect("answers");
    let mut expected = jobs.to_vec();
    for jobs in [&mut due, &mut expected] {
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
    }
    assert_eq!(due, expected);
    let loaded = store.load_runs(&[run]).await.expect("answers");
    assert_eq!(loaded[0].gates, gates);
    assert_eq!(store.starts_of(id, 10).await.expect("answers"), [(gates, at(77))]);
    assert_eq!(store.starts_of(function("two"), 10).await.expect("answers"), []);
}
