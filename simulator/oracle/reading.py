"""What the local Stripe holds and has told → the facts that the oracle judges by."""

from collections.abc import Iterator
from typing import Any

from simulator.oracle.facts import (
    Dispute,
    Facts,
    Invoice,
    Line,
    Price,
    Return,
    Sale,
    State,
    Subscription,
)
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

CHARGED_AFTER = 75 * 60
FOR_EVER = 1 << 62


def read(world: World) -> Facts:
    """Everything in a Stripe whose customers all belong to one account."""
    events = list(world.events.bodies())
    prices = {price["id"]: _price(world, price, events) for price in world.store.all("price")}
    return Facts(
        prices=prices,
        subscriptions={
            subscription["id"]: _subscription(subscription["id"], events)
            for subscription in world.store.all("subscription")
        },
        invoices=tuple(
            Invoice(invoice["id"], invoice["status_transitions"]["paid_at"], tuple(_lines(invoice, prices)))
            for invoice in world.store.all("invoice")
            if invoice["status"] == "paid"
        ),
        owed={
            # A draft is charged within the hour, and then its payment is on the way.
            line["id"]: invoice["created"] + CHARGED_AFTER if invoice["status"] == "draft" else FOR_EVER
            for invoice in world.store.all("invoice")
            if invoice["status"] in ("draft", "open", "uncollectible")
            for line in invoice["_lines"]
        },
        sales=tuple(_sales(world, prices, events)),
        returns=tuple(_returns(world, events)),
        disputes=tuple(_disputes(world, events)),
    )


def _states(events: list[Object], kind: str, identifier: str) -> Iterator[tuple[int, Any]]:
    """When an event told of an object, and how it was then."""
    for event in events:
        found = event["data"]["object"]
        if found["object"] == kind and found.get("id") == identifier:
            yield event["created"], found


def _price(world: World, price: Object, events: list[Object]) -> Price:
    product = world.store.get("product", price["product"])
    recurring: Object = price.get("recurring") or {}
    terms = [
        (created, {**product["metadata"], **state["metadata"]})
        for created, state in _states(events, "price", price["id"])
    ]
    return Price(
        id=price["id"],
        product=product["id"],
        interval=recurring.get("interval"),
        count=recurring.get("interval_count", 1),
        terms=tuple(terms),
        currency=price["currency"],
        is_metered=recurring.get("usage_type") == "metered",
        is_custom_amount=bool(price.get("custom_unit_amount")),
    )


def _subscription(identifier: str, events: list[Object]) -> Subscription:
    return Subscription(
        identifier,
        tuple(
            State(
                since=created,
                status=state["status"],
                anchor=state["billing_cycle_anchor"],
                is_collection_paused=state["pause_collection"] is not None,
                canceled_at=state["canceled_at"],
                ended_at=state["ended_at"],
                trial_start=state["trial_start"],
                trial_end=state["trial_end"],
                prices=tuple(item["price"]["id"] for item in state["items"]["data"]),
            )
            for created, state in _states(events, "subscription", identifier)
        ),
    )


def _lines(invoice: Object, prices: dict[str, Price]) -> Iterator[Line]:
    for line in invoice["_lines"]:
        details = inside(line, "parent", "subscription_item_details")
        credited = inside(details, "proration_details", "credited_items").get("invoice_line_items") or ()
        yield Line(
            id=line["id"],
            price=prices.get(inside(line, "pricing", "price_details").get("price") or ""),
            amount=line["amount"],
            start=line["period"]["start"],
            end=line["period"]["end"],
            quantity=line["quantity"],
            discount=sum(taken["amount"] for taken in line["discount_amounts"]),
            subscription=details.get("subscription"),
            item=details.get("subscription_item"),
            is_proration=bool(details.get("proration")),
            credited=tuple(credited),
        )


def _sales(world: World, prices: dict[str, Price], events: list[Object]) -> Iterator[Sale]:
    for session in world.store.all("checkout.session"):
        if session["mode"] != "payment" or session.get("invoice"):
            continue
        intent = world.store.find("payment_intent", session.get("payment_intent")) or {}
        paid = [
            created
            for created, state in _states(events, "checkout.session", session["id"])
            if state["status"] == "complete" and state["payment_status"] in ("paid", "no_payment_required")
        ] + [
            # No event of a session reports a later capture.
            created
            for created, state in _states(events, "payment_intent", intent.get("id", ""))
            if state["status"] == "succeeded"
        ]
        if paid:
            charge = world.store.find("charge", intent.get("latest_charge")) or {}
            yield Sale(
                session["id"],
                min(paid),
                tuple((prices[i["price"]], i["quantity"], i["amount_total"]) for i in session["_line_items"]),
                captured=intent.get("amount_received"),
                charged_at=charge.get("created"),
            )


def _paid_with(world: World, stored: Object) -> str:
    """The invoice or the session that a refund's or a dispute's payment was for."""
    intent = world.store.find("payment_intent", stored.get("payment_intent")) or {}
    return intent.get("_invoice") or intent.get("_checkout_session") or ""


def _returns(world: World, events: list[Object]) -> Iterator[Return]:
    of_notes: set[str] = set()
    for note in world.store.all("credit_note"):
        of_notes |= {refund["refund"] for refund in note["refunds"]}
        if note["type"] != "post_payment":
            continue
        lines: dict[str, int] = {}
        for line in note["_lines"]:
            if line["invoice_line_item"]:
                amount = line["amount"] - line["discount_amount"]
                lines[line["invoice_line_item"]] = lines.get(line["invoice_line_item"], 0) + amount
        yield Return(
            note["id"], note["invoice"], note["created"], note["total"], lines, note.get("voided_at")
        )
    for refund in world.store.all("refund"):
        if refund["id"] not in of_notes:
            failed = [
                created
                for created, state in _states(events, "refund", refund["id"])
                if state["status"] in ("failed", "canceled")
            ]
            yield Return(
                refund["id"],
                _paid_with(world, refund),
                refund["created"],
                refund["amount"],
                undone_at=min(failed, default=None),
            )


def _disputes(world: World, events: list[Object]) -> Iterator[Dispute]:
    for dispute in world.store.all("dispute"):
        closed = [
            created
            for created, state in _states(events, "dispute", dispute["id"])
            if state["status"] in ("won", "lost")
        ]
        yield Dispute(
            dispute["id"],
            _paid_with(world, dispute),
            dispute["created"],
            dispute["amount"],
            min(closed, default=None),
            dispute["status"] == "lost",
        )
