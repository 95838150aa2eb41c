"""A changed subscription → credit for what was not used, a charge for what is new, and their invoice.

In flexible billing mode a credit is a share of what was debited, whatever the item is now; in classic mode it is by
the item's price and the discounts of today. Either names the lines that it credits. A proration's amount has
discounts taken off already, unless the subscription itemizes them.
"""

from dataclasses import dataclass

from stripe_local.parameters import Params
from stripe_local.resources import collection, debits, discounts, invoice_items, invoices
from stripe_local.resources.invoice_lines import period_line, pricing
from stripe_local.resources.pricing import amounts, prorated, total, unit_of
from stripe_local.resources.subscription_items import price_of
from stripe_local.resources.subscription_terms import items_of
from stripe_local.resources.subscriptions import bill
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World


@dataclass(frozen=True)
class Before:
    """What an item was before the change."""

    item: Object
    price: Object
    quantity: int
    start: int
    end: int


def bill_change(
    world: World, subscription: Object, params: Params, changed: tuple[list[Before], bool]
) -> None:
    """Prorations wait for the next invoice, unless asked for now or a new period starts."""
    invoice = invoice_change(world, subscription, params, changed)
    if invoice is not None:
        name_latest(world, subscription, invoice)
        collect_change(world, subscription, invoice, params)


def invoice_change(
    world: World, subscription: Object, params: Params, changed: tuple[list[Before], bool]
) -> Object | None:
    """The draft for a change that is billed at once."""
    before, restart = changed
    behavior = params.get("proration_behavior", "create_prorations")
    now: int = params.get("proration_date") or world.now(subscription.get("test_clock"))
    customer = world.store.get("customer", subscription["customer"])
    if behavior != "none":
        _add_prorations(world, subscription, customer, before, restart, now)
    if not restart and behavior != "always_invoice":
        return None
    lines: list[Object] = []
    if restart:
        for item in items_of(world, subscription):
            price = price_of(world, item)
            lines += [
                period_line(world, subscription, item, price, a) for a in amounts(price, item["quantity"])
            ]
    if not lines and not invoice_items.pending(world, customer["id"], subscription["id"]):
        return None
    return bill(world, subscription, customer, lines, "subscription_update")


def name_latest(world: World, subscription: Object, invoice: Object) -> None:
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["latest_invoice"] = invoice["id"]


