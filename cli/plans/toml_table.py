"""A table of a TOML file → its values, each of the expected type; mistakes are collected as lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, cast

NAME_LENGTH_MAX = 5_000  # Stripe's


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file; each read states the expected type and records a mistake."""

    values: Mapping[str, Any]
    path: str
    mistakes: list[str]
    known: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for key in self.values:
            if key not in self.known:
                close = get_close_matches(key, self.known, 1)
                meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(self.known)}"
                self.wrong(key, f"is not known here; {meant}")

    def wrong(self, key: str, what: str) -> None:
        place = ".".join(part for part in (self.path, key) if part)
        self.mistakes.append(f"{place}: {what}")

    def missing(self, key: str) -> None:
        if key not in self.values:
            self.wrong(key, "is missing")

    def tables(self, key: str, known: tuple[str, ...]) -> "list[tuple[str, Table]]":
        """The named tables within a table: [plans.<name>]."""
        found = self.values.get(key, {})
        if not isinstance(found, dict):
            self.wrong(key, f"is {kind_of(found)}; write [{key}.<name>]")
            return []
        tables: list[tuple[str, Table]] = []
        for name, table in cast("dict[str, Any]", found).items():
            if not isinstance(table, dict):
                self.wrong(f"{key}.{name}", f"is {kind_of(table)}; write [{key}.<name>]")
            elif not name.strip() or not name.isprintable():
                self.wrong(f"{key}.{name!r}", "is no name")
            else:
                tables.append(
                    (name, Table(cast("dict[str, Any]", table), f"{key}.{name}", self.mistakes, known))
                )
        return tables

    def text(self, key: str, *, is_required: bool = False) -> str | None:
        value = self.values.get(key)
        if value is None:
            return self.missing(key) if is_required else None
        if not isinstance(value, str):
            return self.wrong(key, f"is {kind_of(value)}, not text")
        if not value.strip():
            return self.wrong(key, "is empty")
        if "\0" in value:
            return self.wrong(key, "holds a NUL character, which Postgres cannot store")
        if len(value) > NAME_LENGTH_MAX:
            return self.wrong(key, f"has {len(value)} characters; Stripe takes {NAME_LENGTH_MAX}")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, True)
        if not isinstance(value, bool):
            self.wrong(key, f"is {kind_of(value)}, not true or false")
        return value is True

    def number(self, key: str, unit: str, least: int, most: int, is_required: bool = False) -> int | None:
        value = self.values.get(key)
        if value is None:
            return self.missing(key) if is_required else None
        if not isinstance(value, int) or isinstance(value, bool):
            return self.wrong(key, f"is {kind_of(value)}, not a whole number of {unit}")
        if not least <= value <= most:
            return self.wrong(key, f"is {value}, not from {least} to {most}")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(key)
        if value is not None and value not in choices:
            return self.wrong(key, f'is "{value}", not one of {", ".join(choices)}')
        return value


def kind_of(value: object) -> str:
    """What a value is, in words."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value[:40]}"'
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date"
