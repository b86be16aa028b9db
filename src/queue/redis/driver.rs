//! The one task that talks to Redis: takes what callers have left, exchanges it, brings back what came of it.
//!
//! One exchange is on its way at a time; what is left meanwhile goes together in the next one. That is the group commit of
//! this queue: under load a round trip carries many jobs, and without load none waits.
//!
//! Promises: while Redis can't, it tries again at growing intervals and says so once. Never: it does not decide what is
//! asked, see [`super::desk`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callboard_actors::domain::{FunctionId, GateKind, Gates, RuleId, RunId, Timestamp};
use callboard_actors::ports::{Flow, KeyFlow, Lease, PartitionStats, Place, QueueStats, RuleFlow};
use redis::{RedisError, RedisResult};
use tokio::task::yield_now;
use tokio::time::timeout_at;

use super::desk::{Effects, Step};
use super::exchange::{self, Answer};
use super::link::{self, Link};
use super::outbox::Read;
use super::scripts::Entry;
use super::{Shared, codec};

/// First wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest one.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How often everybody else on the runtime has a turn before an exchange is put together. Two, for who is woken by the first
/// may be about to leave something with the second: a push and the end of the lease before it come from one commit.
const COURTESY: usize = 2;

/// Waits that grow.
#[derive(Debug, Default)]
pub(super) struct Backoff(Option<Duration>);

impl Backoff {
    pub(super) async fn wait(&mut self) {
        let wait = self.0.map_or(RETRY_MIN, |last| (last * 2).min(RETRY_MAX));
        self.0 = Some(wait);
        tokio::time::sleep(wait).await;
    }

    pub(super) fn reset(&mut self) {
        self.0 = None;
    }
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        let link = match Link::open(&shared.options, shared.options.response_timeout).await {
            Ok(link) => link,
            Err(error) => {
                shared.is_down(&error);
                backoff.wait().await;
                continue;
            }
        };
        shared.scripts.connected();
        shared.connected(Some(link.clone()));
        let mut driver = Driver {
            shared: Arc::clone(&shared),
            link,
        };
        while !driver.step(&mut backoff).await {}
        shared.connected(None);
    }
}

struct Driver {
    shared: Arc<Shared>,
    link: Link,
}

impl Driver {
    /// Waits for something to do and does it; true if the connection is of no use any more.
    async fn step(&mut self, backoff: &mut Backoff) -> bool {
        let step = loop {
            for _ in 0..COURTESY {
                yield_now().await;
            }
            let (step, wakes_at) = {
                let mut desk = self.shared.desk();
                (desk.step(&self.shared.options), desk.wakes_at())
            };
            if let Some(step) = step {
                break step;
            }
            // Everything has been told.
            self.shared.is_up();
            let work = self.shared.work.notified();
            match wakes_at {
                // Woken or not, the desk is asked.
                Some(at) => drop(timeout_at(at, work).await),
                None => work.await,
            }
        };
        let (step, error) = match self.perform(step).await {
            Ok(()) => {
                backoff.reset();
                self.shared.is_up();
                return false;
            }
            Err(failure) => *failure,
        };
        self.shared.desk().put_back(step);
        self.shared.is_down(&error);
        // A connection that has been cut is not news about Redis; only the next failure in a row is.
        backoff.wait().await;
        link::is_lost(&error)
    }

    async fn perform(&mut self, step: Step) -> Result<(), Box<(Step, RedisError)>> {
        let request = match &step {
            Step::Reads(_) => None,
            Step::Open(request) => Some(&**request),
            Step::Exchange(batch) => Some(&batch.request),
        };
        let answer = match request {
            None => None,
            Some(request) => {
                let key = self.shared.key("meta");
                let args = request.to_args();
                let answer = self.shared.scripts.exchange(&mut self.link, &key, &args).await;
                match answer.and_then(exchange::parse) {
                    Ok(answer) => Some(answer),
                    Err(error) => return Err(Box::new((step, error))),
                }
            }
        };
        let effects = match (step, answer) {
            (Step::Reads(reads), _) => Effects {
                reads,
                ..Effects::default()
            },
            (step, Some(Answer::Unknown { generation, is_reaped })) => {
                let mut desk = self.shared.desk();
                desk.unknown(&generation, is_reaped, step, &self.shared.options)
            }
            (Step::Open(_), Some(Answer::Done(outcome))) => self.shared.desk().opened(&outcome),
            (Step::Exchange(batch), Some(Answer::Done(outcome))) => {
                self.shared.desk().done(*batch, *outcome, &self.shared)
            }
            // It was sent twice below us; the first may have happened, and its answer is lost.
            (step, Some(Answer::Stale) | None) => {
                self.shared.desk().put_back(step);
                Effects::default()
            }
        };
        let reads = self.apply(effects);
        self.read(reads)
            .await
            .map_err(|(reads, error)| Box::new((Step::Reads(reads), error)))
    }

