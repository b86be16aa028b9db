// What functions note about themselves, on SDKs that can: metadata, scores, variants of experiments.

/** Spans within each other, of which the last one fails. */
const spans = (tracer, names) => {
  const [name, ...rest] = names;
  tracer.startActiveSpan(name, (span) => {
    span.setAttribute("place", names.length);
    if (rest.length > 0) spans(tracer, rest);
    else span.setStatus({ code: 2, message: "on purpose" });
    span.end();
  });
};

const traced = ({ fn, traced }) => !traced ? [] : [
  fn("traced", async ({ run, tracer }) => {
    spans(tracer, ["in the body"]);
    await run("first", () => spans(tracer, ["outer", "inner"]));
    await run("second", () => spans(tracer, ["alone"]));
    return "traced";
  }),
];

export const notes = ({ fn, client, sdk, canNote, ...flavour }) => !canNote ? [] : [
  ...traced({ fn, ...flavour }),
  fn("notes", async ({ run, step, group }) => {
    await run("measure", async () => {
      await client.metadata.set({ a: 1, b: 1 }, "size");
      await client.metadata.update({ b: 2 }, "size");
      await client.score({ name: "speed", value: 0.25 });
      await client.metadata.run().set({ from: "measure" });
    });
    await step.score("grade", { name: "passed", value: true });
    const { variant } = await group.experiment("prompt", {
      variants: { short: () => run("short"), long: () => run("long") },
      select: sdk.experiment.fixed("short"),
    });
    return variant;
  }),
  // Notes something about each attempt, of which the first fails.
  fn("notes-attempts", async ({ run, failing, attempt }) => {
    await run("flaky", async () => {
      await client.metadata.attempt().set({ attempt });
      failing("flaky", 1);
      return "made it";
    });
  }),
];
