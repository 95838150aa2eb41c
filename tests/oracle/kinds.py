"""How often each kind of thing happens in random lives: `python -m tests.oracle.kinds 300`."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator

from simulator.oracle.facts import DAY
from stripe_local.resources.discounts import coupon_of
from tests.oracle.lives import Life, random_life
from tests.oracle.wide_lives import WideLife, random_wide_life

FAMILIES: dict[str, Callable[[int], Life]] = {"usual": random_life, "wide": random_wide_life}


def kinds(life: Life) -> set[str]:
    """What happened in a life that was lived."""
    return {
        *_of_lines(life),
        *_of_invoices(life),
        *_of_packs(life),
        *_of_money_back(life),
        *_of_the_rest(life),
        *_of_app(life),
    }


def _of_lines(life: Life) -> Iterator[str]:
    """What paid lines of subscriptions are of."""
    for invoice in life.facts().invoices:
        for line in invoice.lines:
            if line.item is None or line.price is None:
                continue
            price, stored = line.price, life.stripe.world.store.get("price", line.price.id)
            yield f"line of a plan by {'many ' if price.count > 1 else ''}{price.interval}"
            if price.is_metered:
                yield "metered line"
            if stored["billing_scheme"] == "tiered":
                yield f"line of {stored['tiers_mode']} tiers" + (", prorated" if line.is_proration else "")
            if line.paid == 0:
                yield "line of no amount"
            if line.is_proration and line.amount > 0:
                yield "change to a plan, " + price.term("credits_on_proration", line.start, "delta")
            if line.amount < 0:
                yield "time credited, " + price.term("credits_on_downgrade", line.start, "take_back")
            yield "rollover " + price.term("credits_rollover", line.start, "all").partition(":")[0]


def _of_invoices(life: Life) -> Iterator[str]:
    world = life.stripe.world
    for invoice in life._all("invoice"):
        if invoice["status"] != "paid":
            continue
        if invoice.get("_paid_out_of_band"):
            yield "invoice paid out of band"
        elif invoice["total"] > invoice["amount_paid"]:
            yield "invoice paid from the balance"
        paid_at = invoice["status_transitions"]["paid_at"]
        if any(line["period"]["start"] + DAY < paid_at < line["period"]["end"] for line in invoice["_lines"]):
            yield "invoice paid more than a day late"
        for taken in (taken for line in invoice["_lines"] for taken in line["discount_amounts"]):
            coupon = coupon_of(world, world.store.get("discount", taken["discount"]))
            yield f"coupon {coupon['duration']}" + (" of all" if coupon.get("percent_off") == 100 else "")


def _of_packs(life: Life) -> Iterator[str]:
    facts = life.facts()
    prices = [(price, "session") for sale in facts.sales for price, _, _ in sale.packs]
    prices += [
        (line.price, "invoice")
        for invoice in facts.invoices
        for line in invoice.lines
        if line.item is None and line.price is not None
    ]
    for price, where in prices:
        yield f"pack on a paid {where}"
        if price.is_custom_amount:
            yield "pack of a chosen amount"
        if price.term("pack_expires_after", 0):
            yield "pack that expires"
    for sale in facts.sales:
        if sale.charged_at is not None and sale.paid_at > sale.charged_at:
            yield "pack captured later" + ("" if sale.total == sale.asked else ", in part")
    for session in life._all("checkout.session"):
        if session["mode"] == "payment" and session.get("invoice"):
            yield "pack in a session with an invoice"
    if any(event["type"] == "checkout.session.async_payment_succeeded" for event in _events(life)):
        yield "pack paid by bank debit"


def _of_money_back(life: Life) -> Iterator[str]:
    of_lines: Counter[str] = Counter()
    for back in life.facts().returns:
        note = back.id.startswith("cn_")
        yield "refund" if not note else "credit note" + (" on lines" if back.lines else "")
        if back.undone_at is not None:
            yield "refund that failed"
        amounts = {line["id"]: line["amount"] for i in life._all("invoice") for line in i["_lines"]}
        for line, amount in back.lines.items():
            of_lines[line] += 1
            if amount < amounts[line]:
                yield "credit note on a part of a line"
    if of_lines and max(of_lines.values()) > 1:
        yield "several credit notes on one line"
    for dispute in life._all("dispute"):
        yield f"dispute {dispute['status'] if dispute['status'] in ('won', 'lost') else 'open'}"


def _of_the_rest(life: Life) -> Iterator[str]:
    facts = life.facts()
    for subscription in facts.subscriptions.values():
        for state in subscription.states:
            prices = [facts.prices[price] for price in state.prices]
            yield f"subscription {state.status}"
            if state.is_collection_paused:
                yield "collection paused"
            for price in prices:
                if state.trial_start is not None and price.credits("trial_credits", state.trial_start):
                    yield "trial credits, " + price.term("trial_credits_end", state.trial_start, "trial_end")
                if state.canceled_at is not None:
                    yield "cancelled, " + price.term("credits_on_cancel", state.canceled_at, "period_end")
    if any(price.credits("initial_credits", 0) for price in facts.prices.values()):
        yield f"initial credits once for each {life.rules.initial_credits_per}"
    if any(len({str(terms) for _, terms in price.terms}) > 1 for price in facts.prices.values()):
        yield "credits of a price edited"
    if isinstance(life, WideLife) and life.by_clock:
        yield "the database follows a test clock"
    yield "events in order, the app spends" if life.spends else "events late and shuffled"


def _of_app(life: Life) -> Iterator[str]:
    oracle = life.oracle()
    for lot in oracle.ledger.lots:
        if lot.kind == "free_credits":
            yield "free credits without a subscription"
    if life.app.is_somebody_known and life.app.free_rules:
        yield "free credits of a person with another account"
    if oracle.ledger.debts:
        yield "spent beyond what there was"
    if oracle.overages.claimed:
        yield "overage billed"
    for spend, outcome in zip(life.spent, oracle.outcomes, strict=True):
        if isinstance(outcome, str):
            yield f"spend refused with {outcome}"
        if spend.work is not None:
            yield "work " + ("charged" if spend.work.held is None else f"held, {spend.work.policy}")
        if spend.actor is not None:
            yield "spent by somebody with a budget"


def _events(life: Life) -> Iterator[dict[str, object]]:
    yield from life.stripe.world.events.bodies()


def main(lives: int) -> None:
    counts = {name: Counter[str]() for name in FAMILIES}
    for name, family in FAMILIES.items():
        for seed in range(lives):
            counts[name].update(kinds(family(seed).live()))
    print(f"{'of ' + str(lives) + ' lives':52}" + "".join(f"{name:>7}" for name in FAMILIES))
    for kind in sorted({kind for counted in counts.values() for kind in counted}):
        print(f"{kind:52}" + "".join(f"{counts[name][kind]:7}" for name in FAMILIES))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
