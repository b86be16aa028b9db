// Failing steps and bodies, and who catches what. Defaults can be overridden per run (`data.fail_times`) or by /control.

const ALWAYS = 1000;

export const failures = ({ fn, sdk }) => [
  fn("step-fails", async ({ run, failing }) => {
    const got = await run("flaky", () => (failing("flaky", 2), "made it"));
    return { got };
  }),

  fn(
    "step-fails-caught",
    async ({ run, failing }) => {
      try {
        await run("bad", () => failing("bad", ALWAYS));
      } catch (error) {
        return { caught: error.message, name: error.name, after: await run("after") };
      }
    },
    { retries: 1 },
  ),

  fn("step-fails-uncaught", async ({ run, failing }) => run("bad", () => failing("bad", ALWAYS)), {
    retries: 1,
    onFailure: async ({ event, error, note }) => {
      note(null, { failed_run_id: event.data.run_id, function_id: event.data.function_id, error: { name: error.name, message: error.message } });
      return "noted";
    },
  }),

  fn("body-fails", async ({ run, failing }) => {
    await run("before");
    failing("body", 1);
    return { after: await run("after") };
  }),

  fn(
    "body-fails-always",
    async () => {
      throw new TypeError("the body fails on purpose", { cause: new Error("the deeper reason") });
    },
    { retries: 1, onFailure: ({ error, note }) => void note(null, { error: { name: error.name, message: error.message } }) },
  ),

  fn("non-retriable", async ({ run }) => {
    await run("before");
    throw new sdk.NonRetriableError("do not try again", { cause: new Error("because") });
  }),

  fn("non-retriable-step", async ({ run }) =>
    run("bad", () => {
      throw new sdk.NonRetriableError("this step is hopeless");
    }),
  ),

  fn("retry-after", async ({ failing, event }) => {
    failing("body", 1, (text) => new sdk.RetryAfterError(text, event.data.retry_after_ms ?? 1000));
    return "after the wait";
  }),

  fn("retry-after-step", async ({ run, failing, event }) =>
    run("flaky", () => {
      failing("flaky", 1, (text) => new sdk.RetryAfterError(text, event.data.retry_after_ms ?? 1000));
      return "after the wait";
    }),
  ),
];