    fn apply(&self, effects: Effects) -> Vec<Read> {
        if effects.lost > 0 {
            tracing::warn!(leases = effects.lost, "leases were lost to other processes");
        }
        if effects.is_forgotten {
            tracing::warn!("Redis has lost what it held; the queue is filled again");
            // First everybody says what it holds, so that none of it is handed out again.
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                tokio::time::sleep(shared.options.ttl / 3).await;
                shared.forgotten.notify_one();
            });
        }
        if effects.found_dead {
            self.shared.forgotten.notify_one();
        }
        if effects.news {
            self.shared.changed.notify_one();
        }
        effects.reads
    }

    /// Answers questions; those that could not be asked come back.
    async fn read(&mut self, reads: Vec<Read>) -> Result<(), (Vec<Read>, RedisError)> {
        let mut reads = reads.into_iter();
        while let Some(read) = reads.next() {
            let outcome = match &read {
                Read::LeasesOf(run, _) => self.leases_of(&run.to_string()).await.map(Found::Leases),
                Read::Stats(_) => self.stats().await.map(Found::Stats),
                Read::Flow(function, _) => self.flow(*function).await.map(Found::Flow),
                Read::Places(run, _) => self.places(&run.to_string()).await.map(Found::Places),
            };
            match (read, outcome) {
                (Read::LeasesOf(_, reply), Ok(Found::Leases(leases))) => drop(reply.send(leases)),
                (Read::Stats(reply), Ok(Found::Stats(stats))) => {
                    self.shared.desk().last_stats = stats.clone();
                    drop(reply.send(stats));
                }
                (Read::Flow(_, reply), Ok(Found::Flow(flow))) => drop(reply.send(flow)),
                (Read::Places(_, reply), Ok(Found::Places(places))) => drop(reply.send(places)),
                (read, Err(error)) => return Err((std::iter::once(read).chain(reads).collect(), error)),
                (_, Ok(_)) => {}
            }
        }
        self.shared.desk().idle();
        Ok(())
    }

    async fn ask(&mut self, question: Entry, args: &[String]) -> RedisResult<Vec<String>> {
        let key = self.shared.key("meta");
        let answer = self.shared.scripts.run(&mut self.link, question, &key, args).await?;
        exchange::texts(answer)
    }

    async fn leases_of(&mut self, run: &str) -> RedisResult<Vec<Lease>> {
        let mut parts = self.ask(Entry::LeasesOf, &[run.to_owned()]).await?.into_iter();
        let mut leases = Vec::new();
        while let (Some(key), Some(epoch), Some(since), Some(version), Some(is_first)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        {
            let job = codec::parse_job(&format!("{run}{key}"), &version);
            if let (Some(job), Ok(epoch), Some(since)) = (job, epoch.parse(), codec::timestamp(&since)) {
                leases.push(Lease {
                    job,
                    epoch,
                    since,
                    is_first: is_first == "1",
                });
            }
        }
        Ok(leases)
    }

    async fn stats(&mut self) -> RedisResult<QueueStats> {
        let mut parts = self.ask(Entry::Stats, &[]).await?.into_iter();
        let mut stats = QueueStats {
            ready: exchange::number(parts.next())?,
            delayed: exchange::number(parts.next())?,
            leased: exchange::number(parts.next())?,
            oldest_lease: parts.next().as_deref().and_then(codec::timestamp),
            capacity: Some(self.shared.options.capacity.total),
            spilled: exchange::number(parts.next())?,
            partitions: Vec::new(),
        };
        while let Some(function) = parts.next() {
            let [ready, delayed, leased] = [parts.next(), parts.next(), parts.next()].map(exchange::number);
            let oldest: Option<Timestamp> = parts.next().as_deref().and_then(codec::timestamp);
            if let Ok(function) = function.parse::<FunctionId>() {
                stats.partitions.push(PartitionStats {
                    function,
                    ready: ready?,
                    delayed: delayed?,
                    leased: leased?,
                    oldest,
                });
            }
        }
        Ok(stats)
    }

    async fn places(&mut self, run: &str) -> RedisResult<Vec<Place>> {
        let args = [run.to_owned(), Place::MOST.to_string()];
        let parts = self.ask(Entry::Places, &args).await?;
        let mut places = Vec::with_capacity(parts.len() / 5);
        for part in parts.chunks_exact(5) {
            let [field, version, bucket, opens, ahead] = part else {
                break;
            };
            let Some(job) = codec::parse_job(field, version) else {
                continue;
            };
            let mut gates = job.gates.as_slice().iter();
            places.push(Place {
                gate: gates.find(|gate| gate.bucket.to_string() == *bucket).cloned(),
                opens: codec::timestamp(opens),
                ahead: ahead.parse().ok(),
                job: job.id,
            });
        }
        Ok(places)
    }

    async fn flow(&mut self, function: FunctionId) -> RedisResult<Flow> {
        let parts = self.ask(Entry::Flow, &[function.to_string()]).await?;
        let mut rules: BTreeMap<(RuleId, GateKind), Vec<KeyFlow>> = BTreeMap::new();
        for part in parts.chunks_exact(8) {
            let [_, rule, bucket, held, waiting, oldest, opens, gates] = part else {
                break;
            };
            // The script knows kinds and rules; what the key was, only the text of the gates tells.
            let gates = Gates::parse_prefix(gates).map_or(Gates::NONE, |(gates, _)| gates);
            let gate = gates.as_slice().iter().find(|gate| gate.bucket.to_string() == *bucket);
            let (Some(gate), Ok(rule)) = (gate, rule.parse()) else {
                continue;
            };
            rules.entry((rule, gate.kind)).or_default().push(KeyFlow {
                key: gate.key.to_string(),
                in_use: exchange::number(Some(held.clone()))?,
                waiting: exchange::number(Some(waiting.clone()))?,
                oldest: oldest.parse::<RunId>().ok().map(RunId::at),
                next: codec::timestamp(opens),
            });
        }
        let rules = rules.into_iter();
        Ok(Flow {
            rules: rules
                .map(|((rule, kind), keys)| RuleFlow::of_keys(rule, kind, keys))
                .collect(),
        })
    }
}

enum Found {
    Leases(Vec<Lease>),
    Stats(QueueStats),
    Flow(Flow),
    Places(Vec<Place>),
}
