"""Every function of the Python test app; ../README.md lists what each one does. Same ids as in the TypeScript apps.

Missing, because this SDK lacks them: signals, step.fetch. `invoke-target` and its like have a trigger that nobody sends.
"""

import asyncio
import datetime
import functools
import typing

import inngest
from inngest.experimental import ai

from observer import Observer

ALWAYS = 1000


class Kit:
    """What every function gets besides the SDK's context."""

    def __init__(self, client: inngest.Inngest, observer: Observer, origin: str) -> None:
        self.client = client
        self.observer = observer
        self.origin = origin
        self.functions: list[inngest.Function[typing.Any]] = []

    def fn(self, fn_id: str, *, triggers: list[typing.Any] | None = None, on_failure: typing.Any = None, **options: typing.Any):
        """Registers a handler `(call) -> result`, triggered by `test/<id>` unless other triggers are given."""

        def register(handler: typing.Callable[["Call"], typing.Awaitable[typing.Any]]) -> inngest.Function[typing.Any]:
            async def run(ctx: inngest.Context) -> typing.Any:
                call = Call(self, fn_id, ctx)
                call.note(None)
                return await handler(call)

            async def failed(ctx: inngest.Context) -> typing.Any:
                return on_failure(Call(self, f"{fn_id}-failure", ctx))

            function = self.client.create_function(
                fn_id=fn_id,
                trigger=triggers if triggers is not None else [inngest.TriggerEvent(event=f"test/{fn_id}")],
                on_failure=failed if on_failure else None,
                **options,
            )(run)
            self.functions.append(function)
            return function

        return register


class Call:
    """One call of a function."""

    def __init__(self, kit: Kit, fn_id: str, ctx: inngest.Context) -> None:
        self.kit = kit
        self.fn_id = fn_id
        self.ctx = ctx
        self.step = ctx.step
        self.event = ctx.event
        self.data = ctx.event.data

    def note(self, step: str | None, **extra: typing.Any) -> None:
        """Writes one line into the log. `step` is None for the function's body."""
        self.kit.observer.log.push(
            fn=self.fn_id, step=step, run_id=self.ctx.run_id, attempt=self.ctx.attempt, **extra
        )

    async def run(self, step_id: str, body: typing.Callable[[], typing.Any] | None = None) -> typing.Any:
        """A logged step; `body` may be a plain or an async function."""

        async def logged() -> typing.Any:
            self.note(step_id)
            result = step_id if body is None else body()
            return await result if asyncio.iscoroutine(result) else result

        return await self.step.run(step_id, logged)

    def failing(self, place: str, default: int, make: typing.Callable[[str], Exception] = Exception) -> None:
        """Raises as often as this run has to fail here."""
        full = f"{self.fn_id}/{place}"
        if self.kit.observer.must_fail(full, self.ctx.run_id, self.data, default):
            raise make(f"{full} fails on purpose")


def functions(client: inngest.Inngest, observer: Observer, origin: str) -> list[inngest.Function[typing.Any]]:
    kit = Kit(client, observer, origin)
    for family in (basics, parallel, failures, waits, invokes, events, payloads, flow, slots):
        family(kit)
    return kit.functions


