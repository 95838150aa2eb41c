"""Changes of a running subscription: prices and quantities with proration, trials, pauses, cancellation."""

from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources import (
    catalog,
    collection,
    discounts,
    invoice_items,
    invoices,
    lifecycle,
    one_time_items,
    payment_methods,
    pending_updates,
    renewals,
    taxes,
)
from stripe_local.resources.common import deleted, matching
from stripe_local.resources.pricing import total
from stripe_local.resources.proration import Before, bill_change, credit_unused
from stripe_local.resources.subscription_items import (
    check_together,
    new_item,
    price_of,
    quantity_of,
    set_period,
)
from stripe_local.resources.subscription_terms import items_of, set_cancellation
from stripe_local.resources.subscriptions import bill
from stripe_local.store import Object
from stripe_local.values import each, inside, is_hash
from stripe_local.world import World, merge_metadata, put


def update(world: World, params: Params, identifier: str) -> Object:
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] in lifecycle.ENDED and set(params) - {"metadata", "cancellation_details"}:
        raise invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
        )
    behavior = params.get("payment_behavior")
    if behavior == "default_incomplete":
        raise invalid(
            "The local Stripe does not play payment_behavior=default_incomplete in updates.",
            "payment_behavior",
        )
    if behavior == "error_if_incomplete" and not world.muted:
        _refuse_unpaid(world, params, identifier)
    if subscription.get("schedule") and params.keys() & {"cancel_at", "cancel_at_period_end"}:
        raise invalid(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and updating any "
            "cancelation behavior directly is not allowed. Please update the schedule instead."
        )
    trial_ends = params.get("trial_end") == "now" and subscription["status"] == "trialing"
    if trial_ends and renewals.end_trial_without_method(world, subscription):
        return subscription
    changes = _checked_items(world, subscription, params)
    one_time = one_time_items.read(world, params)
    if behavior == "pending_if_incomplete" and pending_updates.attempt(
        world, subscription, params, one_time, lambda: _apply(world, subscription, params, changes)
    ):
        renewals.schedule(world, subscription)
        return subscription
    with world.updating(subscription, "customer.subscription.updated"):
        _set(world, subscription, params)
        changed = _apply(world, subscription, params, changes)
        one_time_items.add(world, subscription, one_time)
    if changed is None and one_time and params.get("proration_behavior") == "always_invoice":
        changed = _as_they_are(world, subscription), False
    if changed is not None:
        bill_change(world, subscription, params, changed)
    renewals.schedule(world, subscription)
    return subscription


def _refuse_unpaid(world: World, params: Params, identifier: str) -> None:
    """error_if_incomplete: 402 and no change where it could not be paid, as a trial on a copy shows."""
    trial = world.scratch()
    before = trial.store.get("subscription", identifier).get("latest_invoice")
    latest = update(trial, params, identifier).get("latest_invoice")
    if latest != before and trial.store.get("invoice", latest or "")["status"] == "open":
        raise StripeError(402, "Your card was declined.", kind="card_error", code="card_declined")


def change_at_boundary(world: World, subscription: Object, params: Params, now: int) -> None:
    """Change items and settings just before the renewal that bills them: nothing of the old is left to credit."""
    changes = _checked_items(world, subscription, params)
    before = {_rhythm(price_of(world, item)) for item in items_of(world, subscription)}
    with world.updating(subscription, "customer.subscription.updated"):
        _set(world, subscription, params)
        ended = min(item["current_period_end"] for item in items_of(world, subscription))
        _change_items(world, subscription, changes, now)
        after = items_of(world, subscription)
        if before != {_rhythm(price_of(world, item)) for item in after} or "billing_cycle_anchor" in params:
            subscription["billing_cycle_anchor"] = ended
        for item in after:
            if "current_period_end" not in item:
                item |= {"current_period_start": ended, "current_period_end": ended}
    one_time_items.add(world, subscription, one_time_items.read(world, params))


def _checked_items(world: World, subscription: Object, params: Params) -> list[tuple[Object | None, Params]]:
    """(item, what is to become of it); everything is checked before anything is changed."""
    changes: list[tuple[Object | None, Params]] = []
    for number, given in enumerate(each(params, "items")):
        where = f"items[{number}]"
        item: Object | None = None
        if given.get("id"):
            item = world.store.get("subscription_item", given["id"], f"{where}[id]")
            if item["subscription"] != subscription["id"]:
                raise invalid(
                    f"No such subscription item: '{item['id']}'", f"{where}[id]", "resource_missing"
                )
        if item is None and not given.get("deleted"):
            price = catalog.price_of(world, given, where, recurring=True)
            given = given | {"price": price["id"], "_checked": True}
        elif given.keys() & {"plan", "price", "price_data"}:
            given = given | {"price": catalog.price_of(world, given, where, recurring=True)["id"]}
        quantity_of(given, where)
        changes.append((item, {k: v for k, v in given.items() if k not in ("plan", "price_data")}))
    return changes


