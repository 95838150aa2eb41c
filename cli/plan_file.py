"""plans.toml → what it declares, or every mistake in it as a line of its own.

What is checked here is what Stripe, or `billing.sync_price`, would refuse; tests hold the two against each other.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

from cli.output import CliError

Kind = Literal["plan", "pack"]

METADATA_VALUE_LENGTH_MAX = 500  # Stripe's
LOOKUP_KEY_LENGTH_MAX = 200  # Stripe's
NAME_LENGTH_MAX = 5_000  # Stripe's
CREDITS_MAX = 10**18 - 1
UNIT_AMOUNT_MAX = 999_999_999_999
INTERVAL_COUNT_MAX = {"day": 1095, "week": 156, "month": 36, "year": 3}  # three years

ROLLOVER = re.compile(r"none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15}")
CHOICES = {
    "credits_on_proration": ("delta", "full", "none"),
    "credits_on_cancel": ("period_end", "stop"),
}
# What a plan says of credits, and what it means where it says nothing.
PLAN_METADATA = {
    "initial_credits": "0",
    "monthly_credits": "0",
    "trial_credits": "0",
    "credits_rollover": "all",
    "credits_on_proration": "delta",
    "credits_on_cancel": "period_end",
    "features": "{}",
}

_PRODUCT_KEYS = ("name", "description", "active", "stripe_id")
_PRICE_KEYS = ("product", "unit_amount", "currency", "nickname", "active")
_PLAN_KEYS = (*_PRICE_KEYS, "interval", "interval_count", *PLAN_METADATA)
_PACK_KEYS = (*_PRICE_KEYS, "pack_credits")
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
class DeclaredPrice:
    """A plan or pack by its lookup key; `unit_amount` in minor units, `metadata` as Stripe is to have it."""

    kind: Kind
    lookup_key: str
    product: str
    currency: str
    unit_amount: int
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
    top = _Table(document, "", mistakes, ("products", "plans", "packs"))
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


def _check_unique_ids(products: Mapping[str, DeclaredProduct], top: "_Table") -> None:
    seen: dict[str, str] = {}
    for product in products.values():
        if product.stripe_id is not None:
            other = seen.setdefault(product.stripe_id, product.key)
            if other != product.key:
                top.wrong(f"products.{product.key}.stripe_id", f"is that of products.{other} too")


def _product(key: str, table: "_Table") -> DeclaredProduct:
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


def _price(kind: Kind, lookup_key: str, table: "_Table") -> DeclaredPrice:
    currency = (table.text("currency", is_required=True) or "").lower()
    if currency and not re.fullmatch("[a-z]{3}", currency):
        table.wrong("currency", f'is "{currency}", not a three-letter code such as "usd"')
    interval = table.choice("interval", tuple(INTERVAL_COUNT_MAX)) if kind == "plan" else None
    if kind == "plan" and "interval" not in table.values:
        table.missing("interval")
    longest = INTERVAL_COUNT_MAX.get(interval or "", 1095)
    if kind == "pack":
        table.missing("pack_credits")
    return DeclaredPrice(
        kind=kind,
        lookup_key=lookup_key,
        product=table.text("product", is_required=True) or "",
        currency=currency,
        unit_amount=table.number(
            "unit_amount", "minor units, such as 1900 for 19.00", 0, UNIT_AMOUNT_MAX, True
        )
        or 0,
        interval=interval,
        interval_count=(table.number("interval_count", f"{interval or 'interval'}s", 1, longest) or 1)
        if kind == "plan"
        else None,
        nickname=table.text("nickname"),
        active=table.flag("active"),
        metadata=_metadata(table),
    )


def _metadata(table: "_Table") -> dict[str, str]:
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
    for key, choices in CHOICES.items():
        chosen = table.choice(key, choices)
        if chosen is not None:
            found[key] = chosen
    features = _features(table)
    if features is not None:
        found["features"] = features
    return found


def _features(table: "_Table") -> str | None:
    features = table.values.get("features")
    if features is None:
        return None
    if not isinstance(features, dict):
        return table.wrong("features", f"is {_kind(features)}, not a table such as {{ projects = true }}")
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


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file; each read says what it expects, and puts down what is there instead."""

    values: Mapping[str, Any]
    path: str
    mistakes: list[str]
    known: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for key in self.values:
            if key not in self.known:
                close = get_close_matches(key, self.known, 1)
                meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(self.known)}"
                self.wrong(key, f"is not known here; {meant}")

    def wrong(self, key: str, what: str) -> None:
        place = ".".join(part for part in (self.path, key) if part)
        self.mistakes.append(f"{place}: {what}")

    def missing(self, key: str) -> None:
        if key not in self.values:
            self.wrong(key, "is missing")

    def tables(self, key: str, known: tuple[str, ...]) -> "list[tuple[str, _Table]]":
        """The named tables within a table: [plans.<name>]."""
        found = self.values.get(key, {})
        if not isinstance(found, dict):
            self.wrong(key, f"is {_kind(found)}; write [{key}.<name>]")
            return []
        tables: list[tuple[str, _Table]] = []
        for name, table in cast("dict[str, Any]", found).items():
            if not isinstance(table, dict):
                self.wrong(f"{key}.{name}", f"is {_kind(table)}; write [{key}.<name>]")
            elif not name.strip() or not name.isprintable():
                self.wrong(f"{key}.{name!r}", "is no name")
            else:
                tables.append(
                    (name, _Table(cast("dict[str, Any]", table), f"{key}.{name}", self.mistakes, known))
                )
        return tables

    def text(self, key: str, *, is_required: bool = False) -> str | None:
        value = self.values.get(key)
        if value is None:
            return self.missing(key) if is_required else None
        if not isinstance(value, str):
            return self.wrong(key, f"is {_kind(value)}, not text")
        if not value.strip():
            return self.wrong(key, "is empty")
        if "\0" in value:
            return self.wrong(key, "holds a NUL character, which Postgres cannot store")
        if len(value) > NAME_LENGTH_MAX:
            return self.wrong(key, f"has {len(value)} characters; Stripe takes {NAME_LENGTH_MAX}")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, True)
        if not isinstance(value, bool):
            self.wrong(key, f"is {_kind(value)}, not true or false")
        return value is True

    def number(self, key: str, unit: str, least: int, most: int, is_required: bool = False) -> int | None:
        value = self.values.get(key)
        if value is None:
            return self.missing(key) if is_required else None
        if not isinstance(value, int) or isinstance(value, bool):
            return self.wrong(key, f"is {_kind(value)}, not a whole number of {unit}")
        if not least <= value <= most:
            return self.wrong(key, f"is {value}, not from {least} to {most}")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(key)
        if value is not None and value not in choices:
            return self.wrong(key, f'is "{value}", not one of {", ".join(choices)}')
        return value


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value[:40]}"'
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date"
