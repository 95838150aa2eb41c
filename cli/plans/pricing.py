"""An operation of a plan file and quantities → what they cost, as the database works it out; and what they cost you."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from cli.plans.file import Operation

Number = int | float | Decimal


def credits_of(operation: Operation, quantities: Mapping[str, Number]) -> int | None:
    """Whole credits of a call; None if a component has no rate."""
    measured = {"call": 1, **quantities} if "call" in operation.rates else quantities
    if not measured.keys() <= operation.rates.keys():
        return None
    exact = sum(
        (
            Fraction(operation.rates[name].credits) / operation.rates[name].per * _exact(quantity)
            for name, quantity in measured.items()
        ),
        Fraction(0),
    ) * (1 + Fraction(operation.markup) / 100)
    whole, rest = divmod(exact.numerator, exact.denominator)
    match operation.rounding:
        case "up":
            whole += rest > 0
        case "half_up":
            whole += 2 * rest >= exact.denominator
        case "down":
            pass
    return max(whole, operation.minimum)


def cost_of(operation: Operation, quantities: Mapping[str, Number]) -> Fraction:
    """What a call costs you, in whole units of your currency, by the `cost` of its rates."""
    measured = {"call": 1, **quantities}
    return sum(
        (
            Fraction(rate.cost) / rate.per * _exact(measured[name])
            for name, rate in operation.rates.items()
            if name in measured
        ),
        Fraction(0),
    )


def _exact(number: Number) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
