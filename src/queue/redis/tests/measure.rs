//! What a job costs, printed: `cargo test --release -p callboard --lib queue::redis::tests::measure -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use callboard_actors::ports::{Origin, Queue};
use callboard_backends::redis::Redis;

use super::{acknowledge_all, at, job, options, queue};

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

/// One consumer, as the daemon has it; jobs come from several callers, in pushes of `batch`.
async fn measure(name: &str, callers: i64, batch: i64, functions: i64, jobs: i64) {
    let server = Redis::start().expect("starts");
    let queue = Arc::new(queue(options(&server, name)));
    queue.push(vec![job("warm", jobs, 0)], Origin::Commit).await;
    let warm = queue.lease(at(0), 1, 1).await;
    acknowledge_all(&queue, &warm).await;
    queue.next_due().await;
    let (start, cpu_before, scripts_before) = (Instant::now(), cpu(&server), scripts(&server));
    let pushers = (0..callers).map(|caller| {
        let queue = Arc::clone(&queue);
        async move {
            for first in (caller * batch..jobs).step_by(usize::try_from(callers * batch).expect("small")) {
                let part = (first..first + batch).map(|i| job(&(i % functions).to_string(), i, 0));
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
    let cpu = cpu(&server) - cpu_before;
    let (calls, micros) = scripts(&server);
    let (calls, micros) = (calls - scripts_before.0, micros - scripts_before.1);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let jobs = jobs as f64;
    println!(
        "{name}: {:6.0} jobs/s, {:5.1} us of Redis per job ({:4.1} in scripts), {:4.1} jobs per exchange",
        jobs / took,
        cpu / jobs * 1e6,
        micros / jobs,
        jobs / calls
    );
}

#[tokio::test]
#[ignore = "prints figures and asserts nothing about them"]
async fn a_job_pushed_leased_and_acknowledged() {
    measure("1 pusher, 1 job each", 1, 1, 1, 5_000).await;
    measure("64 pushers, 1 job each", 64, 1, 1, 32_000).await;
    measure("1 pusher, 64 jobs each", 1, 64, 1, 64_000).await;
    measure("1 pusher, 64 jobs of 64 functions each", 1, 64, 64, 64_000).await;
}
