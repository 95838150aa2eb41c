"""Loopback servers that people's notifications arrive at: a real SMTP server, and a real webhook."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

HOST = "127.0.0.1"


@dataclass
class Mail:
    """One message as the server took it."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part is not None
        return part.get_content()

    @property
    def html(self) -> str:
        part = self.message.get_body(("html",))
        assert part is not None
        return part.get_content()


class MailServer:
    """An SMTP server that can be down for a while, on the same port; `refusals` are its answers by recipient."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.refusals: dict[str, str] = {}
        self.connections = 0
        self.refuses_password = False
        self.before_answer: Callable[[], None] = lambda: None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """For administrators; `from` and the recipients are to be added."""
        return f"mailto://{HOST}:{self._port}/ops@example.com?from=till@example.org&mode=insecure"

    def url_with(self, user: str, password: str) -> str:
        return self.url.replace("mailto://", f"mailto://{user}:{password}@")

    def start(self) -> None:
        def protocol() -> SMTP:
            self.connections += 1
            return SMTP(
                self, hostname="mail.example.org", loop=self._loop, auth_require_tls=False,
                authenticator=self._authenticate,
            )  # fmt: skip

        async def listen() -> asyncio.Server:
            return await self._loop.create_server(protocol, HOST, self._port)

        self._server = self._on_loop(listen())
        self._port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        async def close() -> None:
            assert self._server is not None
            self._server.close()
            await self._server.wait_closed()

        self._on_loop(close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.mails.append(Mail(envelope.mail_from, list(envelope.rcpt_tos), message))
        self.before_answer()
        return "250 OK"

    def _authenticate(self, *_: Any) -> AuthResult:
        return AuthResult(success=not self.refuses_password, handled=False)

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@dataclass
class Webhook:
    """What was posted: headers and body of each request; `status` is the answer."""

    url: str
    status: int = 200
    posts: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.posts]


@contextmanager
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    try:
        yield server
    finally:
        server.end()


@contextmanager
def webhook(path: str = "/hooks/s3cret-t0ken") -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.status == 200:
                hook.posts.append((dict(self.headers), body))
            self.send_response_only(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    hook = Webhook(f"json://{HOST}:{server.server_port}{path}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
