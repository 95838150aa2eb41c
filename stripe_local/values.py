"""A decoded value of any type → a hash or an array, if it is one."""

from typing import Any, TypeGuard

Hash = dict[str, Any]


def is_hash(value: Any) -> TypeGuard[Hash]:
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def inside(value: Any, *path: str) -> Hash:
    """The hash at the end of a path of keys; an empty one where there is none."""
    for key in path:
        value = value.get(key) if is_hash(value) else None
    return value if is_hash(value) else {}


def each(value: Any, key: str) -> list[Hash]:
    """The hashes of the array under a key; none where there is none."""
    found = value.get(key) if is_hash(value) else None
    return [element for element in found if is_hash(element)] if is_array(found) else []
