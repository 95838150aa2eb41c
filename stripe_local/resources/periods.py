"""Billing periods, always counted from the anchor: 31 January → 28 February → 31 March."""

import calendar
from datetime import UTC, datetime

SECONDS = {"day": 86_400, "week": 7 * 86_400}
MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, number: int) -> int:
    """The anchor moved by `number` intervals; a day the month doesn't have becomes its last day."""
    if interval in SECONDS:
        return anchor + number * count * SECONDS[interval]
    at = datetime.fromtimestamp(anchor, UTC)
    months = at.year * 12 + at.month - 1 + number * count * MONTHS[interval]
    year, month = divmod(months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return int(at.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> tuple[int, int]:
    """The period (start, end) with start ≤ moment < end."""
    average = boundary(anchor, interval, count, 1) - anchor
    number = (moment - anchor) // average
    while boundary(anchor, interval, count, number) > moment:
        number -= 1
    while boundary(anchor, interval, count, number + 1) <= moment:
        number += 1
    return boundary(anchor, interval, count, number), boundary(anchor, interval, count, number + 1)


def months_later(start: int, months: int) -> int:
    return boundary(start, "month", 1, months)
