"""Parameters of a subscription → its payment method, trial, anchor and planned end."""

import calendar
from datetime import UTC, datetime

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.resources import lifecycle, payment_methods
from stripe_local.resources.customers import default_payment_method
from stripe_local.resources.periods import boundary
from stripe_local.resources.subscription_items import price_of
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.world import World, put

DAY = 86_400


def items_of(state: State, subscription: Object) -> list[Object]:
    found = (state.store.find("subscription_item", item) for item in subscription["_items"])
    return [item for item in found if item is not None]


def method_of(world: World, customer: Object, params: Params) -> Object | None:
    identifier = params.get("default_payment_method")
    if not identifier:
        return default_payment_method(world, customer)
    method = payment_methods.resolve(world, identifier, "default_payment_method")
    if method.get("customer") not in (None, customer["id"]) or (
        method.get("customer") is None and method["id"] == identifier
    ):
        raise invalid(
            f"The customer does not have a payment method with the ID {identifier}. The payment method must be "
            "attached to the customer.",
            "default_payment_method",
            "resource_missing",
        )
    return payment_methods.attach_to(world, method, customer["id"])


def trial_end_of(world: World, params: Params, now: int) -> int | None:
    given = params.get("trial_end")
    if isinstance(given, int):
        if given <= now:
            raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
        return given
    days: int = params.get("trial_period_days", 0)
    if given != "now" and days < 0:
        raise invalid("This value must be greater than or equal to 0.", "trial_period_days")
    if not 0 <= days <= 1826:
        raise invalid("Trials can have at most 1826 days.", "trial_period_days")
    return now + days * DAY if days and given != "now" else None


def anchor_of(world: World, params: Params, items: list[Object], trial_end: int | None, now: int) -> int:
    given = params.get("billing_cycle_anchor")
    if params.get("billing_cycle_anchor_config"):
        if given is not None:
            raise invalid(
                "You may only specify one of these parameters: billing_cycle_anchor, billing_cycle_anchor_config.",
                "billing_cycle_anchor_config",
            )
        return _configured(params["billing_cycle_anchor_config"], trial_end or now)
    if trial_end is not None and given is None:
        return trial_end
    if given is None:
        return params.get("backdate_start_date", now)
    first = price_of(world, items[0])["recurring"]
    if given < now:
        raise invalid("billing_cycle_anchor cannot be earlier than now.", "billing_cycle_anchor")
    if given > boundary(now, first["interval"], first["interval_count"], 1):
        raise invalid(
            "billing_cycle_anchor cannot be later than next natural billing date.", "billing_cycle_anchor"
        )
    return given


def _configured(config: Params, since: int) -> int:
    """The next moment that has this day of the month (or its last day), and the time of day that is given."""
    limits = {
        "day_of_month": (1, 31),
        "month": (1, 12),
        "hour": (0, 23),
        "minute": (0, 59),
        "second": (0, 59),
    }
    for key, (least, most) in limits.items():
        if not least <= config.get(key, least) <= most:
            raise invalid(
                f"Invalid {key}: must be between {least} and {most}", f"billing_cycle_anchor_config[{key}]"
            )
    start = datetime.fromtimestamp(since, UTC)
    time_of_day = {key: config[key] for key in ("hour", "minute", "second") if key in config}
    for ahead in range(14):
        year, month = divmod(start.year * 12 + start.month - 1 + ahead, 12)
        day = min(config["day_of_month"], calendar.monthrange(year, month + 1)[1])
        found = start.replace(year=year, month=month + 1, day=day, **time_of_day)
        if found >= start and config.get("month", month + 1) == month + 1:
            return int(found.timestamp())
    raise AssertionError("every month comes within a year")


def set_cancellation(world: World, subscription: Object, params: Params) -> None:
    """`cancel_at_period_end` and `cancel_at`, set or taken back."""
    now = world.now(subscription.get("test_clock"))
    if "cancel_at" in params:
        at = params["cancel_at"]
        ends = [
            item["current_period_end"]
            for item in items_of(world, subscription)
            if "current_period_end" in item
        ]
        if isinstance(at, str) and at and ends:
            at = max(ends) if at == "max_period_end" else min(ends)
        if isinstance(at, int) and at <= now:
            raise invalid("cancel_at must be in the future.", "cancel_at")
        put(subscription, {"cancel_at": at}, "cancel_at")
        subscription["cancel_at_period_end"] = False
    if "cancel_at_period_end" in params:
        wanted: bool = params["cancel_at_period_end"]
        if wanted != subscription["cancel_at_period_end"]:
            subscription["cancel_at_period_end"] = wanted
            subscription.pop("cancel_at", None)
            ends = [
                i["current_period_end"] for i in items_of(world, subscription) if "current_period_end" in i
            ]
            if wanted and ends:
                subscription["cancel_at"] = min(ends)
    scheduled = subscription["cancel_at_period_end"] or "cancel_at" in subscription
    if scheduled and "canceled_at" not in subscription:
        subscription["canceled_at"] = now
        subscription["cancellation_details"] = {
            **subscription["cancellation_details"],
            "reason": "cancellation_requested",
        }
    elif not scheduled and subscription["status"] not in lifecycle.ENDED:
        subscription.pop("canceled_at", None)
        if subscription["cancellation_details"].get("reason") == "cancellation_requested":
            subscription["cancellation_details"] = {}
