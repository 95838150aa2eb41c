"""Subscriptions: created, renewed, ended, paused; each period with its invoice."""

from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.render import DERIVED, page
from stripe_local.resources import (
    collection,
    discounts,
    invoice_items,
    invoices,
    lifecycle,
    one_time_items,
    payment_methods,
    taxes,
)
from stripe_local.resources.invoice_lines import invoice_item_line, period_line, trial_line
from stripe_local.resources.periods import boundary
from stripe_local.resources.pricing import Amount, amounts, prorated
from stripe_local.resources.subscription_items import (
    check_together,
    cost,
    new_item,
    price_of,
    set_period,
    shown,
)
from stripe_local.resources.subscription_terms import (
    anchor_of,
    items_of,
    method_of,
    set_cancellation,
    trial_end_of,
)
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World, merge_metadata, put

TRIAL_WARNING_SECONDS = 3 * 86_400
INCOMPLETE_EXPIRES_SECONDS = 23 * 3_600


def create_subscription(
    world: World, params: Params, *, authenticated: bool = False, scheduled_by: str | None = None
) -> Object:
    """Make it, bill its first period and try to be paid. StripeError when nothing may come of it.

    `authenticated`: the payer is there and has passed the bank's challenge, as on Checkout's page.
    `scheduled_by`: the schedule that makes it; its first invoice is a draft for an hour.
    """
    customer = world.store.get("customer", params.get("customer") or "", "customer")
    now = world.now(customer.get("test_clock"))
    method = method_of(world, customer, params)
    behavior = params.get("payment_behavior", "allow_incomplete")
    trial_end = trial_end_of(world, params, now)
    identifier = world.store.new_id("subscription")
    items: list[Object] = []
    one_time = one_time_items.read(world, params)
    try:
        for number, given in enumerate(each(params, "items")):
            items.append(new_item(world, identifier, given, f"items[{number}]", now))
        check_together(world, items)
        anchor = anchor_of(world, params, items, trial_end, now)
        subscription = _store(world, customer, params, identifier, items, anchor, trial_end)
    except StripeError:
        for item in items:
            world.store.remove("subscription_item", item["id"])
        raise
    if method is not None and params.get("default_payment_method"):
        subscription["default_payment_method"] = method["id"]
    _first_periods(world, subscription, trial_end, now)
    try:
        set_cancellation(world, subscription, params)
    except StripeError:
        _discard(world, subscription)
        raise
    if scheduled_by is not None:
        subscription["schedule"] = scheduled_by
    elif method is None and _needs_method(world, subscription, params, behavior, one_time):
        _discard(world, subscription)
        raise invalid(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method. For more information, visit https://stripe.com/docs/billing/subscriptions/"
            "payment-methods-setting#manage-customer-default-payment-methods.",
            code="resource_missing",
        )
    if behavior == "error_if_incomplete":
        _refuse_decline(world, subscription, method)
    world.emit("customer.subscription.created", subscription)
    one_time_items.add(world, subscription, one_time)
    _bill_first(world, subscription, method, params, authenticated=authenticated)
    return subscription


