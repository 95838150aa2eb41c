"""Decoded strings and the parameter tree of an operation → typed values, or the error Stripe gives for them."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from stripe_local.api_spec import PARAMS
from stripe_local.errors import InvalidParameter, malformed, missing_parameter, unknown_parameter
from stripe_local.values import is_array, is_hash

Params = dict[str, Any]

MAX_STRING_LENGTH = 5_000
MAX_METADATA_KEYS = 50
MAX_METADATA_KEY_LENGTH = 40
MAX_METADATA_VALUE_LENGTH = 500
LARGEST_INTEGER = 2**53

_INTEGER = re.compile(r"-?\d{1,18}\Z")


def typed(spec: str | None, given: dict[str, Any], also: frozenset[str] = frozenset()) -> Params:
    """Values by the types of the parameter tree `spec`; `also` names further parameters that older versions take."""
    known = PARAMS.get(spec or "", {})
    result = _fields(known, {key: value for key, value in given.items() if key not in also}, "")
    for key in also & given.keys():
        result[key] = _untyped(given[key])
    return result


def _fields(known: dict[str, list[Any]], given: dict[str, Any], prefix: str) -> Params:
    values: Params = {}
    for key, value in given.items():
        name = f"{prefix}[{key}]" if prefix else key
        if key not in known and not (not prefix and key == "expand"):
            raise unknown_parameter(name)
        kind = known[key][0] if key in known else {"array": "string"}
        values[key] = _value(kind, value, name)
    for key, field in known.items():
        if len(field) > 1 and key not in given:
            raise missing_parameter(f"{prefix}[{key}]" if prefix else key)
    return values


def _value(kind: Any, value: Any, name: str) -> Any:
    if is_hash(kind):
        return _structured(kind, value, name)
    if kind == "any":
        return _untyped(value)
    if not isinstance(value, str):
        raise malformed(f"Invalid {kind if isinstance(kind, str) else 'string'}: {_shown(value)}", name)
    if is_array(kind):
        return _choice(kind, value, name)
    return _SCALARS[kind](value, name)


def _structured(kind: dict[str, Any], value: Any, name: str) -> Any:
    (form, inner), *_ = kind.items()
    if form == "either":
        return _either(inner, value, name)
    if form == "array":
        return [
            _value(inner, element, f"{name}[{index}]") for index, element in enumerate(_elements(value, name))
        ]
    if not is_hash(value):
        raise malformed("Invalid object", name)
    table: dict[str, Any] = value
    if form == "object":
        return _fields(PARAMS[inner], table, name)
    if name.endswith("metadata"):
        _check_metadata(table, name)
    return {key: _map_value(inner, element, f"{name}[{key}]") for key, element in table.items()}


def _map_value(kind: Any, value: Any, name: str) -> Any:
    """In a map an empty string is a value: in `metadata` it removes the key."""
    return "" if value == "" and kind == "string" else _value(kind, value, name)


def _elements(value: Any, name: str) -> list[Any]:
    if is_array(value):
        return list(value)
    if is_hash(value):
        table: dict[str, Any] = value
        if all(key.isdecimal() and len(key) < 9 for key in table):
            return [table[key] for key in sorted(table, key=int)]
    raise malformed("Invalid array", name)


def _either(kinds: list[Any], value: Any, name: str) -> Any:
    """The first alternative that fits; the complaint of the last one that could have been meant."""
    if value == "" and any(is_array(kind) and "" in kind for kind in kinds):
        return ""
    complaint: InvalidParameter | None = None
    for kind in kinds:
        if kind == [""] or is_hash(kind) != isinstance(value, dict | list):
            continue
        try:
            return _value(kind, value, name)
        except InvalidParameter as error:
            complaint = error
    raise complaint or malformed(f"Invalid value: {_shown(value)}", name)


def _choice(choices: list[Any], value: str, name: str) -> Any:
    if value in choices:
        return value
    for choice in choices:
        if isinstance(choice, bool | int) and value == str(choice).lower():
            return choice
    shown = [str(choice) for choice in choices if choice != ""] or ["empty"]
    listed = shown[0] if len(shown) == 1 else f"one of {', '.join(shown[:-1])}, or {shown[-1]}"
    raise malformed(f"Invalid {name}: must be {listed}", name)


def _string(value: str, name: str) -> str:
    if value == "":
        raise malformed(
            f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty "
            "value.",
            name,
            "parameter_invalid_empty",
        )
    if len(value) > MAX_STRING_LENGTH:
        raise malformed(f"Invalid string: {value[:10]}…{value[-5:]}; must be at most 5000 characters", name)
    return value


def _integer(value: str, name: str) -> int:
    if not _INTEGER.match(value) or not value.isascii() or abs(int(value)) > LARGEST_INTEGER:
        raise malformed(f"Invalid integer: {value[:100]}", name, "parameter_invalid_integer")
    return int(value)


def _decimal(value: str, name: str) -> str:
    try:
        number = Decimal(value) if value.isascii() and len(value) < 40 and "_" not in value else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number.adjusted()) > 15:
        raise malformed(f"Invalid decimal: {value[:100]}", name)
    return f"{number:f}"


def _number(value: str, name: str) -> float:
    return float(_decimal(value, name))


def _boolean(value: str, name: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise malformed(f"Invalid boolean: {value[:100]}", name)
    return value.lower() in ("true", "1")


_SCALARS = {
    "string": _string,
    "integer": _integer,
    "decimal": _decimal,
    "number": _number,
    "boolean": _boolean,
}


def _check_metadata(table: dict[str, Any], name: str) -> None:
    if len(table) > MAX_METADATA_KEYS:
        raise malformed(f"You can only have up to {MAX_METADATA_KEYS} metadata keys.", name)
    for key, value in table.items():
        if len(key) > MAX_METADATA_KEY_LENGTH:
            raise malformed(
                f"Metadata keys must have at most {MAX_METADATA_KEY_LENGTH} characters; '{key[:50]}' has {len(key)}.",
                name,
            )
        if isinstance(value, str) and len(value) > MAX_METADATA_VALUE_LENGTH:
            raise malformed(
                f"Metadata values must have at most {MAX_METADATA_VALUE_LENGTH} characters; '{key}' has {len(value)}.",
                f"{name}[{key}]",
            )


def _untyped(value: Any) -> Any:
    """Unconverted strings; a hash with the keys 0, 1, 2 … is an array."""
    if is_hash(value):
        table: dict[str, Any] = value
        if table and all(key.isdecimal() for key in table):
            return [_untyped(element) for element in table.values()]
        return {key: _untyped(element) for key, element in table.items()}
    return value


def _shown(value: Any) -> str:
    return str(value)[:100]
