// What functions put off until their run has ended, on SDKs that can.

export const deferrals = ({ fn, client, observer, createDefer }) => {
  if (!createDefer) return [];
  // Logs what it is given, and whose run has put it off.
  const deferred = createDefer(client, { id: "deferred" }, async (ctx) => {
    const { data, meta } = ctx.event;
    observer.log.push({ fn: "deferred", step: null, run_id: ctx.runId, parent: ctx.parents[0].runId, data, meta, parents: ctx.parents });
    return ctx.step.run("later", () => data);
  });
  // Not among the functions that are registered.
  const unknown = createDefer(client, { id: "unregistered" }, () => null);
  const put = (defer, id, data = { id }, more = {}) => defer(id, { function: deferred, data, ...more });

  const defers = async ({ run, defer }) => {
    put(defer, "before");
    await run("work", () => {
      put(defer, "within");
      return "worked";
    });
    put(defer, "work", { id: "named like a step" });
    defer("nobody", { function: unknown, data: {} });
    await run("more");
    put(defer, "last", { id: "last" }, { experiment: { experimentName: "prompt", variant: "short" } });
    return "ended";
  };

  return [
    deferred,
    fn("defers", defers),
    fn("defers-plain", defers, { checkpointing: false }),
    fn("defers-aborts", async ({ run, defer }) => {
      put(defer, "at once").abort();
      const shipped = put(defer, "shipped");
      put(defer, "kept");
      await run("work");
      shipped.abort();
      await run("more");
      return "ended";
    }),
    fn("defers-and-fails", async ({ run, defer, attempt }) => {
      put(defer, "before the step");
      await run("work");
      put(defer, "before the end", { attempt });
      throw new Error("fails on purpose");
    }, { retries: 1 }),
    fn("defers-gated", async ({ event, run, defer }) => {
      put(defer, "before the kill");
      await run("before");
      await run("held", () => observer.gate(event.data.gate));
      put(defer, "after the kill");
      return "ended";
    }),
    fn("defers-and-waits", async ({ step, defer }) => {
      put(defer, "waiting");
      await step.sleep("for long", "1h");
    }),
    fn("defers-sessions", async ({ defer }) => {
      put(defer, "inherits");
      put(defer, "overrides", { id: "overrides" }, { meta: { sessions: { user: "other" } } });
      put(defer, "forgets", { id: "forgets" }, { meta: { sessions: null } });
      return "ended";
    }),
  ];
};
