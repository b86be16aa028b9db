"""What an app has seen, and the knobs that change how it behaves.

Promises: every entry carries `seq` (1, 2, 3 ...) and `at_ms` (wall clock, milliseconds); a reader may wait for a number of
matching entries, so that a test never has to poll.
Never: drops an entry before `clear` is called.
"""

import asyncio
import json
import time
import typing
import urllib.parse

Entry = dict[str, typing.Any]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """An append-only list whose readers can wait for it to grow. Lives on one event loop."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._seq = 0
        self._grown = asyncio.Event()

    def push(self, **entry: typing.Any) -> Entry:
        self._seq += 1
        full: Entry = {"seq": self._seq, "at_ms": now_ms(), **entry}
        self._entries.append(full)
        self.touch()
        return full

    def touch(self) -> None:
        """Tells waiting readers that something changed."""
        self._grown.set()
        self._grown = asyncio.Event()

    def clear(self) -> None:
        self._entries = []

    async def wait(self, params: typing.Mapping[str, str]) -> list[Entry]:
        """Entries that equal every given parameter, as soon as there are `min`, at the latest after `timeout_ms`."""
        filters = {name: value for name, value in params.items() if name not in ("min", "timeout_ms")}
        minimum = int(params.get("min", 0))
        deadline = time.monotonic() + int(params.get("timeout_ms", 0)) / 1000
        while True:
            grown = self._grown
            found = [e for e in self._entries if all(_text(e.get(n)) == v for n, v in filters.items())]
            left = deadline - time.monotonic()
            if len(found) >= minimum or left <= 0:
                return found
            try:
                await asyncio.wait_for(grown.wait(), left)
            except TimeoutError:
                pass


def _text(value: object) -> str:
    """As JavaScript's String() would print it, so that all apps are filtered alike."""
    return value if isinstance(value, str) else json.dumps(value)


class Observer:
    def __init__(self) -> None:
        self.log = Journal()
        self.calls = Journal()
        self._reset()

    def _reset(self) -> None:
        self._fail_times: dict[str, int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._http: Entry | None = None
        self._once: dict[str, int] = {}

    def clear(self) -> None:
        self.log.clear()
        self.calls.clear()

    def control(self, change: Entry) -> Entry:
        """See ../README.md for the keys. Answers the settings in force."""
        if change.get("reset"):
            self._reset()
        self._fail_times.update(change.get("fail_times", {}))
        for name in change.get("open", []):
            self._gate(name).set()
        for name in change.get("close", []):
            self._gate(name).clear()
        if "http" in change:
            self._http = change["http"]
        self._once.update(change.get("once", {}))
        return {
            "fail_times": self._fail_times,
            "open": [name for name, gate in self._gates.items() if gate.is_set()],
            "http": self._http,
            "once": self._once,
        }

    def take(self, name: str) -> bool:
        """Uses up one of the occurrences set with `{"once":{name:n}}`."""
        if self._once.get(name, 0) <= 0:
            return False
        self._once[name] -= 1
        return True

    def must_fail(self, place: str, run_id: str, data: typing.Mapping[str, typing.Any], default: int) -> bool:
        """Whether this run has to fail here once more: the event's limit, else /control's, else the default."""
        limit = data.get("fail_times", self._fail_times.get(place, default))
        key = (run_id, place)
        failed = self._failures.get(key, 0)
        if failed >= limit:
            return False
        self._failures[key] = failed + 1
        return True

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    async def gate(self, name: str) -> None:
        """Returns once the gate is open; gates are closed until `/control` opens them."""
        await self._gate(name).wait()

    def fault_for(self, fn_id: str | None) -> Entry | None:
        """Uses up one occurrence of the HTTP fault set by `/control`, if it applies to this function."""
        fault = self._http
        if not fault or fault.get("times", 0) <= 0:
            return None
        if "fn" in fault and not (fn_id or "").endswith(f"-{fault['fn']}"):
            return None
        fault["times"] -= 1
        return fault


class ObservedSdk:
    """ASGI wrapper that records every request to the SDK's endpoint, and injects the faults asked for."""

    def __init__(self, app: typing.Any, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/api/inngest":
            await self._app(scope, receive, send)
            return
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        call = self._observer.calls.push(
            method=scope["method"],
            fn_id=query.get("fnId"),
            step_id=query.get("stepId"),
            signed="x-inngest-signature" in headers,
            req_version=headers.get("x-inngest-req-version"),
            server_kind=headers.get("x-inngest-server-kind"),
        )
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        call.update(_describe(body))

        async def observed_send(message: typing.Any) -> None:
            if message["type"] == "http.response.start":
                call["status"] = message["status"]
            await send(message)

        complete = False
        try:
            fault = self._observer.fault_for(call["fn_id"]) if scope["method"] == "POST" else None
            if fault:
                call["fault"] = True
                await _answer_fault(fault, observed_send)
            else:
                await self._app(scope, _replay(body, receive), observed_send)
            complete = True
        finally:
            call.update(done_ms=now_ms(), complete=complete)
            self._observer.calls.touch()


async def _answer_fault(fault: Entry, send: typing.Any) -> None:
    headers = {"content-type": "text/html", **fault.get("headers", {})}
    pairs = [(name.encode(), str(value).encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.get("status", 500), "headers": pairs})
    await send({"type": "http.response.body", "body": fault.get("body", "").encode()})


def _replay(body: bytes, receive: typing.Any) -> typing.Any:
    sent = False

    async def replay() -> typing.Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _describe(raw: bytes) -> Entry:
    """The parts of a call's body that tests look at."""
    try:
        body = json.loads(raw)
        ctx = body["ctx"]
    except (ValueError, KeyError, TypeError):
        return {"bytes": len(raw)}
    stack = ctx.get("stack") or {}
    return {
        "run_id": ctx.get("run_id"),
        "attempt": ctx.get("attempt"),
        "max_attempts": ctx.get("max_attempts"),
        "stack": stack.get("stack"),
        "current": stack.get("current"),
        "disable_immediate_execution": ctx.get("disable_immediate_execution"),
        "use_api": body.get("use_api"),
        "steps": len(body.get("steps") or {}),
        "events": len(body.get("events") or []),
        "bytes": len(raw),
    }
