"""Net amounts → taxes on them: by tax rates that were given, or automatically by where the customer is.

Automatic tax knows one rate for each place of `RATES`; elsewhere nothing is collected. Each line is rounded by itself.
"""

from decimal import Decimal
from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.resources import tax_ids
from stripe_local.resources.pricing import rounded
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

# Country, or country and state → (percentage, kind). Standard rates; no reduced ones, no thresholds.
RATES: dict[str, tuple[str, str]] = {
    "AT": ("20", "vat"),
    "AU": ("10", "gst"),
    "BE": ("21", "vat"),
    "CH": ("8.1", "vat"),
    "DE": ("19", "vat"),
    "ES": ("21", "vat"),
    "FR": ("20", "vat"),
    "GB": ("20", "vat"),
    "IE": ("23", "vat"),
    "IT": ("22", "vat"),
    "JP": ("10", "jct"),
    "NL": ("21", "vat"),
    "NO": ("25", "vat"),
    "PL": ("23", "vat"),
    "SE": ("25", "vat"),
    "US-NY": ("8.875", "sales_tax"),
    "US-TX": ("8.25", "sales_tax"),
    "US-WA": ("10.35", "sales_tax"),
}
# Where prices that don't say are taken to be without tax: what a new account of Stripe's has, "inferred by currency".
EXCLUSIVE_CURRENCIES = ("usd", "cad")
NOWHERE = "requires_location_inputs"


def on_amount(amount: int, rates: list[Object], reason: str) -> list[Object]:
    """The tax of each rate. An inclusive one is a part of the amount."""
    within = sum((Decimal(str(rate["percentage"])) for rate in rates if rate["inclusive"]), Decimal(0))
    base = Decimal(amount) / (1 + within / 100)
    return [
        {
            "amount": rounded(base * Decimal(str(rate["percentage"])) / 100),
            "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
            "tax_rate_details": {"tax_rate": rate["id"]},
            "taxability_reason": reason,
            "taxable_amount": rounded(base),
            "type": "tax_rate_details",
        }
        for rate in rates
    ]


def exempt(taxes: list[Object], reason: str) -> list[Object]:
    """Nothing is collected, and why."""
    return [tax | {"amount": 0, "taxable_amount": 0, "taxability_reason": reason} for tax in taxes]


def of_line(
    world: World, amount: int, behavior: str, rates: list[Object], customer: Object, *, automatic: bool
) -> list[Object]:
    """What a line of this net amount bears, for this customer."""
    reason = "not_available"
    if automatic:
        found = rate_of(world, customer.get("address"), inclusive=behavior == "inclusive")
        rates, reason = ([] if found is None else [found]), "standard_rated"
    taxes = on_amount(amount, rates, reason)
    status = customer.get("tax_exempt", "none")
    if status == "exempt":
        return exempt(taxes, "customer_exempt")
    if status == "reverse" or (automatic and tax_ids.is_business(world, customer)):
        return exempt(taxes, "reverse_charge")
    return taxes


def behavior_of(price: Object | None, currency: str) -> str:
    """Whether the price has its tax in it."""
    stated = (price or {}).get("tax_behavior", "unspecified")
    if stated != "unspecified":
        return stated
    return "exclusive" if currency in EXCLUSIVE_CURRENCIES else "inclusive"


def rate_of(world: World, address: Any, *, inclusive: bool) -> Object | None:
    """The rate of the place, as a tax rate that Stripe made itself; None where nothing is collected."""
    country, state = inside(address).get("country"), inside(address).get("state")
    place = f"{country}-{state}" if f"{country}-{state}" in RATES else str(country)
    if place not in RATES:
        return None
    for rate in world.store.all("tax_rate"):
        if rate.get("_place") == place and rate["inclusive"] == inclusive:
            return rate
    percentage, kind = RATES[place]
    return world.store.add(
        "tax_rate",
        {
            "active": False,
            "country": country,
            "created": world.wall_time(),
            "display_name": {"vat": "VAT", "gst": "GST", "jct": "JCT"}.get(kind, "Sales tax"),
            "effective_percentage": float(percentage),
            "inclusive": inclusive,
            "jurisdiction": state if "-" in place else country,
            "jurisdiction_level": "state" if "-" in place else "country",
            "metadata": {},
            "percentage": float(percentage),
            "rate_type": "percentage",
            "state": state if "-" in place else None,
            "tax_type": kind,
            "_place": place,
        },
    )


def rates_of(world: World, given: Any, param: str) -> list[Object]:
    """The tax rates that a parameter names; none for an empty one."""
    rates = [world.store.get("tax_rate", identifier, param) for identifier in given or ()]
    for rate in rates:
        if not rate["active"]:
            raise invalid(f"The tax rate {rate['id']} is archived: it cannot be used any more.", param)
    return rates


def settings(world: World, customer: Object, params: Params) -> Object:
    """`default_tax_rates` and `automatic_tax` of a subscription or an invoice, as far as they are given."""
    fields: Object = {}
    if "default_tax_rates" in params:
        fields["default_tax_rates"] = rates_of(world, params["default_tax_rates"], "default_tax_rates")
    if "automatic_tax" in params:
        enabled: bool = params["automatic_tax"]["enabled"]
        if enabled:
            check_place(customer)
        fields["automatic_tax"] = {"enabled": enabled, "liability": {"type": "self"} if enabled else None}
    return fields


def check_place(customer: Object) -> None:
    """Automatic tax needs to know where the customer is."""
    if not inside(customer.get("address")).get("country"):
        raise no_place("automatic_tax[enabled]")


def no_place(param: str | None = None) -> StripeError:
    """What is answered where an address is missing."""
    return invalid(
        "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate "
        "tax.",
        param,
        "customer_tax_location_invalid",
    )


def on_invoice(world: World, invoice: Object, nets: list[int]) -> int:
    """Taxes of each line, and of the invoice; what they add to its total. `nets`: the lines after discounts."""
    customer = world.store.find("customer", invoice["customer"]) or {}
    automatic: bool = invoice["automatic_tax"]["enabled"]
    lines: list[Object] = invoice["_lines"]
    is_placed = bool(inside(customer.get("address")).get("country"))
    if automatic:
        status = "complete" if is_placed else NOWHERE
        invoice["automatic_tax"] = {**invoice["automatic_tax"], "status": status}
    for line, net in zip(lines, nets, strict=True):
        details = inside(line, "pricing", "price_details")
        behavior = behavior_of(world.store.find("price", details.get("price")), invoice["currency"])
        rates: list[Object] = line.get("_tax_rates") or invoice["default_tax_rates"]
        line["taxes"] = (
            [] if automatic and not is_placed
            else of_line(world, net, behavior, rates, customer, automatic=automatic)
        )  # fmt: skip
    invoice["total_taxes"] = added_up([tax for line in lines for tax in line["taxes"]])
    return exclusive(invoice["total_taxes"])


def added_up(taxes: list[Object]) -> list[Object]:
    """One for each rate and reason."""
    totals: dict[tuple[str, str], Object] = {}
    for tax in taxes:
        key = (tax["tax_rate_details"]["tax_rate"], tax["taxability_reason"])
        held = totals.get(key)
        sums = {} if held is None else {n: held[n] + tax[n] for n in ("amount", "taxable_amount")}
        totals[key] = tax | sums
    return list(totals.values())


def exclusive(taxes: list[Object]) -> int:
    return sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")


def inclusive(taxes: list[Object]) -> int:
    return sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
