// Parallel steps: a join, branches with several steps, a race, a wide fan-out, a failing branch.

import { setTimeout as pause } from "node:timers/promises";

export const parallel = ({ fn, group }) => [
  fn("parallel", async ({ run }) => {
    const part = (name, ms) => run(name, async () => (await pause(ms), name));
    const parts = await Promise.all([part("slow", 300), part("middle", 150), part("fast", 20)]);
    return { joined: await run("join", () => parts.join("+")) };
  }),

  fn("parallel-branches", async ({ run }) => {
    const branch = async () => `${await run("a1")},${await run("a2")}`;
    return Promise.all([branch(), run("b", async () => (await pause(200), "b"))]);
  }),

  // Steps, a sleep and a branch that fails for good, in one group.
  fn(
    "parallel-mixed",
    async ({ run, step, failing }) => {
      const caught = run("bad", () => failing("bad", 100)).catch((error) => `caught ${error.message}`);
      const [good, bad] = await Promise.all([run("good"), caught, step.sleep("nap", 1000)]);
      return { good, bad };
    },
    { retries: 0 },
  ),

  // As many parallel steps as the event asks for.
  fn("fan-out", async ({ event, run }) => {
    const parts = await Promise.all(Array.from({ length: event.data.n ?? 20 }, (_, i) => run(`part-${i}`, () => i)));
    return { sum: parts.reduce((a, b) => a + b, 0) };
  }),

  ...(group
    ? [
        fn("race", async ({ run }) => {
          const part = (name, ms) => run(name, async () => (await pause(ms), name));
          const winner = await group.parallel({ mode: "race" }, () => Promise.race([part("slow", 2000), part("fast", 20)]));
          return { winner, after: await run("after", () => winner) };
        }),
      ]
    : []),
];
