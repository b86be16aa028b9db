// Waiting for events and for signals.

export const waits = ({ fn, client }) => {
  const brief = (got) => (got === null ? { timed_out: true } : { timed_out: false, name: got.name, data: got.data });
  const timeout = (event, byDefault) => event.data.timeout_ms ?? byDefault;

  return [
    fn("wait-event", async ({ event, step, run }) => {
      await run("before");
      const got = await step.waitForEvent("answer", { event: "test/wait-event.answer", timeout: timeout(event, 60_000) });
      await run("after");
      return brief(got);
    }),

    fn("wait-timeout", async ({ event, step }) =>
      brief(await step.waitForEvent("answer", { event: "test/never", timeout: timeout(event, 1000) })),
    ),

    fn("wait-if", async ({ event, step }) =>
      brief(
        await step.waitForEvent("answer", {
          event: "test/wait-if.answer",
          if: "event.data.id == async.data.id && async.data.ok == true",
          timeout: timeout(event, 60_000),
        }),
      ),
    ),

    fn("wait-match", async ({ event, step }) =>
      brief(await step.waitForEvent("answer", { event: "test/wait-match.answer", match: "data.id", timeout: timeout(event, 60_000) })),
    ),

    fn("wait-bad-if", async ({ step }) =>
      brief(await step.waitForEvent("answer", { event: "test/never", if: "event.data.id == ", timeout: 60_000 })),
    ),

    // The wait and the event that ends it are reported in one answer: the wait has to be registered first.
    fn("wait-and-send", async ({ event, step }) => {
      const [got] = await Promise.all([
        step.waitForEvent("answer", { event: "test/wait-and-send.answer", match: "data.id", timeout: timeout(event, 60_000) }),
        step.sendEvent("send", { name: "test/wait-and-send.answer", data: { id: event.data.id ?? null } }),
      ]);
      return brief(got);
    }),

    fn("wait-signal", async ({ event, step }) => {
      const got = await step.waitForSignal("signal", {
        signal: event.data.signal ?? "test-signal",
        timeout: timeout(event, 60_000),
        onConflict: event.data.on_conflict ?? "fail",
      });
      return got === null ? { timed_out: true } : { timed_out: false, ...got };
    }),

    fn("send-signal", async ({ event, step }) =>
      step.sendSignal("send", { signal: event.data.signal ?? "test-signal", data: event.data.payload ?? { from: "send-signal" } }),
    ),
  ];
};
