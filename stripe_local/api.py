"""An HTTP request under /v1 → keys, versions, idempotency and parameters checked → the answer of a handler."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from stripe_local import forms, parameters
from stripe_local.acted_on import refuse_others
from stripe_local.api_spec import OPERATIONS, OTHER_OPERATIONS, VERSION
from stripe_local.errors import InvalidParameter, StripeError, malformed, not_played, unknown_url
from stripe_local.render import expand, render
from stripe_local.routes import HANDLERS, Handler
from stripe_local.state import RequestInfo
from stripe_local.store import Object
from stripe_local.versions import in_version, older_parameters
from stripe_local.world import World

MAX_IDEMPOTENCY_KEY_LENGTH = 255
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z_]+)?\Z")


@dataclass
class Request:
    """The used parts of an HTTP request. Header names are in lower case."""

    method: str
    path: str
    query: str
    body: str
    headers: Mapping[str, str]
    base_url: str = "http://127.0.0.1"


@dataclass
class Answer:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Kept:
    """The first answer to an idempotency key."""

    fingerprint: tuple[str, str]
    path: str
    answer: Answer


class Router:
    """Path templates as a tree; a literal part goes before `{}`."""

    def __init__(self, operations: list[str]) -> None:
        self._root: dict[str, Any] = {}
        for operation in operations:
            verb, path = operation.split(" ")
            node = self._root
            for part in [verb, *path.strip("/").split("/")]:
                node = node.setdefault(part, {})
            node["/"] = operation

    def find(self, verb: str, path: str) -> tuple[str | None, list[str]]:
        """(operation, the ids in the path)."""
        return _walk(self._root, [verb, *path.strip("/").split("/")], [])


def _walk(node: dict[str, Any], parts: list[str], ids: list[str]) -> tuple[str | None, list[str]]:
    if not parts:
        return node.get("/"), ids
    head, rest = parts[0], parts[1:]
    if head in node and head != "/":
        operation, found = _walk(node[head], rest, ids)
        if operation:
            return operation, found
    if "{}" in node and head:
        return _walk(node["{}"], rest, [*ids, head])
    return None, ids


class Api:
    """The protocol: request ids, and the answers stored for idempotency keys."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.router = Router(list(HANDLERS))
        self.others = Router([*OTHER_OPERATIONS, *(set(OPERATIONS) - set(HANDLERS))])
        self.kept: dict[str, Kept] = {}

    def answer(self, request: Request) -> Answer:
        """Never raises: an error is an answer too."""
        request_id = "req_" + self.world.store.token(14)
        headers = {
            # By the clock that stamps events, so that both can be compared; the server's own clock may lag.
            "Date": formatdate(self.world.wall_time(), usegmt=True),
            "Request-Id": request_id,
            "Stripe-Version": request.headers.get("stripe-version", VERSION),
        }
        key = request.headers.get("idempotency-key")
        if key:
            headers |= {
                "Idempotency-Key": key.encode("ascii", "replace").decode(),
                "Original-Request": request_id,
            }
        try:
            answer = self._answer(request, request_id, key)
        except StripeError as error:
            answer = Answer(error.status, json.dumps(error.body(request_id)))
            if error.status == 401:
                answer.headers["WWW-Authenticate"] = 'Basic realm="Stripe"'
        answer.headers = headers | answer.headers
        return answer

    def _answer(self, request: Request, request_id: str, key: str | None) -> Answer:
        api_key = authenticate(request.headers.get("authorization", ""))
        version = _checked_version(request.headers.get("stripe-version"))
        operation, ids = self.router.find(request.method, request.path)
        if operation is None:
            known, _ = self.others.find(request.method, request.path)
            if known:
                raise not_played(request.method, request.path)
            raise unknown_url(request.method, request.path)
        authorize(self.world, api_key, request.method, request.path)
        fingerprint = (request.method, request.query + "&" + request.body)
        if key and request.method == "POST":
            kept = self._replayed(key, request.path, fingerprint)
            if kept is not None:
                return kept
        keep = bool(key) and request.method == "POST"
        try:
            self.world.base_url = request.base_url
            self.world.request = RequestInfo(request_id, key)
            answer = self._run(operation, ids, request, version)
        except InvalidParameter:
            raise
        except StripeError as error:
            answer = Answer(error.status, json.dumps(error.body(request_id)))
            keep = keep and error.status not in (401, 403, 429)
        finally:
            self.world.request = self.world.automatic
        if keep and key:
            answer.headers["Original-Request"] = request_id
            self.kept[key] = Kept(fingerprint, request.path, answer)
        return answer

    def _run(self, operation: str, ids: list[str], request: Request, version: str) -> Answer:
        given = forms.decode("&".join(part for part in (request.query, request.body) if part))
        also = older_parameters(self.world, operation, request.headers.get("stripe-version"), given)
        # Checkout's own page calls undocumented endpoints: their parameters are not checked.
        documented = operation in OPERATIONS
        params = parameters.typed(OPERATIONS[operation], given, also) if documented else given
        if documented:
            refuse_others(operation, params, also)
        paths: list[str] = params.pop("expand", [])
        handler: Handler = HANDLERS[operation]
        result: Object = handler(self.world, params, *ids)
        shown = render(self.world, result) if "_sequence" in result else result
        if paths:
            shown = expand(self.world, shown, paths)
        if version[:10] < VERSION[:10]:
            shown = in_version(self.world, shown, version)
        return Answer(200, json.dumps(shown))

    def _replayed(self, key: str, path: str, fingerprint: tuple[str, str]) -> Answer | None:
        if len(key) > MAX_IDEMPOTENCY_KEY_LENGTH:
            raise malformed(f"Idempotency keys have at most {MAX_IDEMPOTENCY_KEY_LENGTH} characters.")
        kept = self.kept.get(key)
        if kept is None:
            return None
        if kept.path != path:
            raise StripeError(
                400,
                f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{path}' vs '{kept.path}'). Try using a key other than '{key}' if you meant to execute a "
                "different request.",
                kind="idempotency_error",
            )
        if kept.fingerprint != fingerprint:
            raise StripeError(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key}' if you meant to execute a different request.",
                kind="idempotency_error",
            )
        return Answer(
            kept.answer.status, kept.answer.body, kept.answer.headers | {"Idempotent-Replayed": "true"}
        )


