// One function per flow-control option. Each body is a single logged step, so that a test can count and time them.

export const flow = ({ fn, observer }) => {
  const counted = (id, options) => fn(id, async ({ event, events, run, note }) => {
    note("started", { data: event.data, events: events.length });
    await run("work", () => (event.data.gate ? observer.gate(event.data.gate) : null));
    return { events: events.length };
  }, options);

  return [
    counted("concurrency", { concurrency: 1 }),
    counted("concurrency-key", { concurrency: [{ limit: 1, key: "event.data.key" }] }),
    counted("throttle", { throttle: { limit: 1, period: "2s", key: "event.data.key" } }),
    counted("throttle-hourly", { throttle: { limit: 1, period: "1h", key: "event.data.key" } }),
    counted("rate-limit", { rateLimit: { limit: 2, period: "1m", key: "event.data.key" } }),
    counted("debounce", { debounce: { period: "1s", key: "event.data.key", timeout: "5s" } }),
    counted("batch", { batchEvents: { maxSize: 3, timeout: "2s", key: "event.data.key" } }),
    counted("batch-if", {
      batchEvents: { maxSize: 3, timeout: "1h", key: "event.data.key", if: "event.data.batched" },
    }),
    counted("priority", { priority: { run: "event.data.priority" }, concurrency: 1 }),
    counted("idempotency", { idempotency: "event.data.key" }),
    counted("singleton-skip", { singleton: { mode: "skip", key: "event.data.key" } }),
    counted("singleton-cancel", { singleton: { mode: "cancel", key: "event.data.key" } }),
    counted("timeout-start", { timeouts: { start: "2s" }, concurrency: 1 }),
    fn("timeout-finish", async ({ step }) => void (await step.sleep("long", "1h")), { timeouts: { finish: "2s" } }),
  ];
};
