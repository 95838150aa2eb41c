"""A JSON body → the same body with a few places changed into what nobody expects there."""

import copy
from typing import Any

from hypothesis import strategies as st

_DEEP: Any = []
for _ in range(500):
    _DEEP = [_DEEP]

# Values of every JSON type, at the edges of what JSON, Python, Postgres and JavaScript can hold.
WICKED: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**40, 1.5, -0.0, 1e308,
    "", " ", "0", "-1", "1e9", "null", "x" * 5000, "ü漢😀", "\u202e", "a\nb", "'; drop table billing.accounts; --",
    "{}", "cus_1", "../..", [], [None], [[]], [{}], {}, {"id": None}, {"data": []}, {"id": "x", "object": "x"},
    {"data": [None], "has_more": False}, {"data": [], "has_more": True}, {"": ""}, _DEEP,
]  # fmt: skip

Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> list[Path]:
    """Every place in a body, outermost first."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, child in value.items():
            found += paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found += paths(child, (*path, index))
    return found


@st.composite
def mutated(draw: st.DrawFn, body: dict[str, Any], changes_max: int = 3) -> dict[str, Any]:
    """The body with one to three places replaced, removed, doubled, or swapped with another place."""
    changed = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, changes_max))):
        places = paths(changed)
        if not places:
            break
        path = draw(st.sampled_from(places))
        place = _at(changed, path[:-1])
        key = path[-1]
        match draw(st.sampled_from(["replace", "remove", "double", "swap"])):
            case "remove":
                del place[key]
            case "double" if isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
            case "swap":
                place[key] = copy.deepcopy(_at(changed, draw(st.sampled_from(places))))
            case _:
                place[key] = copy.deepcopy(draw(st.sampled_from(WICKED)))
    return changed


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value
