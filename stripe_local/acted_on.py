"""What each operation acts on, of the parameters that Stripe has: anything else is refused by its name.

`acted_on.txt` has a line for each operation: its parameters, with those of a nested hash in brackets. A name without
brackets stands for all that is in it. tests/stripe_local/test_acted_on.py sends each of them and sees it read or shown.
"""

import re
from pathlib import Path
from typing import Any

from stripe_local.errors import not_acted_on
from stripe_local.values import is_array, is_hash

# What lists and `expand` need is handled for all of them alike.
ALWAYS = frozenset({"ending_before", "expand", "limit", "starting_after"})
# name → what is acted on inside of it; None: all of it
Names = dict[str, Any]


def _load() -> dict[str, Names]:
    operations: dict[str, Names] = {}
    for line in Path(__file__).with_name("acted_on.txt").read_text().splitlines():
        method, path, names = line.split(" ", 2)
        operations[f"{method} {path}"] = _parsed(iter(re.findall(r"[^\s\[\]]+|[\[\]]", names)))
    return operations


def _parsed(words: Any) -> Names:
    names: Names = {}
    last = ""
    for word in words:
        if word == "]":
            break
        if word == "[":
            names[last] = _parsed(words)
        else:
            names[last := word] = None
    return names


ACTED_ON = _load()


def refuse_others(operation: str, params: dict[str, Any], also: frozenset[str]) -> None:
    """400 for the first parameter that would have no effect. `also` names those of older versions."""
    acted_on = ACTED_ON.get(operation, {}) | dict.fromkeys(ALWAYS | also)
    _refuse(acted_on, params, "")


def _refuse(acted_on: Names, value: Any, name: str) -> None:
    if is_array(value):
        for number, element in enumerate(value):
            _refuse(acted_on, element, f"{name}[{number}]")
    elif is_hash(value):
        for key, element in value.items():
            inner = f"{name}[{key}]" if name else key
            if key not in acted_on:
                raise not_acted_on(inner)
            if acted_on[key] is not None:
                _refuse(acted_on[key], element, inner)
