"""A request → allowed or refused: by its cookie, Host header and origin; and the headers of every response.

Every page that the browser has open can send requests to 127.0.0.1. Such requests lack the cookie (SameSite), our
Origin, and the token of our forms; all three are required.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cli.dashboard.session import Session

BODY_BYTES_MAX = 64 * 1024
FIELDS_MAX = 50

HEADERS = {
    # Nothing from other servers and nothing inline: text in a name or a note stays text.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    # With `no-referrer`, browsers would send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

Refuse = Callable[[int, str, str], Response]


class Guard:
    """The outermost layer. `refuse` renders a page from a status, a title and advice."""

    def __init__(self, app: ASGIApp, session: Session, port: int, refuse: Refuse) -> None:
        self._app = app
        self._session = session
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        # Cookies do not depend on the port: without the port in its name, two dashboards would overwrite each other's.
        self._cookie = f"till_dashboard_{port}"
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = self._met(request) or await self._doubt(request)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _met(self, request: Request) -> Response | None:
        if request.headers.get("host", "") not in self._hosts:
            # A foreign domain that resolves to loopback (DNS rebinding).
            return PlainTextResponse("invalid Host header: use 127.0.0.1\n", 400)
        if "\0" in request.url.path or b"%00" in request.scope["query_string"]:
            return PlainTextResponse(
                "invalid characters in the address\n", 400
            )  # Postgres would refuse them too
        token = request.query_params.get("token")
        if request.method == "GET" and request.url.path == "/" and token:
            cookie = self._session.open(token)
            if cookie is not None:
                opened = RedirectResponse("/", 303)
                opened.set_cookie(self._cookie, cookie, httponly=True, samesite="strict", path="/")
                return opened
            if self._is_known(request):
                return RedirectResponse("/", 303)
        if is_open(request.url.path) or self._is_known(request):
            return None
        return self._refuse(
            401,
            "You are not signed in",
            "The address works once, in one browser. Run `till dashboard` again and open the address that it prints.",
        )

    async def _doubt(self, request: Request) -> Response | None:
        if request.method in ("GET", "HEAD"):
            return None
        form = await _form_of(request)
        if form is None:
            return self._refuse(413, "Request body too large", "Write less.")
        host = request.headers["host"]
        if request.headers.get("origin") != f"http://{host}" or not self._session.vouches_for(
            form.get("csrf")
        ):
            return self._refuse(
                403,
                "The request did not come from this dashboard",
                "Nothing was changed. Go back and try again.",
            )
        request.state.form = form
        return None

    def _is_known(self, request: Request) -> bool:
        return self._session.knows(request.cookies.get(self._cookie))


def is_open(path: str) -> bool:
    """Paths without a cookie: they show no data."""
    return path == "/ready" or path.startswith("/static/")


async def _form_of(request: Request) -> dict[str, str] | None:
    """The fields of a form; None if it is larger than any of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=FIELDS_MAX)
    except ValueError:
        return None
    return {name: value.replace("\0", "").strip() for name, value in fields}


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers
