"""Checkout Sessions: opened, shown, expired. What paying does is in `checkout_completion`."""

from typing import Any

from stripe_local.errors import invalid, malformed, missing_parameter
from stripe_local.parameters import Params
from stripe_local.render import INCLUDABLE, listed, page
from stripe_local.resources import line_items, taxes
from stripe_local.resources.common import matching
from stripe_local.state import ACCOUNT_NAME, State
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World, merge_metadata, put

LIFETIME_SECONDS = 86_400
SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 86_400
BRANDING = {
    "background_color": "#ffffff",
    "border_style": "rounded",
    "button_color": "#0074d4",
    "display_name": ACCOUNT_NAME,
    "font_family": "default",
}
ECHOED = (
    "allow_promotion_codes",
    "billing_address_collection",
    "branding_settings",
    "cancel_url",
    "client_reference_id",
    "consent_collection",
    "customer_creation",
    "customer_email",
    "locale",
    "origin_context",
    "payment_method_collection",
    "phone_number_collection",
    "return_url",
    "saved_payment_method_options",
    "submit_type",
    "success_url",
    "tax_id_collection",
    "redirect_on_completion",
)


def create(world: World, params: Params) -> Object:
    """An open session with the URL of the page where it is paid."""
    mode = params.get("mode")
    if mode is None:
        raise malformed("Missing required param: mode.", "mode", "parameter_missing")
    ui_mode = params.get("ui_mode", "hosted_page")
    _check(world, params, mode, ui_mode)
    items = line_items.make(world, params["line_items"], mode) if "line_items" in params else []
    if mode != "setup" and not items:
        raise malformed("Missing required param: line_items.", "line_items", "parameter_missing")
    coupons = _coupons(world, params)
    session = open_session(world, params, mode, ui_mode, items)
    if items:
        session["_coupons"] = coupons
        line_items.add_up(world, session, coupons, world.store.find("customer", session.get("customer")))
    elif "currency" in params:
        session["currency"] = params["currency"]
    if mode != "setup" and line_items.is_free(world, session):
        session["payment_status"] = "no_payment_required"
    if coupons:
        session["discounts"] = [
            {"coupon": entry.get("coupon"), "promotion_code": entry.get("promotion_code")}
            for entry in params["discounts"]
        ]
    return session


def _check(world: World, params: Params, mode: str, ui_mode: str) -> None:
    if params.get("customer"):
        world.store.get("customer", params["customer"], "customer")
        if params.get("customer_email"):
            raise invalid(
                "You may only specify one of these parameters: customer, customer_email.", "customer"
            )
    if params.get("customer_creation") and mode == "subscription":
        raise invalid(
            "`customer_creation` can only be used in `payment` and `setup` mode.", "customer_creation"
        )
    if "subscription_data" in params and mode != "subscription":
        raise invalid(
            "You can not pass `subscription_data` in `payment` or `setup` mode.", "subscription_data"
        )
    if "payment_intent_data" in params and mode != "payment":
        raise invalid(
            "You can not pass `payment_intent_data` in `subscription` or `setup` mode.", "payment_intent_data"
        )
    if params.get("discounts") and "allow_promotion_codes" in params:
        raise invalid(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
            "allow_promotion_codes",
        )
    if ui_mode in ("hosted_page", "hosted") and "return_url" in params:
        raise invalid("`return_url` can only be used with the embedded ui modes.", "return_url")
    if ui_mode in ("embedded_page", "embedded", "elements", "custom", "form") and "success_url" in params:
        raise invalid(
            f"`success_url` can not be used with ui_mode={ui_mode}: use `return_url`.", "success_url"
        )
    customer = world.store.find("customer", params.get("customer"))
    saves_address = inside(params, "customer_update").get("address") == "auto"
    if inside(params, "automatic_tax").get("enabled") and customer is not None and not saves_address:
        taxes.check_place(customer)
    now = world.wall_time()
    expires: int = params.get("expires_at", now + LIFETIME_SECONDS)
    if not now + SHORTEST_SECONDS - 60 <= expires <= now + LONGEST_SECONDS + 60:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from Checkout Session "
            "creation.",
            "expires_at",
        )


def _coupons(world: World, params: Params) -> list[str]:
    """The coupons behind `discounts`, which exist."""
    ids: list[str] = []
    for number, entry in enumerate(each(params, "discounts")):
        if entry.get("promotion_code"):
            where = f"discounts[{number}][promotion_code]"
            ids.append(
                world.store.get("promotion_code", entry["promotion_code"], where)["promotion"]["coupon"]
            )
        else:
            where = f"discounts[{number}][coupon]"
            ids.append(world.store.get("coupon", entry.get("coupon") or "", where)["id"])
    return ids


