"""The server, really started: who may ask, what is refused, and that it goes on answering whatever it was asked."""

import asyncio
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer import Explorer
from handgrad.explorer import server as module
from handgrad.explorer.assets import served as assets_served
from handgrad.explorer.frames import Reply, read_frame
from handgrad.explorer.server import HEADERS, LARGEST_REQUEST, address_of, listen, new_token, server_of
from handgrad.proof import trace
from handgrad.proof.lesson import loss_of_right_gradients

from .conftest import TEXT, explorer_of, model_of, served

JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        assert self.headers["content-type"] == "application/json"
        return str(json.loads(self.body)["error"])


def send(address: str, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
    """A request of these headers, and no others but Host where there is none; the answer has the headers of safety."""
    port = urlsplit(address).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": f"127.0.0.1:{port}"} | headers).items():
        connection.putheader(name, value)
    if body is not None and "Transfer-Encoding" not in headers and "Content-Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    for name, value in HEADERS.items():
        assert answer.headers[name.lower()] == value
    return answer


def root_of(address: str) -> str:
    return urlsplit(address).path


def ask(address: str, question: str, fields: Any = None, **headers: str) -> Answer:
    body = fields if isinstance(fields, bytes) else json.dumps({} if fields is None else fields).encode()
    return send(address, "POST", f"{root_of(address)}ask/{question}", JSON | headers, body)


def begin(address: str, question: str, fields: dict[str, Any]) -> socket.socket:
    """Ask, and do not wait for the answer."""
    url, body = urlsplit(address), json.dumps(fields).encode()
    sock = socket.create_connection(("127.0.0.1", url.port), timeout=20)
    head = f"POST {url.path}ask/{question} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def assert_it_answers(address: str) -> None:
    assert read_frame(ask(address, "token", {"token": "A"}).body).header == {"token": 65}


@pytest.fixture(autouse=True)
def goes_on(address: str) -> Iterator[None]:
    """Whatever it was asked, it answers the next question."""
    yield
    assert_it_answers(address)


# what it is for


def test_the_page_and_its_files_are_sent(address: str) -> None:
    for name, asset in assets_served().items():
        answer = send(address, "GET", root_of(address) + name, {})
        assert (answer.status, answer.body) == (200, asset.content)
        assert answer.headers["content-type"] == asset.media_type
    head = send(address, "HEAD", root_of(address), {})
    assert (head.status, head.body) == (200, b"")


def test_the_policy_lets_the_page_be_and_nobody_else_in(address: str) -> None:
    answer = send(address, "GET", root_of(address), {})
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == policy["style-src"] == "'self'"
    assert re.fullmatch(r"'self' 'sha256-[\w+/]{43}='", policy["script-src"])
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_a_question_is_answered(address: str) -> None:
    traced = trace(model_of(), TEXT)
    shown = ask(address, "pass")
    assert (shown.status, shown.headers["content-type"]) == (200, "application/octet-stream")
    assert read_frame(shown.body).header["loss"] == traced.loss
    key = "cotangents/blocks.1.attention.weights"
    reply = read_frame(ask(address, "tensors", {"keys": [key], "at": [0, 1]}).body)
    np.testing.assert_array_equal(reply.arrays[key], traced.cotangents["blocks.1.attention.weights"][0, 1])
    for question, fields in (
        ("sheet", {"name": "loss"}),
        ("nudge", {"key": "parameters/norm.gamma", "index": [0]}),
        ("flow", {}),
        ("mutations", {}),
        ("mutation", {"name": "dk_not_transposed"}),
        ("training", {}),
    ):
        assert ask(address, question, fields).status == 200


def test_what_is_wrong_with_a_question_is_told(address: str) -> None:
    for fields, said in (
        ({"text": "x"}, "the text has 1 token; "),
        ({"text": "\ud800\ud800"}, r"character '\ud800' "),
        ({"targets": {"0": 2**31}}, "targets: 2147483648 is no token"),
        ({"checkpoint": "\0/\ud800"}, r"checkpoint: the run keeps none of the name '\x00/\ud800'"),
    ):
        answer = ask(address, "pass", fields)
        assert answer.status == 422
        assert answer.error.startswith(said)
    assert ask(address, "verdict", {"name": "none such"}).error == "there is no mutation 'none such' in the catalogue"
    names: list[Any] = [None, 3, ["dk_not_transposed"], {}, "../laboratory", "--help", "dk_not_transposed\n"]
    for name in names:
        assert ask(address, "verdict", {"name": name}).status == 422


def test_what_is_not_finite_is_an_answer() -> None:
    model = model_of()
    model.parameters["head.w_lm"][...] = np.nan
    with served(explorer_of(model)) as address:
        assert read_frame(ask(address, "pass").body).header["loss"] is None


# who may ask


def everything(address: str, headers: dict[str, str]) -> set[int]:
    """What the page, a file of it and a question are answered."""
    root = root_of(address)
    return {
        send(address, "GET", root, headers).status,
        send(address, "GET", f"{root}main.js", headers).status,
        send(address, "POST", f"{root}ask/pass", JSON | headers, b"{}").status,
    }


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:{port}",
            "127.0.0.1",
            "localhost",
            "127.0.0.1:1",
            "127.0.0.1:{port}.evil.example",
        ),
        *(
            "LOCALHOST:{port}",
            "localhost.:{port}",
            "[::1]:{port}",
            "0.0.0.0:{port}",
            "127.1:{port}",
            "127.0.0.2:{port}",
        ),
        *("", " ", "evil@127.0.0.1:{port}", "127.0.0.1:{port}/", "127.0.0.1:{port},evil.example", "127.0.0.1:0{port}"),
    ],
)
def test_another_name_of_this_machine_is_refused(address: str, host: str) -> None:
    assert everything(address, {"Host": host.format(port=urlsplit(address).port)}) == {403}


