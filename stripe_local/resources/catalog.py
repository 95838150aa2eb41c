"""Products and prices; a recurring price is also the plan of old."""

from decimal import Decimal
from typing import Any

from stripe_local.errors import StripeError, invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import INCLUDABLE, complete, listed, render
from stripe_local.resources.common import deleted, matching
from stripe_local.resources.pricing import rounded
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.versions import plan_of
from stripe_local.world import World, merge_metadata, positive, put

PRODUCT_TEXTS = ("description", "name", "statement_descriptor", "tax_code", "unit_label", "url")


def create_product(world: World, params: Params) -> Object:
    if world.store.find("product", params.get("id")):
        raise invalid(f"Product already exists: {params['id']}", "id", "resource_already_exists")
    now = world.wall_time()
    product = world.store.add(
        "product",
        {
            "id": params.get("id"),
            "active": True,
            "created": now,
            "images": [],
            "marketing_features": [],
            "metadata": {},
            "type": "service",
            "updated": now,
        },
    )
    _set_product(product, params)
    world.emit("product.created", product)
    if "default_price_data" in params:
        data: Params = params["default_price_data"]
        try:
            price = create_price(world, data | {"product": product["id"]})
        except StripeError:
            world.store.remove("product", product["id"])
            raise
        with world.updating(product, "product.updated"):
            product["default_price"] = price["id"]
    return product


def _set_product(product: Object, params: Params) -> None:
    put(product, params, *PRODUCT_TEXTS, "active", "shippable", "package_dimensions")
    for key in ("images", "marketing_features"):
        if key in params:
            product[key] = params[key] or []
    merge_metadata(product, params.get("metadata"))


def update_product(world: World, params: Params, identifier: str) -> Object:
    product = world.store.get("product", identifier)
    if params.get("default_price"):
        price = world.store.get("price", params["default_price"], "default_price")
        if price["product"] != identifier:
            raise invalid(f"The price specified belongs to another product: {price['id']}", "default_price")
    with world.updating(product, "product.updated"):
        _set_product(product, params)
        put(product, params, "default_price")
        product["updated"] = world.wall_time()
    return product


def delete_product(world: World, params: Params, identifier: str) -> Object:
    product = world.store.get("product", identifier)
    if any(price["product"] == identifier for price in world.store.all("price")):
        raise invalid(
            f"This product cannot be deleted because it has one or more user-created prices: {identifier}",
            "id",
        )
    world.store.remove("product", identifier)
    world.emit("product.deleted", product)
    return deleted("product", identifier)


def list_products(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("product"), params, frozenset({"ids"}))
    if "ids" in params:
        found = [product for product in found if product["id"] in params["ids"]]
    return listed(world, found, params, "/v1/products")


def _recurring(given: Params) -> Object:
    interval, count = given["interval"], given.get("interval_count", 1)
    longest = {"day": 1095, "week": 156, "month": 36, "year": 3}[interval]
    if not 1 <= count <= longest:
        raise invalid(f"Invalid interval_count: must be between 1 and {longest}", "recurring[interval_count]")
    if given.get("usage_type", "licensed") == "metered":
        raise invalid("Metered prices are not played by the local emulator.", "recurring[usage_type]")
    return {
        "interval": interval,
        "interval_count": count,
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": "licensed",
    }


def create_price(world: World, params: Params) -> Object:
    """With `product` or `product_data`; exactly one of the ways to say an amount."""
    product_id = params.get("product")
    if product_id is None and "product_data" not in params:
        raise malformed(
            "You must specify either `product` or `product_data` when creating a price.", "product"
        )
    if product_id is not None:
        world.store.get("product", product_id, "product")
    fields = _price_fields(world, params)
    holder = _free_lookup_key(world, params)
    if product_id is None:
        product_id = create_product(world, params["product_data"])["id"]
    if holder is not None:
        with world.updating(holder, "price.updated"):
            holder.pop("lookup_key")
    price = world.store.add("price", {**fields, "product": product_id})
    merge_metadata(price, params.get("metadata"))
    world.emit("price.created", price)
    if price.get("recurring"):
        world.events.emit("plan.created", complete("plan", plan_of(render(world, price))))
    return price