def open_session(world: World, params: Params, mode: str, ui_mode: str, items: list[Object]) -> Object:
    """Stored, with its timer; amounts are still to be added up."""
    now = world.wall_time()
    data: Params = inside(params, "subscription_data")
    invoicing: Params = inside(params, "invoice_creation")
    currency = world.store.get("price", items[0]["price"])["currency"] if items else None
    fields: Object = {
        "adaptive_pricing": {"enabled": bool(inside(params, "adaptive_pricing").get("enabled", False))},
        "automatic_tax": {"enabled": bool(inside(params, "automatic_tax").get("enabled"))},
        "created": now,
        "currency": currency,
        "custom_fields": [],
        "custom_text": dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        ),
        "customer": params.get("customer"),
        "expires_at": params.get("expires_at", now + LIFETIME_SECONDS),
        "invoice_creation": _invoice_creation(invoicing) if mode == "payment" else None,
        "metadata": {},
        "mode": mode,
        "payment_method_collection": "always" if mode == "subscription" else "if_required",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": params.get("payment_method_types") or ["card"],
        "payment_status": "unpaid" if mode != "setup" else "no_payment_required",
        "permissions": None,
        "shipping_options": [],
        "status": "open",
        "ui_mode": ui_mode,
        "wallet_options": None,
        "_customer_update": params.get("customer_update") or {},
        "_default_tax_rates": taxes.rates_of(
            world, data.get("default_tax_rates"), "subscription_data[default_tax_rates]"
        ),
        "_intent_data": params.get("payment_intent_data") or {},
        "_invoicing": invoicing,
        "_line_items": items,
        "_setup_data": params.get("setup_intent_data") or {},
        "_subscription_data": data,
        "_trial": data.get("trial_period_days") or data.get("trial_end"),
    }
    put(fields, params, *ECHOED)
    if "branding_settings" in fields:
        fields["branding_settings"] = BRANDING | fields["branding_settings"]
    fields["custom_fields"] = [custom_field(field) for field in each(params, "custom_fields")]
    for name, text in inside(params, "custom_text").items():
        fields["custom_text"][name] = text or None
    if "tax_id_collection" in fields:
        fields["tax_id_collection"] = {"required": "never"} | fields["tax_id_collection"]
    merge_metadata(fields, params.get("metadata"))
    if mode == "payment" and "customer_creation" not in params and not params.get("customer"):
        fields["customer_creation"] = "if_required"
    fields["total_details"] = {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0} if items else None
    session = world.store.add("checkout.session", fields)
    if ui_mode in ("hosted_page", "hosted"):
        session["url"] = f"{world.base_url}/c/pay/{session['id']}"
    else:
        session["client_secret"] = f"{session['id']}_secret_{world.store.token(40)}"
    world.schedule(None, session["expires_at"], lambda: expire_when_due(world, session))
    return session


def custom_field(field: Object) -> Object:
    """A custom field on the page, still to be filled in."""
    if field["type"] == "dropdown" and not inside(field, "dropdown").get("options"):
        raise missing_parameter("custom_fields[dropdown][options]")
    return {"optional": False} | field | {field["type"]: inside(field, field["type"]) | {"value": None}}


def _invoice_creation(given: Params) -> Object:
    data: Object = dict.fromkeys(
        ("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options")
    )
    data["metadata"] = {}
    return {"enabled": bool(given.get("enabled")), "invoice_data": data | inside(given, "invoice_data")}


def expire_when_due(world: World, session: Object) -> None:
    """Expired if its time is up."""
    if session["status"] == "open" and session["expires_at"] <= world.wall_time():
        _expire(world, session)


def _expire(world: World, session: Object) -> Object:
    session["status"] = "expired"
    session.pop("url", None)
    world.emit("checkout.session.expired", session)
    return session


def expire(world: World, params: Params, identifier: str) -> Object:
    session = world.store.get("checkout.session", identifier)
    if session["status"] != "open":
        raise invalid(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{session['status']}`."
        )
    return _expire(world, session)


def payment_page(world: World, params: Params, identifier: str) -> Object:
    """What Checkout's own page asks for."""
    return world.store.get("checkout.session", identifier)


def update(world: World, params: Params, identifier: str) -> Object:
    """Metadata, and what an embedded page may change."""
    session = world.store.get("checkout.session", identifier)
    merge_metadata(session, params.get("metadata"))
    return session


def list_all(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("checkout.session"), params, frozenset({"customer_details"}))
    email = inside(params, "customer_details").get("email")
    if email:
        found = [s for s in found if inside(s, "customer_details").get("email") == email]
    return listed(world, found, params, "/v1/checkout/sessions")


def list_line_items(world: World, params: Params, identifier: str) -> Object:
    session = world.store.get("checkout.session", identifier)
    url = f"/v1/checkout/sessions/{identifier}/line_items"
    return _page_of_items(world, session, params, url)


def _page_of_items(world: World, holder: Object, params: Params, url: str) -> Object:
    items: list[Any] = line_items.shown(world, holder["_line_items"])
    ids = [item["id"] for item in items]
    start = ids.index(params["starting_after"]) + 1 if params.get("starting_after") in ids else 0
    limit = min(100, max(1, params.get("limit", 10)))
    return page(items[start : start + limit], url, len(items) > start + limit)


def list_link_items(world: World, params: Params, identifier: str) -> Object:
    link = world.store.get("payment_link", identifier)
    return _page_of_items(world, link, params, f"/v1/payment_links/{identifier}/line_items")


def _included(state: State, session: Object) -> Any:
    stored = state.store.find("checkout.session", session["id"]) or {}
    return line_items.as_list(state, stored, f"/v1/checkout/sessions/{session['id']}/line_items")


def _included_in_link(state: State, link: Object) -> Any:
    stored = state.store.find("payment_link", link["id"]) or {}
    return line_items.as_list(state, stored, f"/v1/payment_links/{link['id']}/line_items")


INCLUDABLE[("checkout.session", "line_items")] = _included
INCLUDABLE[("payment_link", "line_items")] = _included_in_link
