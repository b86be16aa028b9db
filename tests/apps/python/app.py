"""The test app on the Python SDK.

Promises: binds loopback only; prints exactly one line, `listening <port>`, on stdout; serves the SDK at /api/inngest and
the side channel described in ../README.md at every other path.
Never: keeps state on disk, talks to anything but CALLBOARD_URL and itself.
"""

import asyncio
import logging
import os
import socket
import sys
import typing

import fastapi
import uvicorn


def prepare_environment() -> None:
    """Points the SDK at the server under test. Runs before the client is built, which reads the environment once."""
    url = os.environ.get("CALLBOARD_URL", "http://127.0.0.1:8288")
    if os.environ.get("INNGEST_SIGNING_KEY"):
        os.environ["INNGEST_DEV"] = "0"
        os.environ.setdefault("INNGEST_BASE_URL", url)
        os.environ.setdefault("INNGEST_EVENT_KEY", "test-event-key")
    else:
        os.environ.setdefault("INNGEST_DEV", url)


prepare_environment()

import inngest  # noqa: E402
import inngest.connect  # noqa: E402
import inngest.fast_api  # noqa: E402

from functions import functions  # noqa: E402
from observer import ObservedSdk, Observer  # noqa: E402


def quiet_logger() -> logging.Logger:
    """Drops what the SDK logs about failures that the tests cause on purpose, unless APP_VERBOSE=1."""
    logger = logging.getLogger("app")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO if os.environ.get("APP_VERBOSE") == "1" else logging.CRITICAL + 1)
    return logger


def more_apps(observer: Observer) -> list[typing.Any]:
    """The apps of MORE_APPS (`app=function+function,app=…`) on the same connection. Their functions log one step, `only`."""

    def app(text: str) -> typing.Any:
        app_id, names = text.split("=")
        client = inngest.Inngest(app_id=app_id, logger=quiet_logger())

        def define(name: str) -> typing.Any:
            trigger = inngest.TriggerEvent(event=f"test/{app_id}-{name}")

            @client.create_function(fn_id=name, trigger=trigger)
            async def function(ctx: inngest.Context) -> None:
                async def only() -> None:
                    observer.log.push(fn=f"{app_id}/{name}", step="only", run_id=ctx.run_id)

                await ctx.step.run("only", only)

            return function

        return client, [define(name) for name in names.split("+")]

    return [app(text) for text in os.environ.get("MORE_APPS", "").split(",") if text]


def build(origin: str) -> typing.Any:
    observer = Observer()
    client = inngest.Inngest(app_id=os.environ.get("APP_ID", "python"), logger=quiet_logger())
    web = fastapi.FastAPI()
    streaming = inngest.Streaming.FORCE if os.environ.get("STREAMING") == "1" else None
    own_functions = functions(client, observer, origin)
    inngest.fast_api.serve(web, client, own_functions, streaming=streaming)
    connection = None
    if os.environ.get("CONNECT") == "1":
        connection = inngest.connect.connect(
            [(client, own_functions), *more_apps(observer)], instance_id=os.environ.get("INSTANCE_ID"), shutdown_signals=[]
        )

    @web.get("/healthz")
    async def healthz() -> object:
        return {"ok": True}

    @web.get("/log")
    async def log(request: fastapi.Request) -> object:
        return await observer.log.wait(request.query_params)

    @web.get("/calls")
    async def calls(request: fastapi.Request) -> object:
        return await observer.calls.wait(request.query_params)

    @web.delete("/log")
    async def clear() -> object:
        observer.clear()
        return {"ok": True}

    @web.post("/control")
    async def control(request: fastapi.Request) -> object:
        return observer.control(await request.json())

    @web.post("/send")
    async def send(request: fastapi.Request) -> object:
        body = await request.json()
        events = [inngest.Event(**event) for event in (body if isinstance(body, list) else [body])]
        return {"ids": await client.send(events)}

    @web.get("/connect")
    async def connect_state() -> object:
        return {"state": connection.get_state().value if connection else None}

    @web.post("/connect/close")
    async def connect_close() -> object:
        await connection.close()
        return {"ok": True}

    @web.api_route("/plain", methods=["GET", "POST"])
    async def plain(request: fastapi.Request, status: int = 200) -> fastapi.Response:
        body = (await request.body()).decode()
        observer.log.push(fn="@plain", step=None, method=request.method, body=body)
        answer = {"plain": True, "method": request.method}
        return fastapi.responses.JSONResponse(answer, status, {"x-plain": "yes"})

    @web.post("/openai/v1/chat/completions")
    async def openai(request: fastapi.Request) -> fastapi.Response:
        asked = await request.json()
        observer.log.push(fn="@openai", step=None, authorization=request.headers.get("authorization"), body=asked)
        if observer.take("openai"):
            error = {"error": {"message": "model overloaded", "type": "server_error"}}
            return fastapi.responses.JSONResponse(error, 500)
        return fastapi.responses.JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": asked.get("model"),
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "forty-two"}}
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    return ObservedSdk(web, observer), connection


class Server(uvicorn.Server):
    """Announces the port once connections are accepted."""

    def __init__(self, config: uvicorn.Config, port: int, connection: typing.Any) -> None:
        super().__init__(config)
        self._port = port
        self._connection = connection
        self._worker: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._connection is not None:
            self._worker = asyncio.create_task(self._connection.start())
            await self._connection.wait_for_state(inngest.connect.ConnectionState.ACTIVE)
        print(f"listening {self._port}", flush=True)


async def exit_with_stdin(server: uvicorn.Server) -> None:
    """A harness that dies closes our stdin: do not outlive it."""
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.should_exit = True
    server.force_exit = True


async def main() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    port = listener.getsockname()[1]
    app, connection = build(f"http://127.0.0.1:{port}")
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_keep_alive=120)
    server = Server(config, port, connection)
    watcher = None
    if os.environ.get("EXIT_WITH_STDIN") == "1":
        watcher = asyncio.create_task(exit_with_stdin(server))
    await server.serve(sockets=[listener])
    # The watcher's thread may still be blocked in read: leave without joining it.
    if watcher is not None:
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
