"""What a value in a plan file may be: each rule says what is wrong in its own words.

What is refused here is what Stripe, or `billing.sync_price`, would refuse; tests compare the two.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

METADATA_VALUE_LENGTH_MAX = 500  # Stripe's
LOOKUP_KEY_LENGTH_MAX = 200  # Stripe's
TEXT_LENGTH_MAX = 5_000  # Stripe's
CREDITS_MAX = 10**18 - 1
TRIAL_DAYS_MAX = 730
UNIT_AMOUNT_MAX = 999_999_999_999
MINOR_UNITS = "minor units (1900 is 19.00)"
INTERVAL_COUNT_MAX = {"day": 1095, "week": 156, "month": 36, "year": 3}  # three years

SEATS = re.compile(r"any|([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?")
ROLLOVER = re.compile(r"none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15}")
RATE_MAX = 10**12
RATE_PLACES_MAX = 12
MARKUP_MIN, MARKUP_MAX, MARKUP_PLACES_MAX = -100, 1_000_000, 6
PER_MAX = 10**9
OPERATION_LENGTH_MAX = 200
UNIT_LENGTH_MAX = 100
LIMIT_MAX = 10**15  # of credits in a limit or a minimum
SHORT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
FREE_EXPIRES = re.compile(r"period_end|never|[1-9][0-9]{0,3} (day|week|month|year)s?")
DESCRIPTION_LENGTH_MAX = 200
EXPIRES_AFTER = re.compile(r"[1-9][0-9]{0,3} (day|month|year)s?")
CREDITS_PER_UNIT = re.compile(r"[0-9]{1,12}([.][0-9]{1,6})?")

Interval = Literal["day", "week", "month", "year"]


class Column(str):
    """The column of billing.plans that keeps what a key says, where its name is another."""

    __slots__ = ()


def wrong(what: str) -> PydanticCustomError:
    """What is wrong with a value, in our own words."""
    return PydanticCustomError("wrong", "{what}", {"what": what})


def _is_not(value: object, allowed: str) -> PydanticCustomError:
    return wrong(f"is {_shown(value)}, not {allowed}")


def _shown(value: object) -> str:
    match value:
        case bool() | str():
            return json.dumps(value[:40] if isinstance(value, str) else value, ensure_ascii=False)
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date"


def _only(allowed: str) -> WrapValidator:
    """Whatever the type beneath refuses is reported as "is …, not {allowed}"."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise _is_not(value, allowed) from None

    return WrapValidator(check)


def one_of(literal: object) -> WrapValidator:
    """One of the values of a Literal."""
    return _only(f"one of {', '.join(get_args(literal))}")


