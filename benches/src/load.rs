//! The load generator: sends events, waits for the runs they start, and asks the server what became of them.
//!
//! Promises: bounded in count and time; every acknowledged run is waited for up to a deadline.
//! Never: drops a failed send silently.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::time::{interval, sleep, timeout};
use anyhow::{bail, ensure};
use awc::http::StatusCode;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Deserialize;

use crate::ledger::Ledger;
use crate::workload::Workload;

/// How long an acknowledged run may take to end before it is given up.
const RUN_DEADLINE: Duration = Duration::from_secs(30);
/// How often a refused event is sent again before the bench fails.
const SEND_ATTEMPTS: usize = 50;
/// How long the server may take to show every run as completed.
const VERIFY_DEADLINE: Duration = Duration::from_secs(60);
/// How often a read is tried before the bench fails.
const READ_ATTEMPTS: u32 = 3;
/// Requests in flight while the results are verified.
const VERIFY_IN_FLIGHT: usize = 32;

/// What every scenario needs.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) client: awc::Client,
    /// The origins of the instances; events go to each in turn, questions to the first.
    pub(crate) servers: Rc<[String]>,
    pub(crate) event_key: &'static str,
    /// What the API wants as a bearer.
    pub(crate) api_key: Option<&'static str>,
    /// Whether an instance may die: events that can't be sent to one are sent to the next.
    pub(crate) fails_over: bool,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    /// Events answered with 503 and sent again.
    pub(crate) refused: Rc<Cell<u64>>,
}

impl Load {
    /// Starts one run and waits for its end. False if it did not end in time.
    async fn drive(&self, workload: Workload) -> anyhow::Result<bool> {
        let (number, finished) = self.ledger.borrow_mut().begin(workload);
        self.send(workload, number).await?;
        Ok(matches!(timeout(RUN_DEADLINE, finished).await, Ok(Ok(()))))
    }

    /// Sends one event and books its acknowledgement.
    async fn send(&self, workload: Workload, number: usize) -> anyhow::Result<()> {
        let event = if self.fails_over {
            workload.event_with_id(number)
        } else {
            workload.event(number)
        };
        self.deliver(event, number..number + 1).await
    }

    /// Sends `count` events in arrays of `size`, with `senders` requests at a time.
    pub(crate) async fn arrays(
        &self,
        workload: Workload,
        count: usize,
        size: usize,
        senders: usize,
    ) -> anyhow::Result<()> {
        let mut sends = stream::iter((0..count).step_by(size))
            .map(|sent| async move {
                let numbers: Vec<usize> = {
                    let mut ledger = self.ledger.borrow_mut();
                    (sent..count.min(sent + size))
                        .map(|_| ledger.begin(workload).0)
                        .collect()
                };
                let events: Vec<String> = numbers.iter().map(|number| workload.event(*number)).collect();
                let range = numbers[0]..numbers[0] + numbers.len();
                self.deliver(format!("[{}]", events.join(",")), range).await
            })
            .buffer_unordered(senders);
        while let Some(sent) = sends.next().await {
            sent?;
        }
        Ok(())
    }

