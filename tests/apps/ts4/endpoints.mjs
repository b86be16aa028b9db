// Durable endpoints: handlers of HTTP requests whose steps are a run's. Served at /endpoints/<name>.

import { Inngest, step } from "inngest";
import { stream } from "inngest/experimental/durable-endpoints";
import { fetchWithStream } from "inngest/experimental/durable-endpoints/client";
import { endpointAdapter, serveEndpoint } from "inngest/node";

/** Follows an endpoint's stream as a browser would; logs what it is told. */
export async function follow(url, note) {
  const told = (kind) => (what) => note({ kind, ...what });
  const response = await fetchWithStream(url, {
    onMetadata: told("metadata"),
    onData: told("data"),
    onCommit: told("commit"),
    onRollback: told("rollback"),
  });
  note({ kind: "response", status: response.status, body: await response.text() });
}

/** The handlers by name, as listeners of node's HTTP server. `note` writes a line into the log. */
export function endpoints(options, note) {
  const client = new Inngest({ ...options, endpointAdapter });
  const failures = new Map();
  const ran = (name, body = () => name) =>
    step.run(name, async () => {
      note(name);
      return body();
    });
  const all = {
    // Two steps, and done.
    quick: async () => {
      const first = await ran("first");
      return { first, second: await ran("second") };
    },
    // What can't be waited for.
    sleepy: async () => {
      await ran("before");
      await step.sleep("nap", "1s");
      await ran("after");
      return "hello world";
    },
    parallel: async () => {
      const both = await Promise.all([ran("left"), ran("right")]);
      return { both, last: await ran("last") };
    },
    response: async () => {
      await step.sleep("nap", "1s");
      return Response.json("hello world", { status: 202 });
    },
    // Streams from steps and from its body, before and after it had to wait; its second step fails once.
    told: async () => {
      await ran("one", () => stream.push("one"));
      await step.sleep("nap", "1s");
      await ran("two", async () => {
        if (!failures.get("told")) {
          failures.set("told", 1);
          stream.push("wrong");
          throw new Error("fails once");
        }
        await stream.pipe(async function* () {
          yield "t";
          yield "wo";
        });
      });
      stream.push("end");
      return "told";
    },
    // Fails as often as `times` says, for each `key`.
    flaky: async (req) => {
      const query = new URL(req.url).searchParams;
      const body = await req.text().catch(() => "");
      return ran("flaky", () => {
        const failed = failures.get(query.get("key")) ?? 0;
        if (failed < Number(query.get("times"))) {
          failures.set(query.get("key"), failed + 1);
          throw new Error(`failed ${failed + 1} times`);
        }
        return { failed, body };
      });
    },
  };
  return Object.fromEntries(Object.entries(all).map(([name, handler]) => [name, serveEndpoint(client.endpoint(handler))]));
}
