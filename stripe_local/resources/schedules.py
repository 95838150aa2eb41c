"""Subscription schedules: phases that begin at their time, and what becomes of the subscription in the end.

The first invoice of a subscription that a schedule makes is a draft for an hour, like a renewal's.
"""

from collections.abc import Callable

from stripe_local.errors import invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources import lifecycle, renewals, schedule_phases, subscription_changes
from stripe_local.resources.common import in_range, matching
from stripe_local.store import Object
from stripe_local.values import each
from stripe_local.world import World, merge_metadata

EXPIRING_SECONDS = 7 * 86_400
RUNNING = ("not_started", "active")


def create(world: World, params: Params) -> Object:
    """Of a subscription that there is, or of one that the first phase makes."""
    if params.get("from_subscription"):
        return from_subscription(world, params)
    if not params.get("customer"):
        raise malformed("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.store.get("customer", params["customer"], "customer")
    now = world.now(customer.get("test_clock"))
    start = params.get("start_date", "now")
    start = now if start == "now" else int(start)
    if start < now:
        raise invalid("The local Stripe does not backdate subscriptions.", "start_date")
    phases = schedule_phases.read(world, each(params, "phases"), start, now)
    schedule = _store(world, customer, params, phases, "not_started")
    world.emit("subscription_schedule.created", schedule)
    if start <= now:
        _begin(world, schedule)
    else:
        _at(world, schedule, start, lambda: _begin(world, schedule))
    return schedule


def from_subscription(world: World, params: Params) -> Object:
    """A schedule of one phase, the current period, to which others are added by an update."""
    if set(params) - {"from_subscription", "metadata"}:
        raise invalid(
            "You cannot set other parameters when `from_subscription` is set: update the schedule afterwards.",
            "from_subscription",
        )
    subscription = world.store.get("subscription", params["from_subscription"], "from_subscription")
    if subscription["status"] in lifecycle.ENDED:
        raise invalid("You cannot migrate a subscription that is canceled.", "from_subscription")
    if subscription.get("schedule"):
        raise invalid(
            f"You cannot migrate a subscription that is already attached to a schedule: {subscription['schedule']}.",
            "from_subscription",
        )
    customer = world.store.get("customer", subscription["customer"])
    phase = schedule_phases.of_subscription(world, subscription)
    schedule = _store(world, customer, params, [phase], "active")
    schedule |= {"subscription": subscription["id"], "billing_mode": dict(subscription["billing_mode"])}
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["schedule"] = schedule["id"]
    _enter(world, schedule, 0)
    world.emit("subscription_schedule.created", schedule)
    return schedule


def _store(world: World, customer: Object, params: Params, phases: list[Object], status: str) -> Object:
    schedule = world.store.add(
        "subscription_schedule",
        {
            "billing_mode": params.get("billing_mode")
            or {"type": "flexible", "flexible": {"proration_discounts": "included"}},
            "created": world.now(customer.get("test_clock")),
            "customer": customer["id"],
            "default_settings": schedule_phases.settings(params),
            "end_behavior": params.get("end_behavior", "release"),
            "metadata": {},
            "pause_schedules": [],
            "phases": phases,
            "status": status,
            "test_clock": customer.get("test_clock"),
        },
    )
    merge_metadata(schedule, params.get("metadata"))
    return schedule


def _at(world: World, schedule: Object, moment: int, act: Callable[[], None]) -> None:
    """One timer counts: the last that was set."""
    number = schedule["_timer"] = next(world.counter)

    def run() -> None:
        if schedule["_timer"] == number and schedule["status"] in RUNNING:
            act()

    world.schedule(schedule.get("test_clock"), moment, run)


def _begin(world: World, schedule: Object) -> None:
    """The first phase makes the subscription."""
    phase: Object = schedule["phases"][0]
    order = schedule_phases.order(phase, schedule["default_settings"])
    order |= {"customer": schedule["customer"], "billing_mode": schedule["billing_mode"]}
    with world.updating(schedule, "subscription_schedule.updated"):
        subscription = renewals.create(world, order, scheduled_by=schedule["id"])
        schedule |= {"status": "active", "subscription": subscription["id"]}
        _enter(world, schedule, 0)


def _enter(world: World, schedule: Object, number: int) -> None:
    phase: Object = schedule["phases"][number]
    schedule["current_phase"] = {"end_date": phase["end_date"], "start_date": phase["start_date"]}
    subscription = world.store.get("subscription", schedule["subscription"])
    subscription["_phase_ends"] = phase["end_date"]
    renewals.schedule(world, subscription)
    warn_at = schedule["phases"][-1]["end_date"] - EXPIRING_SECONDS
    if warn_at > world.now(schedule.get("test_clock")):
        _at(world, schedule, warn_at, lambda: world.emit("subscription_schedule.expiring", schedule))


def phase_over(world: World, subscription: Object) -> None:
    """The next phase begins; after the last one the schedule ends."""
    schedule = world.store.find("subscription_schedule", subscription.get("schedule"))
    if schedule is None or schedule["status"] != "active":
        subscription.pop("_phase_ends", None)
        return
    phases: list[Object] = schedule["phases"]
    current = _current(schedule)
    if current + 1 < len(phases):
        phase = phases[current + 1]
        with world.updating(schedule, "subscription_schedule.updated"):
            defaults = schedule["default_settings"]
            schedule_phases.apply(world, subscription, phase, defaults, behavior=phase["proration_behavior"])
            _enter(world, schedule, current + 1)
    elif schedule["end_behavior"] == "cancel":
        _finish(world, schedule, subscription, "completed")
        lifecycle.end_subscription(world, subscription, "cancellation_requested")
    else:
        _let_go(world, schedule, subscription, "completed")


def _current(schedule: Object) -> int:
    start = schedule["current_phase"]["start_date"]
    return next(n for n, phase in enumerate(schedule["phases"]) if phase["start_date"] == start)


def _finish(
    world: World, schedule: Object, subscription: Object | None, status: str, event: str | None = None
) -> None:
    if subscription is not None:
        subscription.pop("schedule", None)
        subscription.pop("_phase_ends", None)
    schedule.pop("current_phase", None)
    schedule |= {"status": status, f"{status}_at": world.now(schedule.get("test_clock"))}
    world.emit(f"subscription_schedule.{event or status}", schedule)


def _let_go(world: World, schedule: Object, subscription: Object | None, status: str) -> None:
    """The subscription continues without a schedule."""
    if subscription is not None:
        schedule["released_subscription"] = schedule.pop("subscription")
        with world.updating(subscription, "customer.subscription.updated"):
            subscription.pop("schedule", None)
    _finish(world, schedule, subscription, status)


def update(world: World, params: Params, identifier: str) -> Object:
    """Phases from the current one on are replaced; a change of the current one takes effect at once."""
    schedule = _running(world, identifier, "updated")
    with world.updating(schedule, "subscription_schedule.updated"):
        merge_metadata(schedule, params.get("metadata"))
        if "default_settings" in params:
            schedule["default_settings"] = schedule["default_settings"] | params["default_settings"]
        if "end_behavior" in params:
            schedule["end_behavior"] = params["end_behavior"]
        if "phases" in params:
            _replace(world, schedule, params)
    return schedule


def _replace(world: World, schedule: Object, params: Params) -> None:
    held: list[Object] = schedule["phases"]
    now = world.now(schedule.get("test_clock"))
    if schedule["status"] == "not_started":
        given: list[Params] = each(params, "phases")
        start = given[0].get("start_date", held[0]["start_date"]) if given else 0
        start = now if start == "now" else start
        schedule["phases"] = schedule_phases.read(world, given, start, now)
        _at(world, schedule, start, lambda: _begin(world, schedule))
        return
    current = _current(schedule)
    before = held[current]
    given = [p for p in each(params, "phases") if not _is_past(p, before)]
    phases = schedule_phases.read(world, given, before["start_date"], now)
    if phases[0]["end_date"] <= now:
        raise invalid("The current phase cannot end in the past.", "phases[0][end_date]")
    schedule["phases"] = [*held[:current], *phases]
    subscription = world.store.get("subscription", schedule["subscription"])
    if _content(phases[0]) != _content(before):
        behavior: str = params.get("proration_behavior", "create_prorations")
        schedule_phases.apply(world, subscription, phases[0], schedule["default_settings"], behavior=behavior)
    _enter(world, schedule, current)


def _is_past(given: Params, current: Object) -> bool:
    end = given.get("end_date")
    return isinstance(end, int) and end <= current["start_date"]


def _content(phase: Object) -> Object:
    return {key: value for key, value in phase.items() if key not in ("end_date", "proration_behavior")}


def _running(world: World, identifier: str, what: str) -> Object:
    schedule = world.store.get("subscription_schedule", identifier)
    if schedule["status"] not in RUNNING:
        raise invalid(
            f"Subscription schedule {identifier} is {schedule['status']}: only one that is not_started or active can "
            f"be {what}."
        )
    return schedule


def release(world: World, params: Params, identifier: str) -> Object:
    """The subscription goes on without it."""
    schedule = _running(world, identifier, "released")
    _let_go(world, schedule, world.store.find("subscription", schedule.get("subscription")), "released")
    return schedule


def cancel(world: World, params: Params, identifier: str) -> Object:
    """At once, together with its subscription."""
    schedule = _running(world, identifier, "canceled")
    subscription = world.store.find("subscription", schedule.get("subscription"))
    if subscription is not None and subscription["status"] not in lifecycle.ENDED:
        order = {key: params.get(key, True) for key in ("invoice_now", "prorate")}
        subscription_changes.cancel(world, order, subscription["id"])  # which ends the schedule
    else:
        _finish(world, schedule, None, "canceled")
    return schedule


def subscription_ended(world: World, subscription: Object, reason: str) -> None:
    """The schedule of a subscription that ends otherwise ends too: aborted, where nobody paid."""
    schedule = world.store.find("subscription_schedule", subscription.get("schedule"))
    if schedule is None or schedule["status"] not in RUNNING:
        return
    _finish(world, schedule, None, "canceled", "aborted" if reason == "payment_failed" else None)


def list_all(world: World, params: Params) -> Object:
    """By customer, by times, and those that have not begun."""
    times = ("canceled_at", "completed_at", "released_at")
    found = matching(
        world.store.newest_first("subscription_schedule"), params, frozenset({*times, "scheduled"})
    )
    for key in times:
        if key in params:
            found = [one for one in found if in_range(one.get(key), params[key])]
    if params.get("scheduled"):
        found = [one for one in found if one["status"] == "not_started"]
    return listed(world, found, params, "/v1/subscription_schedules")


lifecycle.ON_END.append(subscription_ended)
renewals.AT_PHASE_END.append(phase_over)
