"""An id → the object as the API answers it, with links to the objects that it names, and what can happen to it.

At the addresses of Stripe's Dashboard (/test/customers/cus_…), so that an app's links to it can lead here.
"""

import json
import re
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stripe_local.render import render
from stripe_local.store import PREFIXES, Object
from stripe_local.templating import Endpoint, message, page
from stripe_local.world import World

# Of the Dashboard; other kinds are at /test/objects/….
FAMILIES = {
    "customer": "customers",
    "subscription": "subscriptions",
    "invoice": "invoices",
    "payment_intent": "payments",
    "charge": "payments",
    "refund": "refunds",
    "dispute": "disputes",
    "product": "products",
    "price": "prices",
    "payment_link": "payment-links",
    "event": "events",
    "webhook_endpoint": "webhooks",
}
_ANY_PREFIX = "|".join(prefix for prefix in PREFIXES.values() if prefix)
_ID = re.compile(f'"((?:{_ANY_PREFIX})[A-Za-z0-9_]+)"')


def object_path(identifier: str) -> str:
    """The page of an object."""
    kind = next((kind for kind in _kinds(identifier)), "")
    return f"/test/{FAMILIES.get(kind, 'objects')}/{quote(identifier, safe='')}"


def object_page(world: World) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        identifier = request.path_params["identifier"]
        found = _find(world, identifier)
        if found is None:
            return message("No such object", f"Nothing here is called {identifier}.", link="/", status=404)
        kind, shown = found
        return page(
            "object.jinja",
            kind=kind,
            object=shown,
            text=_linked(json.dumps(shown, indent=2)),
            pages=_pages(shown),
        )

    return endpoint


def search(world: World) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return RedirectResponse(object_path(request.query_params.get("query", "").strip() or "none"), 303)

    return endpoint


def _kinds(identifier: str) -> list[str]:
    """The kinds of object that an id may be of, the likeliest first; a coupon's may be any text."""
    fitting = [kind for kind, prefix in PREFIXES.items() if prefix and identifier.startswith(prefix)]
    return [*sorted(fitting, key=lambda kind: -len(PREFIXES[kind])), "coupon"]


def _find(world: World, identifier: str) -> tuple[str, Object] | None:
    for kind in _kinds(identifier):
        stored = world.events.get(identifier) if kind == "event" else world.store.find(kind, identifier)
        if stored is not None:
            shown = stored if kind == "event" else render(world, stored)
            return kind, {"id": shown["id"], "object": shown["object"]} | shown
    return None


def _linked(text: str) -> Markup:
    """The JSON, each id in it a link."""
    parts = _ID.split(text)
    return Markup("").join(
        Markup('"<a href="{}">{}</a>"').format(object_path(part), part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def _pages(shown: Object) -> list[tuple[str, Any]]:
    """The hosted pages of an object."""
    named = {"url": "Page", "hosted_invoice_url": "Invoice", "receipt_url": "Receipt"}
    return [(text, shown[key]) for key, text in named.items() if str(shown.get(key) or "").startswith("http")]
