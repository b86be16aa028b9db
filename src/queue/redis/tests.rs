//! The queue on Redis against the port's suite, and what only it promises, each on a real server.

mod bounds;
mod cluster;
mod faults;
mod gates;
mod loss;
mod measure;
mod sharing;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use callboard_actors::domain::{FunctionId, Gates, Job, JobId, JobKey, Priority, RunId, Timestamp};
use callboard_actors::ports::{Lease, Queue};
use callboard_backends::redis::Redis;

use super::{Options, RedisQueue};

/// How long a wait may take before it counts as forever.
const DEADLINE: Duration = Duration::from_secs(20);
/// A time to live that no test lives to see the end of.
const FOREVER: Duration = Duration::from_secs(600);
/// One that ends within a test, and that a busy machine does not miss to renew.
const SOON: Duration = Duration::from_millis(1_500);

/// The server of all tests that don't hurt theirs.
fn server() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start().expect("a server starts"))
}

/// A prefix that no other test uses.
fn prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn options(server: &Redis, prefix: &str) -> Options {
    Options {
        prefix: prefix.to_owned(),
        ttl: FOREVER,
        ..Options::new(server.url())
    }
}

fn queue(options: Options) -> RedisQueue {
    RedisQueue::new(options).expect("the URL is valid")
}

/// A queue of its own on the shared server.
fn alone() -> RedisQueue {
    queue(options(server(), &prefix()))
}

/// Two processes with one queue on the shared server.
fn two(ttl: Duration) -> (RedisQueue, RedisQueue) {
    let options = Options {
        ttl,
        ..options(server(), &prefix())
    };
    (queue(options.clone()), queue(options))
}

/// A prefix under which nothing was ever lost, so that nobody waits for what may be missing.
fn whole() -> String {
    let prefix = prefix();
    make_whole(server(), &prefix);
    prefix
}

fn make_whole(server: &Redis, prefix: &str) {
    let (meta, marks) = (format!("{{{prefix}}}:meta"), format!("{{{prefix}}}:marks"));
    let made = server.cli(&["HSET", &meta, "g", "g", "epoch", "1", "turn", "1", "count", "0"]);
    made.and_then(|_| server.cli(&["ZADD", &marks, "+inf", ""]))
        .expect("answers");
}

fn fresh() -> Arc<dyn Queue> {
    Arc::new(queue(options(server(), &whole())))
}

callboard_actors::queue_conformance!(fresh);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_750_000_000_000 + millis)
}

fn run(created: i64) -> RunId {
    RunId::new(at(created), 7)
}

fn job(name: &str, created: i64, due: i64) -> Job {
    Job {
        id: JobId {
            run: run(created),
            key: JobKey::Start,
        },
        function: FunctionId::derive("test", name),
        attempt: 0,
        due: at(due),
        priority: Priority::NONE,
        payload: None,
        gates: Gates::NONE,
    }
}

async fn lease_all(queue: &RedisQueue) -> Vec<Lease> {
    queue.lease(at(1_000_000), 10_000, 10_000).await
}

/// Leases until there is something.
async fn lease_some(queue: &RedisQueue) -> Vec<Lease> {
    let some = async {
        loop {
            let leases = lease_all(queue).await;
            if !leases.is_empty() {
                return leases;
            }
            queue.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, some)
        .await
        .expect("jobs come, and somebody says so")
}

async fn acknowledge_all(queue: &RedisQueue, leases: &[Lease]) {
    for lease in leases {
        queue.acknowledge(&lease.job.id, lease.epoch).await;
    }
}

/// When the runs of these leases were created.
fn created(leases: &[Lease]) -> BTreeSet<i64> {
    let created: BTreeSet<_> = leases
        .iter()
        .map(|lease| lease.job.id.run.at().as_millis() - at(0).as_millis())
        .collect();
    assert_eq!(created.len(), leases.len(), "each once");
    created
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}