def _store(
    world: World,
    customer: Object,
    params: Params,
    identifier: str,
    items: list[Object],
    anchor: int,
    trial_end: int | None,
) -> Object:
    clock = customer.get("test_clock")
    now = world.now(clock)
    collection = params.get("collection_method", "charge_automatically")
    if collection == "send_invoice" and "days_until_due" not in params:
        raise invalid(
            "You must pass the `days_until_due` parameter when `collection_method=send_invoice`.",
            "days_until_due",
        )
    settings: Params = inside(params, "payment_settings")
    taxing = taxes.settings(world, customer, params)
    holder = {"customer": customer["id"], "subscription": identifier}
    amount = sum(cost(world, item) for item in items)
    held = discounts.redeem(world, each(params, "discounts"), "discounts", holder, amount)
    subscription = world.store.add(
        "subscription",
        {
            "id": identifier,
            "automatic_tax": {"enabled": False},
            "billing_cycle_anchor": anchor,
            "billing_cycle_anchor_config": params.get("billing_cycle_anchor_config"),
            "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
            "billing_schedules": [],
            "cancel_at_period_end": False,
            "cancellation_details": {},
            "collection_method": collection,
            "created": now,
            "currency": price_of(world, items[0])["currency"],
            "customer": customer["id"],
            "days_until_due": params.get("days_until_due"),
            "default_tax_rates": [],
            "discounts": held,
            "invoice_settings": {"issuer": {"type": "self"}},
            "metadata": {},
            "payment_settings": {
                "save_default_payment_method": settings.get("save_default_payment_method", "off")
            },
            "start_date": params.get("backdate_start_date", now),
            "status": "incomplete",
            "test_clock": clock,
            "trial_end": trial_end,
            "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
            "trial_start": now if trial_end else None,
            "_items": [item["id"] for item in items],
            **taxing,
        },
    )
    mode = inside(params, "billing_mode")
    if mode.get("type") == "classic":
        subscription["billing_mode"] = {"type": "classic"}
    elif inside(mode, "flexible").get("proration_discounts"):
        shown: Object = {"proration_discounts": mode["flexible"]["proration_discounts"]}
        subscription["billing_mode"] = {"type": "flexible", "flexible": shown}
    if params.get("trial_settings"):
        subscription["trial_settings"] = {
            "end_behavior": {"missing_payment_method": "create_invoice"}
            | params["trial_settings"]["end_behavior"]
        }
    put(subscription, params, "description")
    merge_metadata(subscription, params.get("metadata"))
    return subscription


def _first_periods(world: World, subscription: Object, trial_end: int | None, now: int) -> None:
    anchor = subscription["billing_cycle_anchor"]
    for item in items_of(world, subscription):
        if trial_end is not None:
            item |= {"current_period_start": now, "current_period_end": trial_end}
        elif anchor > now:
            item |= {"current_period_start": now, "current_period_end": anchor}
        else:
            set_period(world, item, anchor, now)


def _needs_method(
    world: World, subscription: Object, params: Params, behavior: str, one_time: list[Object]
) -> bool:
    automatic = subscription["collection_method"] == "charge_automatically"
    lines = first_lines(world, subscription, params.get("proration_behavior"))
    left = [line["amount"] for line in lines]
    for discount in discounts.applicable(world, subscription["discounts"], subscription["created"]):
        taken = discounts.amounts(world, discount, lines, left)
        left = [amount - part for amount, part in zip(left, taken, strict=True)]
    credit = world.store.get("customer", subscription["customer"])["balance"]
    due = sum(left) + sum(item["amount"] for item in one_time) + min(0, credit)
    return automatic and due > 0 and behavior not in ("default_incomplete",)


def _discard(world: World, subscription: Object) -> None:
    for item_id in subscription["_items"]:
        world.store.remove("subscription_item", item_id)
    world.store.remove("subscription", subscription["id"])


def _refuse_decline(world: World, subscription: Object, method: Object | None) -> None:
    """error_if_incomplete: 402 and no subscription when the card would not pay."""
    card = payment_methods.card_of(method) if method else None
    if card and card.kind == "card" and (card.decline or card.authentication == "always"):
        code, decline_code = card.decline or ("subscription_payment_intent_requires_action", "")
        _discard(world, subscription)
        details: dict[str, Any] = {"decline_code": decline_code} if code == "card_declined" else {}
        raise StripeError(402, "Your card was declined.", kind="card_error", code=code, **details)


