// The part of a TypeScript SDK test app that does not depend on the SDK's major version.
//
// Promises: binds loopback only; prints exactly one line, `listening <port>`, on stdout; serves the SDK at
// /api/inngest and the side channel described in ../README.md at every other path.
// Never: keeps state on disk, talks to anything but CALLBOARD_URL and itself.

import http from "node:http";
import { Observer } from "./observer.mjs";
import { functions } from "./functions/index.mjs";

const ignore = () => {};

/** What the SDKs log about failures that the tests cause on purpose is dropped, unless APP_VERBOSE=1. */
export const logger =
  process.env.APP_VERBOSE === "1" ? console : { debug: ignore, info: ignore, warn: ignore, error: ignore };

/**
 * Points the SDK at the server under test. Must run before the SDK's client is built, because the
 * client reads the environment once.
 */
export function prepareEnvironment() {
  // stdout belongs to the `listening` line; whatever the SDK prints goes to stderr.
  console.log = console.info = console.debug = console.error;
  const url = process.env.CALLBOARD_URL ?? "http://127.0.0.1:8288";
  if (process.env.INNGEST_SIGNING_KEY) {
    process.env.INNGEST_DEV = "0";
    process.env.INNGEST_BASE_URL ??= url;
    process.env.INNGEST_EVENT_KEY ??= "test-event-key";
  } else {
    process.env.INNGEST_DEV ??= url;
  }
}

/**
 * Starts the app.
 *
 * @param flavour what differs between SDK majors:
 *   `client`, `serve` (the node adapter), `connect` (where the SDK has it), `sdk` (the module), `streaming` (value for
 *   serve's option), `checkpointing` (set where functions report steps while their call goes on),
 *   `endpoints` (makes the durable endpoints by name, where the SDK has them), `another(id, handlers)` (another app of these functions, where the SDK connects), `follow(url, note)` (a stream of theirs),
 *   `realtime` (`publish(ctx, id, channel, topic, data)` within a run, `subscribe(channel, topics, onMessage)`; where the
 *   SDK has it, `direct(channel, topic, data)` and `token(channel, topics)`), `define(opts, triggers, handler)`, `group` (or null where the SDK has no race mode).
 */
export function start(flavour) {
  const observer = new Observer();
  const app = { origin: "" };
  const list = functions({ ...flavour, observer, app });
  const sdkHandler = flavour.serve({
    client: flavour.client,
    functions: list,
    ...(process.env.STREAMING === "1" ? { streaming: flavour.streaming } : {}),
  });

  const worker = { connection: null };
  const endpoints = flavour.endpoints?.((step) => observer.log.push({ fn: "@endpoint", step })) ?? {};

  const server = http.createServer((req, res) => {
    const url = new URL(req.url, "http://app");
    const endpoint = endpoints[/^\/endpoints\/([a-z]+)$/.exec(url.pathname)?.[1]];
    if (endpoint) return observer.serveEndpoint(req, res, url, endpoint);
    if (url.pathname === "/api/inngest") return observer.serve(req, res, url, sdkHandler);
    route(req, res, url, observer, { ...flavour, app }, worker).catch((error) => {
      json(res, 500, { error: String(error?.stack ?? error) });
    });
  });
  server.keepAliveTimeout = 120_000;
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", async () => {
    const { port } = server.address();
    app.origin = `http://127.0.0.1:${port}`;
    if (process.env.CONNECT === "1") {
      worker.connection = await flavour.connect({
        apps: [{ client: flavour.client, functions: list }, ...moreApps(flavour, observer)],
        instanceId: process.env.INSTANCE_ID,
        handleShutdownSignals: [],
      });
    }
    process.stdout.write(`listening ${port}\n`);
  });

  // A harness that dies closes our stdin: do not outlive it.
  if (process.env.EXIT_WITH_STDIN === "1") process.stdin.on("end", () => process.exit(0)).resume();
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
}

