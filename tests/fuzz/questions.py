"""Requests to the explorer, as its server gets them: without a socket, but with all that stands behind one."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from handgrad.errors import HandgradError
from handgrad.explorer import Explorer, Shelf
from handgrad.explorer.frames import Reply, read_frame
from handgrad.explorer.server import application

from .valid import Files, small_model

TOKEN, PORT = "token", 4242
REFUSED = (307, 400, 403, 404, 405, 413, 415, 422, 503)
KEY = "activations/blocks.0.attention.scores"
FIELDS: dict[str, dict[str, Any]] = {
    "pass": {"text": "the c", "targets": {"1": 3, "2": -100}, "checkpoint": "", "step_of_model": None},
    "tensors": {
        "keys": [KEY, "cotangents/blocks.0.attention.scores"],
        "at": [0, 1],
        "row": 0,
        "column": 1,
        "mutation": "",
    },
    "sheet": {"name": "blocks.0.attention.scores", "text": "the c"},
    "nudge": {"key": KEY, "index": [0, 0, 1, 1], "step": 1e-3, "mutation": "dq_scaled_twice"},
    "flow": {"key": "fresh", "layers": 2},
    "mutations": {"text": "the c"},
    "mutation": {"name": "dq_scaled_twice", "text": "the c"},
    "training": {},
    "token": {"token": "t"},
    "verdict": {"name": "mask_forgotten"},
}


def valid() -> Files:
    """Each question as a request."""
    return {f"{name}.json": json.dumps(request(name, fields)).encode() for name, fields in FIELDS.items()}


def request(question: str, fields: dict[str, Any]) -> dict[str, Any]:
    headers = {"host": f"127.0.0.1:{PORT}", "content-type": "application/json"}
    return {"method": "POST", "path": f"/{TOKEN}/ask/{question}", "headers": headers, "body": fields}


async def _verdict(name: str) -> Reply:
    """In place of the process that trains two models for some seconds."""
    return Reply({"name": name})


@cache
def server() -> Callable[..., Awaitable[None]]:
    return application(Explorer(Shelf("a small model", small_model()), "the cat"), TOKEN, PORT)


def ask(folder: Path) -> None:
    """Send each request, as far as it is one."""
    for path in folder.iterdir():
        _ask(path.stem, path.read_bytes())


def _ask(question: str, content: bytes) -> None:
    asked, body = request(question, {}), content
    with suppress(ValueError, TypeError, KeyError, RecursionError):  # no request any more: then it is its body
        found = json.loads(content)
        asked, body = {**asked, "headers": dict(found["headers"]), **found}, json.dumps(found["body"]).encode()
    sent = _send(str(asked["method"]), str(asked["path"]), dict(asked["headers"]), body)
    with ThreadPoolExecutor(1) as thread:  # in this one a browser of other tests may have a loop that runs
        status, answer = thread.submit(asyncio.run, sent).result()
    if status != 200 and status not in REFUSED:
        raise AssertionError(f"status {status}: {answer[:200]!r}")
    if status != 200:
        words = json.loads(answer)["error"] if answer[:1] == b"{" else answer.decode()  # those of Starlette's routes
        raise HandgradError(words or f"status {status}")
    if asked["method"] == "POST":
        read_frame(answer)


async def _send(method: str, path: str, headers: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if (message := next(messages, None)) is None:
            await asyncio.Event().wait()  # somebody waits for the answer
        assert message is not None
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    encoded = [(_latin(name.lower()), _latin(str(x))) for name, x in headers.items()]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method.upper(),
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
    }
    scope |= {"query_string": b"", "headers": encoded, "scheme": "http", "root_path": "", "server": ("127.0.0.1", PORT)}
    with mock.patch("handgrad.explorer.server._in_a_process", _verdict):
        await server()(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")
