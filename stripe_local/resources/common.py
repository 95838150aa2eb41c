"""What the families share: lists with their filters, searches, deleted objects."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from stripe_local.errors import malformed
from stripe_local.parameters import Params
from stripe_local.render import listed, render
from stripe_local.store import Object
from stripe_local.values import inside, is_hash
from stripe_local.world import World

PAGING = frozenset({"limit", "starting_after", "ending_before", "expand"})
_CLAUSE = re.compile(
    r"""\s*(-?)([\w.]+)(?:\[(?:'([^']*)'|"([^"]*)")\])?\s*(:|~|>=|<=|>|<)\s*(?:'([^']*)'|"([^"]*)"|(\S+))\s*"""
)


def in_range(value: int | None, wanted: Any) -> bool:
    """Whether a time is the wanted one, or within {"gt", "gte", "lt", "lte"}."""
    if value is None:
        return False
    if not is_hash(wanted):
        return value == wanted
    bounds: dict[str, int] = wanted
    return all(
        (name != "gt" or value > bound)
        and (name != "gte" or value >= bound)
        and (name != "lt" or value < bound)
        and (name != "lte" or value <= bound)
        for name, bound in bounds.items()
    )


def matching(objects: Iterable[Object], params: Params, ignore: frozenset[str] = frozenset()) -> list[Object]:
    """Objects whose fields are as the parameters say; times by range."""
    wanted = {key: value for key, value in params.items() if key not in PAGING and key not in ignore}
    return [o for o in objects if all(_fits(o, key, value) for key, value in wanted.items())]


def _fits(stored: Object, key: str, value: Any) -> bool:
    if key in ("created", "due_date", "current_period_start", "current_period_end"):
        return in_range(stored.get(key), value)
    return stored.get(key) == value


def lister(kind: str, url: str) -> Callable[[World, Params], Object]:
    """A handler that lists a kind, newest first, filtered by fields of the same names as the parameters."""

    def handler(world: World, params: Params) -> Object:
        return listed(world, matching(world.store.newest_first(kind), params), params, url)

    return handler


def retriever(kind: str) -> Callable[..., Object]:
    """A handler that shows one object."""

    def handler(world: World, params: Params, identifier: str) -> Object:
        return world.store.get(kind, identifier)

    return handler


def searcher(kind: str, url: str) -> Callable[[World, Params], Object]:
    """A handler for Stripe's search language: clauses with `AND` or `OR`, on fields and metadata."""

    def handler(world: World, params: Params) -> Object:
        text: str = params["query"]
        either = re.split(r"\s+OR\s+", text)
        both = re.split(r"\s+AND\s+", text)
        if len(either) > 1 and len(both) > 1:
            raise malformed("You cannot combine AND and OR in the same query.", "query")
        tests = [_clause(part) for part in (either if len(either) > 1 else both)]
        join = any if len(either) > 1 else all
        found = [o for o in world.store.newest_first(kind) if join(test(o) for test in tests)]
        start = int(params["page"]) if str(params.get("page", "")).isdecimal() else 0
        limit = min(100, max(1, params.get("limit", 10)))
        more = len(found) > start + limit
        return {
            "object": "search_result",
            "url": url,
            "has_more": more,
            "data": [render(world, o) for o in found[start : start + limit]],
            "next_page": str(start + limit) if more else None,
        }

    return handler


def _clause(text: str) -> Callable[[Object], bool]:
    found = _CLAUSE.fullmatch(text)
    if not found:
        raise malformed(f"We were unable to parse your search query: {text[:100]}", "query")
    negated, name, key1, key2, operator, text1, text2, bare = found.groups()
    key = key1 if key1 is not None else key2
    wanted: str = next((t for t in (text1, text2, bare) if t is not None), "")

    def test(stored: Object) -> bool:
        value: Any = stored.get(name)
        if key is not None:
            value = inside(stored, name).get(key)
        return _holds(value, operator, wanted) != (negated == "-")

    return test


def _holds(value: Any, operator: str, wanted: str) -> bool:
    if wanted == "null":
        return value is None
    if value is None:
        return False
    if operator == "~":
        return wanted.lower() in str(value).lower()
    if operator == ":":
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return shown.lower() == wanted.lower()
    if not isinstance(value, int) or not wanted.lstrip("-").isdecimal():
        return False
    return in_range(value, {{">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}[operator]: int(wanted)})


def deleted(kind: str, identifier: str) -> Object:
    return {"id": identifier, "object": kind, "deleted": True}