def basics(kit: Kit) -> None:
    @kit.fn("hello")
    async def hello(call: Call) -> object:
        return {"hello": call.data.get("name", "world")}

    @kit.fn("echo")
    async def echo(call: Call) -> object:
        ctx = call.ctx
        dump = [event.model_dump(mode="json") for event in ctx.events]
        return {"event": ctx.event.model_dump(mode="json"), "events": dump, "run_id": ctx.run_id, "attempt": ctx.attempt}

    @kit.fn("one-step")
    async def one_step(call: Call) -> object:
        return {"only": await call.run("only", lambda: 1)}

    @kit.fn("ten-steps")
    async def ten_steps(call: Call) -> object:
        return [await call.run(f"step-{i}", functools.partial(int, i)) for i in range(10)]

    @kit.fn("many-steps")
    async def many_steps(call: Call) -> object:
        last = None
        for i in range(call.data["n"]):
            last = await call.run(f"step-{i}", functools.partial(int, i))
        return {"last": last}

    @kit.fn("loop")
    async def loop(call: Call) -> object:
        return [await call.run("again", functools.partial(int, i)) for i in range(3)]

    @kit.fn("sleep")
    async def sleep(call: Call) -> object:
        await call.run("before")
        await call.step.sleep("nap", call.data.get("sleep_ms", 1000))
        await call.run("after")
        return "slept"

    @kit.fn("sleep-until")
    async def sleep_until(call: Call) -> object:
        delay = datetime.timedelta(milliseconds=call.data.get("sleep_ms", 1000))
        until = await call.run("compute", lambda: (datetime.datetime.now(datetime.timezone.utc) + delay).isoformat())
        await call.step.sleep_until("nap", datetime.datetime.fromisoformat(until))
        await call.run("after")
        return {"until": until}

    @kit.fn("rerun")
    async def rerun(call: Call) -> object:
        first = await call.run("first", lambda: call.ctx.run_id)
        second = await call.run("second", lambda: {"run_id": call.ctx.run_id, "given": [1, "two"]})
        await call.run("third", lambda: call.ctx.run_id)
        return {"first": first, "second": second}

    @kit.fn("gated")
    async def gated(call: Call) -> object:
        async def held() -> None:
            await kit.observer.gate(call.data.get("gate", "default"))
            call.note("released")

        await call.run("before")
        await call.run("held", held)
        await call.run("after")
        return "passed"

    # A step inside a step is refused by this SDK.
    @kit.fn("nested", retries=0)
    async def nested(call: Call) -> object:
        return await call.run("outer", lambda: call.run("inner"))


def parallel(kit: Kit) -> None:
    async def paused(name: str, ms: int) -> str:
        await asyncio.sleep(ms / 1000)
        return name

    def part(call: Call, name: str, ms: int) -> typing.Callable[[], typing.Awaitable[str]]:
        return lambda: call.run(name, lambda: paused(name, ms))

    @kit.fn("parallel")
    async def joined(call: Call) -> object:
        parts = await call.ctx.group.parallel((part(call, "slow", 300), part(call, "middle", 150), part(call, "fast", 20)))
        return {"joined": await call.run("join", lambda: "+".join(parts))}

    @kit.fn("parallel-branches")
    async def branches(call: Call) -> object:
        async def branch() -> str:
            return f"{await call.run('a1')},{await call.run('a2')}"

        return await call.ctx.group.parallel((branch, part(call, "b", 200)))

    @kit.fn("parallel-mixed", retries=0)
    async def mixed(call: Call) -> object:
        async def bad() -> str:
            try:
                return await call.run("bad", lambda: call.failing("bad", ALWAYS))
            except inngest.StepError as error:
                return f"caught {error.message}"

        async def nap() -> None:
            await call.step.sleep("nap", 1000)

        good, caught, _ = await call.ctx.group.parallel((lambda: call.run("good"), bad, nap))
        return {"good": good, "bad": caught}

    @kit.fn("fan-out")
    async def fan_out(call: Call) -> object:
        n = call.data.get("n", 20)
        steps = tuple(functools.partial(call.run, f"part-{i}", functools.partial(int, i)) for i in range(n))
        return {"sum": sum(await call.ctx.group.parallel(steps))}

    # Every branch ends with the group: the SDK's race mode only changes when the server calls back.
    @kit.fn("race")
    async def race(call: Call) -> object:
        async def branch(name: str, ms: int) -> str:
            first = await part(call, name, ms)()
            return await call.run(f"{name}-after", lambda: first)

        got = await call.ctx.group.parallel(
            (lambda: branch("slow", 1000), lambda: branch("fast", 20)), parallel_mode=inngest.ParallelMode.RACE
        )
        return {"got": list(got)}


