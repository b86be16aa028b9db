//! An installation that has an app and nothing to do: memory, CPU share, and how often it asks its databases.

use std::time::{Duration, Instant};

use actix_rt::time::sleep;

use super::Stage;
use crate::goals::Goals;
use crate::installation::{Installation, Part};
use crate::report::Figure;

const NAME: &str = "idle";

pub(super) async fn measure(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    // The registration just before is still being digested.
    sleep(Duration::from_secs(1)).await;
    let before = questions(stage.installation)?;
    let parts = stage.installation.parts();
    let cpu_before: Vec<_> = parts.iter().map(Part::precise_cpu_ms).collect();
    let begun = Instant::now();
    sleep(stage.plan.window).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_after: Vec<_> = parts.iter().map(Part::precise_cpu_ms).collect();
    let after = questions(stage.installation)?;

    // The goals are those of one instance.
    let instances = stage.installation.instances.len() as f64;
    let goals = stage.plan.goals;
    for (index, part) in parts.iter().enumerate() {
        let is_server = index == 0;
        let share = if is_server { instances } else { 1.0 };
        let (kind, memory) = part.memory_mib();
        let memory = memory.map(|memory| memory / share);
        let figure = Figure::new(NAME, format!("{} {kind}", part.name), "MiB", memory);
        let limit = is_server.then(|| goals.idle_memory());
        stage.report.add(figure.limit(limit));
        if is_server {
            let pss = part.pss_mib().map(|memory| memory / share);
            stage.report.add(Figure::new(NAME, "server PSS", "MiB", pss));
        }
        let used = cpu_before[index].zip(cpu_after[index]);
        let percent = used.map(|(before, after)| (after - before) / seconds / 10.0 / share);
        let figure = Figure::new(NAME, format!("{} CPU", part.name), "%", percent);
        stage.report.add(figure.limit(goals.idle_cpu().filter(|_| is_server)));
    }
    let asked = before.zip(after);
    if let Some(((transactions, requests), (transactions_after, requests_after))) = asked {
        let mut add = |name: &str, count: f64| {
            let rate = count / seconds / instances;
            let figure = Figure::new(NAME, name, "1/s", Some(rate)).limit(Some(Goals::idle_questions()));
            stage.report.add(figure);
        };
        add("PostgreSQL transactions", transactions_after - transactions);
        // The second question counted itself.
        add("Redis requests", requests_after - requests - 1.0);
    }
    Ok(())
}

/// Transactions and requests so far.
fn questions(installation: &Installation) -> anyhow::Result<Option<(f64, f64)>> {
    let asked = installation.backends.as_ref().map(|backends| {
        let transactions = backends.transactions()?;
        anyhow::Ok((transactions, backends.requests()?))
    });
    asked.transpose()
}