def _set(world: World, subscription: Object, params: Params) -> None:
    put(subscription, params, "description", "days_until_due", "collection_method", "pause_collection")
    subscription |= taxes.settings(world, world.store.get("customer", subscription["customer"]), params)
    merge_metadata(subscription, params.get("metadata"))
    if params.get("default_payment_method"):
        method = payment_methods.resolve(world, params["default_payment_method"], "default_payment_method")
        subscription["default_payment_method"] = payment_methods.attach_to(
            world, method, subscription["customer"]
        )["id"]
    elif params.get("default_payment_method") == "":
        subscription.pop("default_payment_method", None)
    if "trial_settings" in params:
        subscription["trial_settings"] = {
            "end_behavior": {"missing_payment_method": "create_invoice"}
            | params["trial_settings"]["end_behavior"]
        }
    if "payment_settings" in params:
        saved = params["payment_settings"].get("save_default_payment_method")
        if saved:
            subscription["payment_settings"] = {
                **subscription["payment_settings"],
                "save_default_payment_method": saved,
            }
    if "discounts" in params:
        holder = {"customer": subscription["customer"], "subscription": subscription["id"]}
        given = each(params, "discounts")
        subscription["discounts"] = discounts.redeem(world, given, "discounts", holder)
    if "cancellation_details" in params:
        given = {key: value or None for key, value in params["cancellation_details"].items()}
        subscription["cancellation_details"] = {**subscription["cancellation_details"], **given}
    set_cancellation(world, subscription, params)


def _apply(
    world: World, subscription: Object, params: Params, changes: list[tuple[Object | None, Params]]
) -> tuple[list[Before], bool] | None:
    """Change items, trial and anchor. Returns what was before and whether a new period starts now."""
    now: int = params.get("proration_date") or world.now(subscription.get("test_clock"))
    trial_end: Any = params.get("trial_end", "now")
    if trial_end != "now" and trial_end <= now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
    before = _as_they_are(world, subscription)
    if changes:
        _change_items(world, subscription, changes, now)
    restart = _change_trial(world, subscription, params, now)
    if restart:
        # What a trial leaves unused was never paid.
        before = []
    after = items_of(world, subscription)
    given_anchor: Any = params.get("billing_cycle_anchor")
    asked = given_anchor == "now" or (is_hash(given_anchor) and given_anchor.get("type") == "now")
    if subscription["status"] == "trialing":
        return None
    was_free = sum(total(b.price, b.quantity) for b in before) == 0
    now_paid = sum(total(price_of(world, i), i["quantity"]) for i in after) > 0
    rhythms = ({_rhythm(b.price) for b in before}, {_rhythm(price_of(world, i)) for i in after})
    restart = restart or asked or rhythms[0] != rhythms[1] or (bool(changes) and was_free and now_paid)
    if restart:
        subscription["billing_cycle_anchor"] = now
    for item in after:
        if restart or "current_period_end" not in item:
            set_period(world, item, subscription["billing_cycle_anchor"], now)
    return (before, restart) if changes or restart else None


def _as_they_are(world: World, subscription: Object) -> list[Before]:
    return [
        Before(i, price_of(world, i), i["quantity"], i["current_period_start"], i["current_period_end"])
        for i in items_of(world, subscription)
    ]


def _rhythm(price: Object) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def _change_items(
    world: World, subscription: Object, changes: list[tuple[Object | None, Params]], now: int
) -> None:
    kept = items_of(world, subscription)
    originals = [(item, dict(item)) for item in kept]
    made: list[Object] = []
    for item, given in changes:
        if item is None:
            made.append(new_item(world, subscription["id"], given, "items", now))
        elif given.get("deleted"):
            kept = [other for other in kept if other is not item]
        else:
            put(item, given, "price", "quantity")
            if "tax_rates" in given:
                item["tax_rates"] = taxes.rates_of(world, given["tax_rates"], "items[tax_rates]")
            merge_metadata(item, given.get("metadata"))
    try:
        check_together(world, [*kept, *made])
    except StripeError:
        for item, original in originals:
            item.clear()
            item.update(original)
        for item in made:
            world.store.remove("subscription_item", item["id"])
        raise
    subscription["_items"] = [item["id"] for item in (*kept, *made)]
    for item in made:
        if subscription["status"] == "trialing":
            item |= {"current_period_start": now, "current_period_end": subscription["trial_end"]}
    for item, _ in originals:
        if item["id"] not in subscription["_items"]:
            world.store.remove("subscription_item", item["id"])