def failures(kit: Kit) -> None:
    def noted(call: Call) -> str:
        data = call.data
        call.note(None, failed_run_id=data["run_id"], function_id=data["function_id"], error=data["error"])
        return "noted"

    @kit.fn("step-fails")
    async def step_fails(call: Call) -> object:
        def flaky() -> str:
            call.failing("flaky", 2)
            return "made it"

        return {"got": await call.run("flaky", flaky)}

    @kit.fn("step-fails-caught", retries=1)
    async def caught(call: Call) -> object:
        try:
            return await call.run("bad", lambda: call.failing("bad", ALWAYS))
        except inngest.StepError as error:
            return {"caught": error.message, "name": error.name, "after": await call.run("after")}

    @kit.fn("step-fails-uncaught", retries=1, on_failure=noted)
    async def uncaught(call: Call) -> object:
        return await call.run("bad", lambda: call.failing("bad", ALWAYS))

    @kit.fn("body-fails")
    async def body_fails(call: Call) -> object:
        await call.run("before")
        call.failing("body", 1)
        return {"after": await call.run("after")}

    @kit.fn("body-fails-always", retries=1, on_failure=noted)
    async def body_fails_always(call: Call) -> object:
        raise TypeError("the body fails on purpose")

    @kit.fn("non-retriable")
    async def non_retriable(call: Call) -> object:
        await call.run("before")
        raise inngest.NonRetriableError("do not try again")

    @kit.fn("non-retriable-step")
    async def non_retriable_step(call: Call) -> object:
        def bad() -> None:
            raise inngest.NonRetriableError("this step is hopeless")

        return await call.run("bad", bad)

    def retry_after(call: Call) -> typing.Callable[[str], Exception]:
        return lambda text: inngest.RetryAfterError(text, call.data.get("retry_after_ms", 1000))

    @kit.fn("retry-after")
    async def retry_after_body(call: Call) -> object:
        call.failing("body", 1, retry_after(call))
        return "after the wait"

    @kit.fn("retry-after-step")
    async def retry_after_step(call: Call) -> object:
        def flaky() -> str:
            call.failing("flaky", 1, retry_after(call))
            return "after the wait"

        return await call.run("flaky", flaky)


def waits(kit: Kit) -> None:
    async def wait(call: Call, event: str, default_ms: int = 60_000, if_exp: str | None = None) -> object:
        timeout = call.data.get("timeout_ms", default_ms)
        got = await call.step.wait_for_event("answer", event=event, if_exp=if_exp, timeout=timeout)
        return {"timed_out": True} if got is None else {"timed_out": False, "name": got.name, "data": got.data}

    @kit.fn("wait-event")
    async def wait_event(call: Call) -> object:
        await call.run("before")
        got = await wait(call, "test/wait-event.answer")
        await call.run("after")
        return got

    @kit.fn("wait-timeout")
    async def wait_timeout(call: Call) -> object:
        return await wait(call, "test/never", 1000)

    @kit.fn("wait-if")
    async def wait_if(call: Call) -> object:
        return await wait(call, "test/wait-if.answer", if_exp="event.data.id == async.data.id && async.data.ok == true")

    @kit.fn("wait-match")
    async def wait_match(call: Call) -> object:
        return await wait(call, "test/wait-match.answer", if_exp="event.data.id == async.data.id")

    @kit.fn("wait-bad-if")
    async def wait_bad_if(call: Call) -> object:
        return await wait(call, "test/never", if_exp="event.data.id == ")

    @kit.fn("wait-and-send")
    async def wait_and_send(call: Call) -> object:
        event = inngest.Event(name="test/wait-and-send.answer", data={"id": call.data.get("id")})
        got, _ = await call.ctx.group.parallel(
            (
                lambda: wait(call, "test/wait-and-send.answer", if_exp="event.data.id == async.data.id"),
                lambda: call.step.send_event("send", event),
            )
        )
        return got


def invokes(kit: Kit) -> None:
    @kit.fn("invoke-target")
    async def target(call: Call) -> object:
        return {"doubled": await call.run("double", lambda: call.data["n"] * 2)}

    @kit.fn("invoke-failing")
    async def failing(call: Call) -> object:
        raise inngest.NonRetriableError("the callee gives up")

    @kit.fn("invoke-slow")
    async def slow(call: Call) -> object:
        await call.step.sleep("long", datetime.timedelta(hours=1))

    def invoking(fn_id: str, function_id: str, **options: typing.Any) -> None:
        @kit.fn(fn_id)
        async def invoke(call: Call) -> object:
            try:
                data = {"n": call.data.get("n", 21), "key": call.data.get("key"), "batched": True}
                got = await call.step.invoke_by_id("call", function_id=function_id, data=data, **options)
            except inngest.StepError as error:
                if call.data.get("uncaught"):
                    raise
                return {"caught": {"name": error.name, "message": error.message}, "after": await call.run("after")}
            return {"got": got, "after": await call.run("after")}

    invoking("invoke", "invoke-target")
    invoking("invoke-error", "invoke-failing")
    invoking("invoke-missing", "does-not-exist")
    invoking("invoke-timeout", "invoke-slow", timeout=1000)
    invoking("invoke-batch", "batch-if")
    invoking("invoke-debounce", "debounce")


