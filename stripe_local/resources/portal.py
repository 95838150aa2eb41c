"""The customer portal: configurations, and sessions that point to a page."""

from typing import Any

from stripe_local.errors import invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources.common import matching
from stripe_local.store import Object
from stripe_local.values import each, inside, is_hash
from stripe_local.world import World, merge_metadata, put

LIFETIME_SECONDS = 300
REASONS = ["too_expensive", "missing_features", "switched_service", "unused", "other"]
FEATURES: Object = {
    "customer_update": {"allowed_updates": ["email", "tax_id"], "enabled": True},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": REASONS},
        "enabled": True,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False},
    "subscription_update": {
        "billing_cycle_anchor": "unchanged",
        "default_allowed_updates": [],
        "enabled": False,
        "products": [],
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}


def create_configuration(world: World, params: Params, *, is_default: bool = False) -> Object:
    now = world.wall_time()
    configuration = world.store.add(
        "billing_portal.configuration",
        {
            "active": True,
            "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
            "created": now,
            "features": {name: dict(feature) for name, feature in FEATURES.items()},
            "is_default": is_default,
            "login_page": {"enabled": False, "url": None},
            "metadata": {},
            "updated": now,
        },
    )
    if not is_default:
        for name in ("payment_method_update", "subscription_cancel", "invoice_history", "customer_update"):
            configuration["features"][name]["enabled"] = False
    _set(world, configuration, params)
    world.emit("billing_portal.configuration.created", configuration)
    return configuration


def _set(world: World, configuration: Object, params: Params) -> None:
    put(configuration, params, "active", "default_return_url", "name")
    merge_metadata(configuration, params.get("metadata"))
    profile = params.get("business_profile")
    if profile:
        configuration["business_profile"] = {**configuration["business_profile"], **_emptied(profile)}
    features: Object = dict(configuration["features"])
    for name, given in inside(params, "features").items():
        features[name] = _merged(features[name], _emptied(given))
    products: list[Any] = features["subscription_update"].get("products") or []
    for number, product in enumerate(products):
        where = f"features[subscription_update][products][{number}]"
        world.store.get("product", product["product"], f"{where}[product]")
        for price in product["prices"]:
            world.store.get("price", price, f"{where}[prices]")
        product.setdefault("adjustable_quantity", {"enabled": False, "maximum": None, "minimum": 1})
    configuration["features"] = features
    if "login_page" in params:
        enabled: bool = params["login_page"]["enabled"]
        url = f"{world.base_url}/p/login/{configuration['id']}" if enabled else None
        configuration["login_page"] = {"enabled": enabled, "url": url}


def _merged(former: Object, given: Params) -> Object:
    """What is given over what was there, hash by hash."""
    both = {
        key: _merged(former[key], v) if is_hash(v) and is_hash(former.get(key)) else v
        for key, v in given.items()
    }
    return {**former, **both}


_LISTS = ("updates", "products", "options", "conditions")


def _emptied(given: Params) -> Params:
    """Empty strings unset; where a list is kept, it becomes empty."""
    return {key: _emptied_value(key, value) for key, value in given.items()}


def _emptied_value(key: str, value: Any) -> Any:
    if value == "":
        return [] if key.endswith(_LISTS) else None
    if key == "duration":
        return value | {"interval_options": []}
    return _emptied(value) if is_hash(value) else value


def update_configuration(world: World, params: Params, identifier: str) -> Object:
    configuration = world.store.get("billing_portal.configuration", identifier)
    if configuration["is_default"] and params.get("active") is False:
        raise invalid("You cannot deactivate the default configuration.", "active")
    with world.updating(configuration, "billing_portal.configuration.updated"):
        _set(world, configuration, params)
        configuration["updated"] = world.wall_time()
    return configuration


def list_configurations(world: World, params: Params) -> Object:
    default_configuration(world)
    found = matching(world.store.newest_first("billing_portal.configuration"), params)
    return listed(world, found, params, "/v1/billing_portal/configurations")


def default_configuration(world: World) -> Object:
    for configuration in world.store.all("billing_portal.configuration"):
        if configuration["is_default"]:
            return configuration
    return create_configuration(world, {}, is_default=True)


def create_session(world: World, params: Params) -> Object:
    """A URL for one customer, valid for five minutes."""
    if not params.get("customer"):
        raise malformed("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.store.get("customer", params["customer"], "customer")
    configuration = (
        world.store.get("billing_portal.configuration", params["configuration"], "configuration")
        if params.get("configuration")
        else default_configuration(world)
    )
    session = world.store.add(
        "billing_portal.session",
        {
            "configuration": configuration["id"],
            "created": world.wall_time(),
            "customer": customer["id"],
            "flow": _flow(world, configuration, customer, params.get("flow_data")),
            "_expires_at": world.wall_time() + LIFETIME_SECONDS,
        },
    )
    put(session, params, "locale", "on_behalf_of")
    session["return_url"] = params.get("return_url") or configuration.get("default_return_url")
    session["url"] = f"{world.base_url}/p/session/{session['id']}"
    world.emit("billing_portal.session.created", session)
    return session


_SUBSCRIPTION_FLOWS = (
    "subscription_cancel",
    "subscription_pause",
    "subscription_update",
    "subscription_update_confirm",
)


def _flow(world: World, configuration: Object, customer: Object, given: Params | None) -> Object | None:
    if not given:
        return None
    kind: str = given["type"]
    feature = "subscription_update" if kind == "subscription_update_confirm" else kind
    if not configuration["features"].get(feature, {}).get("enabled"):
        raise invalid(
            f"This portal configuration does not enable `{feature}`, which the flow `{kind}` needs.",
            "flow_data[type]",
        )
    flow: Object = {"type": kind, "after_completion": _after(inside(given, "after_completion"))}
    for name in _SUBSCRIPTION_FLOWS:
        flow[name] = None
    if kind in _SUBSCRIPTION_FLOWS:
        where = f"flow_data[{kind}]"
        data: Params = given.get(kind) or {}
        if not data.get("subscription"):
            raise malformed(
                f"Missing required param: {where}[subscription].",
                f"{where}[subscription]",
                "parameter_missing",
            )
        subscription = world.store.get("subscription", data["subscription"], f"{where}[subscription]")
        if subscription["customer"] != customer["id"]:
            raise invalid("The subscription belongs to another customer.", f"{where}[subscription]")
        flow[kind] = {"subscription": subscription["id"]}
        if kind == "subscription_cancel":
            flow[kind]["retention"] = None
        if kind == "subscription_update_confirm":
            items: list[Params] = each(data, "items")
            flow[kind]["items"] = [
                {"id": item.get("id"), "price": item.get("price"), "quantity": item.get("quantity")}
                for item in items
            ]
            flow[kind]["discounts"] = None
    return flow


def _after(given: Params) -> Object:
    return {
        "type": given.get("type", "portal_homepage"),
        "redirect": given.get("redirect"),
        "hosted_confirmation": given.get("hosted_confirmation"),
    }