def matching(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    """A text that matches as a whole."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise _is_not(text, allowed)
        return text

    return AfterValidator(check)


def _storable(text: str) -> str:
    if not text.strip():
        raise wrong("is empty")
    if "\0" in text:
        raise wrong("holds a NUL character, which Postgres cannot store")
    if len(text) > TEXT_LENGTH_MAX:
        raise wrong(f"has {len(text)} characters; Stripe takes {TEXT_LENGTH_MAX}")
    return text


def name(length: int) -> AfterValidator:
    """The name of a table."""

    def check(name: str) -> str:
        if not name.strip() or not name.isprintable():
            raise wrong("is not a name: use letters, digits, _ and -")
        if len(name) > length:
            raise wrong(f"has {len(name)} characters; Stripe takes {length}")
        return name

    return AfterValidator(check)


def is_no_plan(key: str, info: ValidationInfo) -> str:
    """A lookup key that no plan has. The context names the plans."""
    if key in (info.context or {})["plans"]:
        raise wrong("is a plan too: a lookup key names one price")
    return key


def is_declared(product: str, info: ValidationInfo) -> str:
    """A product of the file. The context names them."""
    if product not in (info.context or {})["products"]:
        raise wrong(f"there is no [products.{product}]")
    return product


def is_pack(pack: str, info: ValidationInfo) -> str:
    """A pack of the file. The context names them."""
    if pack not in (info.context or {})["packs"]:
        raise wrong(f"there is no [packs.{pack}]")
    return pack


def can_bill(pack: Mapping[str, Any], currency: str) -> bool:
    """Whether a pack, as the file has it, has a fixed price above 0 in a currency. Its other mistakes are its own."""
    return pack.get("unit_amount", 0) != 0 and pack.get("currency") == currency


def table(value: object, info: ValidationInfo) -> object:
    """A table with a name, or a section of such tables."""
    if not isinstance(value, dict):
        raise wrong(f"is {_shown(value)}; write [{info.field_name}.<name>]")
    return cast("object", value)


def custom_table(value: object) -> object:
    """The limits of an amount that the customer chooses."""
    if not isinstance(value, dict):
        raise _is_not(value, "a table such as { minimum = 500, preset = 2000 }")
    return cast("object", value)


def _checked(value: object, least: int, most: int, unit: str) -> object:
    if type(value) is not int or not least <= value <= most:
        raise _is_not(value, f"a whole number of {unit} from {least} to {most}")
    return value


def whole(least: int, most: int, unit: str) -> BeforeValidator:
    """A whole number within these bounds."""
    return BeforeValidator(partial(_checked, least=least, most=most, unit=unit))


def fits_interval(count: object, info: ValidationInfo) -> object:
    """A number of intervals that Stripe takes: three years at most."""
    interval = info.data.get("interval", "day")
    return _checked(count, 1, INTERVAL_COUNT_MAX[interval], f"{interval}s")


def per_unit_text(value: object) -> str:
    """Credits for a whole unit of money, as the database reads them."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = format(Decimal(repr(value)), "f") if is_number else ""
    if not CREDITS_PER_UNIT.fullmatch(text) or Decimal(text) == 0:
        raise _is_not(value, "a number above 0 with at most 6 decimal places")
    return text


def decimal(least: int, most: int, places: int) -> BeforeValidator:
    """A number within these bounds, exactly as it is written."""

    def check(value: object) -> Decimal:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        number = Decimal(repr(value)) if is_number else Decimal("NaN")
        exponent = number.as_tuple().exponent
        if not (isinstance(exponent, int) and exponent >= -places and least <= number <= most):
            raise _is_not(value, f"a number from {least} to {most} with at most {places} decimal places")
        return number

    return BeforeValidator(check)


def short_name(name: str) -> str:
    """What a rate is for, or the name of a rule, which is part of the keys of its grants."""
    if not SHORT_NAME.fullmatch(name):
        raise wrong("is not a name: use lower-case letters, digits and _, at most 63 characters")
    return name


def rate_table(value: object) -> object:
    """A rate; a number alone is credits for one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"credits": value}
    if not isinstance(value, dict):
        raise _is_not(value, 'a number or a table such as { credits = 0.3, per = 1000, unit = "tokens" }')
    return cast("object", value)


def rates_table(value: object) -> object:
    """The rates of an operation."""
    if not isinstance(value, dict):
        raise _is_not(value, "a table of rates such as { input = 0.3, output = 1.2 }")
    found = cast("dict[object, object]", value)
    if not found:
        raise wrong("is empty: write a rate such as call = 1")
    return found


def moment(value: object) -> datetime:
    """A date or a time, in UTC where it names no offset."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise _is_not(value, "a date or a time such as 2027-01-31 or 2027-01-31T12:00:00Z")


def seats_text(value: object) -> str:
    """How many seats are sold, as the database reads it."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    read = SEATS.fullmatch(text)
    if read is None or (read[2] and int(read[2]) < int(read[1])):
        raise _is_not(value, '"any", a number such as 5 or a range such as "2-50"')
    return text


def features_text(value: object) -> str:
    """A table as JSON that fits into Stripe's metadata."""
    if not isinstance(value, dict):
        raise _is_not(value, "a table such as { projects = true }")
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        raise wrong("holds a date, nan or inf, which JSON does not have") from None
    if "\0" in text or "\\u0000" in text:
        raise wrong("holds a NUL character, which Postgres cannot store")
    if len(text) > METADATA_VALUE_LENGTH_MAX:
        room = f"Stripe's metadata has room for {METADATA_VALUE_LENGTH_MAX}"
        raise wrong(f"takes {len(text)} characters as JSON; {room}")
    return text


Text = Annotated[str, _only("text"), AfterValidator(_storable)]
Flag = Annotated[bool, _only("true or false")]
Credits = Annotated[int, whole(0, CREDITS_MAX, "credits")]
Amount = Annotated[int, whole(0, UNIT_AMOUNT_MAX, MINOR_UNITS)]
AmountAboveZero = Annotated[int, whole(1, UNIT_AMOUNT_MAX, MINOR_UNITS)]
Currency = Annotated[
    Text, AfterValidator(str.lower), matching(re.compile("[a-z]{3}"), 'a three-letter code such as "usd"')
]
Rate = Annotated[Decimal, decimal(0, RATE_MAX, RATE_PLACES_MAX)]
Markup = Annotated[Decimal, decimal(MARKUP_MIN, MARKUP_MAX, MARKUP_PLACES_MAX)]
Moment = Annotated[datetime, BeforeValidator(moment)]
Rounding = Literal["up", "half_up", "down"]
OnExcess = Literal["debt", "clip", "refuse"]
Every = Literal["once", "day", "week", "month"]
OnProration = Literal["delta", "full", "none"]
OnDowngrade = Literal["take_back", "keep"]
OnCancel = Literal["period_end", "stop"]
TrialCreditsEnd = Literal["trial_end", "keep"]
