"""Plans, steps and changes → tables for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from cli.output import err
from cli.tables import print_table
from worker.money import money_text, whole_unit_text

if TYPE_CHECKING:  # Stripe's library and pydantic load slowly: imported only if needed
    from cli.plans.changes import Step
    from cli.plans.database import DatabaseStep
    from cli.plans.sync import Synced

_NAMED_MAX = 5
# Keys of a plan with a column or words of their own below. The others are shown if they differ from the default.
_SHOWN = {
    "initial_credits", "monthly_credits", "trial_credits", "credits_rollover", "trial_days", "seats", "features",
}  # fmt: skip
_STYLES = {
    "create": "green", "change": "yellow", "archive": "red", "withdraw": "red", "same": "dim", "not in file": "dim",
    "new": "green", "changed": "yellow",
}  # fmt: skip


def print_plans(plans: Iterable[Mapping[str, Any]]) -> None:
    """Plans and packs as in the database; those off sale are dim."""
    print_table(
        ("lookup key", "name", "price", "interval", "rollover", "active", "credits", "terms", "features"),
        (
            (
                "" if plan["active"] else "dim",
                (
                    plan["lookup_key"] or plan["stripe_price_id"],
                    " · ".join(filter(None, (plan["product"], plan["nickname"]))),
                    price_text(plan["unit_amount"], plan["currency"]),
                    _interval(plan),
                    plan.get("rollover"),
                    "yes" if plan["active"] else "no",
                    _credits(plan),
                    _terms(plan),
                    _features(plan.get("features")),
                ),
            )
            for plan in plans
        ),
        wrapped=("credits", "terms", "features"),
        numbers=("price",),
    )


def print_steps(planned: "Sequence[Step]") -> None:
    """What a push changes in Stripe."""
    print_table(
        ("in Stripe", "what", "key", "Stripe id", "difference"),
        (
            (
                _STYLES[step.action],
                (
                    step.action,
                    step.kind,
                    step.key,
                    step.stripe_id,
                    "\n".join(_difference(*difference) for difference in step.differences),
                ),
            )
            for step in planned
        ),
        wrapped=("difference",),
    )


def print_database_steps(planned: "Sequence[DatabaseStep]") -> None:
    """What a push changes in the database alone."""
    if planned:
        print_table(
            ("in the database", "what", "key", "difference"),
            (
                (
                    _STYLES[step.action],
                    (
                        step.action,
                        step.kind,
                        step.key,
                        "\n".join(_difference(*difference) for difference in step.differences),
                    ),
                )
                for step in planned
            ),
            wrapped=("difference",),
        )


def print_changes(result: "Synced") -> None:
    """What a sync changed, on stdout; errors, and what Stripe does not have, on stderr."""
    if result.changes:
        print_table(
            ("here", "what", "key", "Stripe id", "difference"),
            (
                (
                    _STYLES[change["change"]],
                    (
                        change["change"],
                        change["kind"],
                        change["lookup_key"],
                        change["stripe_id"],
                        _what_changed(change),
                    ),
                )
                for change in result.changes
            ),
            wrapped=("difference",),
        )
    for refused in result.refused:
        named = " ".join(filter(None, (refused["stripe_id"], refused["lookup_key"])))
        told = escape(f"{named}: {refused['reason']}")
        err.print(
            f"[bold red]refused:[/] {told}",
            highlight=False,
            soft_wrap=True,
        )
    if result.deleted:
        err.print(
            f"deleted in Stripe, so off sale for good: {len(result.deleted):,} ({_some(result.deleted)})",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip
    if result.missing:
        err.print(
            f"in the database and not in this Stripe account: {len(result.missing):,} ({_some(result.missing)})",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED_MAX]) + (", …" if len(names) > _NAMED_MAX else "")


def price_text(unit_amount: int | None, currency: str) -> str:
    """1900 usd → 19.00 usd; a price with tiers or parts of a cent has no single amount."""
    if unit_amount is None:
        return f"varies {currency}"
    return money_text(unit_amount, currency)


def _what_changed(change: Mapping[str, Any]) -> str:
    now: Mapping[str, Any] = change["now"]
    if change["change"] == "new" and change["kind"] == "product":
        return now["name"]
    if change["change"] == "new":
        price = price_text(now["unit_amount"], now["currency"])
        price += f" / {_interval(now)}" if "recurring_interval" in now else ""
        return " · ".join(filter(None, (price, _credits(now))))
    return "\n".join(
        _difference(name, _text(before), _text(after))
        for name, (before, after) in change["differences"].items()
    )


def _difference(name: str, before: str | None, after: str | None) -> str:
    return f"{name}: {after}" if before is None else f"{name}: {before} → {after or 'nothing'}"


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _interval(plan: Mapping[str, Any]) -> str:
    interval, count = plan.get("recurring_interval"), plan.get("recurring_interval_count")
    return "once" if interval is None else interval if count == 1 else f"{count} {interval}s"


def _credits(plan: Mapping[str, Any]) -> str:
    parts = (("initial_credits", "at first"), ("monthly_credits", "a month"), ("trial_credits", "in trial"))
    if plan.get("pack_credits") is not None:
        return f"{plan['pack_credits']:,}"
    if plan.get("credits_per_unit") is not None:
        return f"{plan['credits_per_unit']:,} per {whole_unit_text(plan['currency'])}"
    return ", ".join(f"{plan[key]:,} {when}" for key, when in parts if plan[key])


def _terms(plan: Mapping[str, Any]) -> str:
    if plan["kind"] == "pack":
        return f"expires after {plan['expires_after']}" if plan["expires_after"] else ""
    from cli.plans.file import PLAN_COLUMNS, PLAN_METADATA

    least, most = plan["seats_min"], plan["seats_max"]
    seats = f"{least} seats" if least == most else f"{least} to {most} seats"
    return ", ".join(
        [
            *([f"{plan['trial_days']} days of trial"] if plan["trial_days"] else []),
            *([seats] if most is not None else []),
            *(
                f"{key}: {plan[column]}"
                for key, column in PLAN_COLUMNS.items()
                if key not in _SHOWN and plan[column] is not None and str(plan[column]) != PLAN_METADATA[key]
            ),
        ]
    )


def _features(features: Mapping[str, Any] | None) -> str:
    granted = {name: value for name, value in (features or {}).items() if value not in (None, False, 0)}
    return ", ".join(name if value is True else f"{name} {_text(value)}" for name, value in granted.items())