def test_this_machine_has_two_names(address: str) -> None:
    port = urlsplit(address).port
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{port}"
        assert everything(address, {"Host": host}) == {200}
        assert everything(address, {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}) == {200}
    assert everything(address, {"Sec-Fetch-Site": "none"}) == {200}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "same-origin"])
def test_a_link_to_the_page_may_be_followed_from_anywhere(address: str, site: str) -> None:
    """And to nothing else; what shows the page within another one does not follow it."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    root, elsewhere = root_of(address), site in ("cross-site", "same-site")
    followed = send(address, "GET", root, headers)
    assert (followed.status, followed.body) == (200, assets_served()[""].content)
    for method, path in (
        *(("POST", f"{root}ask/pass"), ("GET", f"{root}ask/pass"), ("GET", f"{root}main.js"), ("GET", f"{root}/")),
        *(("HEAD", root), ("OPTIONS", root), ("POST", root), ("get", root), ("GET", "/wrong/"), ("GET", root[:-1])),
    ):
        status = send(address, method, path, JSON | headers, b"{}" if method == "POST" else None).status
        assert (status == 403) == elsewhere, (method, path)
    for dest in ("iframe", "frame", "embed", "object", "empty", "script", "Document", ""):
        status = send(address, "GET", root, headers | {"Sec-Fetch-Dest": dest}).status
        assert status == (403 if elsewhere else 200), dest
    assert send(address, "GET", root, headers | {"Host": "evil.example"}).status == 403
    assert send(address, "GET", root, headers | {"Origin": "http://evil.example"}).status == 403


def test_a_socket_for_messages_is_not_opened(address: str) -> None:
    with listen(0) as listener:
        assert server_of(explorer_of(model_of()), listener, "abc").config.ws == "none"
    root, host = root_of(address), urlsplit(address).netloc
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for path, origin, status in ((root, host, b"200"), (root, "evil.example", b"403"), ("/wrong/", host, b"404")):
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{origin}\r\n{upgrade}"
        answer = raw(address, f"{head}Connection: Upgrade, close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status), path
        assert b"nosniff" in answer


def status_behind_the_guard(port: int, **headers: str) -> int:
    """Of a request that comes to this port."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/abc/", "query_string": b"", "headers": listed}
    guarded = module.Guard(app, "abc", port)(scope, send, send)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:  # a browser's tests may have a loop of their own in this thread
        pool.submit(asyncio.run, guarded).result()
    return int(sent[0]["status"])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_browser_does_not_name_port_80(name: str) -> None:
    for host in (name, f"{name}:80"):
        assert status_behind_the_guard(80, host=host) == 200
        assert status_behind_the_guard(80, host=host, origin=f"http://{host}") == 200
        assert status_behind_the_guard(80, host=host, origin=f"https://{host}") == 403
    assert status_behind_the_guard(80, host=f"{name}:8080") == 403
    assert status_behind_the_guard(80, host="evil.example") == 403
    assert status_behind_the_guard(8080, host=f"{name}:8080") == 200
    for host in (name, f"{name}:80"):
        assert status_behind_the_guard(8080, host=host) == 403
        assert status_behind_the_guard(8080, host=f"{name}:8080", origin=f"http://{host}") == 403