def _free_lookup_key(world: World, params: Params) -> Object | None:
    """The price that has to give the lookup key away, if it may be moved."""
    key = params.get("lookup_key")
    holder = next((p for p in world.store.all("price") if key and p.get("lookup_key") == key), None)
    if holder is not None and not params.get("transfer_lookup_key"):
        raise invalid(
            f"A price (`{holder['id']}`) already uses that lookup key. To reassign it, set `transfer_lookup_key` to "
            "true.",
            "lookup_key",
        )
    return holder


def _price_fields(world: World, params: Params) -> Object:
    positive(params, "unit_amount")
    fields: Object = {
        "active": params.get("active", True),
        "billing_scheme": params.get("billing_scheme", "per_unit"),
        "created": world.wall_time(),
        "currency": currency(params.get("currency")),
        "metadata": {},
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "type": "recurring" if "recurring" in params else "one_time",
    }
    if "recurring" in params:
        fields["recurring"] = _recurring(params["recurring"])
    put(fields, params, "lookup_key", "nickname", "transform_quantity", "tiers_mode")
    if fields["billing_scheme"] == "tiered":
        fields["_tiers"] = _tiers(params)
        return fields
    custom: Params = inside(params, "custom_unit_amount")
    ways = [w for w in ("unit_amount", "unit_amount_decimal") if w in params] + (["custom"] if custom else [])
    if len(ways) != 1:
        raise malformed(
            "Prices require an `unit_amount` or `unit_amount_decimal` or `custom_unit_amount` parameter to be set, "
            "and only one of them.",
            "unit_amount",
            "parameter_missing" if not ways else None,
        )
    if custom:
        if "recurring" in params or not custom.get("enabled"):
            raise invalid(
                "`custom_unit_amount` needs `enabled=true`, and can only be used with one-time prices.",
                "custom_unit_amount",
            )
        fields["custom_unit_amount"] = {key: custom.get(key) for key in ("maximum", "minimum", "preset")}
    else:
        _put_unit(fields, params)
    return fields


def _put_unit(target: Object, params: Params) -> None:
    amount = Decimal(params.get("unit_amount_decimal", params.get("unit_amount", 0)))
    if amount < 0:
        raise malformed("This value must be greater than or equal to 0.", "unit_amount_decimal")
    target["unit_amount_decimal"] = f"{amount.normalize():f}"
    if amount == amount.to_integral_value():
        target["unit_amount"] = rounded(amount)


def _tiers(params: Params) -> list[Object]:
    given: list[Any] = each(params, "tiers")
    if not given or "tiers_mode" not in params:
        raise malformed("`tiers` and `tiers_mode` are required with billing_scheme=tiered.", "tiers")
    if [tier["up_to"] for tier in given].count("inf") != 1 or given[-1]["up_to"] != "inf":
        raise malformed("The last tier, and only it, must have up_to=inf.", "tiers")
    tiers: list[Object] = []
    for tier in given:
        up_to = None if tier["up_to"] == "inf" else int(tier["up_to"])
        shown = {
            key: tier.get(key)
            for key in ("flat_amount", "flat_amount_decimal", "unit_amount", "unit_amount_decimal")
        }
        for name in ("flat_amount", "unit_amount"):
            if shown[name] is not None and shown[f"{name}_decimal"] is None:
                shown[f"{name}_decimal"] = str(shown[name])
        tiers.append({**shown, "up_to": up_to})
    return tiers


def currency(given: str | None) -> str:
    """Lower case, three letters."""
    code = (given or "usd").lower()
    if len(code) != 3 or not code.isascii() or not code.isalpha():
        raise invalid(
            f"Invalid currency: {code[:20]}. Stripe currently supports three-letter ISO codes such as usd, eur, gbp.",
            "currency",
        )
    return code