def _change_trial(world: World, subscription: Object, params: Params, now: int) -> bool:
    """A trial moved, started or ended; True when a paid period starts now."""
    if "trial_end" not in params:
        return False
    end: Any = params["trial_end"]
    if end == "now":
        was_trialing = subscription["status"] == "trialing"
        if was_trialing:
            subscription |= {"trial_end": now, "status": "active"}
            if not subscription.get("_trial_warned"):
                subscription["_trial_warned"] = True
                world.emit("customer.subscription.trial_will_end", subscription)
        return was_trialing
    subscription |= {"trial_end": end, "billing_cycle_anchor": end, "status": "trialing"}
    subscription.setdefault("trial_start", now)
    subscription.pop("_trial_warned", None)
    for item in items_of(world, subscription):
        item |= {"current_period_start": now, "current_period_end": end}
    return False


def cancel(world: World, params: Params, identifier: str) -> Object:
    """At once; with `prorate` what was not used is credited, with `invoice_now` billed."""
    subscription = world.store.find("subscription", identifier)
    if subscription is None or subscription["status"] in lifecycle.ENDED:
        raise StripeError(404, f"No such subscription: '{identifier}'", param="id", code="resource_missing")
    details = {key: value or None for key, value in inside(params, "cancellation_details").items()}
    subscription["cancellation_details"] = {**subscription["cancellation_details"], **details}
    customer = world.store.get("customer", subscription["customer"])
    if params.get("prorate") and subscription["status"] in ("active", "past_due"):
        credit_unused(world, subscription, customer, _as_they_are(world, subscription))
    if params.get("invoice_now") and invoice_items.pending(world, customer["id"], identifier):
        invoice = bill(world, subscription, customer, [], "subscription_update")
        subscription["latest_invoice"] = invoice["id"]
        invoices.finalize(world, invoice)
        collection.advance(world, invoice)
    lifecycle.end_subscription(world, subscription, "cancellation_requested")
    return subscription


def pause(world: World, params: Params, identifier: str) -> Object:
    """status=paused, from now on."""
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] not in ("active", "trialing", "past_due"):
        raise invalid(f"A subscription with status {subscription['status']} cannot be paused.")
    renewals.pause(world, subscription, "pause_requested", params.get("type", "subscription"))
    renewals.schedule(world, subscription)
    return subscription


def resume(world: World, params: Params, identifier: str) -> Object:
    """Active again: with a new period from now (billed at once), or with the old anchor."""
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] != "paused":
        raise invalid("Only paused subscriptions can be resumed.")
    now = world.now(subscription.get("test_clock"))
    given: Any = params.get("billing_cycle_anchor", "now")
    anchor = given.get("type") if is_hash(given) else given
    ended = any(item["current_period_end"] <= now for item in items_of(world, subscription))
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["status"] = "active"
        subscription.pop("status_details", None)
        if anchor != "unchanged":
            subscription["billing_cycle_anchor"] = now
        if anchor != "unchanged" or ended:
            for item in items_of(world, subscription):
                set_period(world, item, subscription["billing_cycle_anchor"], now)
    world.emit("customer.subscription.resumed", subscription)
    if anchor != "unchanged":
        bill_change(world, subscription, {"proration_behavior": "none"}, ([], True))
    renewals.schedule(world, subscription)
    return subscription


def delete_discount(world: World, params: Params, identifier: str) -> Object:
    subscription = world.store.get("subscription", identifier)
    gone = subscription["discounts"]
    if not gone:
        raise invalid("This subscription has no discount.", code="resource_missing")
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["discounts"] = []
    for discount_id in gone:
        world.emit("customer.discount.deleted", world.store.get("discount", discount_id))
    return deleted("discount", gone[0])


def list_all(world: World, params: Params) -> Object:
    """Without `status` everything that is not over; `all` everything; `ended` what is over."""
    status = params.get("status")
    found = matching(
        world.store.newest_first("subscription"),
        params,
        frozenset({"status", "price", "plan", "current_period_start", "current_period_end", "automatic_tax"}),
    )
    if status is None:
        found = [s for s in found if s["status"] not in lifecycle.ENDED]
    elif status == "ended":
        found = [s for s in found if s["status"] in lifecycle.ENDED]
    elif status != "all":
        found = [s for s in found if s["status"] == status]
    price = params.get("price") or params.get("plan")
    if price:
        found = [s for s in found if any(item["price"] == price for item in items_of(world, s))]
    for key in ("current_period_start", "current_period_end"):
        if key in params:
            found = [s for s in found if matching(items_of(world, s), {key: params[key]})]
    return listed(world, found, params, "/v1/subscriptions")
