//! On a cluster: all keys are in one slot, and the client follows it.

use std::sync::Arc;

use callboard_actors::ports::conformance::queue as suite;
use callboard_actors::ports::{Origin, Queue};
use callboard_backends::redis::{Options, Redis};

use super::{acknowledge_all, created, job, lease_all, lease_some, options, prefix, queue};

#[tokio::test]
async fn a_cluster_will_do() {
    let server = Redis::start_with(Options {
        cluster: true,
        ..Options::default()
    })
    .expect("starts");
    let shared = options(&server, "shared");
    let (one, other) = (queue(shared.clone()), queue(shared));
    assert_eq!(lease_all(&other).await, []);
    let push = one.push((0..20).map(|i| job("a", i, 0)).collect(), Origin::Commit);
    let (leases, _) = tokio::join!(lease_some(&other), push);
    acknowledge_all(&other, &leases).await;
    server.cli(&["SCRIPT", "FLUSH"]).expect("flushes");
    let rest = lease_all(&one).await;
    assert_eq!(created(&[leases, rest].concat()), (0..20).collect());
    one.ping().await.expect("it answers");

    let factory = || -> Arc<dyn Queue> { Arc::new(queue(options(&server, &prefix()))) };
    suite::the_stats(factory).await;
    suite::a_leased_job_is_replaced_when_its_lease_ends(factory).await;
    suite::an_ended_run_is_forgotten(factory).await;
    suite::concurrent_callers_share_the_work(factory).await;
}