def first_lines(world: World, subscription: Object, proration_behavior: str | None = None) -> list[Object]:
    """Lines of the first invoice: the trial, the whole period, or the part up to the anchor."""
    lines: list[Object] = []
    for item in items_of(world, subscription):
        price = price_of(world, item)
        if subscription.get("trial_end"):
            lines.append(trial_line(world, subscription, item, price))
            continue
        start, end = item["current_period_start"], item["current_period_end"]
        recurring = price["recurring"]
        whole = end - boundary(end, recurring["interval"], recurring["interval_count"], -1)
        for amount in amounts(price, item["quantity"]):
            part = amount
            if subscription["billing_cycle_anchor"] > start:
                cost = 0 if proration_behavior == "none" else prorated(amount.amount, end - start, whole)
                part = Amount(cost, amount.quantity, amount.unit, " (prorated)")
            lines.append(period_line(world, subscription, item, price, part))
    return lines


def _bill_first(
    world: World, subscription: Object, method: Object | None, params: Params, *, authenticated: bool
) -> None:
    """The first invoice; what becomes of it decides the status."""
    customer = world.store.get("customer", subscription["customer"])
    clock = subscription.get("test_clock")
    lines = first_lines(world, subscription, params.get("proration_behavior"))
    invoice = bill(world, subscription, customer, lines, "subscription_create")
    subscription["latest_invoice"] = invoice["id"]
    if subscription["collection_method"] == "send_invoice" or subscription.get("schedule"):
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "trialing" if subscription.get("trial_end") else "active"
        invoices.finalize_later(world, invoice)
        return
    invoices.finalize(world, invoice)
    if (
        invoice["status"] == "open"
        and method is not None
        and params.get("payment_behavior") != "default_incomplete"
    ):
        off_session: bool = params.get("off_session", False)
        collection.attempt(world, invoice, method, off_session=off_session, authenticated=authenticated)
    if subscription["status"] == "incomplete":
        expires = world.now(clock) + INCOMPLETE_EXPIRES_SECONDS
        world.schedule(clock, expires, lambda: _expire_incomplete(world, subscription))


def _expire_incomplete(world: World, subscription: Object) -> None:
    if subscription["status"] == "incomplete":
        invoice = world.store.find("invoice", subscription.get("latest_invoice"))
        lifecycle.end_subscription(world, subscription, "payment_failed", "incomplete_expired")
        if invoice is not None and invoice["status"] == "open":
            invoices.close(world, invoice, "void", "voided_at", "invoice.voided")


def bill(world: World, subscription: Object, customer: Object, lines: list[Object], reason: str) -> Object:
    """A draft for the subscription, with whatever waits for its next invoice."""
    now = world.now(subscription.get("test_clock"))
    pending = invoice_items.pending(world, customer["id"], subscription["id"])
    active = discounts.applicable(world, discounts.of(subscription, customer), now)
    starts = [line["period"]["start"] for line in lines] or [now]
    invoice = invoices.draft(
        world,
        customer,
        [*lines, *(invoice_item_line(world, item) for item in pending)],
        {
            "automatic_tax": {
                key: subscription["automatic_tax"].get(key) for key in ("enabled", "liability")
            },
            "billing_reason": reason,
            "default_tax_rates": list(subscription["default_tax_rates"]),
            "collection_method": subscription["collection_method"],
            "currency": subscription["currency"],
            "discounts": [discount["id"] for discount in active],
            "parent": {
                "type": "subscription_details",
                "quote_details": None,
                "subscription_details": {
                    "metadata": dict(subscription["metadata"]),
                    "subscription": subscription["id"],
                },
            },
            "period_end": now,
            "period_start": now
            if reason != "subscription_cycle"
            else subscription.get("_window_start", min(starts)),
            "_days_until_due": subscription.get("days_until_due"),
        },
    )
    subscription["_window_start"] = now
    return invoice


def _shown(state: State, subscription: Object) -> Object:
    items = [item | shown(state, item) for item in items_of(state, subscription)]
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return {"items": {**page(items, url), "total_count": len(items)}}


def _item_shown(state: State, item: Object) -> Object:
    return shown(state, item)


DERIVED["subscription"] = _shown
DERIVED["subscription_item"] = _item_shown
