"""What the worker's loop last did → /healthz and /readyz, beside /metrics, in a thread of its own.

/healthz  200 while the loop goes round, also while Postgres is away: a supervisor restarts a worker whose loop is stuck
/readyz   200 while the worker is connected and the loop goes round: events are being processed
/metrics  for Prometheus
"""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

# A batch of events takes a second, a reconnection up to fifteen; a statement that waits for one of the app's own locks
# gives up within seconds.
STUCK_AFTER_SECONDS = 120.0


class Pulse:
    """When the loop last went round, and whether it was connected then."""

    def __init__(self) -> None:
        self._at_seconds = time.monotonic()
        self._is_connected = False

    def beat(self, *, connected: bool) -> None:
        """The loop goes round."""
        self._at_seconds = time.monotonic()
        self._is_connected = connected

    def is_alive(self) -> bool:
        """Whether the loop goes round."""
        return time.monotonic() - self._at_seconds < STUCK_AFTER_SECONDS

    def is_ready(self) -> bool:
        """Whether it does so connected to Postgres."""
        return self._is_connected and self.is_alive()


PULSE = Pulse()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection that is kept open and says nothing holds a thread.
    timeout = 30

    def do_GET(self) -> None:
        """Answer one of the three."""
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY))
            case "/healthz":
                self._say(PULSE.is_alive(), "stuck: the loop has not gone round for two minutes")
            case "/readyz":
                self._say(PULSE.is_ready(), "not connected to Postgres")
            case _:
                self._answer(404, "text/plain", b"not found\n")

    def _say(self, is_well: bool, trouble: str) -> None:
        text = "ok" if is_well else trouble
        self._answer(200 if is_well else 503, "text/plain", f"{text}\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """Answer on host:port until the process ends; returns the server, which has the port."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

    server = Server((host, port), _Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
