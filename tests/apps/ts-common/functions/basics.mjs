// Plain step functions: none, one, ten, loops, sleeps, gates.

export const basics = ({ fn, observer }) => [
  fn("hello", ({ event }) => ({ hello: event.data.name ?? "world" })),

  fn("echo", ({ event, events, runId, attempt }) => ({ event, events, run_id: runId, attempt })),

  fn("one-step", async ({ run }) => ({ only: await run("only", () => 1) })),

  fn("ten-steps", async ({ run }) => {
    const sum = [];
    for (let i = 0; i < 10; i++) sum.push(await run(`step-${i}`, () => i));
    return sum;
  }),

  // As many sequential steps as the event asks for.
  fn("many-steps", async ({ event, run }) => {
    let last = null;
    for (let i = 0; i < event.data.n; i++) last = await run(`step-${i}`, () => i);
    return { last };
  }),

  // One user id three times: the SDK tells them apart by hashing a counter.
  fn("loop", async ({ run }) => {
    const seen = [];
    for (let i = 0; i < 3; i++) seen.push(await run("again", () => i));
    return seen;
  }),

  fn("sleep", async ({ event, step, run }) => {
    await run("before");
    await step.sleep("nap", event.data.sleep_ms ?? 1000);
    await run("after");
    return "slept";
  }),

  fn("sleep-until", async ({ event, step, run }) => {
    const until = await run("compute", () => new Date(Date.now() + (event.data.sleep_ms ?? 1000)).toISOString());
    await step.sleepUntil("nap", new Date(until));
    await run("after");
    return { until };
  }),

  // Tells which run each result is of, and what the second step was given.
  fn("rerun", async ({ runId, step, run, note }) => {
    const first = await run("first", () => runId);
    const second = await step.run(
      "second",
      (...given) => {
        note("second");
        return { run_id: runId, given };
      },
      1,
      "two",
    );
    await run("third", () => runId);
    return { first, second };
  }),

  // Stays inside a step until the test opens the gate named by the event.
  fn("gated", async ({ event, run, note }) => {
    await run("before");
    await run("held", async () => {
      await observer.gate(event.data.gate ?? "default");
      note("released");
    });
    await run("after");
    return "passed";
  }),
];
