// What a run publishes while it is under way.

export function realtime({ fn, realtime }) {
  if (!realtime) return [];
  return [
    // An object and a text, with a step in between.
    fn("publish", async (ctx) => {
      const { channel } = ctx.event.data;
      await realtime.publish(ctx, "tell", channel, "news", { n: 1 });
      await ctx.run("between");
      await realtime.publish(ctx, "tell-more", channel, "news", "plain text");
      return "told";
    }),
  ];
}
