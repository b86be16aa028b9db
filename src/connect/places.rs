//! Counts the places at workers in Redis, for all instances: see [`callboard_actors::workers::PlaceOrder`].
//!
//! The places of a worker are a sorted set of requests by when their places end, which Redis tells by its own clock. Orders are
//! carried out in their order, as many in one round trip as have come.
//!
//! Promises: no more places are held than a worker has, as far as Redis remembers; one whose end was not told ends by itself.
//! While Redis does not answer no place is given, and what is to be given back is told when it does. After a Redis has lost
//! everything, places are known again as their leases are extended.

use std::time::Duration;

use callboard_actors::workers::{Place, PlaceOrder};
use redis::{RedisError, RedisResult, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::pubsub::RETRY;
use crate::queue::redis::{Link, Options};

/// Orders in one round trip, at the most.
const BATCH: usize = 256;
/// Orders that wait for a Redis that does not answer; of more the oldest are dropped, and their places end by themselves.
const KEPT: usize = 10_000;

/// For each order: what, the worker, the request, how long, how many. Answers a text with `1` for each that was done.
const SCRIPT: &str = "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #ARGV, 5 do
    local key, request, lasts = KEYS[1] .. ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
    local what, done = ARGV[i], '1'
    if what == 'leave' then
        redis.call('ZREM', key, request)
    else
        if what == 'take' then
            redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
            if redis.call('ZCARD', key) >= tonumber(ARGV[i + 4]) then
                done = '0'
            end
        end
        if done == '1' then
            redis.call('ZADD', key, now + lasts, request)
            redis.call('PEXPIRE', key, lasts * 2)
        end
    end
    answers[#answers + 1] = done
end
return table.concat(answers)";

/// Carries out orders until the thread ends.
pub(crate) async fn run(options: Options, mut orders: UnboundedReceiver<PlaceOrder>) {
    let key = format!("{{{}}}:places:", options.prefix);
    // What a connection has failed over.
    let mut kept = Vec::new();
    loop {
        let error = match Link::open(&options, options.response_timeout).await {
            Ok(link) => serve(link, &key, &mut orders, &mut kept).await,
            Err(error) => error,
        };
        tracing::debug!(%error, "places at workers are not counted now");
        let again = Instant::now() + RETRY;
        while Instant::now() < again
            && let Ok(Some(order)) = timeout_at(again, orders.recv()).await
        {
            // One that is to be taken is not, and who waits for it is told by the drop.
            if !matches!(order, PlaceOrder::Take { .. }) {
                keep(&mut kept, vec![order]);
            }
        }
        sleep_until(again).await;
    }
}

/// Carries out orders until Redis fails; what may not have been done by then is in `kept`.
async fn serve(
    mut link: Link,
    key: &str,
    orders: &mut UnboundedReceiver<PlaceOrder>,
    kept: &mut Vec<PlaceOrder>,
) -> RedisError {
    loop {
        let mut batch: Vec<PlaceOrder> = kept.drain(..kept.len().min(BATCH)).collect();
        if batch.is_empty() {
            orders.recv_many(&mut batch, BATCH).await;
        }
        if batch.is_empty() {
            // Nobody orders any more: the server has ended.
            std::future::pending::<()>().await;
        }
        match carry_out(&mut link, key, &batch).await {
            Ok(done) => {
                for (order, is_done) in batch.into_iter().zip(done) {
                    if let PlaceOrder::Take { reply, .. } = order {
                        // Who has given up meanwhile gives it back by an order of its own.
                        let _ = reply.send(is_done);
                    }
                }
            }
            Err(error) => {
                keep(kept, batch);
                return error;
            }
        }
    }
}

async fn carry_out(link: &mut Link, key: &str, orders: &[PlaceOrder]) -> RedisResult<Vec<bool>> {
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(1).arg(key);
    for order in orders {
        let (what, place, lasts, room) = match order {
            PlaceOrder::Take { place, room, lasts, .. } => ("take", place, *lasts, *room),
            PlaceOrder::Keep { place, lasts } => ("keep", place, *lasts, 0),
            PlaceOrder::Leave(place) => ("leave", place, Duration::ZERO, 0),
        };
        command
            .arg(what)
            .arg(name(place))
            .arg(place.request.to_string())
            .arg(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX))
            .arg(room);
    }
    let answer: Value = link.send(&command).await?;
    let answers: String = redis::from_redis_value(answer)?;
    Ok(answers.bytes().map(|answer| answer == b'1').collect())
}

/// What a worker is called in the name of a key: workers name themselves as they like.
fn name(place: &Place) -> String {
    Sha256::digest(place.instance.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Keeps orders to carry them out later. A place that could not be taken now is none; it may have been taken all the same.
fn keep(kept: &mut Vec<PlaceOrder>, orders: Vec<PlaceOrder>) {
    for order in orders {
        kept.push(match order {
            // Its reply is dropped with it.
            PlaceOrder::Take { place, .. } => PlaceOrder::Leave(place),
            order => order,
        });
    }
    let surplus = kept.len().saturating_sub(KEPT);
    kept.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callboard_actors::workers::{CallKey, RequestId};
    use callboard_backends::redis::Redis;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::sync::oneshot;
    use ulid::Ulid;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn place(instance: &str, n: u8) -> Place {
        let request = RequestId {
            key: CallKey::derive(&[&[n]]),
            sending: Ulid(u128::from(n)),
        };
        Place {
            instance: Arc::from(instance),
            request,
        }
    }

    /// An instance of the server.
    fn instance(redis: &Redis) -> UnboundedSender<PlaceOrder> {
        let (orders, received) = unbounded_channel();
        tokio::spawn(run(Options::new(redis.url()), received));
        orders
    }

    async fn take(orders: &UnboundedSender<PlaceOrder>, place: Place, lasts: Duration) -> bool {
        let (reply, taken) = oneshot::channel();
        let order = PlaceOrder::Take {
            place,
            room: 2,
            lasts,
            reply,
        };
        orders.send(order).expect("it is carried out");
        taken.await.unwrap_or(false)
    }

    #[tokio::test]
    async fn places_are_counted_over_all_instances_and_end_by_themselves() {
        let mut redis = Redis::start().expect("Redis starts");
        let (here, there) = (instance(&redis), instance(&redis));
        assert!(take(&here, place("a", 0), LONG).await && take(&there, place("a", 1), LONG).await);
        assert!(!take(&here, place("a", 2), LONG).await && !take(&there, place("a", 2), LONG).await);
        assert!(take(&here, place("b", 2), LONG).await, "another worker has its own");
        there.send(PlaceOrder::Leave(place("a", 0))).expect("it is carried out");
        assert!(take(&there, place("a", 3), Duration::from_millis(1)).await);
        // Its end was not told.
        while !take(&here, place("a", 4), LONG).await {}
        redis.kill().expect("Redis can be killed");
        assert!(!take(&here, place("c", 0), LONG).await, "nobody can tell");
        here.send(PlaceOrder::Keep {
            place: place("c", 1),
            lasts: LONG,
        })
        .expect("it is carried out");
        redis.restart().expect("Redis starts");
        // What was said meanwhile is told first.
        while !take(&here, place("c", 2), LONG).await {}
        assert!(!take(&there, place("c", 3), LONG).await);
    }
}
