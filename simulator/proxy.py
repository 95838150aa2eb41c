"""A TCP proxy on 127.0.0.1 that cuts connections: between a worker and Postgres, or a worker and Stripe.

What is to happen is armed: a number of messages of the client pass, then the proxy cuts or calls. A commit is cut
before it is sent on, or after it was sent on and before its answer, which the client then never learns.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from devstack.processes import HOST

CHUNK_BYTES = 65_536
COMMIT = b"commit"
Where = Literal["message", "commit"]
When = Literal["before", "after"]


@dataclass(slots=True)
class Trap:
    """Springs at the client's n-th message or commit from now on. `act` is called before connections are cut."""

    where: Where
    when: When
    countdown: int
    sprung: Callable[[], None]
    # Leave the connections to die with their process.
    cuts: bool = True


class Proxy:
    """One target. Every connection has two threads, which end with it."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._lock = threading.Lock()
        self._traps: list[Trap] = []
        self._open: set[socket.socket] = set()
        # Of what is sent in the two directions nothing is passed on.
        self._loses_requests = False
        self._loses_answers = False
        self._delay_seconds = 0.0
        # How often something was, since it became silent.
        self.lost = 0
        self._delayed = 0
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def arm(self, trap: Trap) -> None:
        with self._lock:
            self._traps.append(trap)

    def disarm(self) -> None:
        """Forget what has not sprung."""
        with self._lock:
            self._traps.clear()

    def hush(self, keeps_requests: bool) -> None:
        """Nothing is answered from now on; `keeps_requests`: they arrive, and only their answers are lost."""
        self._loses_requests, self._loses_answers = not keeps_requests, True

    def speak(self) -> int:
        """End the silence; how often something was lost. Its connections are cut, for no answer comes any more."""
        lost, self.lost = self.lost, 0
        was_silent, self._loses_requests, self._loses_answers = self._loses_answers, False, False
        if was_silent:
            self.cut()
        return lost

    def slow(self, delay_seconds: float) -> int:
        """From now on answers come later; how many did until now."""
        self._delay_seconds = delay_seconds
        delayed, self._delayed = self._delayed, 0
        return delayed

    def cut(self) -> int:
        """Cut every connection, without goodbye; how many."""
        with self._lock:
            found = list(self._open)
        for each in found:
            _reset(each)
        return len(found) // 2

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                target = socket.create_connection((HOST, self._target_port), timeout=5)
            except OSError:
                client.close()
                continue
            target.settimeout(None)
            for each in (client, target):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, target}
            for pump in (self._to_target, self._to_client):
                threading.Thread(target=pump, args=(client, target), name="proxy", daemon=True).start()

    def _to_target(self, client: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(CHUNK_BYTES):
                trap = self._due(chunk)
                if self._loses_requests:
                    self.lost += 1
                elif trap is None or trap.when == "after":
                    if trap is not None and trap.cuts:
                        client.shutdown(socket.SHUT_WR)  # no answer overtakes the cut
                    target.sendall(chunk)
                if trap is not None:
                    trap.sprung()
                    if trap.cuts:
                        # The target reads what was sent before its end; the client reads nothing any more.
                        _reset(client)
                        break
        self._end(client, target)

    def _to_client(self, client: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := target.recv(CHUNK_BYTES):
                if self._loses_answers:
                    self.lost += 1
                    continue
                if self._delay_seconds:
                    self._delayed += 1
                    time.sleep(self._delay_seconds)
                client.sendall(chunk)
        self._end(client, target)

    def _due(self, chunk: bytes) -> Trap | None:
        with self._lock:
            if not self._traps:
                return None
            is_commit = COMMIT in chunk.lower()
            for trap in self._traps:
                if trap.where == "commit" and not is_commit:
                    continue
                trap.countdown -= 1
                if trap.countdown <= 0:
                    self._traps.remove(trap)
                    return trap
        return None

    def _end(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open -= set(sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
