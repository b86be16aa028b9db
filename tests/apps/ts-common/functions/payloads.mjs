// Step outputs of every kind and size, and the requests the server makes on a function's behalf.

export const payloads = ({ fn, app }) => [
  fn("outputs", async ({ run }) => {
    const kinds = {
      null: () => null,
      undefined: () => undefined,
      zero: () => 0,
      false: () => false,
      empty: () => "",
      fraction: () => 1.5,
      big: () => 2 ** 53 + 1,
      list: () => [1, [2, []], {}],
      data: () => ({ data: { data: "nested" } }),
      error: () => ({ error: { name: "NotAnError", message: "only data" } }),
      both: () => ({ data: 1, error: null, extra: true }),
      unicode: () => ({ "ключ": "zażółć gęślą jaźń", "🙂": "👩‍👩‍👧‍👦", quote: "\"\\\u0000\u2028</script>" }),
      keys: () => ({ b: 1, a: 2, "€": 3, "\r": 4, 1: 5 }),
    };
    const got = {};
    for (const [kind, make] of Object.entries(kinds)) got[kind] = await run(kind, make);
    return got;
  }),

  // Two outputs of 3 MiB do not fit into one call: the state has to be fetched.
  fn(
    "large-outputs",
    async ({ event, run }) => {
      const lengths = [];
      for (let i = 0; i < (event.data.steps ?? 2); i++) {
        const text = await run(`large-${i}`, () => String.fromCharCode(97 + i).repeat(event.data.bytes ?? 3 * 1024 * 1024));
        lengths.push(text.length);
      }
      return { lengths };
    },
    // Steps that are reported while their call goes on need not be sent back.
    { checkpointing: false },
  ),

  fn("large-result", ({ event }) => "r".repeat(event.data.bytes ?? 1024 * 1024), { retries: 0 }),

  fn("fetch", async ({ event, step }) => {
    const url = `${app.origin}/plain?status=${event.data.status ?? 200}`;
    const answer = await step.fetch(url, { method: "POST", headers: { "x-from": "fetch" }, body: JSON.stringify({ asked: true }) });
    return { status: answer.status, header: answer.headers.get("x-plain"), body: await answer.json() };
  }),

  fn("ai-infer", async ({ step }) => {
    const answer = await step.ai.infer("ask", {
      model: step.ai.models.openai({ model: "fake-model", apiKey: "fake-key", baseUrl: `${app.origin}/openai/v1/` }),
      body: { messages: [{ role: "user", content: "what is the answer?" }] },
    });
    return { content: answer.choices[0].message.content };
  }),
];
