"""What notices that a rank has ended before its time, says so once, and has the others end too.

MPI does not tell: the others would wait for ever or, where the launcher kills them, end without a word. So rank 0
starts a small process that each rank holds a connection to. The system closes a connection when its process ends,
however that comes; a rank that has not said goodbye by then is lost. This file is that process, which knows the
standard library only, and the ranks' end of the connection. No data travels here.
"""

import os
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

LOST, GOODBYE = b"lost\n", b"goodbye\n"
PATIENCE = 10.0
"""Seconds for a connection."""
KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""After 50 seconds without an answer a machine, of which no word comes when its power fails, is taken for lost."""


class Lifeline:
    """A rank's connection."""

    def __init__(self, address: tuple[str, int, str] | None, rank: int) -> None:
        """Where no connection is possible the rank says so, and does without."""
        self._line: socket.socket | None = None
        name = f"{rank} on {socket.gethostname()}"
        if address is not None:
            host, port, secret = address
            with suppress(OSError):
                self._line = socket.create_connection((host, port), timeout=PATIENCE)
                _keep_alive(self._line)
                self._say(f"{secret} {name}\n".encode())
        if self._line is None:
            print(
                f"handgrad: rank {name} will not hear of a rank that is lost: no connection to rank 0's machine",
                file=sys.__stderr__,
                flush=True,
            )

    def advise(self, advice: str) -> None:
        """What is to be said besides, should a rank be lost."""
        self._say(f"advice {' '.join(advice.split())}\n".encode())

    def check(self) -> None:
        """End this process, where another one is lost: that has been said, and there is nothing to wait for."""
        if self._line is None or not select.select([self._line], [], [], 0)[0]:
            return
        said = b""
        try:
            said = self._line.recv(len(LOST))
        except TimeoutError:
            print("handgrad: the machine of rank 0 does not answer any more", file=sys.__stderr__, flush=True)
            said = LOST
        except OSError:
            pass
        if said == LOST:
            sys.stdout.flush()
            os._exit(1)
        self._line = None  # the watching process itself has ended

    def close(self) -> None:
        self._say(GOODBYE)
        self._line = None

    def _say(self, what: bytes) -> None:
        if self._line is not None:
            with suppress(OSError):
                self._line.sendall(what)


def _keep_alive(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not all systems have all of them
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def start_watching(on_one_machine: bool) -> tuple[str, int, str] | None:
    """Start the process; where it can be reached, and the word that it wants to hear first. None where that fails."""
    host, heard_at = ("127.0.0.1", "127.0.0.1") if on_one_machine else (socket.gethostname(), "")
    secret = secrets.token_hex(8)
    command = [sys.executable, "-I", "-S", str(Path(__file__)), heard_at, secret]
    try:
        # in a session of its own, or what ends the ranks would end it, too
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        with child.stdout:
            return host, int(child.stdout.readline()), secret
    except (OSError, ValueError):
        return None


class _Watch:
    """The process: connections, whose they are, and what they have said."""

    def __init__(self, server: socket.socket, secret: str) -> None:
        self.server, self.secret = server, secret
        self.selector = selectors.DefaultSelector()
        self.selector.register(server, selectors.EVENT_READ)
        self.names: dict[socket.socket, str] = {}
        self.advice = ""

    def run(self) -> None:
        self.server.settimeout(PATIENCE)
        while True:
            events = self.selector.select(None if self.names else PATIENCE)
            if not events:  # nobody has come
                return
            for key, _ in events:
                if key.fileobj is self.server:
                    self._welcome()
                elif isinstance(key.fileobj, socket.socket) and not self._hear(key.fileobj):
                    return

    def _welcome(self) -> None:
        with suppress(OSError):
            line, _ = self.server.accept()
            line.settimeout(PATIENCE)
            _keep_alive(line)
            secret, _, name = line.makefile("rb", buffering=0).readline(200).decode(errors="replace").partition(" ")
            if secret == self.secret:
                self.names[line] = name.strip()
                self.selector.register(line, selectors.EVENT_READ)

    def _hear(self, line: socket.socket) -> bool:
        """Whether there is somebody left to listen to."""
        said = b""
        with suppress(OSError):
            said = line.recv(1 << 16)
        for each in said.splitlines():
            if each.startswith(b"advice "):
                self.advice = each[len(b"advice ") :].decode(errors="replace")
        if said and not said.endswith(GOODBYE):
            return True
        self.selector.unregister(line)
        name = self.names.pop(line)
        if not said:
            print(
                f"handgrad: rank {name} has ended before its time, so the others end too{self.advice}", file=sys.stderr
            )
            for other in self.names:
                with suppress(OSError):
                    other.sendall(LOST)
            return False
        return bool(self.names)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the ranks
    host, secret = sys.argv[1:]
    server = socket.create_server((host, 0))
    print(server.getsockname()[1], flush=True)
    os.close(1)
    _Watch(server, secret).run()


if __name__ == "__main__":
    _main()