def events(kit: Kit) -> None:
    app_id = kit.client.app_id

    @kit.fn("send-event")
    async def send_event(call: Call) -> object:
        event = inngest.Event(name="test/sent", data={"from": call.data.get("from", "send-event")})
        return {"ids": await call.step.send_event("send", event)}

    @kit.fn("send-many")
    async def send_many(call: Call) -> object:
        many = [inngest.Event(name="test/sent-many", data={"i": i}) for i in range(call.data.get("n", 20))]
        return {"ids": await call.step.send_event("send", many)}

    def listening(fn_id: str, *triggers: typing.Any) -> None:
        @kit.fn(fn_id, triggers=list(triggers))
        async def got(call: Call) -> None:
            call.note("got", name=call.event.name, data=dict(call.data))

    def on(event: str, expression: str | None = None) -> inngest.TriggerEvent:
        return inngest.TriggerEvent(event=event, expression=expression)

    listening("on-sent", on("test/sent"))
    listening("on-sent-many", on("test/sent-many"))
    listening("wildcard", on("shop/*"))
    listening("cron", inngest.TriggerCron(cron="* * * * *"))
    listening("on-failed", on("inngest/function.failed", f"event.data.function_id == '{app_id}-body-fails-always'"))
    listening("on-finished", on("inngest/function.finished", f"event.data.function_id == '{app_id}-hello'"))
    listening("on-cancelled", on("inngest/function.cancelled"))

    expression = "event.data.total > 10 && event.data.currency == 'EUR'"

    @kit.fn("trigger-expression", triggers=[on("test/trigger-expression", expression)])
    async def trigger_expression(call: Call) -> object:
        return {"total": call.data["total"]}

    several = [on("test/several.one"), on("test/several.two", "event.data.ok == true"), on("test/several.*")]

    @kit.fn("several-triggers", triggers=several)
    async def several_triggers(call: Call) -> object:
        return {"name": call.event.name}

    by_id = "event.data.id == async.data.id"

    @kit.fn("cancel-on", cancel=[inngest.Cancel(event="test/cancel-on.cancel", if_exp=by_id)])
    async def cancel_on(call: Call) -> None:
        await call.run("before")
        await call.step.sleep("long", datetime.timedelta(hours=1))
        await call.run("after")

    hour = datetime.timedelta(hours=1)

    @kit.fn("cancel-match", cancel=[inngest.Cancel(event="test/cancel-match.cancel", if_exp=by_id, timeout=hour)])
    async def cancel_match(call: Call) -> None:
        await call.step.sleep("long", hour)


def payloads(kit: Kit) -> None:
    kinds: dict[str, typing.Any] = {
        "null": None,
        "zero": 0,
        "false": False,
        "empty": "",
        "fraction": 1.5,
        "whole": 1.0,
        "big": 2**53 + 1,
        "list": [1, [2, []], {}],
        "data": {"data": {"data": "nested"}},
        "error": {"error": {"name": "NotAnError", "message": "only data"}},
        "both": {"data": 1, "error": None, "extra": True},
        "unicode": {"ключ": "zażółć gęślą jaźń", "🙂": "👩‍👩‍👧‍👦", "quote": '"\\\u0000\u2028</script>'},
        "keys": {"b": 1, "a": 2, "€": 3, "\r": 4, "1": 5},
    }

    @kit.fn("outputs")
    async def outputs(call: Call) -> object:
        return {kind: await call.run(kind, functools.partial(lambda value: value, value)) for kind, value in kinds.items()}

    @kit.fn("large-outputs")
    async def large_outputs(call: Call) -> object:
        lengths = []
        for i in range(call.data.get("steps", 2)):
            size = call.data.get("bytes", 3 * 1024 * 1024)
            lengths.append(len(await call.run(f"large-{i}", functools.partial(lambda c: c * size, chr(97 + i)))))
        return {"lengths": lengths}

    @kit.fn("large-result", retries=0)
    async def large_result(call: Call) -> object:
        return "r" * call.data.get("bytes", 1024 * 1024)

    @kit.fn("ai-infer")
    async def ai_infer(call: Call) -> object:
        adapter = ai.openai.Adapter(auth_key="fake-key", base_url=f"{kit.origin}/openai/v1", model="fake-model")
        messages = [{"role": "user", "content": "what is the answer?"}]
        answer: typing.Any = await call.step.ai.infer("ask", adapter=adapter, body={"messages": messages})
        return {"content": answer["choices"][0]["message"]["content"]}