def collect_change(world: World, subscription: Object, invoice: Object, params: Params) -> None:
    """Finalize it and try to be paid."""
    invoices.finalize(world, invoice)
    method = collection.method_for(world, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        invoice["auto_advance"] = True
        if method is None:
            collection.collect(world, invoice)
        else:
            collection.attempt(world, invoice, method, off_session=params.get("off_session", False))


@dataclass(frozen=True)
class Share:
    """The part of a price for the rest of a period; `taken` is what each discount takes off it."""

    price: Object
    quantity: int
    amount: int
    taken: list[Object]


def _add_prorations(
    world: World, subscription: Object, customer: Object, before: list[Before], restart: bool, now: int
) -> None:
    """Credit what was paid and not used; charge what the new items cost to the end of the period."""
    items = items_of(world, subscription)
    remaining = {item["id"]: item for item in items}
    shares = _shares(world, subscription, customer, [(price_of(world, i), i["quantity"]) for i in items])
    whole = dict(zip(remaining, shares, strict=True))
    classic = _classic_shares(world, subscription, customer, before)
    for old in before:
        new = remaining.pop(old.item["id"], None)
        same = new is not None and new["price"] == old.price["id"] and new["quantity"] == old.quantity
        if (same and not restart) or not old.start <= now < old.end:
            continue
        _credit(world, subscription, customer, old, classic.get(old.item["id"]), now)
        if new is not None and not restart:
            _debit(world, subscription, customer, new, whole[new["id"]], (now, old.start, old.end))
    for item in () if restart else remaining.values():
        period = now, item["current_period_start"], item["current_period_end"]
        _debit(world, subscription, customer, item, whole[item["id"]], period)


def credit_unused(world: World, subscription: Object, customer: Object, before: list[Before]) -> None:
    """The subscription ends: credit what is left of every item's period."""
    now = world.now(subscription.get("test_clock"))
    classic = _classic_shares(world, subscription, customer, before)
    for old in before:
        if old.start <= now < old.end:
            _credit(world, subscription, customer, old, classic.get(old.item["id"]), now)


def _shares(
    world: World, subscription: Object, customer: Object, priced: list[tuple[Object, int]]
) -> list[Share]:
    """Whole periods at these prices, with today's discounts spread over them."""
    lines: list[Object] = [{"discountable": True, "pricing": pricing(price, "0")} for price, _ in priced]
    costs = [total(price, quantity) for price, quantity in priced]
    left, taken_of = costs, [list[Object]() for _ in priced]
    now = world.now(subscription.get("test_clock"))
    for discount in discounts.applicable(world, discounts.of(subscription, customer), now):
        parts = discounts.amounts(world, discount, lines, left)
        left = [cost - part for cost, part in zip(left, parts, strict=True)]
        for taken, part in zip(taken_of, parts, strict=True):
            taken.append({"amount": part, "discount": discount["id"]})
    return [
        Share(price, quantity, cost, taken)
        for (price, quantity), cost, taken in zip(priced, costs, taken_of, strict=True)
    ]


def _classic_shares(
    world: World, subscription: Object, customer: Object, before: list[Before]
) -> dict[str, Share]:
    """What the items of a subscription in classic mode would cost, by their ids; of another mode none."""
    if subscription["billing_mode"]["type"] != "classic":
        return {}
    shares = _shares(world, subscription, customer, [(old.price, old.quantity) for old in before])
    return {old.item["id"]: share for old, share in zip(before, shares, strict=True)}


def _credit(
    world: World, subscription: Object, customer: Object, old: Before, classic: Share | None, now: int
) -> None:
    debit = debits.last(world, old.item, now)
    whole, (start, end) = classic, (old.start, old.end)
    if whole is None:
        if debit is None:
            return
        price = world.store.find("price", debit.price) or world.store.get("deleted_price", debit.price)
        whole, (start, end) = Share(price, debit.quantity, debit.gross, debit.taken), debit.period
    if whole.amount == 0:
        return
    for line in debit.shown if debit is not None else ():
        line["_credited"] = True
    share = _part(whole, now - end, end - start)
    item = add_proration(world, subscription, customer, old.item["id"], share, (now, end), credit=True)
    if debit is not None:
        item["proration_details"] = {**item["proration_details"], "credited_items": debit.reference}
        item["_credits"] = debit.reference
    world.emit("invoiceitem.created", item)


def _debit(
    world: World,
    subscription: Object,
    customer: Object,
    item: Object,
    whole: Share,
    period: tuple[int, int, int],
) -> None:
    now, start, end = period
    if whole.amount == 0:
        return
    share = _part(whole, end - now, end - start)
    made = add_proration(world, subscription, customer, item["id"], share, (now, end), credit=False)
    debits.record(item, invoice=None, identifier=made["id"])
    world.emit("invoiceitem.created", made)


def _part(whole: Share, seconds: int, of: int) -> Share:
    """Negative seconds are given back."""
    sign = -1 if seconds < 0 else 1
    taken = [one | {"amount": sign * prorated(one["amount"], abs(seconds), of)} for one in whole.taken]
    net = sign * prorated(whole.amount - sum(one["amount"] for one in whole.taken), abs(seconds), of)
    return Share(whole.price, whole.quantity, net + sum(one["amount"] for one in taken), taken)


def add_proration(
    world: World,
    subscription: Object,
    customer: Object,
    item_id: str,
    share: Share,
    period: tuple[int, int],
    *,
    credit: bool,
) -> Object:
    """The invoice item, still to be announced."""
    price = share.price
    product = world.store.find("product", price["product"]) or {}
    words = "Unused time on" if credit else "Remaining time on"
    times = f"{share.quantity} × " if share.quantity != 1 else ""
    flexible: Object = inside(subscription, "billing_mode", "flexible")
    net = share.amount - sum(one["amount"] for one in share.taken)
    shown = share.taken if flexible else []
    if flexible.get("proration_discounts") != "itemized":
        shown = [one | {"amount": 0} for one in shown]
    amount = net + sum(one["amount"] for one in shown)
    return invoice_items.store(
        world,
        customer,
        {
            "amount": amount,
            "currency": price["currency"],
            "description": f"{words} {times}{product.get('name', price['product'])}",
            "discountable": False,
            "discounts": [one["discount"] for one in share.taken],
            "metadata": dict(subscription["metadata"]),
            "net_amount": net,
            "parent": {
                "type": "subscription_details",
                "subscription_details": {"subscription": subscription["id"], "subscription_item": item_id},
            },
            "period": {"start": period[0], "end": period[1]},
            "pricing": pricing(price, f"{unit_of(price):f}"),
            "proration": True,
            "proration_details": {"credited_items": None, "discount_amounts": shown},
            "quantity": share.quantity,
            "_discount_amounts": shown,
        },
    )
