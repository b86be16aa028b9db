// What an app has seen, and the knobs that change how it behaves.
//
// Promises: every entry carries `seq` (1, 2, 3 …) and `at_ms` (wall clock, milliseconds); a reader may wait for a number
// of matching entries, so that a test never has to poll.
// Never: drops an entry before `clear` is called.

import { ServerResponse } from "node:http";
import { Readable } from "node:stream";

/** An append-only list whose readers can wait for it to grow. */
class Journal {
  #entries = [];
  #seq = 0;
  #waiters = new Set();

  push(entry) {
    const full = { seq: ++this.#seq, at_ms: Date.now(), ...entry };
    this.#entries.push(full);
    for (const wake of [...this.#waiters]) wake();
    return full;
  }

  /** Tells waiting readers that an entry was completed in place. */
  touch() {
    for (const wake of [...this.#waiters]) wake();
  }

  clear() {
    this.#entries = [];
  }

  /**
   * Entries that equal every given parameter, at once or as soon as there are `min` of them, but after
   * `timeout_ms` (default 0) in any case.
   */
  async wait(params) {
    const filters = [...params].filter(([name]) => name !== "min" && name !== "timeout_ms");
    const min = Number(params.get("min") ?? 0);
    const deadline = Date.now() + Number(params.get("timeout_ms") ?? 0);
    for (;;) {
      const found = this.#entries.filter((entry) => filters.every(([name, value]) => String(entry[name]) === value));
      const left = deadline - Date.now();
      if (found.length >= min || left <= 0) return found;
      await new Promise((resolve) => {
        const timer = setTimeout(done, left);
        const waiters = this.#waiters;
        function done() {
          clearTimeout(timer);
          waiters.delete(done);
          resolve();
        }
        waiters.add(done);
      });
    }
  }
}

export class Observer {
  log = new Journal();
  calls = new Journal();
  #failTimes = {};
  #failures = new Map();
  #openGates = new Set();
  #gateWaiters = new Map();
  #http = null;
  #once = {};

  clear() {
    this.log.clear();
    this.calls.clear();
  }

  /** See ../README.md for the keys. Answers the settings in force. */
  control(change) {
    if (change.reset) {
      this.#failTimes = {};
      this.#failures.clear();
      this.#openGates.clear();
      this.#http = null;
      this.#once = {};
    }
    Object.assign(this.#failTimes, change.fail_times ?? {});
    for (const gate of change.open ?? []) this.#open(gate);
    for (const gate of change.close ?? []) this.#openGates.delete(gate);
    if ("http" in change) this.#http = change.http;
    for (const [name, times] of Object.entries(change.once ?? {})) this.#once[name] = times;
    return { fail_times: this.#failTimes, open: [...this.#openGates], http: this.#http, once: this.#once };
  }

  /** Uses up one of the occurrences set with `{"once":{name:n}}`. */
  take(name) {
    if (!(this.#once[name] > 0)) return false;
    this.#once[name] -= 1;
    return true;
  }

  /**
   * Whether this run has to fail at this place once more: the count is per run and place, the limit comes from the
   * event (`data.fail_times`), else from `/control`, else from the function's own default.
   */
  mustFail(place, runId, event, byDefault) {
    const limit = event.data?.fail_times ?? this.#failTimes[place] ?? byDefault;
    const key = `${runId} ${place}`;
    const failed = this.#failures.get(key) ?? 0;
    if (failed >= limit) return false;
    this.#failures.set(key, failed + 1);
    return true;
  }

  /** Resolves once the gate is open; gates are closed until `/control` opens them. */
  gate(name) {
    if (this.#openGates.has(name)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#gateWaiters.set(name, [...(this.#gateWaiters.get(name) ?? []), resolve]);
    });
  }

  #open(name) {
    this.#openGates.add(name);
    for (const resolve of this.#gateWaiters.get(name) ?? []) resolve();
    this.#gateWaiters.delete(name);
  }

  /** Passes one request on to the SDK and records the call, unless `/control` asked for another answer. */
  serve(req, res, url, sdkHandler) {
    const call = this.calls.push({
      method: req.method,
      fn_id: url.searchParams.get("fnId"),
      step_id: url.searchParams.get("stepId"),
      signed: "x-inngest-signature" in req.headers,
      req_version: req.headers["x-inngest-req-version"] ?? null,
      generation: req.headers["x-inngest-generation-id"] ?? null,
      server_kind: req.headers["x-inngest-server-kind"] ?? null,
    });
    res.on("close", () => {
      Object.assign(call, { status: res.statusCode, done_ms: Date.now(), complete: res.writableFinished });
      this.calls.touch();
    });

    const fault = req.method === "POST" ? this.#http : null;
    if (fault && (fault.fn === undefined || call.fn_id?.endsWith(`-${fault.fn}`)) && fault.times > 0) {
      fault.times -= 1;
      call.fault = true;
      if (!fault.abandoned) return answerFault(req, res, fault);
      // As from a proxy that loses patience when the gate opens: the SDK works on, and answers nobody.
      const nobody = new ServerResponse(req);
      const end = nobody.end.bind(nobody);
      nobody.end = (...args) => {
        call.abandoned_status = nobody.statusCode;
        this.calls.touch();
        return end(...args);
      };
      this.gate(fault.abandoned).then(() => res.writeHead(fault.status ?? 504, { "content-type": "text/html" }).end());
      return this.#pass(req, nobody, call, sdkHandler);
    }
    this.#pass(req, res, call, sdkHandler);
  }

  /** Passes a request on to a durable endpoint and records it. */
  serveEndpoint(req, res, url, endpoint) {
    const call = this.calls.push({
      method: req.method,
      endpoint: url.pathname,
      query: url.search,
      run_id: req.headers["x-run-id"] ?? null,
      step_id: req.headers["x-inngest-step-id"] ?? null,
      signed: Boolean(req.headers["x-inngest-signature"]),
    });
    res.on("close", () => {
      call.status = res.statusCode;
      this.calls.touch();
    });
    endpoint(req, res);
  }

  #pass(req, res, call, sdkHandler) {

    // The SDK reads the body late, from `data` events: it gets a replay, because ours are gone by then.
    const chunks = [];
    req.on("data", (chunk) => chunks.push(chunk));
    req.on("end", () => {
      const raw = Buffer.concat(chunks);
      Object.assign(call, describe(raw));
      const { method, url: path, headers, socket } = req;
      sdkHandler(Object.assign(Readable.from(raw.length > 0 ? [raw] : []), { method, url: path, headers, socket }), res);
    });
  }
}

function answerFault(req, res, fault) {
  req.resume();
  req.on("end", () => {
    // Not before the whole request is here: one that could not be sent whole may be sent again unseen.
    if (fault.reset) return req.socket.destroy();
    res.writeHead(fault.status ?? 500, { "content-type": "text/html", ...fault.headers });
    res.end(fault.body ?? "");
  });
}

/** The parts of a call's body that tests look at. */
function describe(raw) {
  try {
    const { ctx, steps, events, use_api } = JSON.parse(raw.toString("utf8"));
    return {
      run_id: ctx?.run_id,
      attempt: ctx?.attempt,
      max_attempts: ctx?.max_attempts,
      stack: ctx?.stack?.stack,
      current: ctx?.stack?.current,
      disable_immediate_execution: ctx?.disable_immediate_execution,
      use_api,
      steps: Object.keys(steps ?? {}).length,
      events: events?.length,
      bytes: raw.length,
    };
  } catch {
    return { bytes: raw.length };
  }
}