def test_no_name_at_all_is_refused(address: str) -> None:
    root, port = root_of(address), urlsplit(address).port
    assert raw(address, f"GET {root} HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert raw(address, f"GET {root} HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    two = f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"
    assert raw(address, f"GET {root} HTTP/1.1\r\n{two}Connection: close\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "HTTP://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}/"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://evil.example", "Sec-Fetch-Mode": "navigate"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        *(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
            for mode, dest in (
                ("no-cors", "script"),
                ("cors", "empty"),
                ("websocket", "websocket"),
                ("navigate", "iframe"),
            )
        ),
    ],
)
def test_another_page_is_refused(address: str, headers: dict[str, str]) -> None:
    port = urlsplit(address).port
    headers = {name: value.format(port=port) for name, value in headers.items()}
    assert everything(address, headers) == {403}
    refusal = send(address, "OPTIONS", f"{root_of(address)}ask/pass", headers)
    assert (refusal.status, refusal.error) == (403, "another page may not ask")


def test_who_does_not_know_the_token_is_refused(address: str) -> None:
    token = root_of(address).strip("/")
    wrong = [token[:-1], f"{token}x", token.swapcase(), "x" * len(token), token[::-1], "%00", "%ff", "é".encode().hex()]
    for path in (
        *(
            "/",
            "//",
            "/main.js",
            "/favicon.ico",
            "/ask/pass",
            f"//{token}/",
            f"/%2f{token}/",
            f"/x/{token}/",
            "/..",
            "/.",
        ),
        *(f"/{each}/" for each in wrong),
        *(f"/{each}/ask/pass" for each in wrong),
        *(f"/{token[:4]}{each}{token[4:]}/" for each in ("%0a", "%0d", "%09", "%00", "%20", "%2f", "/")),
        *(f"/{each}{token}/" for each in ("%20", "%0a", "%00")),
    ):
        for method, body in (("GET", None), ("POST", b"{}")):
            answer = send(address, method, path, JSON, body)
            assert (answer.status, answer.error) == (404, "open the address that handgrad explore printed"), path


@pytest.mark.parametrize("line", ["OPTIONS *", "GET evil", "GET http://evil.example/", "GET ?", "CONNECT evil:1"])
def test_what_is_no_path_is_refused(address: str, line: str) -> None:
    answer = raw(address, f"{line} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1.1 40[045] ", answer)
    assert b"Traceback" not in answer


def test_what_is_no_request_is_refused(address: str) -> None:
    for request in ("\x16\x03\x01\x02\r\n\r\n", "hello\r\n\r\n", "GET\r\n\r\n"):
        assert raw(address, request).startswith(b"HTTP/1.1 400 ")


def raw(address: str, request: str) -> bytes:
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=20) as sock:
        sock.sendall(request.encode("latin-1"))
        found = b""
        while part := sock.recv(1 << 16):
            found += part
    return found


# what is asked for


