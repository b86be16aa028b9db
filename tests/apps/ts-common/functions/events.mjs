// Sending events from a step, and the many ways of being triggered.

export const events = ({ fn, client }) => [
  fn("send-event", async ({ event, step }) => step.sendEvent("send", { name: "test/sent", data: { from: event.data.from ?? "send-event" } })),

  fn("send-many", async ({ event, step }) => {
    const list = Array.from({ length: event.data.n ?? 20 }, (_, i) => ({ name: "test/sent-many", data: { i } }));
    return step.sendEvent("send", list);
  }),

  fn("on-sent", ({ event, note }) => void note("got", { data: event.data }), { triggers: [{ event: "test/sent" }] }),

  fn("on-sent-many", ({ event, note }) => void note("got", { data: event.data }), { triggers: [{ event: "test/sent-many" }] }),

  fn("wildcard", ({ event, note }) => void note("got", { name: event.name }), { triggers: [{ event: "shop/*" }] }),

  fn("trigger-expression", ({ event }) => ({ total: event.data.total }), {
    triggers: [{ event: "test/trigger-expression", if: "event.data.total > 10 && event.data.currency == 'EUR'" }],
  }),

  fn("several-triggers", ({ event }) => ({ name: event.name }), {
    triggers: [{ event: "test/several.one" }, { event: "test/several.two", if: "event.data.ok == true" }, { event: "test/several.*" }],
  }),

  fn("cron", ({ event, note }) => void note("tick", { name: event.name, data: event.data }), { triggers: [{ cron: "* * * * *" }] }),

  fn("on-failed", ({ event, note }) => void note("got", { data: event.data }), {
    triggers: [{ event: "inngest/function.failed", if: `event.data.function_id == '${client.id}-body-fails-always'` }],
  }),

  fn("on-finished", ({ event, note }) => void note("got", { data: event.data }), {
    triggers: [{ event: "inngest/function.finished", if: `event.data.function_id == '${client.id}-hello'` }],
  }),

  fn("on-cancelled", ({ event, note }) => void note("got", { data: event.data }), { triggers: [{ event: "inngest/function.cancelled" }] }),

  fn(
    "cancel-on",
    async ({ step, run }) => {
      await run("before");
      await step.sleep("long", "1h");
      await run("after");
    },
    { cancelOn: [{ event: "test/cancel-on.cancel", if: "event.data.id == async.data.id" }] },
  ),

  fn("cancel-match", async ({ step }) => void (await step.sleep("long", "1h")), {
    cancelOn: [{ event: "test/cancel-match.cancel", match: "data.id", timeout: "1h" }],
  }),
];