def update_price(world: World, params: Params, identifier: str) -> Object:
    price = world.store.get("price", identifier)
    holder = _free_lookup_key(world, params) if price.get("lookup_key") != params.get("lookup_key") else None
    if holder is not None:
        with world.updating(holder, "price.updated"):
            holder.pop("lookup_key")
    with world.updating(price, "price.updated"):
        put(price, params, "active", "lookup_key", "nickname", "tax_behavior")
        merge_metadata(price, params.get("metadata"))
    return price


def delete_price(world: World, identifier: str) -> Object:
    """Only of one that nothing was sold at; its product no longer has it as the default."""
    price = world.store.get("price", identifier)
    used = any(item["price"] == identifier for item in world.store.all("subscription_item")) or any(
        inside(line, "pricing", "price_details").get("price") == identifier
        for invoice in world.store.all("invoice")
        for line in invoice["_lines"]
    )
    if used:
        raise invalid(f"This price cannot be deleted because it was used: {identifier}", "id")
    remove_price(world, price)
    return deleted("price", identifier)


def remove_price(world: World, price: Object) -> None:
    """`price.deleted`, and `plan.deleted` of a recurring one. Subscriptions at it go on."""
    identifier: str = price["id"]
    world.store.remove("price", identifier)
    world.store.tables.setdefault("deleted_price", {})[identifier] = price
    world.emit("price.deleted", price)
    if price.get("recurring"):
        world.events.emit("plan.deleted", complete("plan", plan_of(render(world, price))))
    product = world.store.find("product", price["product"])
    if product is not None and product.get("default_price") == identifier:
        with world.updating(product, "product.updated"):
            product.pop("default_price")


def list_prices(world: World, params: Params) -> Object:
    """Prices of a product, of lookup keys, of a kind of interval."""
    found = matching(world.store.newest_first("price"), params, frozenset({"lookup_keys", "recurring"}))
    if "lookup_keys" in params:
        found = [price for price in found if price.get("lookup_key") in params["lookup_keys"]]
    wanted: Params = inside(params, "recurring")
    if wanted:
        found = [p for p in found if all(inside(p, "recurring").get(k) == v for k, v in wanted.items())]
    return listed(world, found, params, "/v1/prices")


def from_data(world: World, data: Params, where: str) -> Object:
    """The price that `price_data` describes: made, and inactive as Stripe makes it."""
    if not data.get("product") and not data.get("product_data"):
        raise malformed(
            f"You must specify either `product` or `product_data` when creating a price: {where}[price_data].",
            f"{where}[price_data][product]",
        )
    price = create_price(world, data)
    price["active"] = False
    return price


def price_of(world: World, item: Params, where: str, *, recurring: bool | None = None) -> Object:
    """The price an item names or describes; refused when inactive or of the wrong type.

    `_checked`: it was taken before, and may come from `price_data` or be archived since.
    """
    if "price_data" in item:
        price = from_data(world, item["price_data"], where)
    elif item.get("price") or item.get("plan"):
        price = world.store.get("price", item.get("price") or item["plan"], f"{where}[price]")
        if not price["active"] and "_checked" not in item:
            raise invalid(
                f"The price specified is inactive. This field only accepts active prices: {price['id']}",
                f"{where}[price]",
            )
    else:
        raise malformed(f"Missing required param: {where}[price].", f"{where}[price]", "parameter_missing")
    if recurring is True and price["type"] != "recurring":
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with "
            "`type=recurring`.",
            f"{where}[price]",
        )
    if recurring is False and price["type"] != "one_time":
        raise invalid(
            "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.",
            f"{where}[price]",
        )
    return price


def _tiers_of(state: State, price: Object) -> Any:
    stored = state.store.find("price", price["id"])
    return (stored or {}).get("_tiers") or None


def _currency_options(state: State, price: Object) -> Object:
    return {
        price["currency"]: {
            "custom_unit_amount": price["custom_unit_amount"],
            "tax_behavior": price["tax_behavior"],
            "unit_amount": price["unit_amount"],
            "unit_amount_decimal": price["unit_amount_decimal"],
        }
    }


INCLUDABLE[("price", "tiers")] = _tiers_of
INCLUDABLE[("price", "currency_options")] = _currency_options