def authenticate(header: str) -> str:
    """The secret or restricted test key of `Bearer …` or of Basic's user name."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    elif scheme.lower() != "bearer":
        value = ""
    value = value.strip()
    if not value:
        raise StripeError(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
        )
    if value.startswith("pk_"):
        raise StripeError(
            403,
            "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a "
            "list of your API keys at https://dashboard.stripe.com/account/apikeys.",
            code="secret_key_required",
        )
    if not value.startswith(("sk_test_", "rk_test_")) or len(value) < 9:
        shown = value[:8] + "*" * max(0, min(len(value), 40) - 12) + value[-4:]
        raise StripeError(401, f"Invalid API Key provided: {shown}")
    return value


def authorize(world: World, api_key: str, method: str, path: str) -> None:
    """403 if the scopes of a restricted key do not allow this."""
    scopes = world.settings.restricted_keys.get(api_key)
    if scopes is None:
        return
    resource = path.strip("/").split("/")[1]
    needed = "read" if method == "GET" else "write"
    allowed = scopes.get(resource, "none")
    if allowed != "write" and allowed != needed:
        raise StripeError(
            403,
            f"The provided key '{api_key[:8]}…{api_key[-4:]}' does not have the required permissions for this "
            f"endpoint on account '{world.account_id}'. Having the 'rak_{resource.rstrip('s')}_{needed}' permission "
            "would allow this request to continue.",
            code="more_permissions_required_for_application",
        )


def _checked_version(header: str | None) -> str:
    if header is None:
        return VERSION
    if not _VERSION.match(header):
        raise StripeError(400, f"Invalid Stripe API version: {header[:50]}")
    return header
