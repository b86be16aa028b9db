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

#[tokio::test]
#[ignore = "prints figures and asserts nothing about them"]
async fn a_job_pushed_leased_and_acknowledged() {
    let server = Redis::start().expect("starts");
    for (batch, callers, functions) in [(1, 1, 1), (64, 1, 1), (64, 1, 64), (1, 64, 1)] {
        let jobs: i64 = if batch * callers == 1 { 5_000 } else { 64_000 };
        let queue = Arc::new(queue(options(&server, &format!("{batch}-{callers}-{functions}"))));
        queue.push(Vec::new(), Origin::Commit).await;
        let (start, before) = (Instant::now(), cpu(&server));
        let work = (0..callers).map(|caller| {
            let queue = Arc::clone(&queue);
            async move {
                let mut next = caller;
                while next < jobs {
                    let part = (0..batch).map(|i| next + i * callers);
                    let part = part.map(|i| job(&(i % functions).to_string(), i, 0)).collect();
                    queue.push(part, Origin::Commit).await;
                    let leases = queue.lease(at(0), usize::try_from(batch).expect("small"), 10_000).await;
                    acknowledge_all(&queue, &leases).await;
                    next += batch * callers;
                }
            }
        });
        futures_util::future::join_all(work).await;
        queue.next_due().await;
        let (took, used) = (start.elapsed().as_secs_f64(), cpu(&server) - before);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let count = jobs as f64;
        println!(
            "{callers:2} callers, batches of {batch:2}, {functions:2} functions: {:6.0} jobs/s, {:5.1} us of Redis per job",
            count / took,
            used / count * 1e6
        );
    }
}
