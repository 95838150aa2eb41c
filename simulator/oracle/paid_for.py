"""What a Stripe holds of one buyer → the most credits that they may have had the use of.

    credits <= what the money buys at the best rate of the price list + what is declared to be free + rounding

The money is what was paid by card, less refunds and lost disputes. What lies on a customer's balance at Stripe has
bought nothing yet. So there are two bounds. Credits that were spent of time that Stripe credited back are carried:
until something that an invoice pays for gives less for them, they are no more than the balance's price.

    (kept)   credits - carried <= rate * (card - refunds - balance) + free
    (paid)   credits           <= rate * (card - refunds)           + free

The rules of credits keep both. A stretch of time that is paid for gives at most `rate` for its part of the price, by
card or off the balance; when a part of it is credited, its credits go or are carried, and its price goes to the
balance. While something is carried nothing that invoices pay for is granted, so with the first bound the second holds.

Stripe also gives money away: it credits time of an invoice that is still to be paid, and, in its classic mode, what a
coupon paid for. That money is the merchant's loss, and the customer buys with it as with any other. The credits that
the given time would have had are carried, so as much less is free.

Free is counted from Stripe's own lines, with no look at the database: lines that nothing was paid for, once for each
product and calendar month (or week of a weekly plan), up to the moment that they are credited or ended; packs for
nothing once for each product and calendar month; initial credits once for each product that was billed; trial credits
of the products that trials began with, once each; and what rules without a subscription give the person, whatever
other accounts the person has.

Overage is credit: what is owed is no more than the highest limit of the list, and what work cost beyond its hold. It
counts as nothing had until it is repaid, because the balance is below zero by as much.

Not exact, in the merchant's disfavour: a partial discount makes the whole list cheaper (`best_rate`), a part of a
free month counts by the shortest month, and the price of months of a year that have not begun counts as spent.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from simulator.oracle import free
from simulator.oracle.facts import DAY, Facts, FreeRule, User, date_of, months_after
from simulator.oracle.price_list import SHORTEST_MONTH_DAYS
from simulator.oracle.reading import World, read
from stripe_local.store import Object
from stripe_local.values import inside

LONGEST_MONTH = 31 * DAY
FIRST_MONDAY = 4 * DAY  # 1970-01-05


@dataclass(frozen=True)
class PaidFor:
    """Money in cents."""

    card: int
    refunded: int
    on_balance: int
    # What Stripe credited of what nobody had paid for.
    given: int
    free: int
    # Stripe rounds the price of each change and discount to a cent, and each refund may leave a part of a credit.
    rounded_prices: int
    refunds: int

    def most(self, rate: Fraction, money: int) -> Fraction:
        return rate * (money + Fraction(self.rounded_prices, 2)) + self.free + self.refunds + 1

    def exceeded(self, rate: Fraction, credits: int, carried: int, shortfall: int) -> str | None:
        """Which bound does not hold, or None. `shortfall`: credits that were spent before a refund took their price."""
        forgiven = min(Fraction(shortfall), rate * self.refunded)
        paid = self.card - self.refunded + self.given
        for name, had, money in (
            ("kept", credits - carried, paid - self.on_balance),
            ("paid", credits, paid),
        ):
            most = self.most(rate, money) + forgiven
            if had > most:
                return f"{name}: {had} credits, but {money} cents and {self.free} free ones give {float(most):.1f}"
        return None


def paid_for(world: World, now: int, rules: tuple[FreeRule, ...] = (), user: User | None = None) -> PaidFor:
    charges = [charge for charge in world.store.all("charge") if charge["status"] == "succeeded"]
    lost = [dispute for dispute in world.store.all("dispute") if dispute["status"] == "lost"]
    invoices = [invoice for invoice in world.store.all("invoice") if invoice["status"] == "paid"]
    lines = [line for invoice in invoices for line in _lines(world, invoice)]
    bought = {line.id for line in lines if line.paid > 0}
    given = [line for line in lines if line.paid < 0 and bought.isdisjoint(line.credited)]
    return PaidFor(
        card=sum(charge["amount"] for charge in charges),
        refunded=sum(charge["amount_refunded"] for charge in charges)
        + sum(dispute["amount"] for dispute in lost),
        on_balance=sum(max(0, -customer["balance"]) for customer in world.store.all("customer")),
        given=-sum(line.paid for line in given),
        free=_free_months(world, lines, now)
        + _free_packs(world)
        + _initial(lines)
        + _trials(world)
        + (_free_credits(world, now, rules, user) if user is not None else 0)
        - sum(_least_credits(line) for line in given),
        rounded_prices=sum(1 for line in lines if line.is_change or line.is_discounted),
        refunds=sum(1 for _ in world.store.all("refund")) + len(lost),
    )


@dataclass(frozen=True)
class _Line:
    """A line of a paid invoice that bills time of a subscription item."""

    id: str
    subscription: str
    price: Object
    paid: int
    quantity: int
    start: int
    end: int
    paid_at: int
    is_change: bool
    is_discounted: bool
    is_trial: bool
    credited: tuple[str, ...]

    def declared(self, name: str) -> int:
        return int(self.price["metadata"].get(name, "0"))


def _lines(world: World, invoice: Object) -> Iterator[_Line]:
    for line in invoice["_lines"]:
        details = inside(line, "parent", "subscription_item_details")
        price = world.store.find("price", inside(line, "pricing", "price_details").get("price"))
        if not details.get("subscription") or price is None:
            continue
        subscription = world.store.get("subscription", details["subscription"])
        off = sum(taken["amount"] for taken in line["discount_amounts"])
        start = line["period"]["start"]
        in_trial = subscription.get("trial_start", math.inf) <= start < subscription.get("trial_end", 0)
        credited = inside(details, "proration_details", "credited_items").get("invoice_line_items") or ()
        yield _Line(
            id=line["id"],
            subscription=subscription["id"],
            price=price,
            paid=line["amount"] - off,
            quantity=line["quantity"],
            start=start,
            end=line["period"]["end"],
            paid_at=invoice["status_transitions"]["paid_at"],
            is_change=bool(details.get("proration")),
            is_discounted=off > 0,
            is_trial=line["amount"] == 0 and in_trial,
            credited=tuple(credited),
        )


def _least_credits(line: _Line) -> int:
    """Of a line's time, where months are long."""
    return line.declared("monthly_credits") * line.quantity * (line.end - line.start) // LONGEST_MONTH


