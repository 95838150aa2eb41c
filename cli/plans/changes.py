"""A plan file and Stripe's catalogue → the steps between them. Pure: no network, no database.

Stripe does not allow changes to a price's amount, currency, interval and product. If they differ, a new price takes
the lookup key, and the old one is archived. Everything else is changed in place. The new price names the replaced
one in its metadata, so that an interrupted push finds the old one again.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, cast

from cli.output import CliError
from cli.plans.catalogue import Body, Catalogue, metadata_of
from cli.plans.file import PACK_METADATA, PLAN_METADATA, CustomAmount, PlanFile, Price, Product

PRODUCT_KEY = "tillbase_product"  # on a product: its key in the plan file
REPLACES_KEY = "tillbase_replaces"  # on a price: the one whose lookup key it took

Action = Literal["create", "change", "archive", "same", "not in file"]
# A field, its value in Stripe, its value in the file; None: none.
Difference = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One product or price of the file or of Stripe, and what to do with it.

    `params` are those of Stripe's call. A new price belongs to the file's product `product`, whose id may not be
    known yet; `successor` is the lookup key of the price that becomes the product's default, whose id may not be
    known either.
    """

    action: Action
    kind: Literal["product", "plan", "pack"]
    key: str
    stripe_id: str | None = None
    differences: tuple[Difference, ...] = ()
    params: Mapping[str, Any] | None = None
    product: str | None = None
    successor: str | None = None

    @property
    def writes(self) -> bool:
        """Whether the step changes anything."""
        return self.action in ("create", "change", "archive")


def steps(file: PlanFile, catalogue: Catalogue) -> list[Step]:
    """The steps from Stripe's state to the file's, in an order that can be interrupted anywhere. Raises CliError."""
    holders = {
        read.body["lookup_key"]: read.body
        for read in catalogue.prices.values()
        if read.body.get("lookup_key")
    }
    products = {
        product.key: _find_product(product, file, catalogue, holders) for product in file.products.values()
    }
    _check_distinct(products)
    found = [_product_step(file.products[key], body) for key, body in products.items()]
    for price in file.prices.values():
        found += _price_steps(price, holders.get(price.key), products[price.product], catalogue)
    return [*found, *_not_in_file(file, catalogue)]


def _find_product(
    product: Product, file: PlanFile, catalogue: Catalogue, holders: Mapping[str, Body]
) -> Body | None:
    """The product in Stripe: by its stripe_id, by an earlier push's metadata, or by one of its prices' lookup keys."""
    if product.stripe_id is not None:
        named = catalogue.products.get(product.stripe_id)
        if named is None:
            raise CliError(f"products.{product.key}.stripe_id: Stripe has no product {product.stripe_id}")
        return named.body
    marked = [
        read.body
        for read in catalogue.products.values()
        if metadata_of(read.body).get(PRODUCT_KEY) == product.key
    ]
    if not marked:
        ids = {
            holders[price.key]["product"]
            for price in file.prices.values()
            if price.product == product.key and price.key in holders
        }
        others = {declared.stripe_id for declared in file.products.values()}
        marked = [
            catalogue.products[stripe_id].body
            for stripe_id in sorted(ids - others)
            if stripe_id in catalogue.products
            and PRODUCT_KEY not in metadata_of(catalogue.products[stripe_id].body)
        ]
    if len(marked) > 1:
        listed = ", ".join(sorted(body["id"] for body in marked))
        raise CliError(
            f"products.{product.key}: several products in Stripe match ({listed}): choose one with stripe_id"
        )
    return marked[0] if marked else None


def _check_distinct(products: Mapping[str, Body | None]) -> None:
    owners: dict[str, str] = {}
    for key, body in products.items():
        other = key if body is None else owners.setdefault(body["id"], key)
        if body is not None and other != key:
            raise CliError(
                f"products.{key}: Stripe has one product, {body['id']}, for it and for products.{other}: "
                "merge them in the file, or set stripe_id for both"
            )


def _product_step(product: Product, body: Body | None) -> Step:
    wanted: dict[str, Any] = {"name": product.name, "active": product.active}
    if product.description is not None:
        wanted["description"] = product.description
    if body is None:
        differences = tuple(
            (name, None, _shown(value)) for name, value in wanted.items() if value is not True
        )
        params = wanted | {"metadata": {PRODUCT_KEY: product.key}}
        return Step("create", "product", product.key, None, differences, params)
    changed = {name: value for name, value in wanted.items() if body.get(name) != value}
    differences = [(name, _shown(body.get(name)), _shown(value)) for name, value in changed.items()]
    mark = metadata_of(body).get(PRODUCT_KEY)
    if mark != product.key:
        changed["metadata"] = {PRODUCT_KEY: product.key}
        differences.append((PRODUCT_KEY, mark, product.key))
    return _in_place("product", product.key, body["id"], tuple(differences), changed)