def test_no_file_of_the_disk_is_ever_sent(address: str) -> None:
    steps = ("..", "%2e%2e", ".%2e", "%252e%252e", "..;", "....", "%c0%ae%c0%ae", "%uff0e%uff0e", "..%00")
    slashes = ("/", "%2f", "%252f", "\\", "%5c", "%c0%af", "//")
    files = ("etc/passwd", "server.py", "explorer.py", "page/index.html", "__init__.py")
    names = {
        f"{step}{slash}" * depth + file for step in steps for slash in slashes for depth in (1, 6) for file in files
    }
    names |= {*files, "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "file:///etc/passwd", "C:%5cWindows%5cwin.ini"}
    names |= {"index.html", "main.js/", "main.js%00", "./main.js", "%2e/main.js", "MAIN.JS", "main.js%20", "main.js/.."}
    names |= {"page/main.js", "main.js/../main.js", "style.css%3f", "-", ".", "..", "%00", "ask", "ask/", "ask/pass"}
    port = urlsplit(address).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for name in sorted(names):
        connection.putrequest("GET", root_of(address) + name, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{port}")
        connection.endheaders()
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b'{"error":"there is no such file"}'), name
        assert response.getheader("X-Content-Type-Options") == "nosniff"
    connection.close()


def test_other_methods_and_questions_are_refused(address: str) -> None:
    root = root_of(address)
    assert send(address, "GET", f"{root}ask/pass", {}).status == 404
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        assert send(address, method, f"{root}ask/pass", JSON, b"{}").status == 405
    assert send(address, "POST", root, JSON, b"{}").status == 405
    assert send(address, "POST", f"{root}main.js", JSON, b"{}").status == 405
    for question in ("nonsense", "at", "__class__", "PASS", "pass ".strip() + "%20", "%00", "%ff"):
        answer = ask(address, question)
        assert (answer.status, answer.error) == (404, "there is no such question")
    for question in ("", "pass/", "pass/more"):
        assert ask(address, question).status in (404, 405)
    assert send(address, "GET", root.rstrip("/"), {}).headers["location"].endswith(root)


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "json"],
)
def test_what_a_form_can_send_is_refused(address: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = send(address, "POST", f"{root_of(address)}ask/pass", headers, b"{}")
    assert (answer.status, answer.error) == (415, "a question is JSON")


def test_json_may_tell_its_characters(address: str) -> None:
    answer = ask(address, "token", b'{"token": "A"}', **{"Content-Type": "application/json; charset=utf-8"})
    assert answer.status == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"{'a': 1}", b'{"a": 1} {}', b"\xff\xfe", b'{"text": "\xff"}', b'{"a": 01}', b"\0"),
        *(b"[" * 60_000, b'{"a":' * 10_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 9000 + b"1" + b"}" * 9000),
        b'{"text": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_json_is_refused(address: str, body: bytes) -> None:
    answer = ask(address, "pass", body)
    assert answer.status in (400, 422)
    assert answer.error in ("not JSON", "not a JSON object") or answer.error.startswith("the text has")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b"NaN", b'[{"text": "abc"}]'])
def test_what_is_no_object_is_refused(address: str, body: bytes) -> None:
    answer = ask(address, "pass", body)
    assert (answer.status, answer.error) == (400, "not a JSON object")


def test_a_question_has_a_largest_size(address: str) -> None:
    body = b'{"token": "A"}'
    assert ask(address, "token", body + b" " * (LARGEST_REQUEST - len(body))).status == 200
    answer = ask(address, "token", body + b" " * (LARGEST_REQUEST + 1 - len(body)))
    assert (answer.status, answer.error) == (413, "more than 65,536 bytes")


def test_a_question_in_parts_has_it_too(address: str) -> None:
    def chunked(*parts: bytes) -> bytes:
        return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))

    headers = {"Transfer-Encoding": "chunked"}
    assert ask(address, "token", chunked(b'{"tok', b'en": "A"}'), **headers).status == 200
    answer = ask(address, "token", chunked(*[b" " * 1000] * 66), **headers)
    assert (answer.status, answer.error) == (413, "more than 65,536 bytes")


def test_a_browser_that_goes_while_it_asks_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with served(explorer_of(model_of())) as address:
        url = urlsplit(address)
        head = f"POST {url.path}ask/pass HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", url.port), timeout=20) as sock:
            sock.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"text": '.encode())
        assert_it_answers(address)
    assert capsys.readouterr() == ("", "")


# answers that take long, or go wrong


class Work(NamedTuple):
    """Answers that take as long as somebody waits, and the explorer that gives them."""

    explorer: Explorer
    begun: threading.Event
    ended: threading.Event
    """That its `stop` raised."""


@pytest.fixture
def work() -> Work:
    made = Work(explorer_of(model_of()), threading.Event(), threading.Event())

    def wait(fields: Any, stop: Callable[[], None]) -> Reply:
        made.begun.set()
        try:
            for _ in range(10_000):  # and not for ever, if `stop` should never raise
                stop()
                time.sleep(0.002)
        except module.Stale:
            made.ended.set()
            raise
        return Reply({})

    def fail(fields: Any, stop: Callable[[], None]) -> Reply:
        raise {"memory": MemoryError, "refused": HandgradError, "broken": ZeroDivisionError}[fields["how"]](
            fields["why"]
        )

    made.explorer.answers.update({"wait": wait, "fail": fail})
    return made


