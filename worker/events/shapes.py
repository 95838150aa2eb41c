"""JSON from any source → values of the expected type, or UnknownShape with the path."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from worker.errors import UnknownShape

T = TypeVar("T")


class Node:
    """One JSON object and its path; every read states the type that it expects."""

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise UnknownShape(f"{path} is {_kind(value)}, expected an object")
        self.value = cast("dict[str, Any]", value)
        self.path = path

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if isinstance(value, str) and value:
            return value
        raise self._wrong(key, "text")

    def text_or_none(self, key: str) -> str | None:
        return None if self.value.get(key) is None else self._typed(key, str, "text or null")

    def number(self, key: str) -> int:
        value = self.value.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._wrong(key, "a whole number")

    def number_or_none(self, key: str) -> int | None:
        return None if self.value.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        return self._typed(key, bool, "true or false")

    def moment(self, key: str) -> datetime:
        """A Unix time in whole seconds."""
        try:
            return datetime.fromtimestamp(self.number(key), UTC)
        except (OverflowError, OSError, ValueError):
            raise self._wrong(key, "a Unix time") from None

    def moment_or_none(self, key: str) -> datetime | None:
        return None if self.value.get(key) is None else self.moment(key)

    def reference(self, key: str) -> str:
        """The id of another object, which may be expanded."""
        found = self.reference_or_none(key)
        if found is None:
            raise self._wrong(key, "an id")
        return found

    def reference_or_none(self, key: str) -> str | None:
        value = self.value.get(key)
        if value is None or isinstance(value, str):
            return value or None
        return self.child(key).text("id")

    def child(self, key: str) -> "Node":
        return Node(self.value.get(key), f"{self.path}.{key}")

    def child_or_none(self, key: str) -> "Node | None":
        return None if self.value.get(key) is None else self.child(key)

    def has(self, key: str) -> bool:
        """Whether the key exists. Null is a value; a missing key is another shape."""
        return key in self.value

    def which(self, *keys: str) -> str:
        """The first of the keys that exists, each of another API version. Raises UnknownShape if none does."""
        for key in keys:
            if self.has(key):
                return key
        raise UnknownShape(f"{self.path} lacks {' and '.join(keys)}: no supported API version has that shape")

    def children(self, key: str) -> "list[Node]":
        """The members of a Stripe list object."""
        return self.child(key).members("data")

    def whole_list(self, key: str, read: "Callable[[Node], T]") -> tuple[T, ...] | None:
        """The members of a Stripe list object; None if it contains only the first of them."""
        return (
            None if self.child(key).flag("has_more") else tuple(read(member) for member in self.children(key))
        )

    def members(self, key: str) -> "list[Node]":
        """The members of an array of objects."""
        members = self._array(key)
        return [Node(member, f"{self.path}.{key}[{index}]") for index, member in enumerate(members)]

    def texts(self, key: str) -> tuple[str, ...]:
        """The members of an array of text."""
        members = {str(index): member for index, member in enumerate(self._array(key))}
        return tuple(Node(members, f"{self.path}.{key}").text(index) for index in members)

    def mapping(self, key: str) -> dict[str, str]:
        """Stripe metadata; null counts as empty."""
        node = self.child_or_none(key)
        return {} if node is None else {name: node.text_or_none(name) or "" for name in node.value}

    def _array(self, key: str) -> list[object]:
        return self._typed(key, cast("type[list[object]]", list), "a list")

    def _typed(self, key: str, kind: type[T], expected: str) -> T:
        value = self.value.get(key)
        if isinstance(value, kind):
            return value
        raise self._wrong(key, expected)

    def _wrong(self, key: str, expected: str) -> UnknownShape:
        return UnknownShape(f"{self.path}.{key} is {_kind(self.value.get(key))}, expected {expected}")


def _kind(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text" if value else "empty"
        case list():
            return "a list"
        case _:
            return "an object"
