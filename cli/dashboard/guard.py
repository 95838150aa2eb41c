"""A request → let through, or refused: who asks, under which name, from which page; and the headers of every answer.

A page on loopback has neighbours: every page that the browser has open can send requests to it. What they lack is the
cookie (SameSite), the page's origin, and the token that our forms carry; all three are asked for.
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
    # Nothing of anybody else's, nothing inline: what a stranger writes into a name or a note stays text.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    # `no-referrer` would make browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

Refuse = Callable[[int, str, str], Response]


class Guard:
    """The outermost layer. `refuse` makes a page of a status, a title and what to do next."""

    def __init__(self, app: ASGIApp, session: Session, port: int, refuse: Refuse) -> None:
        self._app = app
        self._session = session
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        # Cookies know no ports: without the port in its name, two dashboards would take each other's.
        self._cookie = f"till_dashboard_{port}"
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = self._met(request) or await self._doubt(request)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _met(self, request: Request) -> Response | None:
        if request.headers.get("host", "") not in self._hosts:
            # A name of a stranger that leads to loopback (DNS rebinding).
            return PlainTextResponse("this is 127.0.0.1, and goes by no other name\n", 400)
        if "\0" in request.url.path or b"%00" in request.scope["query_string"]:
            return PlainTextResponse("no address of ours has that in it\n", 400)  # nor could Postgres take it
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
            "This page is for whoever started it",
            "Its address works once, in one browser. Start `till dashboard` again, and open what it prints.",
        )

    async def _doubt(self, request: Request) -> Response | None:
        if request.method in ("GET", "HEAD"):
            return None
        form = await _form_of(request)
        if form is None:
            return self._refuse(413, "That is too much", "Write less.")
        host = request.headers["host"]
        if request.headers.get("origin") != f"http://{host}" or not self._session.vouches_for(
            form.get("csrf")
        ):
            return self._refuse(
                403,
                "That did not come from a page of this dashboard",
                "Nothing was done. Go back and try again.",
            )
        request.state.form = form
        return None

    def _is_known(self, request: Request) -> bool:
        return self._session.knows(request.cookies.get(self._cookie))


def is_open(path: str) -> bool:
    """What is answered to anybody, and so says nothing of the books."""
    return path == "/ready" or path.startswith("/static/")


async def _form_of(request: Request) -> dict[str, str] | None:
    """The fields of a form; None where it is larger than any of ours."""
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