def test_work_stops_where_the_browser_has_gone(work: Work) -> None:
    with served(work.explorer) as address:
        waiting = begin(address, "wait", {})
        assert work.begun.wait(20)
        assert not work.ended.is_set()
        waiting.close()
        assert work.ended.wait(20)
        assert_it_answers(address)


def test_a_real_pass_is_given_up_in_its_midst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `stop` can end it: its forward goes on in a circle."""
    begun, ended = threading.Event(), threading.Event()

    def endless(*arguments: Any, through: Callable[[str, Any], Any]) -> Any:
        begun.set()
        try:
            for _ in range(10_000):
                through("activations/x", None)
                time.sleep(0.002)
        except module.Stale:
            ended.set()
            raise

    with served(explorer_of(model_of())) as address:
        with monkeypatch.context() as patch:
            patch.setattr("handgrad.explorer.passes.trace", endless)
            waiting = begin(address, "pass", {})
            assert begun.wait(20)
            waiting.close()
            assert ended.wait(20)
        assert_it_answers(address)


def test_work_that_takes_too_long_is_given_up(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with served(work.explorer) as address:
        answer = ask(address, "wait")
        assert (answer.status, answer.error) == (503, "gave up after 0 seconds")
        assert work.ended.wait(20)
        assert_it_answers(address)


def test_not_too_many_wait(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 1)
    with served(work.explorer) as address:
        for _ in range(2):  # who has gone waits no more
            work.begun.clear()
            work.ended.clear()
            waiting = begin(address, "wait", {})
            assert work.begun.wait(20)
            answer = ask(address, "token", {"token": "A"})
            assert (answer.status, answer.error) == (503, "too many questions at once")
            assert send(address, "GET", root_of(address), {}).status == 200
            waiting.close()
            assert work.ended.wait(20)
            end = time.monotonic() + 20
            while ask(address, "token", {"token": "A"}).status == 503:
                assert time.monotonic() < end
                time.sleep(0.01)
        assert_it_answers(address)


def test_questions_are_answered_one_by_one_in_their_order(work: Work) -> None:
    at_once, order, lock = [], list[int](), threading.Lock()

    def count(fields: Any, stop: Callable[[], None]) -> Reply:
        at_once.append(lock.acquire(blocking=False))
        time.sleep(0.01)
        order.append(fields["n"])
        lock.release()
        return Reply({"n": fields["n"]})

    work.explorer.answers["count"] = count
    with served(work.explorer) as address:
        first = begin(address, "wait", {})
        assert work.begun.wait(20)
        others = []
        for n in range(4):
            others.append(begin(address, "count", {"n": n}))
            assert send(address, "GET", root_of(address), {}).status == 200  # by then it is in the queue
        others.pop(1).close()  # and that one has gone before its turn
        time.sleep(0.1)
        first.close()
        for sock in others:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            sock.close()
    assert all(at_once)
    assert order == [0, 2, 3]


def test_what_goes_wrong_tells_nothing_of_the_inside(work: Work) -> None:
    with served(work.explorer) as address:
        answer = ask(address, "fail", {"how": "broken", "why": "a secret of /home/somebody"})
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        answer = ask(address, "fail", {})  # a KeyError of its own
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        answer = ask(address, "fail", {"how": "memory", "why": ""})
        assert (answer.status, answer.error) == (422, "out of memory")
        answer = ask(address, "fail", {"how": "refused", "why": "a\nline"})
        assert (answer.status, answer.error) == (422, r"a\nline")
        assert_it_answers(address)


def test_the_end_of_the_server_is_the_end_of_its_work(work: Work) -> None:
    with served(work.explorer) as address:
        waiting = begin(address, "wait", {})
        assert work.begun.wait(20)
    assert work.ended.wait(20)
    assert waiting.recv(100).startswith(b"HTTP/1.1 503 ")
    waiting.close()


# the laboratory

posix = pytest.mark.skipif(sys.platform == "win32", reason="a script is the program")


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a script in the laboratory's place, which tells its process in the file that is returned."""

    def replace(script: str) -> Path:
        program = tmp_path / "program"
        program.write_text(
            f'#!/bin/sh\necho "$$ $*" >> {tmp_path}/told.part\nmv {tmp_path}/told.part {tmp_path}/told\n{script}\n'
        )
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return tmp_path / "told"

    return replace


def process_in(told: Path) -> int:
    end = time.monotonic() + 20
    while not told.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(told.read_text().split()[0])


def wait_for_the_end_of(process: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail(f"process {process} is still there")


@posix
def test_the_laboratory_ends_when_nobody_waits(laboratory: Callable[[str], Path]) -> None:
    told = laboratory("exec sleep 300")
    with served(explorer_of(model_of())) as address:
        waiting = begin(address, "verdict", {"name": "dk_not_transposed"})
        process = process_in(told)
        assert told.read_text().split()[1:] == ["-P", "-m", "handgrad.explorer.laboratory", "dk_not_transposed"]
        assert os.getsid(process) == process != os.getsid(0)  # where no Ctrl-C of a terminal comes to
        assert_it_answers(address)  # which waits for no laboratory
        waiting.close()
        wait_for_the_end_of(process)
        assert_it_answers(address)


@posix
def test_the_laboratory_ends_when_it_takes_too_long(
    laboratory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = laboratory("exec sleep 300")
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with served(explorer_of(model_of())) as address:
        assert ask(address, "verdict", {"name": "dk_not_transposed"}).status == 503
        wait_for_the_end_of(process_in(told))


@posix
def test_the_laboratory_ends_with_the_server(laboratory: Callable[[str], Path]) -> None:
    told = laboratory("exec sleep 300")
    with served(explorer_of(model_of())) as address:
        waiting = begin(address, "verdict", {"name": "dk_not_transposed"})
        process = process_in(told)
    wait_for_the_end_of(process)
    waiting.close()


@posix
def test_one_small_model_is_trained_at_a_time(laboratory: Callable[[str], Path], tmp_path: Path) -> None:
    laboratory(f"mkdir {tmp_path}/busy || touch {tmp_path}/clash\nsleep 0.3\nrmdir {tmp_path}/busy\nexit 3")
    with served(explorer_of(model_of())) as address:
        names = ("dk_not_transposed", "dv_weights_not_transposed", "mask_forgotten")
        asking = [begin(address, "verdict", {"name": name}) for name in names]
        asking.pop(1).close()  # who has gone keeps nobody waiting
        for sock in asking:
            assert sock.recv(100).startswith(b"HTTP/1.1 422 ")
            sock.close()
    assert not (tmp_path / "clash").exists()


@posix
def test_a_laboratory_that_breaks_off_is_told_of_and_tried_again(laboratory: Callable[[str], Path]) -> None:
    laboratory("exit 3")
    with served(explorer_of(model_of())) as address:
        for _ in range(2):
            answer = ask(address, "verdict", {"name": "dk_not_transposed"})
            said = "dk_not_transposed: the training of the small models broke off"
            assert (answer.status, answer.error) == (422, said)
        assert_it_answers(address)


@posix
def test_a_verdict_is_that_of_the_check_and_kept(laboratory: Callable[[str], Path], address: str) -> None:
    name = "truth_not_subtracted"
    reply = read_frame(ask(address, "verdict", {"name": name}).body)
    found = reply.header
    assert (found["layer"], found["caught"]) == ("cross_entropy", True)
    assert (found["tensor"], found["verdict"]) == ("logits", "no")
    assert found["error"] > 0.1
    assert found["right_loss"] == loss_of_right_gradients() < found["loss"]
    assert reply.arrays["losses"].shape == reply.arrays["right_losses"].shape == (300,)
    assert reply.arrays["losses"][0] == reply.arrays["right_losses"][0]  # before the first update
    assert reply.arrays["right_losses"][-50:].mean() < 3 < reply.arrays["losses"][-50:].mean()
    laboratory("exit 3")
    again = read_frame(ask(address, "verdict", {"name": name}).body)
    np.testing.assert_array_equal(again.arrays["losses"], reply.arrays["losses"])
    assert again.header == found


# the socket and the token


def test_the_socket_is_of_this_machine_alone() -> None:
    listener = listen(0)
    try:
        host, port = listener.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        assert address_of(listener, "abc") == f"http://127.0.0.1:{port}/abc/"
        with pytest.raises(HandgradError, match=rf"^--port: {port}: address already in use$"):
            listen(port)
    finally:
        listener.close()
    again = listen(port)  # at once
    assert again.getsockname()[1] == port
    again.close()


@pytest.mark.parametrize("port", [65536, -1, 10**9])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(HandgradError, match=rf"^--port: {port}: no such port$"):
        listen(port)


def test_tokens_cannot_be_guessed() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[\w-]{22}", token) for token in tokens)
