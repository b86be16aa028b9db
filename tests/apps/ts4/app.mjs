// The test app on the SDK's 4.x line. Everything but the differences to 3.x lives in ../ts-common.
// Options are left at the SDK's defaults, checkpointing included.

import { logger, prepareEnvironment, start } from "../ts-common/app.mjs";

prepareEnvironment();
const sdk = await import("inngest");
const { endpoints, follow } = await import("./endpoints.mjs");
const { serve } = await import("inngest/node");
const { connect } = await import("inngest/connect");

const { createDefer, metadataMiddleware, scoreMiddleware } = await import("inngest/experimental");

// Spans of the app's own, kept in memory by nobody but the SDK, which sends them to the server.
const traces = [];
if (process.env.EXTENDED_TRACES === "1") {
  const { context, trace } = await import("@opentelemetry/api");
  const { AsyncLocalStorageContextManager } = await import("@opentelemetry/context-async-hooks");
  const { BasicTracerProvider } = await import("@opentelemetry/sdk-trace-base");
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(new BasicTracerProvider());
  const { extendedTracesMiddleware } = await import("inngest/experimental");
  traces.push(extendedTracesMiddleware({ behaviour: "extendProvider" }));
}

const options = { id: process.env.APP_ID ?? "ts4", logger };
const client = new sdk.Inngest({ ...options, middleware: [metadataMiddleware(), scoreMiddleware(), ...traces] });

start({
  client,
  serve,
  connect,
  sdk,
  group: sdk.group,
  streaming: true,
  canNote: true,
  createDefer,
  traced: traces.length > 0,
  checkpointing: true,
  realtime: {
    publish: (ctx, id, channel, topic, data) => ctx.step.realtime.publish(id, { channel, topic }, data),
    direct: (channel, topic, data) => client.realtime.publish({ channel, topic }, data),
    token: async (channel, topics) => (await client.realtime.token({ channel, topics })).key,
    subscribe: (channel, topics, onMessage) => client.realtime.subscribe({ channel, topics, onMessage }),
  },
  follow,
  endpoints: (note) => endpoints(options, note),
  another: (id, functions) => {
    const other = new sdk.Inngest({ ...options, id });
    const define = ([name, handler]) => other.createFunction({ id: name, triggers: [{ event: `test/${id}-${name}` }] }, handler);
    return { client: other, functions: Object.entries(functions).map(define) };
  },
  define: (options, triggers, handler) => client.createFunction({ ...options, triggers }, handler),
});