def _price_steps(
    price: Price, held: Body | None, product: Body | None, catalogue: Catalogue
) -> Iterator[Step]:
    if held is None:
        yield (_creation(price, None, product, ()) if price.active else Step("same", price.kind, price.key))
        return
    fixed = _fixed_differences(price, held, product)
    # An archived plan is not sold: its subscribers keep their price.
    is_replaced = price.active and bool(fixed)
    if is_replaced:
        _check_replaceable(price, held)
        yield _creation(price, held, product, fixed)
    else:
        yield _update(price, held, product)
    outdated = _unfinished(held, catalogue)
    if is_replaced and held["active"]:
        outdated.insert(0, held)
    for old in outdated:
        if (
            product is not None
            and product.get("default_price") == old["id"]
            and product["id"] == old["product"]
        ):
            # Stripe does not archive the default price of a product.
            yield Step(
                "change",
                "product",
                price.product,
                product["id"],
                (("default_price", old["id"], price.key),),
                {} if is_replaced else {"default_price": held["id"]},
                successor=price.key if is_replaced else None,
            )
        yield Step("archive", price.kind, price.key, old["id"], (("active", "yes", "no"),), {"active": False})


def _fixed_differences(price: Price, held: Body, product: Body | None) -> tuple[Difference, ...]:
    recurring: Body = held.get("recurring") or {}
    pairs = (
        ("product", held["product"], None if product is None else product["id"]),
        ("currency", held["currency"], price.currency),
        ("unit_amount", held.get("unit_amount"), price.unit_amount),
        ("custom_unit_amount", _held_limits(held), _limits(price)),
        ("interval", recurring.get("interval"), price.interval),
        ("interval_count", recurring.get("interval_count"), price.interval_count),
    )
    return tuple(
        (name, _shown(before), _shown(after) if name != "product" or product else price.product)
        for name, before, after in pairs
        if before != after
    )


def _limits(price: Price) -> dict[str, int | None] | None:
    return None if price.custom_unit_amount is None else price.custom_unit_amount.model_dump()


def _held_limits(held: Body) -> dict[str, int | None] | None:
    amount: Body | None = held.get("custom_unit_amount")
    return None if amount is None else {key: amount.get(key) for key in CustomAmount.model_fields}


def _check_replaceable(price: Price, held: Body) -> None:
    recurring: Body = held.get("recurring") or {}
    other_currencies = sorted(set(held.get("currency_options") or {}) - {held["currency"]})
    if held.get("billing_scheme") == "tiered":
        reason = "has tiers"
    elif held.get("unit_amount") is None and held.get("custom_unit_amount") is None:
        reason = "has no amount in whole minor units"
    elif recurring.get("usage_type") == "metered":
        reason = "is metered"
    elif held.get("transform_quantity"):
        reason = "sells packages (transform_quantity)"
    elif other_currencies:
        reason = f"has amounts in {', '.join(other_currencies)} too"
    else:
        return
    section = "plans" if price.kind == "plan" else "packs"
    raise CliError(
        f"{section}.{price.key}: {held['id']} {reason}, which a plan file cannot express: "
        "change it in Stripe, or remove it from the file"
    )


def _creation(price: Price, held: Body | None, product: Body | None, fixed: tuple[Difference, ...]) -> Step:
    before = metadata_of(held or {})
    changes = _metadata_changes(price, before, metadata_of(product or {}))
    kept = {key: value for key, value in before.items() if key not in (*changes, REPLACES_KEY)}
    params: dict[str, Any] = {
        "currency": price.currency,
        "lookup_key": price.key,
        "metadata": kept | {key: value for key, value in changes.items() if value},
    }
    if price.custom_unit_amount is None:
        params["unit_amount"] = price.unit_amount
    else:
        params["custom_unit_amount"] = {
            "enabled": True,
            **price.custom_unit_amount.model_dump(exclude_none=True),
        }
    if price.interval is not None:
        params["recurring"] = {"interval": price.interval, "interval_count": price.interval_count}
    nickname = price.nickname or (held or {}).get("nickname")
    if nickname:
        params["nickname"] = nickname
    if held is None:
        differences: tuple[Difference, ...] = (
            ("price", None, _price_shown(price)),
            *((key, None, value) for key, value in changes.items()),
        )
    else:
        params |= {"transfer_lookup_key": True}
        params["metadata"] = params["metadata"] | {REPLACES_KEY: held["id"]}
        if held.get("tax_behavior") not in (None, "unspecified"):
            params["tax_behavior"] = held["tax_behavior"]
        recurring: Body = held.get("recurring") or {}
        trial_days = recurring.get("trial_period_days")
        if trial_days and "recurring" in params:
            params["recurring"]["trial_period_days"] = trial_days
        differences = (*fixed, *_mutable_differences(price, held, product))
    return Step("create", price.kind, price.key, None, differences, params, price.product)


