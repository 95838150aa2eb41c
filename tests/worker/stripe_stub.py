"""Objects and a Date → a local HTTP server that answers the worker's reads as Stripe's API would."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.worker.events import JANUARY, moment


@dataclass
class StripeStub:
    """What is at each path, the Date of the answers, and which paths were asked for."""

    url: str
    now: int = JANUARY + 10
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: int | None = None
    asked: list[str] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Answer GET /v1/`path` with `body`."""
        self.objects[f"/v1/{path}"] = body

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        """Status and body for one request."""
        self.asked.append(target)
        self.on_request()
        if self.failure is not None:
            return self.failure, {"error": {"type": "api_error", "message": "Stripe is not well."}}
        found = self.objects.get(target, self.objects.get(target.partition("?")[0]))
        if found is None:
            message = f"No such object: {target}"
            return 404, {
                "error": {"type": "invalid_request_error", "code": "resource_missing", "message": message}
            }
        return 200, found


@contextmanager
def stripe_stub() -> Iterator[StripeStub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, found = stub.answer(self.path)
            body = json.dumps(found).encode()
            self.send_response_only(status)
            self.send_header("Date", format_datetime(moment(stub.now), usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = StripeStub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
