"""The explorer's server, for this machine alone: a page, its modules, and answers to what the page asks.

Whoever knows the random token in the address may ask: this page, and no other one in the same browser. Host and Origin
are checked, so that no other name that points to this machine serves as well. What a request names is looked up in what
is there; nothing of it ever becomes a path.
"""

import asyncio
import json
import secrets
import socket
import sys
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import HandgradError
from .assets import import_map_hash, served
from .explorer import Answer, Explorer
from .frames import Reply, read_frame
from .mutants import find
from .view import text_of

HOST = "127.0.0.1"
LARGEST_REQUEST = 1 << 16
"""Bytes."""
WAITING = 32
"""Requests that may wait for their turn."""
PATIENCE = 120.0
"""Seconds that an answer may take, its turn waited for."""
FRAME = "application/octet-stream"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; script-src 'self' 'sha256-{import_map_hash()}'; style-src 'self'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Stale(Exception):
    """Nobody waits for the answer any more."""


def listen(port: int) -> socket.socket:
    """A socket on this machine alone; port 0 is any that is free."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, asyncio sets TCP_NODELAY
    try:
        if sys.platform != "win32":  # there it would let another process share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "no such port"
        raise HandgradError(f"--port: {port}: {(why or str(error)).lower()}") from None
    return listener


def new_token() -> str:
    return secrets.token_urlsafe(16)


def address_of(listener: socket.socket, token: str) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}/{token}/"


def server_of(explorer: Explorer, listener: socket.socket, token: str) -> uvicorn.Server:
    """A server that is ready to `run(sockets=[listener])`."""
    app = application(explorer, token, listener.getsockname()[1])
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)


def application(explorer: Explorer, token: str, port: int) -> ASGIApp:
    """The routes below the token, behind the guard."""
    desk = Desk(explorer)
    assets = served()

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in assets:
            return _refusal(404, "there is no such file")
        return Response(assets[name].content, media_type=assets[name].media_type)

    routes = [
        Route(f"/{token}/ask/{{question}}", desk.answer, methods=["POST"]),
        Route(f"/{token}/{{name:path}}", asset, methods=["GET"]),
    ]
    return Guard(Starlette(routes=routes), token, port)


class Guard:
    """Lets through what this page asks of this machine, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")} | ({HOST, "localhost"} if port == 80 else set())
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if headers.get("host") not in self.hosts:
            return _refusal(403, "this is not the name of this page's machine")
        if headers.get("origin", next(iter(self.origins))) not in self.origins:
            return _refusal(403, "another page may not ask")
        # a link to the page itself may be followed from whatever page, such as a terminal's
        to_page = request.method == "GET" and request.scope["path"] == f"/{self.token}/"
        followed = to_page and headers.get("sec-fetch-dest") == "document"
        if not followed and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refusal(403, "another page may not ask")
        first = f"{request.scope['path']}/".split("/")[1]
        if not secrets.compare_digest(first.encode(), self.token.encode()):
            return _refusal(404, "open the address that handgrad explore printed")
        return None


class Desk:
    """Takes questions; they are answered one by one, in a thread, and given up when nobody waits for them."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.thread = ThreadPoolExecutor(1, "explorer")
        self.waiting = 0
        self.verdicts: dict[str, Reply] = {}
        self.laboratory = asyncio.Lock()
        """One small model is trained at a time."""

    async def answer(self, request: Request) -> Response:
        question = request.path_params["question"]
        try:
            fields = await _fields(request)
            if question == "verdict":
                reply = await self._while_somebody_waits(request, self._verdict(fields))
            elif question in self.explorer.answers:
                reply = await self._in_turn(request, self.explorer.answers[question], fields)
            else:
                return _refusal(404, "there is no such question")
        except (Stale, ClientDisconnect):
            return Response(status_code=499)  # nobody reads it
        except asyncio.CancelledError:  # Ctrl-C
            return _refusal(503, "the explorer has ended")
        except TimeoutError:
            return _refusal(503, f"gave up after {PATIENCE:.0f} seconds")
        except _Refused as refused:
            return refused.response
        except (HandgradError, MemoryError) as error:
            return _refusal(422, str(error) or "out of memory")
        return Response(reply.frame(), media_type=FRAME)

    async def _in_turn(self, request: Request, answer: Answer, fields: dict[str, Any]) -> Reply:
        if self.waiting >= WAITING:
            raise _Refused(503, "too many questions at once")
        given_up = threading.Event()

        def stop() -> None:
            if given_up.is_set():
                raise Stale

        def work() -> Reply:
            stop()
            return answer(fields, stop)

        self.waiting += 1
        try:
            return await self._while_somebody_waits(
                request, asyncio.get_running_loop().run_in_executor(self.thread, work)
            )
        finally:
            self.waiting -= 1
            given_up.set()

    async def _while_somebody_waits(self, request: Request, work: Awaitable[Reply]) -> Reply:
        """The result; `Stale` where the browser has gone, `TimeoutError` where it takes too long."""
        working = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_gone(request))
        try:
            done, _ = await asyncio.wait({working, gone}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return working.result()
            raise Stale if gone in done else TimeoutError
        finally:
            gone.cancel()
            working.cancel()

    async def _verdict(self, fields: dict[str, Any]) -> Reply:
        """In a process of its own, which ends when nobody waits for it: it trains two small models."""
        name = find(text_of(fields, "name")).name
        async with self.laboratory:
            if name not in self.verdicts:
                self.verdicts[name] = await _in_a_process(name)
        return self.verdicts[name]


async def _in_a_process(name: str) -> Reply:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", f"{__package__}.laboratory", name),  # -P: not what lies in this folder
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the server, which ends this one
    )
    try:
        frame, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise HandgradError(f"{name}: the training of the small models broke off")
    return read_frame(frame)


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.response = _refusal(status, why)


def _refusal(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


async def _fields(request: Request) -> dict[str, Any]:
    """The request's body: a JSON object, of no more than so many bytes."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _Refused(415, "a question is JSON")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_REQUEST:
            raise _Refused(413, f"more than {LARGEST_REQUEST:,} bytes")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused(400, "not JSON") from None
    if not isinstance(fields, dict):
        raise _Refused(400, "not a JSON object")
    return fields


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