/** The apps of MORE_APPS (`app=function+function,app=…`) on the same connection. Their functions log one step, `only`. */
function moreApps({ another }, observer) {
  const named = (process.env.MORE_APPS ?? "").split(",").filter(Boolean);
  return named.map((text) => {
    const [id, names] = text.split("=");
    const handler = (name) => ({ step, runId }) =>
      step.run("only", () => void observer.log.push({ fn: `${id}/${name}`, step: "only", run_id: runId }));
    return another(id, Object.fromEntries(names.split("+").map((name) => [name, handler(name)])));
  });
}

async function route(req, res, url, observer, { client, realtime, follow, app }, worker) {
  const key = `${req.method} ${url.pathname}`;
  switch (key) {
    case "GET /healthz":
      return json(res, 200, { ok: true });
    case "GET /log":
      return json(res, 200, await observer.log.wait(url.searchParams));
    case "GET /calls":
      return json(res, 200, await observer.calls.wait(url.searchParams));
    case "DELETE /log":
      observer.clear();
      return json(res, 200, { ok: true });
    case "POST /control":
      return json(res, 200, observer.control(await body(req)));
    case "POST /send":
      return json(res, 200, await client.send(await body(req)));
    case "POST /score":
      await client.score(await body(req));
      return json(res, 200, { ok: true });
    case "POST /subscribe": {
      const { channel, topics, plain } = await body(req);
      if (plain) await listen(await realtime.token(channel, topics), observer.log);
      else await realtime.subscribe(channel, topics, hear(observer.log));
      return json(res, 200, { ok: true });
    }
    case "POST /publish": {
      const { channel, topic, data, pieces } = await body(req);
      await realtime.direct(channel, topic, pieces ? streamOf(pieces) : data);
      return json(res, 200, { ok: true });
    }
    case "POST /follow": {
      const { path } = await body(req);
      await follow(`${app.origin}${path}`, (what) => observer.log.push({ fn: "@stream", step: null, ...what }));
      return json(res, 200, { ok: true });
    }
    case "GET /connect":
      return json(res, 200, { state: worker.connection.state });
    case "POST /connect/close":
      worker.connection.close().catch(() => {});
      return json(res, 200, { ok: true });
    case "GET /plain":
    case "POST /plain": {
      observer.log.push({ fn: "@plain", step: null, method: req.method, body: await text(req) });
      res.writeHead(Number(url.searchParams.get("status") ?? 200), { "content-type": "application/json", "x-plain": "yes" });
      return res.end(JSON.stringify({ plain: true, method: req.method }));
    }
    case "POST /openai/v1/chat/completions": {
      const asked = await body(req);
      observer.log.push({ fn: "@openai", step: null, authorization: req.headers.authorization ?? null, body: asked });
      if (observer.take("openai")) return json(res, 500, { error: { message: "model overloaded", type: "server_error" } });
      return json(res, 200, {
        id: "chatcmpl-1",
        object: "chat.completion",
        created: 1,
        model: asked.model,
        choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "forty-two" } }],
        usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
      });
    }
    default:
      return json(res, 404, { error: `no route ${key}` });
  }
}

/** Logs what a subscription of the SDK hears. */
function hear(log) {
  return ({ kind, channel, topic, data, runId }) => {
    log.push({ fn: "@realtime", step: null, kind, channel, topic, data, run_id: runId ?? null });
  };
}

/** Subscribes without the SDK, whose own reader fails at the start of a stream. Logs messages as they are. */
async function listen(token, log) {
  const url = new URL("/v1/realtime/connect", process.env.CALLBOARD_URL);
  url.protocol = "ws:";
  url.searchParams.set("token", token);
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => log.push({ fn: "@realtime", step: null, ...JSON.parse(data) });
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
}

function streamOf(pieces) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(encoder.encode(piece));
      controller.close();
    },
  });
}

async function text(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

async function body(req) {
  const raw = await text(req);
  return raw === "" ? {} : JSON.parse(raw);
}

function json(res, status, value) {
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify(value));
}