def _update(price: Price, held: Body, product: Body | None) -> Step:
    params: dict[str, Any] = {}
    if held["active"] != price.active:
        params["active"] = price.active
    if price.nickname is not None and held.get("nickname") != price.nickname:
        params["nickname"] = price.nickname
    metadata = _metadata_changes(price, metadata_of(held), metadata_of(product or {}))
    if metadata:
        params["metadata"] = metadata
    differences = _mutable_differences(price, held, product)
    if "active" in params and not price.active:
        differences = (*differences, ("active", "yes", "no"))
        return Step("archive", price.kind, price.key, held["id"], differences, params)
    return _in_place(price.kind, price.key, held["id"], differences, params)


def _in_place(
    kind: Literal["product", "plan", "pack"],
    key: str,
    stripe_id: str,
    differences: tuple[Difference, ...],
    params: Mapping[str, Any],
) -> Step:
    if not params:
        return Step("same", kind, key, stripe_id)
    return Step("change", kind, key, stripe_id, differences, params)


def _mutable_differences(price: Price, held: Body, product: Body | None) -> tuple[Difference, ...]:
    found: list[Difference] = []
    if price.active and not held["active"]:
        found.append(("active", "no", "yes"))
    if price.nickname is not None and held.get("nickname") != price.nickname:
        found.append(("nickname", held.get("nickname"), price.nickname))
    of_price, of_product = metadata_of(held), metadata_of(product or {})
    for key, value in _metadata_changes(price, of_price, of_product).items():
        found.append((key, of_price.get(key, of_product.get(key)), value))
    return tuple(found)


def _metadata_changes(
    price: Price, of_price: Mapping[str, str], of_product: Mapping[str, str]
) -> dict[str, str]:
    """Metadata to set. Undeclared keys have their default, which is written if Stripe has another value.

    "" removes a key. The product may still declare it.
    """
    defaults = PLAN_METADATA if price.kind == "plan" else PACK_METADATA
    changes: dict[str, str] = {}
    for key, value in (defaults | price.metadata).items():
        held = of_price.get(key, of_product.get(key) if value else None)
        if not _means_the_same(key, held, value) and (held is not None or key in price.metadata):
            changes[key] = value
    return changes


def _means_the_same(key: str, held: str | None, value: str) -> bool:
    if held == value or held is None:
        return held == value
    try:
        if key == "features":
            return _canonical(held) == _canonical(value)
        if key == "credits_per_unit":
            return Decimal(held) == Decimal(value)
        return key.endswith("_credits") and held.isdecimal() and int(held) == int(value)
    except (ValueError, ArithmeticError, RecursionError):
        return False


def _canonical(features: str) -> str:
    return json.dumps(json.loads(features), sort_keys=True)


def _unfinished(holder: Body, catalogue: Catalogue) -> list[Body]:
    """Prices that were replaced by the holder of a lookup key, directly or indirectly, and that are still on sale."""
    found: list[Body] = []
    seen = {holder["id"]}
    body = holder
    while True:
        replaced = metadata_of(body).get(REPLACES_KEY, "")
        if replaced in seen or replaced not in catalogue.prices:
            return found
        seen.add(replaced)
        body = catalogue.prices[replaced].body
        if body["active"] and not body.get("lookup_key"):
            found.append(body)


def _not_in_file(file: PlanFile, catalogue: Catalogue) -> Iterator[Step]:
    """Plans and packs on sale that the file does not mention: they stay unchanged."""
    handled = {
        old["id"]
        for read in catalogue.prices.values()
        if read.body.get("lookup_key") in file.prices
        for old in _unfinished(read.body, catalogue)
    }
    for read in catalogue.prices.values():
        body = read.body
        product = catalogue.products.get(body["product"])
        declares = {**metadata_of(product.body if product else {}), **metadata_of(body)}
        if (
            body["active"]
            and body["id"] not in handled
            and body.get("lookup_key") not in file.prices
            and (body["type"] == "recurring" or "pack_credits" in declares or "credits_per_unit" in declares)
        ):
            kind: Literal["plan", "pack"] = "plan" if body["type"] == "recurring" else "pack"
            yield Step("not in file", kind, body.get("lookup_key") or "", body["id"])


def _price_shown(price: Price) -> str:
    count = price.interval_count or 1
    every = (
        ""
        if price.interval is None
        else f" / {f'{count} {price.interval}s' if count > 1 else price.interval}"
    )
    amount = _shown(_limits(price)) or price.unit_amount
    return f"{amount} {price.currency}{every}"


def _shown(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "yes" if value else "no"
        case dict():
            limits = ((key, amount) for key, amount in cast("Body", value).items() if amount is not None)
            return ", ".join(("chosen by the customer", *(f"{key} {amount}" for key, amount in limits)))
        case _:
            return str(value)
