// Every function of the TypeScript test apps, one family per file. ../../README.md lists what each one does.

import { basics } from "./basics.mjs";
import { checkpoints } from "./checkpoints.mjs";
import { deferrals } from "./deferrals.mjs";
import { events } from "./events.mjs";
import { failures } from "./failures.mjs";
import { flow } from "./flow.mjs";
import { invokes } from "./invokes.mjs";
import { notes } from "./notes.mjs";
import { parallel } from "./parallel.mjs";
import { payloads } from "./payloads.mjs";
import { realtime } from "./realtime.mjs";
import { slots } from "./slots.mjs";
import { waits } from "./waits.mjs";

/** Builds the functions for one SDK flavour (see `start` in ../app.mjs). */
export function functions(flavour) {
  const { observer, define } = flavour;

  /** Writes one line into the log. `step` is null for the function's body. */
  const note = (ctx, fn, step, extra = {}) =>
    observer.log.push({ fn, step, run_id: ctx.runId, attempt: ctx.attempt, ...extra });

  /**
   * A function triggered by `test/<id>` unless other triggers are given, whose handler also gets
   * `run(id, body, options?)`: a logged step.
   */
  const fn = (id, handler, { triggers = [{ event: `test/${id}` }], onFailure, ...options } = {}) =>
    define(
      {
        id,
        ...options,
        ...(onFailure ? { onFailure: (ctx) => onFailure({ ...ctx, note: (step, extra) => note(ctx, `${id}-failure`, step, extra) }) } : {}),
      },
      triggers,
      async (ctx) => {
        const run = (step, body = () => step) =>
          ctx.step.run(step, async () => {
            note(ctx, id, step);
            return body();
          });
        const failing = (step, byDefault, makeError = (text) => new Error(text)) => {
          if (observer.mustFail(`${id}/${step}`, ctx.runId, ctx.event, byDefault)) throw makeError(`${id}/${step} fails on purpose`);
        };
        note(ctx, id, null);
        return handler({ ...ctx, run, failing, note: (step, extra) => note(ctx, id, step, extra) });
      },
    );

  const kit = { ...flavour, fn };
  return [basics, checkpoints, deferrals, parallel, failures, waits, invokes, events, payloads, flow, slots, notes, realtime].flatMap((family) => family(kit));
}
