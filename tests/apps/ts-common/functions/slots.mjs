// Functions under concurrency limits that count how many of them are at work at the same moment, as only the app can.

export const slots = ({ fn, observer }) => {
  const busy = new Map();

  /** A step `work`, which logs `busy` with the count for its key, then waits at `data.gate` or for `data.work_ms`. */
  const counting = (id, of, options) => fn(id, async ({ event, run, note }) => {
    await run("work", async () => {
      const key = of(event);
      busy.set(key, (busy.get(key) ?? 0) + 1);
      note("busy", { key, busy: busy.get(key) });
      if (event.data.gate) await observer.gate(event.data.gate);
      else await new Promise((resolve) => setTimeout(resolve, event.data.work_ms ?? 0));
      busy.set(key, busy.get(key) - 1);
    });
    return "done";
  }, options);

  const shared = { concurrency: [{ limit: 1, scope: "account", key: "'global'" }] };
  return [
    counting("slots-key", (event) => event.data.key, { concurrency: [{ limit: 2, key: "event.data.key" }] }),
    counting("slots-one", () => "global", shared),
    counting("slots-two", () => "global", shared),
  ];
};
