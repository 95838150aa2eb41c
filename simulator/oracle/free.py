"""Free credits without a subscription: rules → when an account gets which.

Once, or once for each calendar day, week or month in UTC: when the user signs up (or confirms the address, where a rule
asks for a person), then when a period begins. While an account is subscribed, a rule that ends with a subscription
grants nothing, and is looked at again each midnight. Of a rule for each person another account has the credits of a
user who signs up again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.oracle.facts import DAY, Facts, FreeRule, months_after
from simulator.oracle.spends import period_start

SUBSCRIBED = ("active", "trialing", "past_due")


@dataclass(frozen=True)
class Grant:
    at: int
    rule: FreeRule
    expires_at: int | None


def grants(facts: Facts, until: int) -> Iterator[Grant]:
    """In the order of time for each rule."""
    for rule in facts.free_rules:
        yield from _of_rule(facts, rule, until)


def _of_rule(facts: Facts, rule: FreeRule, until: int) -> Iterator[Grant]:
    user = facts.user
    begins = user.confirmed_at if rule.once_per_person else user.signed_up_at
    if begins is None or (rule.once_per_person and user.is_somebody_known):
        return
    moment = begins
    while moment <= until:
        due_at = midnight_after(moment)
        if not (rule.until_subscribed and _is_subscribed(facts, moment)):
            yield Grant(moment, rule, _expiry(rule, moment))
            if rule.every == "once":
                return
            due_at = _next_period(rule.every, moment)
        elif user.confirmed_at is not None and moment < user.confirmed_at < due_at:
            due_at = user.confirmed_at
        moment = due_at


def midnight_after(moment: int) -> int:
    return moment - moment % DAY + DAY


def _next_period(every: str, moment: int) -> int:
    start = period_start(every, moment)
    return months_after(start, 1) if every == "month" else start + {"day": 1, "week": 7}[every] * DAY


def _is_subscribed(facts: Facts, moment: int) -> bool:
    """As of just before: what happens at midnight is not known at midnight."""
    return any(
        subscription.states[0].since < moment and subscription.at(moment - 1).status in SUBSCRIBED
        for subscription in facts.subscriptions.values()
    )


def _expiry(rule: FreeRule, at: int) -> int | None:
    if rule.expires == "never":
        return None
    if rule.expires == "period_end":
        return _next_period(rule.every, at)
    number, unit = rule.expires.split()
    if unit.startswith(("day", "week")):
        return at + int(number) * DAY * (7 if unit.startswith("week") else 1)
    return months_after(at, int(number) * (12 if unit.startswith("year") else 1))
