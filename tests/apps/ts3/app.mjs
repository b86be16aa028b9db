// The test app on the SDK's 3.x line. Everything but the differences to 4.x lives in ../ts-common.

import { logger, prepareEnvironment, start } from "../ts-common/app.mjs";

prepareEnvironment();
const sdk = await import("inngest");
const { serve } = await import("inngest/node");
const { subscribe } = await import("@inngest/realtime");
const { realtimeMiddleware } = await import("@inngest/realtime/middleware");

const client = new sdk.Inngest({ id: process.env.APP_ID ?? "ts3", logger, middleware: [realtimeMiddleware()] });

start({
  client,
  serve,
  sdk,
  // 3.x has no race mode.
  group: null,
  streaming: "force",
  realtime: {
    publish: (ctx, _id, channel, topic, data) => ctx.publish({ channel, topic, data }),
    subscribe: (channel, topics, onMessage) => subscribe({ app: client, channel, topics }, onMessage),
  },
  define: (options, triggers, handler) => client.createFunction(options, triggers, handler),
});
