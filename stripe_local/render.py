"""A stored object → what Stripe sends: nulls filled in, own keys left out, ids expanded where asked."""

from collections.abc import Callable
from typing import Any

from stripe_local.api_spec import SHAPES
from stripe_local.errors import malformed, no_such
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import is_array, is_hash

MAX_EXPAND_DEPTH = 4

# Fields that hold an id, and of what.
EXPANDABLE = {
    "balance_transaction": "balance_transaction",
    "charge": "charge",
    "configuration": "billing_portal.configuration",
    "coupon": "coupon",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "default_price": "price",
    "discounts": "discount",
    "invoice": "invoice",
    "latest_charge": "charge",
    "latest_invoice": "invoice",
    "payment_intent": "payment_intent",
    "payment_link": "payment_link",
    "payment_method": "payment_method",
    "pending_setup_intent": "setup_intent",
    "price": "price",
    "product": "product",
    "refund": "refund",
    "promotion_code": "promotion_code",
    "review": "review",
    "released_subscription": "subscription",
    "schedule": "subscription_schedule",
    "setup_intent": "setup_intent",
    "subscription": "subscription",
    "test_clock": "test_helpers.test_clock",
}


# A shape made ready: (all its nulls, the shapes of nested hashes).
Ready = tuple[dict[str, Any], dict[str, Any]]


def _ready(shape: dict[str, Any]) -> Ready:
    inner: dict[str, dict[str, Any]] = shape.get("in", {})
    return dict.fromkeys(shape.get("null", ())), {key: _ready(nested) for key, nested in inner.items()}


_READY = {kind: _ready(shape) for kind, shape in SHAPES.items()}
_BARE: Ready = ({}, {})
_type_of: Any = type
_HASH: Any = dict
_ARRAY: Any = list


def complete(kind: str, stored: Object) -> Object:
    """Every key the API version promises. Nested API objects are completed by their own shape."""
    return _filled(_READY.get(kind, _BARE), stored)


def _filled(shape: Ready, value: dict[str, Any]) -> dict[str, Any]:
    """A fresh hash. `type() is` rather than isinstance: a busy year comes through here a million times."""
    nulls, nested = shape
    full = nulls.copy()
    for key, element in value.items():
        if key[0] == "_":
            continue
        kind = _type_of(element)
        if kind is _HASH:
            full[key] = _filled_hash(nested.get(key, _BARE), element)
        elif kind is _ARRAY:
            inner = nested.get(key, _BARE)
            full[key] = _each_filled(inner, element)
        else:
            full[key] = element
    return full


def _each_filled(shape: Ready, elements: list[Any]) -> list[Any]:
    return [_filled_hash(shape, element) if type(element) is _HASH else element for element in elements]


def _filled_hash(shape: Ready, value: dict[str, Any]) -> dict[str, Any]:
    kind = value.get("object")
    if kind is None:
        return _filled(shape, value)
    if kind == "list" and "data" in value:
        return value | {"data": [_filled_hash(_BARE, element) for element in value["data"]]}
    return _filled(_READY.get(kind, shape), value)


def page(objects: list[Object], url: str, has_more: bool = False) -> Object:
    """A list object."""
    return {"object": "list", "data": objects, "has_more": has_more, "url": url}


Includable = Callable[[State, Object], Any]
# (kind, key) → what is there only when asked for
INCLUDABLE: dict[tuple[str, str], Includable] = {}


def expand(state: State, answer: Object, paths: list[str]) -> Object:
    """Replace ids by objects along each path, as `expand[]=data.customer` asks."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > MAX_EXPAND_DEPTH:
            raise malformed(
                f"You cannot expand more than {MAX_EXPAND_DEPTH} levels of a property (property: {path[:100]}).",
                "expand",
            )
        if answer.get("object") == "list" and parts[0] != "data":
            raise malformed(
                f"This property cannot be expanded ({parts[0][:100]}). You may want to try expanding "
                f"'data.{parts[0][:100]}' instead.",
                "expand",
            )
        _expand(state, answer, parts, path)
    return answer


def _expand(state: State, node: Any, parts: list[str], path: str) -> None:
    if is_array(node):
        elements: list[Any] = node
        for element in elements:
            _expand(state, element, parts, path)
        return
    if not is_hash(node) or not parts:
        return
    table: dict[str, Any] = node
    key, rest = parts[0], parts[1:]
    include = INCLUDABLE.get((table.get("object", ""), key))
    if include is not None and not table.get(key):
        table[key] = include(state, table)
    elif key in EXPANDABLE:
        table[key] = _expanded(state, EXPANDABLE[key], table.get(key))
    elif not isinstance(table.get(key), dict | list) and (not rest or key not in table):
        raise malformed(f"This property cannot be expanded ({path[:100]}).", "expand")
    _expand(state, table.get(key), rest, path)


def _expanded(state: State, kind: str, value: Any) -> Any:
    if isinstance(value, str):
        found = state.store.find(kind, value)
        return render(state, found) if found is not None else value
    if is_array(value):
        elements: list[Any] = value
        return [_expanded(state, kind, element) for element in elements]
    return value


# kind → what is worked out only when the object is shown
DERIVED: dict[str, Callable[[State, Object], Object]] = {}


def render(state: State, stored: Object) -> Object:
    """The object in the current API version. A fresh value: the caller may change its top level."""
    kind: str = stored["object"]
    derive = DERIVED.get(kind)
    return complete(kind, stored if derive is None else stored | derive(state, stored))


def listed(state: State, stored: list[Object], params: dict[str, Any], url: str) -> Object:
    """One page of objects that are in the order to be shown: limit, starting_after, ending_before."""
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        bound = "less than or equal to 100" if limit > 100 else "greater than or equal to 1"
        raise malformed(
            f"This value must be {bound} (limit currently {limit}).", "limit", "parameter_invalid_integer"
        )
    if "starting_after" in params and "ending_before" in params:
        raise malformed("You cannot parameterize both starting_after and ending_before.", "ending_before")
    ids = [element["id"] for element in stored]
    if "ending_before" in params:
        end = _position(ids, params["ending_before"], "ending_before")
        start = max(0, end - limit)
        return page([render(state, o) for o in stored[start:end]], url, start > 0)
    start = (
        _position(ids, params["starting_after"], "starting_after") + 1 if "starting_after" in params else 0
    )
    return page([render(state, o) for o in stored[start : start + limit]], url, len(stored) > start + limit)


def _position(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise no_such("object", cursor, param)
    return ids.index(cursor)
