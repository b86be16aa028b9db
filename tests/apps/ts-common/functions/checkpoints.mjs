// Functions whose steps are reported while their call goes on, where the SDK does so.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const checkpoints = ({ fn, observer, checkpointing }) =>
  checkpointing === undefined
    ? []
    : [
        fn(
          "plain-steps",
          async ({ run }) => {
            const sum = [];
            for (let i = 0; i < 10; i++) sum.push(await run(`step-${i}`, () => i));
            return sum;
          },
          { checkpointing: false },
        ),

        fn(
          "plain-gated",
          async ({ event, run }) => {
            await run("before");
            await run("held", () => observer.gate(event.data.gate));
            await run("after");
            return "passed";
          },
          { checkpointing: false },
        ),

        fn(
          "buffered-steps",
          async ({ run }) => {
            for (let i = 0; i < 5; i++) await run(`step-${i}`, () => i);
            return "buffered";
          },
          { checkpointing: { bufferedSteps: 3 } },
        ),

        // The second step fails as often as the event says.
        fn("second-fails", async ({ attempt, run, failing }) => {
          await run("first");
          const got = await run("second", () => (failing("second", 1), attempt));
          return { got, third: await run("third") };
        }),

        // Longer than a call may go on, after as many steps as the event says.
        fn(
          "max-runtime",
          async ({ event, run }) => {
            for (let i = 0; i < event.data.steps; i++) {
              await run(`step-${i}`, () => i);
              await pause(event.data.pause_ms);
            }
            if (event.data.steps === 0) await pause(event.data.pause_ms);
            return "in the end";
          },
          { checkpointing: { maxRuntime: "500ms" } },
        ),

        fn("after-parallel", async ({ run }) => {
          await Promise.all([run("left"), run("right")]);
          await run("third");
          await run("fourth");
          return "joined";
        }),

        // The first step of the first attempt waits for a gate; so does the second step of any.
        fn("zombie", async ({ event, attempt, run }) => {
          await run("a", () => (attempt === 0 ? observer.gate(event.data.first) : null));
          await run("b", () => observer.gate(event.data.second));
          await run("c");
          await run("d");
          return "alive";
        }),
      ];
