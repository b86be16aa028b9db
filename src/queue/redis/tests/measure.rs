//! What a job costs, printed: `cargo test --release -p callboard --lib queue::redis::tests::measure -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use callboard_actors::domain::{FunctionId, Gate, GateKind, Gates, Job, Limit, Limits, RuleId, Scope};
use callboard_actors::ports::{LimitTable, Origin, Queue};
use callboard_backends::redis::Redis;

use super::{acknowledge_all, at, job, make_whole, options, queue};

/// Seconds of CPU that the server has used.
fn cpu(server: &Redis) -> f64 {
    let info = server.cli(&["INFO", "cpu"]).expect("answers");
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| ["used_cpu_user", "used_cpu_sys"].contains(name))
        .filter_map(|(_, seconds)| seconds.trim().parse::<f64>().ok())
        .sum()
}

/// How often the scripts ran, and microseconds within them.
fn scripts(server: &Redis) -> (f64, f64) {
    let info = server.cli(&["INFO", "commandstats"]).expect("answers");
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
    let number = |name: &str| -> f64 {
        line.and_then(|line| line.split_once(name)?.1.split(',').next()?.parse().ok())
            .unwrap_or(0.0)
    };
    (number("calls="), number(",usec="))
}

/// Seconds of CPU that this process has used.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum();
    ticks / 100.0
}

/// One consumer, as the daemon has it; jobs come from several callers, in pushes of `batch`. With `keys`, each job has a slot of
/// one of so many keys to pass, under a limit of 2.
async fn measure(name: &str, callers: i64, batch: i64, functions: i64, jobs: i64, keys: Option<i64>) {
    let server = Redis::start().expect("starts");
    make_whole(&server, "measure");
    let queue = Arc::new(queue(options(&server, "measure")));
    let rule = RuleId::derive(GateKind::Slot, Scope::Fn, Some("k"));
    let limits = Limits::new([(rule, Limit::Slots(2))]);
    let names = (0..functions).map(|i| FunctionId::derive("test", &i.to_string()));
    queue
        .configure(LimitTable {
            revision: 1,
            functions: names.map(|id| (id, limits.clone())).collect(),
        })
        .await;
    let gated = |i: i64| {
        let job = job(&(i % functions).to_string(), i, 0);
        let gate = keys.map(|keys| {
            Gate::new(
                GateKind::Slot,
                Scope::Fn,
                job.function,
                Some("k"),
                &(i % keys).to_string(),
            )
        });
        Job {
            gates: Gates::new(gate.into_iter().collect()),
            ..job
        }
    };
    queue.push(vec![job("warm", jobs, 0)], Origin::Commit).await;
    let warm = queue.lease(at(0), 1, 1).await;
    acknowledge_all(&queue, &warm).await;
    queue.next_due().await;
    let (start, cpu_before, scripts_before) = (Instant::now(), cpu(&server), scripts(&server));
    let own_before = own_cpu();
    let pushers = (0..callers).map(|caller| {
        let queue = Arc::clone(&queue);
        async move {
            for first in (caller * batch..jobs).step_by(usize::try_from(callers * batch).expect("small")) {
                let part = (first..first + batch).map(gated);
                queue.push(part.collect(), Origin::Commit).await;
            }
        }
    });
    let consumer = async {
        let mut left = usize::try_from(jobs).expect("small");
        while left > 0 {
            let leases = queue.lease(at(0), 64, 10_000).await;
            left -= leases.len();
            acknowledge_all(&queue, &leases).await;
            if leases.is_empty() {
                queue.changed().await;
            }
        }
    };
    tokio::join!(futures_util::future::join_all(pushers), consumer);
    queue.next_due().await;
    let took = start.elapsed().as_secs_f64();
    let (cpu, own) = (cpu(&server) - cpu_before, own_cpu() - own_before);
    let (calls, micros) = scripts(&server);
    let (calls, micros) = (calls - scripts_before.0, micros - scripts_before.1);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let jobs = jobs as f64;
    println!(
        "{name}: {:6.0} jobs/s, {:5.1} us of CPU per job, {:5.1} of them Redis ({:4.1} in scripts), {:4.1} jobs per exchange",
        jobs / took,
        (cpu + own) / jobs * 1e6,
        cpu / jobs * 1e6,
        micros / jobs,
        jobs / calls
    );
}

#[tokio::test]
#[ignore = "prints figures and asserts nothing about them"]
async fn a_job_pushed_leased_and_acknowledged() {
    for keys in [None, Some(10_000), None, Some(10_000)] {
        let with = if keys.is_some() { "10,000 keys" } else { "no gates" };
        measure(&format!("{with}; 1 pusher, 1 job each"), 1, 1, 1, 5_000, keys).await;
        measure(&format!("{with}; 64 pushers, 1 job each"), 64, 1, 1, 32_000, keys).await;
        measure(&format!("{with}; 1 pusher, 64 jobs each"), 1, 64, 1, 64_000, keys).await;
        measure(
            &format!("{with}; 1 pusher, 64 jobs of 64 functions each"),
            1,
            64,
            64,
            64_000,
            keys,
        )
        .await;
    }
}
