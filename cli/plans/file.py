"""plans.toml → what it declares, or every mistake in it as a line of its own.

What is checked here is what Stripe, or `billing.sync_price`, would refuse; tests hold the two against each other.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

from cli.output import CliError
from cli.plans.toml_table import Table, kind_of

Kind = Literal["plan", "pack"]

METADATA_VALUE_LENGTH_MAX = 500  # Stripe's
LOOKUP_KEY_LENGTH_MAX = 200  # Stripe's
CREDITS_MAX = 10**18 - 1
TRIAL_DAYS_MAX = 730
UNIT_AMOUNT_MAX = 999_999_999_999
INTERVAL_COUNT_MAX = {"day": 1095, "week": 156, "month": 36, "year": 3}  # three years

SEATS = re.compile(r"any|([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?")
ROLLOVER = re.compile(r"none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15}")
EXPIRES_AFTER = re.compile(r"[1-9][0-9]{0,3} (day|month|year)s?")
CREDITS_PER_UNIT = re.compile(r"[0-9]{1,12}([.][0-9]{1,6})?")
CHOICES = {
    "credits_on_proration": ("delta", "full", "none"),
    "credits_on_downgrade": ("take_back", "keep"),
    "credits_on_cancel": ("period_end", "stop"),
    "trial_credits_end": ("trial_end", "keep"),
}
# What a plan says of credits and of its terms, and what it means where it says nothing.
PLAN_METADATA = {
    "initial_credits": "0",
    "monthly_credits": "0",
    "trial_credits": "0",
    "credits_rollover": "all",
    "credits_on_proration": "delta",
    "credits_on_downgrade": "take_back",
    "credits_on_cancel": "period_end",
    "trial_credits_end": "trial_end",
    "trial_days": "0",
    "seats": "any",
    "features": "{}",
}
# The same of a pack; "" removes a key from Stripe's metadata.
PACK_METADATA = {"pack_credits": "", "credits_per_unit": "", "pack_expires_after": ""}

_PRODUCT_KEYS = ("name", "description", "active", "stripe_id")
_PRICE_KEYS = ("product", "unit_amount", "currency", "nickname", "active")
_PLAN_KEYS = (*_PRICE_KEYS, "interval", "interval_count", *PLAN_METADATA)
_PACK_KEYS = (*_PRICE_KEYS, "custom_unit_amount", *PACK_METADATA)
_CUSTOM_KEYS = ("minimum", "maximum", "preset")
_CREDITS = ("initial_credits", "monthly_credits", "trial_credits", "pack_credits")


@dataclass(frozen=True, slots=True)
class DeclaredProduct:
    """A product by the key that its plans name. `description` None: as it is in Stripe."""

    key: str
    name: str
    description: str | None
    active: bool
    stripe_id: str | None


@dataclass(frozen=True, slots=True)
class CustomAmount:
    """What a customer who chooses the amount of a pack may choose, in minor units; None: no limit, no suggestion."""

    minimum: int | None
    maximum: int | None
    preset: int | None


@dataclass(frozen=True, slots=True)
class DeclaredPrice:
    """A plan or pack by its lookup key, its amount in minor units, `metadata` as Stripe is to have it.

    `unit_amount` None: the customer chooses, within `custom_unit_amount`.
    """

    kind: Kind
    lookup_key: str
    product: str
    currency: str
    unit_amount: int | None
    custom_unit_amount: CustomAmount | None
    interval: str | None
    interval_count: int | None
    nickname: str | None
    active: bool
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class PlanFile:
    """All that a file declares, in its order."""

    products: dict[str, DeclaredProduct]
    prices: dict[str, DeclaredPrice]


class BadPlanFile(CliError):
    """The plan file has mistakes: a line for each, `file:key: what is wrong`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def read_plan_file(path: Path) -> PlanFile:
    """Read a file. Raises BadPlanFile with every mistake that it has."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadPlanFile([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise BadPlanFile([f"{path}: is no UTF-8 text"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadPlanFile([f"{path}: is no TOML: {error}"]) from None

    mistakes: list[str] = []
    top = Table(document, "", mistakes, ("products", "plans", "packs"))
    products = {key: _product(key, table) for key, table in top.tables("products", _PRODUCT_KEYS)}
    prices: dict[str, DeclaredPrice] = {}
    for section, kind, keys in (("plans", "plan", _PLAN_KEYS), ("packs", "pack", _PACK_KEYS)):
        for key, table in top.tables(section, keys):
            price = _price(cast("Kind", kind), key, table)
            if key in prices:
                table.wrong("", "is a plan too: a lookup key names one price")
            elif len(key) > LOOKUP_KEY_LENGTH_MAX:
                table.wrong("", f"a lookup key has at most {LOOKUP_KEY_LENGTH_MAX} characters")
            if price.product and price.product not in products:
                table.wrong("product", f"there is no [products.{price.product}]")
            prices[key] = price
    _check_unique_ids(products, top)
    if not mistakes and not prices:
        mistakes.append("declares no plans and no packs: write [plans.<lookup key>]")
    if mistakes:
        raise BadPlanFile([f"{path}:{mistake}" for mistake in mistakes])
    return PlanFile(products, prices)


def _check_unique_ids(products: Mapping[str, DeclaredProduct], top: Table) -> None:
    seen: dict[str, str] = {}
    for product in products.values():
        if product.stripe_id is not None:
            other = seen.setdefault(product.stripe_id, product.key)
            if other != product.key:
                top.wrong(f"products.{product.key}.stripe_id", f"is that of products.{other} too")


def _product(key: str, table: Table) -> DeclaredProduct:
    stripe_id = table.text("stripe_id")
    if stripe_id is not None and not re.fullmatch(r"\S{1,255}", stripe_id):
        table.wrong("stripe_id", "is no id of a Stripe product, such as prod_NWjs8kKbJWmuuc")
    if len(key) > METADATA_VALUE_LENGTH_MAX:
        table.wrong("", f"a product's key has at most {METADATA_VALUE_LENGTH_MAX} characters")
    return DeclaredProduct(
        key=key,
        name=table.text("name", is_required=True) or "",
        description=table.text("description"),
        active=table.flag("active"),
        stripe_id=stripe_id,
    )


def _price(kind: Kind, lookup_key: str, table: Table) -> DeclaredPrice:
    currency = (table.text("currency", is_required=True) or "").lower()
    if currency and not re.fullmatch("[a-z]{3}", currency):
        table.wrong("currency", f'is "{currency}", not a three-letter code such as "usd"')
    interval = table.choice("interval", tuple(INTERVAL_COUNT_MAX)) if kind == "plan" else None
    if kind == "plan" and "interval" not in table.values:
        table.missing("interval")
    longest = INTERVAL_COUNT_MAX.get(interval or "", 1095)
    custom = _custom_amount(table)
    if kind == "pack":
        _check_pack(table, is_custom="custom_unit_amount" in table.values)
    return DeclaredPrice(
        kind=kind,
        lookup_key=lookup_key,
        product=table.text("product", is_required=True) or "",
        currency=currency,
        unit_amount=None
        if "custom_unit_amount" in table.values
        else _amount(table, "unit_amount", 0, True) or 0,
        custom_unit_amount=custom,
        interval=interval,
        interval_count=(table.number("interval_count", f"{interval or 'interval'}s", 1, longest) or 1)
        if kind == "plan"
        else None,
        nickname=table.text("nickname"),
        active=table.flag("active"),
        metadata=_metadata(table),
    )


def _amount(table: Table, key: str, least: int, is_required: bool = False) -> int | None:
    return table.number(key, "minor units, such as 1900 for 19.00", least, UNIT_AMOUNT_MAX, is_required)


def _custom_amount(table: Table) -> CustomAmount | None:
    value = table.values.get("custom_unit_amount")
    if value is None:
        return None
    if not isinstance(value, dict):
        return table.wrong(
            "custom_unit_amount",
            f"is {kind_of(value)}, not a table such as {{ minimum = 500, preset = 2000 }}",
        )
    path = f"{table.path}.custom_unit_amount"
    custom = Table(cast("dict[str, Any]", value), path, table.mistakes, _CUSTOM_KEYS)
    amounts = {key: _amount(custom, key, 1) for key in _CUSTOM_KEYS}
    in_order = [amounts[key] for key in ("minimum", "preset", "maximum") if amounts[key] is not None]
    if in_order != sorted(amount for amount in in_order if amount is not None):
        custom.wrong("", "minimum, preset and maximum are not in ascending order")
    return CustomAmount(**amounts)


def _check_pack(table: Table, *, is_custom: bool) -> None:
    """A fixed amount goes with pack_credits; an amount that the customer chooses with credits_per_unit."""
    table.missing("credits_per_unit" if is_custom else "pack_credits")
    for key in ("unit_amount", "pack_credits") if is_custom else ("credits_per_unit",):
        if key in table.values:
            other = "beside custom_unit_amount" if is_custom else "without custom_unit_amount"
            table.wrong(key, f"cannot be set {other}")


def _metadata(table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in _CREDITS:
        credits = table.number(key, "credits", 1 if key == "pack_credits" else 0, CREDITS_MAX)
        if credits is not None:
            found[key] = str(credits)
    rollover = table.text("credits_rollover")
    if rollover is not None:
        found["credits_rollover"] = rollover
        if not ROLLOVER.fullmatch(rollover):
            table.wrong("credits_rollover", f'is "{rollover}", not none, all, periods:N or cap:N')
    expires_after = table.text("pack_expires_after")
    if expires_after is not None:
        found["pack_expires_after"] = expires_after
        if not EXPIRES_AFTER.fullmatch(expires_after):
            table.wrong(
                "pack_expires_after", f'is "{expires_after}", not such as "90 days", "12 months" or "1 year"'
            )
    per_unit = _credits_per_unit(table)
    if per_unit is not None:
        found["credits_per_unit"] = per_unit
    for key, choices in CHOICES.items():
        chosen = table.choice(key, choices)
        if chosen is not None:
            found[key] = chosen
    trial_days = table.number("trial_days", "days", 0, TRIAL_DAYS_MAX)
    if trial_days is not None:
        found["trial_days"] = str(trial_days)
    seats = _seats(table)
    if seats is not None:
        found["seats"] = seats
    features = _features(table)
    if features is not None:
        found["features"] = features
    return found


def _credits_per_unit(table: Table) -> str | None:
    value = table.values.get("credits_per_unit")
    if value is None:
        return None
    text = (
        format(Decimal(repr(value)), "f")
        if isinstance(value, int | float) and not isinstance(value, bool)
        else ""
    )
    if not CREDITS_PER_UNIT.fullmatch(text) or Decimal(text) == 0:
        return table.wrong(
            "credits_per_unit", f"is {kind_of(value)}, not a number above 0 with at most 6 decimal places"
        )
    return text


def _seats(table: Table) -> str | None:
    seats = table.values.get("seats")
    if seats is None:
        return None
    text = str(seats) if isinstance(seats, int | str) and not isinstance(seats, bool) else ""
    read = SEATS.fullmatch(text)
    if read is None or (read[2] and int(read[2]) < int(read[1])):
        return table.wrong(
            "seats", f'is {kind_of(seats)}, not "any", a number such as 5 or a range such as "2-50"'
        )
    return text


def _features(table: Table) -> str | None:
    features = table.values.get("features")
    if features is None:
        return None
    if not isinstance(features, dict):
        return table.wrong("features", f"is {kind_of(features)}, not a table such as {{ projects = true }}")
    try:
        text = json.dumps(features, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        return table.wrong("features", "holds a date, nan or inf, which JSON does not have")
    if "\0" in text or "\\u0000" in text:
        return table.wrong("features", "holds a NUL character, which Postgres cannot store")
    if len(text) > METADATA_VALUE_LENGTH_MAX:
        return table.wrong(
            "features",
            f"takes {len(text)} characters as JSON; Stripe's metadata has room for {METADATA_VALUE_LENGTH_MAX}",
        )
    return text
