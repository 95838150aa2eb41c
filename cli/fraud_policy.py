"""The policy for early fraud warnings, by the risk of their charge: what it may say, for `till` and the dashboard."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from cli.database import Connection, Row, rows

LEVELS = ("highest", "elevated", "normal", "not_assessed", "unknown")


class Field(NamedTuple):
    """A column, its heading for people, and how a value is read from text (ValueError: what it may be)."""

    column: str
    heading: str
    read: Callable[[str], Any]


def switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def _minor_units(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("an amount in minor units (1900 is 19.00), or any")
    return int(text)


def _days(text: str) -> str:
    number = text.removesuffix("d").removesuffix(" days").removesuffix(" day")
    if not number.isdecimal() or int(number) == 0:
        raise ValueError("a number of days, such as 7d")
    return f"{int(number)} days"


# By the names that `till fraud policy --set` has.
FIELDS = {
    "alert": Field("alert", "alert", switch),
    "freeze": Field("freeze_account", "freeze", switch),
    "refund": Field("refund", "refund", switch),
    "refund_max": Field("refund_amount_max", "up to (minor units)", _minor_units),
    "refund_age": Field("refund_age_max", "younger than", _days),
    "cancel": Field("cancel_subscription", "cancel", switch),
}


def policies(conn: Connection) -> Sequence[Row]:
    """What is done at each level, the highest first."""
    found = rows(
        conn,
        "select * from billing.fraud_policies order by array_position(%(levels)s::text[], risk_level)",
        {"levels": list(LEVELS)},
    )
    return [
        {"risk_level": each["risk_level"]} | {field.column: each[field.column] for field in FIELDS.values()}
        for each in found
    ]


def value_text(value: Any) -> str:
    """A field for people: on, 7 days, any, 1,000."""
    match value:
        case bool():
            return "on" if value else "off"
        case timedelta():
            return f"{value.days} days"
        case None:
            return "any"
        case _:
            return f"{value:,}"