def flow(kit: Kit) -> None:
    seconds = functools.partial(datetime.timedelta, 0)
    key = "event.data.key"

    def counted(fn_id: str, **options: typing.Any) -> None:
        @kit.fn(fn_id, **options)
        async def body(call: Call) -> object:
            async def work() -> None:
                if "gate" in call.data:
                    await kit.observer.gate(call.data["gate"])

            call.note("started", data=dict(call.data), events=len(call.ctx.events))
            await call.run("work", work)
            return {"events": len(call.ctx.events)}

    counted("concurrency", concurrency=[inngest.Concurrency(limit=1)])
    counted("concurrency-key", concurrency=[inngest.Concurrency(limit=1, key=key)])
    counted("throttle", throttle=inngest.Throttle(limit=1, period=seconds(2), key=key))
    counted("throttle-hourly", throttle=inngest.Throttle(limit=1, period=seconds(3600), burst=0, key=key))
    counted("rate-limit", rate_limit=inngest.RateLimit(limit=2, period=seconds(60), key=key))
    counted("debounce", debounce=inngest.Debounce(period=seconds(1), key=key, timeout=seconds(5)))
    counted("batch", batch_events=inngest.Batch(max_size=3, timeout=seconds(2), key=key))
    condition = "event.data.batched"
    counted("batch-if", batch_events=inngest.Batch(max_size=3, timeout=seconds(3600), key=key, if_exp=condition))
    counted("priority", priority=inngest.Priority(run="event.data.priority"), concurrency=[inngest.Concurrency(limit=1)])
    counted("idempotency", idempotency=key)
    counted("singleton-skip", singleton=inngest.Singleton(mode="skip", key=key))
    counted("singleton-cancel", singleton=inngest.Singleton(mode="cancel", key=key))
    counted("timeout-start", timeouts=inngest.Timeouts(start=seconds(2)), concurrency=[inngest.Concurrency(limit=1)])

    @kit.fn("timeout-finish", timeouts=inngest.Timeouts(finish=seconds(2)))
    async def timeout_finish(call: Call) -> None:
        await call.step.sleep("long", datetime.timedelta(hours=1))


def slots(kit: Kit) -> None:
    """Functions under concurrency limits that count how many of them are at work at the same moment."""
    busy: dict[str, int] = {}

    def counting(fn_id: str, key_of: typing.Callable[[Call], str], **options: typing.Any) -> None:
        @kit.fn(fn_id, **options)
        async def body(call: Call) -> object:
            async def work() -> None:
                key = key_of(call)
                busy[key] = busy.get(key, 0) + 1
                call.note("busy", key=key, busy=busy[key])
                if "gate" in call.data:
                    await kit.observer.gate(call.data["gate"])
                else:
                    await asyncio.sleep(call.data.get("work_ms", 0) / 1000)
                busy[key] -= 1

            await call.run("work", work)
            return "done"

    shared = [inngest.Concurrency(limit=1, scope="account", key="'global'")]
    counting("slots-key", lambda call: call.data["key"], concurrency=[inngest.Concurrency(limit=2, key="event.data.key")])
    counting("slots-one", lambda _: "global", concurrency=shared)
    counting("slots-two", lambda _: "global", concurrency=shared)
