"""A request → allowed or refused: every page that a browser has open can send requests to 127.0.0.1.

A foreign name that resolves to loopback (DNS rebinding) is refused by its Host header, a form or script of another site
by its Origin, which browsers always send with a write. Programs send none.
"""

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# The last one is what containers call this machine.
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]", "host.docker.internal"})


class Guard:
    """The outermost layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (self._app if refusal is None else PlainTextResponse(refusal, 403))(scope, receive, send)


def _refusal(scope: Scope) -> str | None:
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if host.rpartition(":")[0] not in NAMES and host not in NAMES:
        return "invalid Host header: use 127.0.0.1\n"
    is_write = scope["method"] not in ("GET", "HEAD", "OPTIONS")
    if is_write and headers.get("origin") not in (None, f"http://{host}"):
        return "This form is not of this page: nothing was changed.\n"
    return None
