// Invoking other functions: success, error, unknown function, timeout.

export const invokes = ({ fn, sdk, client }) => {
  const target = fn("invoke-target", async ({ event, run }) => ({ doubled: await run("double", () => event.data.n * 2) }), { triggers: [] });
  const failing = fn(
    "invoke-failing",
    async () => {
      throw new sdk.NonRetriableError("the callee gives up");
    },
    { triggers: [] },
  );
  const slow = fn("invoke-slow", async ({ step }) => void (await step.sleep("long", "1h")), { triggers: [] });
  const unknown = sdk.referenceFunction({ appId: client.id, functionId: "does-not-exist" });

  /** `data.uncaught` lets the error end the run. */
  const invoking = (id, target, options = {}) =>
    fn(id, async ({ event, step, run }) => {
      try {
        const got = await step.invoke("call", { function: target, data: { n: event.data.n ?? 21, key: event.data.key, batched: true }, ...options });
        return { got, after: await run("after") };
      } catch (error) {
        if (event.data.uncaught) throw error;
        return { caught: { name: error.name, message: error.message }, after: await run("after") };
      }
    });

  return [
    target,
    failing,
    slow,
    invoking("invoke", target),
    invoking("invoke-error", failing),
    invoking("invoke-missing", unknown),
    invoking("invoke-timeout", slow, { timeout: 1000 }),
    invoking("invoke-batch", sdk.referenceFunction({ appId: client.id, functionId: "batch-if" })),
    invoking("invoke-debounce", sdk.referenceFunction({ appId: client.id, functionId: "debounce" })),
  ];
};