def _free_months(world: World, lines: list[_Line], now: int) -> int:
    """Of every product and calendar month the largest claim; a claim is what one subscription has at one moment."""
    credited_at = {line_id: max(line.start, line.paid_at) for line in lines for line_id in line.credited}
    claims: dict[tuple[str, str], dict[tuple[str, str], Fraction]] = defaultdict(
        lambda: defaultdict(Fraction)
    )
    for line in lines:
        if line.paid > 0 or line.credited or line.is_trial or line.paid < 0:
            continue
        ended_at = world.store.get("subscription", line.subscription).get("ended_at") or line.end
        until = min(now, line.end - 1, ended_at, credited_at.get(line.id, line.end))
        whole = Fraction(line.declared("monthly_credits") * line.quantity)
        part = min(Fraction(line.end - line.start, SHORTEST_MONTH_DAYS * DAY), Fraction(1))
        for number, bucket in enumerate(_buckets(line, until)):
            moment = f"{line.start}" if number == 0 else bucket
            credits = whole * part if number == 0 else whole
            claims[line.price["product"], bucket][line.subscription, moment] += credits
    return sum(math.floor(max(claim.values())) for claim in claims.values())


def _buckets(line: _Line, until: int) -> Iterator[str]:
    """The calendar months (weeks of a weekly plan) in which a month of the line's has begun by then."""
    if line.price["recurring"]["interval"] == "week":
        yield f"week {(line.start - FIRST_MONDAY) // (7 * DAY)}"
        return
    first = f"{date_of(line.start):%Y-%m}"
    yield first
    # Months are counted back from the line's end, which is where one ends.
    begun, number = [line.end], 0
    while begun[-1] > line.start:
        number += 1
        begun.append(months_after(line.end, -number))
    for moment in reversed(begun[1:]):
        if line.start < moment <= until and (bucket := f"{date_of(moment):%Y-%m}") != first:
            yield bucket


def _free_credits(world: World, now: int, rules: tuple[FreeRule, ...], user: User) -> int:
    facts = replace(read(world), user=user, free_rules=rules) if rules else Facts()
    return sum(grant.rule.credits for grant in free.grants(facts, now))


def _free_packs(world: World) -> int:
    claims: dict[tuple[str, str], int] = defaultdict(int)
    for session in world.store.all("checkout.session"):
        if session["mode"] != "payment" or session["status"] != "complete":
            continue
        for item in session["_line_items"]:
            price = world.store.get("price", item["price"])
            if item["amount_total"] == 0 and not price.get("custom_unit_amount"):
                month = f"{date_of(session['created']):%Y-%m}"
                credits = int(price["metadata"]["pack_credits"]) * item["quantity"]
                claims[price["product"], month] = max(claims[price["product"], month], credits)
    return sum(claims.values())


def _initial(lines: list[_Line]) -> int:
    once: dict[str, int] = defaultdict(int)
    for line in lines:
        if not line.is_change and not line.is_trial:
            product = line.price["product"]
            once[product] = max(once[product], line.declared("initial_credits"))
    return sum(once.values())


def _trials(world: World) -> int:
    once: dict[str, int] = defaultdict(int)
    for event in world.events.bodies():
        began = event["data"]["object"]
        if event["type"] != "customer.subscription.created" or not began["trial_end"]:
            continue
        for item in began["items"]["data"]:
            product = item["price"]["product"]
            credits = int(item["price"]["metadata"].get("trial_credits", "0"))
            once[product] = max(once[product], credits)
    return sum(once.values())
