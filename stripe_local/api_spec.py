"""stripe_api.jsonl → the operations, parameter trees and object shapes of the pinned API version."""

import json
from pathlib import Path
from typing import Any


def _load() -> dict[str, Any]:
    """Each line is [section, name, value]; a section without names is its value."""
    spec: dict[str, Any] = {}
    for line in Path(__file__).with_name("stripe_api.jsonl").read_text().splitlines():
        section, name, value = json.loads(line)
        if name is None:
            spec[section] = value
        else:
            spec.setdefault(section, {})[name] = value
    return spec


_SPEC = _load()
VERSION: str = _SPEC["version"]
# "POST /v1/customers/{}" → name of its parameter tree
OPERATIONS: dict[str, str | None] = _SPEC["operations"]
# What Stripe has besides.
OTHER_OPERATIONS: frozenset[str] = frozenset(_SPEC["other_operations"])
# name → key → [type] or [type, 1] when it is required
PARAMS: dict[str, dict[str, list[Any]]] = _SPEC["params"]
# object name → {"null": keys that are null unless set, "in": shapes of nested hashes}
SHAPES: dict[str, dict[str, Any]] = _SPEC["objects"]
