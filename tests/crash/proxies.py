"""Proxies that a process talks through: they know each request by name, and are points where the process dies.

Nothing in the process is changed. After a statement, or a request, its answer is here and the process has not seen it;
that is when it dies. What it sent before reaches its receiver, and nothing of it reaches anybody afterwards.
"""

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.crash.points import Points

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 30

# Negotiations before the start-up message: TLS and GSSAPI. There is none on the loopback.
_NEGOTIATIONS = {80877103, 80877104}
_SYNC = b"S\x00\x00\x00\x04"
_FUNCTION = re.compile(r'\b(billing|pgmq)\."?(\w+)"?\s*\(')
_IS_ID = re.compile(r"[a-z]+(_[a-z]+)*_(?=\w*[0-9A-Z])\w{6,}")


def name_of_statement(sql: str) -> str:
    """The function that a statement calls; else its first words."""
    found = _FUNCTION.search(sql)
    return f"{found[1]}.{found[2]}" if found else " ".join(sql.split()[:4])


def name_of_request(method: str, path: str) -> str:
    """Without the ids in the path."""
    parts = urlsplit(path).path.split("/")
    return f"{method} " + "/".join("…" if _IS_ID.fullmatch(part) else part for part in parts)


@contextmanager
def postgres_proxy(port: int, points: Points) -> Iterator[int]:
    """The port of a proxy to a server of this machine."""
    with socket.create_server((HOST, 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    client, _ = listener.accept()
                    session = _Session(client, socket.create_connection((HOST, port)), points)
                    threading.Thread(target=session.listen, daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@dataclass(eq=False)
class _Asked:
    """A statement that the server was sent; without a name: the end of a group of them.

    What is `watched` must be done for good, and not known to the client, before the process may die after it.
    `is_ours`: the client did not send it.
    """

    name: str = ""
    watched: "_Asked | None" = None
    is_ours: bool = False
    is_done: bool = False
    has_rows: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)


class _Session:
    """One connection."""

    def __init__(self, client: socket.socket, server: socket.socket, points: Points) -> None:
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self._server, self._points = client, server, points
        self._generation = points.generation
        self._asked = deque[_Asked]()
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._is_failed = False

    def listen(self) -> None:
        """From the client to the server."""
        with contextlib.suppress(OSError):
            held = self._start_up()
            threading.Thread(target=self._answer, daemon=True).start()
            while not self._points.is_over(self._generation):
                held = self._forward(held)
                found = self._client.recv(65536)
                if not found:
                    break
                held += found
        self._close()

    def _start_up(self) -> bytes:
        while True:
            head = self._exactly(8)
            length, code = struct.unpack("!II", head)
            if code in _NEGOTIATIONS:
                self._client.sendall(b"N")
                continue
            self._server.sendall(head + self._exactly(length - 8))
            return b""

    def _exactly(self, length: int) -> bytes:
        held = b""
        while len(held) < length:
            found = self._client.recv(length - len(held))
            if not found:
                raise ConnectionError
            held += found
        return held

    def _forward(self, held: bytes) -> bytes:
        """Pass whole messages on; what is left."""
        start = end = 0
        while len(held) >= end + 5:
            size = 1 + int.from_bytes(held[end + 1 : end + 5], "big")
            if len(held) < end + size:
                break
            message = held[end : end + size]
            if self._is_passed_over(message):
                start = end = end + size
                continue
            name = self._name(message)
            if name is None:
                end += size
                continue
            if self._points.meet(f"before {name}", self._generation):
                self._server.sendall(held[start:end])
                raise ConnectionError
            end += size
            self._ask(name, held[start:end], is_simple=message[:1] == b"Q")
            start = end
        if end > start:
            self._server.sendall(held[start:end])
        return held[end:]

    def _ask(self, name: str, messages: bytes, *, is_simple: bool) -> None:
        """Send a statement; wait until it is done if the process may die then."""
        asked, is_watched = _Asked(name), self._points.may_kill(f"after {name}")
        self._asked.append(asked)
        if is_simple or is_watched:
            self._asked.append(_Asked(watched=asked if is_watched else None, is_ours=not is_simple))
        # A statement that is no part of a transaction block is committed with the end of its group.
        self._server.sendall(messages + (_SYNC if is_watched and not is_simple else b""))
        if is_watched and (not asked.is_over.wait(TIMEOUT_SECONDS) or self._points.is_over(self._generation)):
            raise ConnectionError
        self._is_failed = is_watched and not is_simple and not asked.is_done

    def _is_passed_over(self, message: bytes) -> bool:
        """After an error the server passes over the rest of the group of messages, but has seen an end that is ours."""
        if message[:1] == b"S":
            self._is_failed = False
        return self._is_failed

    def _name(self, message: bytes) -> str | None:
        """The name of the statement that a message runs, None for one that runs none."""
        kind, body = message[:1], message[5:]
        match kind:
            case b"Q":
                return name_of_statement(body.rstrip(b"\0").decode())
            case b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._statements[name] = sql.decode()
            case b"B":
                portal, statement, _ = body.split(b"\0", 2)
                self._portals[portal] = self._statements.get(statement, "?")
            case b"E":
                return name_of_statement(self._portals[body.split(b"\0", 1)[0]])
            case b"S":
                self._asked.append(_Asked())
            case _:
                pass
        return None

    def _answer(self) -> None:
        """From the server to the client."""
        held, passed = b"", b""
        with contextlib.suppress(OSError):
            while found := self._server.recv(65536):
                held += found
                end = 0
                while len(held) >= end + 5:
                    size = 1 + int.from_bytes(held[end + 1 : end + 5], "big")
                    if len(held) < end + size:
                        break
                    message = held[end : end + size]
                    end += size
                    if not self._is_ours(message):
                        passed += message
                    if self._points.is_over(self._generation):
                        self._close()
                        return
                held = held[end:]
                if not any(asked.watched for asked in self._asked.copy()):
                    self._client.sendall(passed)
                    passed = b""
        self._close()

    def _is_ours(self, message: bytes) -> bool:
        """Take note of a message of the server; whether the client did not ask for it."""
        match message[:1]:
            case b"C" | b"I" if self._asked and self._asked[0].name:
                asked = self._asked.popleft()
                asked.is_done = True
                # What finds nothing has done nothing: a poll.
                asked.has_rows = message[5:] != b"SELECT 0\0"
                if asked.has_rows and not any(each.watched is asked for each in self._asked.copy()):
                    self._points.meet(f"after {asked.name}", self._generation)
            case b"E":
                while self._asked and self._asked[0].name:
                    self._asked.popleft()
            case b"Z" if self._asked:
                end = self._asked.popleft()
                while end.name:  # passed over after an error
                    end = self._asked.popleft()
                if end.watched is not None:
                    if end.watched.has_rows:
                        self._points.meet(f"after {end.watched.name}", self._generation)
                    end.watched.is_over.set()
                return end.is_ours
            case _:
                pass
        return False

    def _close(self) -> None:
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def http_proxy(url: str, points: Points, name: str = "") -> Iterator[str]:
    """The URL of a proxy to an HTTP server; `name` instead of the paths of requests."""
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.generation = points.generation

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # the client was killed
                self.close_connection = True

        def answer(self) -> None:
            point = name or name_of_request(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.close_connection = True
            if points.meet(f"before {point}", self.generation):
                return
            upstream = http.client.HTTPConnection(target.netloc, timeout=TIMEOUT_SECONDS)
            with contextlib.closing(upstream):
                upstream.request(self.command, self.path, body, dict(self.headers))
                response = upstream.getresponse()
                answer = response.read()
            if points.meet(f"after {point}", self.generation):
                return
            self.send_response_only(response.status)
            for header, value in response.getheaders():
                if header.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(header, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = False

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield target._replace(netloc=f"{HOST}:{server.server_port}").geturl()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
