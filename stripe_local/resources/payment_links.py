"""Payment Links: a URL that opens a Checkout Session for each visitor."""

import re
from typing import Any

from stripe_local.errors import invalid, missing_parameter
from stripe_local.parameters import Params
from stripe_local.resources import checkout, line_items
from stripe_local.store import Object
from stripe_local.values import each, inside, is_hash
from stripe_local.world import World, merge_metadata, put

# What Stripe puts into the session; anything else in the URL is dropped, and the page works as ever.
CLIENT_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
TEXTS = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
# What a link's session takes over.
PASSED_ON = (
    "allow_promotion_codes",
    "automatic_tax",
    "billing_address_collection",
    "consent_collection",
    "custom_fields",
    "custom_text",
    "invoice_creation",
    "payment_intent_data",
    "payment_method_collection",
    "phone_number_collection",
    "submit_type",
    "subscription_data",
    "tax_id_collection",
)
FIELDS = (
    "allow_promotion_codes",
    "billing_address_collection",
    "consent_collection",
    "customer_creation",
    "inactive_message",
    "payment_method_collection",
    "payment_method_types",
    "phone_number_collection",
    "submit_type",
    "tax_id_collection",
)


def create(world: World, params: Params) -> Object:
    prices = [entry.get("price") for entry in each(params, "line_items")]
    recurring = any((world.store.find("price", price) or {}).get("type") == "recurring" for price in prices)
    data_recurring = any("recurring" in inside(e, "price_data") for e in each(params, "line_items"))
    mode = "subscription" if recurring or data_recurring else "payment"
    items = line_items.make(world, each(params, "line_items"), mode)
    link = world.store.add(
        "payment_link",
        {
            "active": True,
            "after_completion": _after_completion(params.get("after_completion")),
            "allow_promotion_codes": False,
            "automatic_tax": {"enabled": False},
            "billing_address_collection": "auto",
            "currency": items[0]["currency"],
            "custom_fields": [],
            "custom_text": dict.fromkeys(TEXTS),
            "customer_creation": "always" if mode == "subscription" else "if_required",
            "invoice_creation": _invoice_creation(params) if mode == "payment" else None,
            "metadata": {},
            "payment_method_collection": "always",
            "phone_number_collection": {"enabled": False},
            "shipping_options": [],
            "submit_type": "auto",
            "tax_id_collection": {"enabled": False, "required": "never"},
            "_line_items": items,
            "_mode": mode,
            "_params": params,
        },
    )
    put(link, params, *FIELDS)
    _set_data(link, params)
    merge_metadata(link, params.get("metadata"))
    link["url"] = f"{world.base_url}/b/{link['id']}"
    world.emit("payment_link.created", link)
    return link


def _after_completion(given: Any) -> Object:
    if not given or given.get("type") == "hosted_confirmation":
        message = inside(given, "hosted_confirmation").get("custom_message")
        return {"hosted_confirmation": {"custom_message": message}, "type": "hosted_confirmation"}
    if not inside(given, "redirect"):
        raise missing_parameter("after_completion[redirect]")
    return {"redirect": {"url": given["redirect"]["url"]}, "type": "redirect"}


def _custom_fields(given: list[Params]) -> list[Object]:
    return [{"optional": False} | field for field in given]


def _invoice_creation(params: Params) -> Object:
    given: Params = inside(params, "invoice_creation")
    data = dict.fromkeys(
        ("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options")
    )
    return {"enabled": bool(given.get("enabled")), "invoice_data": {**data, "metadata": {}}}


def _set_data(link: Object, params: Params) -> None:
    link["tax_id_collection"] = {"required": "never"} | link["tax_id_collection"]
    if "automatic_tax" in params:
        link["automatic_tax"] = {"enabled": bool(inside(params, "automatic_tax").get("enabled"))}
    if "custom_fields" in params:
        link["custom_fields"] = _custom_fields(each(params, "custom_fields"))
    if "custom_text" in params:
        given = {name: text or None for name, text in inside(params, "custom_text").items()}
        link["custom_text"] = {**link["custom_text"], **given}
    limit = inside(params, "restrictions", "completed_sessions").get("limit")
    if limit:
        count = inside(link, "restrictions", "completed_sessions").get("count", 0)
        link["restrictions"] = {"completed_sessions": {"count": count, "limit": limit}}
    elif params.get("restrictions") == "":
        link.pop("restrictions", None)
    if link["_mode"] == "subscription":
        data: Params = inside(params, "subscription_data")
        if data or "subscription_data" not in link:
            old: Object = inside(link, "subscription_data")
            link["subscription_data"] = {
                "description": data.get("description", old.get("description")),
                "invoice_settings": {"issuer": {"type": "self"}},
                "metadata": data.get("metadata") or old.get("metadata") or {},
                "trial_period_days": data.get("trial_period_days", old.get("trial_period_days")) or None,
                "trial_settings": data.get("trial_settings") or old.get("trial_settings"),
            }
    elif params.get("payment_intent_data"):
        data = params["payment_intent_data"]
        keys = ("capture_method", "description", "setup_future_usage", "statement_descriptor")
        link["payment_intent_data"] = {
            "metadata": data.get("metadata") or {},
            **{k: data.get(k) for k in keys},
        }
        for key in ("statement_descriptor_suffix", "transfer_group"):
            link["payment_intent_data"][key] = data.get(key)


def update(world: World, params: Params, identifier: str) -> Object:
    link = world.store.get("payment_link", identifier)
    with world.updating(link, "payment_link.updated"):
        put(link, params, "active", *FIELDS)
        if "after_completion" in params:
            link["after_completion"] = _after_completion(params["after_completion"])
        _set_data(link, params)
        merge_metadata(link, params.get("metadata"))
    return link


def open_session(world: World, link: Object, query: Params) -> Object:
    """What following the link does. `query`: client_reference_id, prefilled_email, prefilled_promo_code."""
    if not link["active"]:
        raise invalid(
            link.get("inactive_message") or "This payment link is no longer active.", code="link_inactive"
        )
    mode: str = link["_mode"]
    order: Params = {
        "metadata": dict(link["metadata"]),
        "payment_method_types": link.get("payment_method_types"),
        **{key: link.get(key) for key in PASSED_ON},
    }
    if mode == "payment":
        order["customer_creation"] = link["customer_creation"]
    if CLIENT_REFERENCE.match(query.get("client_reference_id") or ""):
        order["client_reference_id"] = query["client_reference_id"]
    if query.get("prefilled_email"):
        order["customer_email"] = query["prefilled_email"]
    done: Object = link["after_completion"]
    order["success_url"] = inside(done, "redirect").get("url")
    cleaned = {key: _without_none(value) for key, value in order.items() if value is not None}
    session = checkout.open_session(
        world, cleaned, mode, "hosted_page", line_items.copy(world, link["_line_items"])
    )
    session["payment_link"] = link["id"]
    line_items.add_up(world, session, [])
    if line_items.is_free(world, session):
        session["payment_status"] = "no_payment_required"
    return session


def _without_none(value: Any) -> Any:
    if is_hash(value):
        table: Params = value
        return {key: _without_none(element) for key, element in table.items() if element is not None}
    return value
