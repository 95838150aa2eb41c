"""A price and a quantity → amounts in minor units, one for each tier of a graduated price."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from stripe_local.store import Object


@dataclass(frozen=True)
class Amount:
    """One line: what it comes to, for how many, at which unit amount."""

    amount: int
    quantity: int
    unit: str
    note: str = ""


def rounded(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def unit_of(price: Object) -> Decimal:
    return Decimal(price.get("unit_amount_decimal") or price.get("unit_amount") or 0)


def amounts(price: Object, quantity: int) -> list[Amount]:
    """What `quantity` of this price costs."""
    tiers: list[Object] = price.get("_tiers") or []
    if price["billing_scheme"] == "tiered" and tiers:
        return (
            _volume(tiers, quantity) if price.get("tiers_mode") == "volume" else _graduated(tiers, quantity)
        )
    packs: Any = price.get("transform_quantity")
    billed = quantity
    if packs:
        billed = (
            quantity // packs["divide_by"] if packs["round"] == "down" else -(-quantity // packs["divide_by"])
        )
    unit = unit_of(price)
    return [Amount(rounded(unit * billed), quantity, f"{unit:f}")]


def total(price: Object, quantity: int) -> int:
    return sum(line.amount for line in amounts(price, quantity))


def _unit(tier: Object) -> Decimal:
    return Decimal(tier.get("unit_amount_decimal") or tier.get("unit_amount") or 0)


def _flat(tier: Object) -> Decimal:
    return Decimal(tier.get("flat_amount_decimal") or tier.get("flat_amount") or 0)


def _volume(tiers: list[Object], quantity: int) -> list[Amount]:
    tier = next((t for t in tiers if t["up_to"] is None or quantity <= t["up_to"]), tiers[-1])
    lines = [Amount(rounded(_unit(tier) * quantity), quantity, f"{_unit(tier):f}")]
    return lines + (
        [Amount(rounded(_flat(tier)), 0, f"{_flat(tier):f}", " (flat fee)")] if _flat(tier) else []
    )


def _graduated(tiers: list[Object], quantity: int) -> list[Amount]:
    lines: list[Amount] = []
    below = 0
    for number, tier in enumerate(tiers, 1):
        inside = quantity - below if tier["up_to"] is None else min(quantity, tier["up_to"]) - below
        if inside <= 0 and number > 1:
            break
        lines.append(Amount(rounded(_unit(tier) * inside), inside, f"{_unit(tier):f}", f" (Tier {number})"))
        if _flat(tier):
            lines.append(Amount(rounded(_flat(tier)), 0, f"{_flat(tier):f}", f" (Tier {number} flat fee)"))
        below = tier["up_to"] or quantity
    return lines


def prorated(amount: int, seconds: int, whole: int) -> int:
    """The share of an amount for a part of a period."""
    return rounded(Decimal(amount) * seconds / whole) if whole > 0 else 0