    /// Sends one body, until it is accepted, and books the acknowledgement of the runs it starts.
    async fn deliver(&self, body: String, numbers: Range<usize>) -> anyhow::Result<()> {
        for attempt in 0..SEND_ATTEMPTS {
            let server = &self.servers[(numbers.start + attempt) % self.servers.len()];
            let target = format!("{server}/e/{}", self.event_key);
            let request = self.client.post(&target).content_type("application/json");
            let mut response = match request.send_body(body.clone()).await {
                Ok(response) => response,
                Err(_) if self.fails_over => continue,
                Err(error) => bail!("POST {target}: {error}"),
            };
            match response.status() {
                StatusCode::OK => {
                    numbers.for_each(|number| self.ledger.borrow_mut().acknowledge(number));
                    // Read to the end, or the connection cannot be used again.
                    let _ = response.body().await;
                    return Ok(());
                }
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                    self.refused.set(self.refused.get() + 1);
                    let _ = response.body().await;
                    sleep(Duration::from_millis(100)).await;
                }
                status => {
                    let body = response.body().await.unwrap_or_default();
                    bail!("POST {target} answered {status}: {}", String::from_utf8_lossy(&body));
                }
            }
        }
        bail!("events were refused {SEND_ATTEMPTS} times in a row")
    }

    /// Sends one event that starts no run.
    pub(crate) async fn post(&self, event: String) -> anyhow::Result<()> {
        let target = format!("{}/e/{}", self.servers[0], self.event_key);
        let request = self.client.post(&target).content_type("application/json");
        let mut response = match request.send_body(event).await {
            Ok(response) => response,
            Err(error) => bail!("POST {target}: {error}"),
        };
        ensure!(
            response.status() == StatusCode::OK,
            "POST {target} answered {}",
            response.status()
        );
        let _ = response.body().await;
        Ok(())
    }

    /// Keeps `in_flight` runs going until `stop`, and waits for the last ones to end.
    pub(crate) async fn closed_loop(&self, workload: Workload, in_flight: usize, stop: Instant) -> anyhow::Result<()> {
        let slots: Vec<_> = (0..in_flight)
            .map(|_| {
                let load = self.clone();
                actix_rt::spawn(async move {
                    while Instant::now() < stop {
                        // A run that is lost keeps its place, so that losses cannot raise the load.
                        if !load.drive(workload).await? {
                            break;
                        }
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for slot in slots {
            slot.await??;
        }
        Ok(())
    }

    /// Starts `per_second` runs a second, whatever becomes of them, until `stop`; then waits for the last ones to end.
    pub(crate) async fn open_loop(&self, workload: Workload, per_second: u32, stop: Instant) -> anyhow::Result<()> {
        let mut tick = interval(Duration::from_secs(1) / per_second);
        let mut runs = Vec::new();
        while Instant::now() < stop {
            tick.tick().await;
            let load = self.clone();
            runs.push(actix_rt::spawn(async move { load.drive(workload).await }));
        }
        for run in runs {
            run.await??;
        }
        Ok(())
    }

    /// Sends `count` events as fast as they are acknowledged, with `in_flight` requests at a time.
    pub(crate) async fn burst(&self, workload: Workload, count: usize, in_flight: usize) -> anyhow::Result<()> {
        let mut sends = stream::iter(0..count)
            .map(|_| async {
                let (number, _) = self.ledger.borrow_mut().begin(workload);
                self.send(workload, number).await
            })
            .buffer_unordered(in_flight);
        while let Some(sent) = sends.next().await {
            sent?;
        }
        Ok(())
    }

    /// Waits until `ready` holds, at most until the deadline; answers whether it did.
    pub(crate) async fn until(&self, deadline: Duration, ready: impl Fn(&Ledger) -> bool) -> bool {
        let deadline = Instant::now() + deadline;
        while !ready(&self.ledger.borrow()) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// How many runs of the range the server shows as completed. Runs whose end is not committed yet are asked again.
    ///
    /// # Errors
    /// When the server does not answer in a form that can be read.
    pub(crate) async fn completed(&self, range: Range<usize>) -> anyhow::Result<u64> {
        let ids: Vec<Box<str>> = self
            .ledger
            .borrow()
            .runs(range)
            .iter()
            .filter_map(|run| run.run_id.clone())
            .collect();
        let deadline = Instant::now() + VERIFY_DEADLINE;
        let mut open = ids;
        let mut completed = 0;
        loop {
            let mut answers = stream::iter(open)
                .map(|id| async { (self.status(&id).await, id) })
                .buffer_unordered(VERIFY_IN_FLIGHT);
            let mut again = Vec::new();
            while let Some((status, id)) = answers.next().await {
                match status?.to_ascii_lowercase().as_str() {
                    "completed" => completed += 1,
                    "queued" | "scheduled" | "running" if Instant::now() < deadline => again.push(id),
                    _ => {}
                }
            }
            if again.is_empty() {
                return Ok(completed);
            }
            open = again;
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn status(&self, run_id: &str) -> anyhow::Result<String> {
        let target = format!("{}/api/v1/runs/{run_id}", self.servers[0]);
        let mut attempt = 0;
        let mut response = loop {
            attempt += 1;
            let mut request = self.client.get(&target);
            if let Some(key) = self.api_key {
                request = request.bearer_auth(key);
            }
            match request.send().await {
                Ok(response) => break response,
                // The server may close a kept connection at the very moment it is used again.
                Err(_) if attempt < READ_ATTEMPTS => {}
                Err(error) => bail!("GET {target}: {error}"),
            }
        };
        let status = response.status();
        let body = response.body().limit(8 << 20).await?;
        ensure!(
            status.is_success(),
            "GET {target} answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
        match serde_json::from_slice(&body) {
            Ok(RunAnswer::Bare(run) | RunAnswer::Wrapped { data: run }) => Ok(run.status),
            Err(_) => bail!("GET {target} answered no run: {}", String::from_utf8_lossy(&body)),
        }
    }
}

/// A run, with or without the envelope of the REST routes.
#[derive(Deserialize)]
#[serde(untagged)]
enum RunAnswer {
    Bare(RunStatus),
    Wrapped { data: RunStatus },
}

#[derive(Deserialize)]
struct RunStatus {
    status: String,
}
