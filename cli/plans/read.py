"""plans.toml → what it declares, or every problem in it as a line of its own: `file:line: key: what is wrong`."""

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cli.output import CliError
from cli.plans.file import (
    PACKS,
    ComponentRate,
    CustomAmount,
    CustomPack,
    FixedPack,
    FreeCredits,
    Operation,
    Plan,
    PlanFile,
    Product,
)

_SECTIONS: dict[str, type[BaseModel]] = {
    "products": Product,
    "plans": Plan,
    "operations": Operation,
    "free_credits": FreeCredits,
}


class BadPlanFile(CliError):
    """The plan file has problems: a line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def read_plan_file(path: Path) -> PlanFile:
    """Read a file. Raises BadPlanFile with every problem that it has."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise BadPlanFile([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise BadPlanFile([f"{path}: is not UTF-8 text"]) from None
    # TOMLDecodeError is a ValueError; so is the error of a number with thousands of digits.
    except (ValueError, RecursionError) as error:
        raise BadPlanFile([f"{path}: is not TOML: {error}"]) from None
    try:
        file = PlanFile.model_validate(
            document, context={key: _tables(document, key) for key in (*_SECTIONS, "packs")}
        )
    except ValidationError as refused:
        lines = text.splitlines()
        found = [_problem(error, lines) for error in refused.errors(include_url=False)]
        raise BadPlanFile([f"{path}:{line}: {problem}" for line, problem in sorted(found)]) from None
    if not file.prices and not file.operations and "free_credits" not in file.model_fields_set:
        raise BadPlanFile(
            [f"{path}: declares no plans, packs, operations or free credits: write [plans.<lookup key>]"]
        )
    return file


def _tables(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _problem(error: ErrorDetails, lines: Sequence[str]) -> tuple[int, str]:
    """The line, and what is wrong there. Every rule has words of its own; the rest is in ours, too."""
    place = [str(part) for part in error["loc"]]
    is_name = len(place) > 2 and place[-1] == "[key]"
    model = _SECTIONS.get(place[0], PlanFile if len(place) == 1 else CustomPack)
    if place[0] == "packs" and len(place) > 2 and not is_name:
        model = PACKS[place.pop(2)]
    if len(place) > 3:
        model = ComponentRate if place[0] == "operations" else CustomAmount
    match error["type"]:
        case "missing":
            what = "is missing"
        case "extra_forbidden":
            what = _unknown(place[-1], model)
        case _:
            what = error.get("ctx", {})["what"]
    del place[-1 if is_name else len(place) :]
    return _line_of(place, lines), f"{'.'.join(map(_quoted, place))}: {what}"


def _unknown(key: str, model: type[BaseModel]) -> str:
    if model is CustomPack and key in FixedPack.model_fields:
        return "cannot be set beside custom_unit_amount"
    if model is FixedPack and key in CustomPack.model_fields:
        return "cannot be set without custom_unit_amount"
    close = get_close_matches(key, model.model_fields, 1)
    known = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(model.model_fields)}"
    return f"is not known here; {known}"


def _quoted(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _line_of(place: Sequence[str], lines: Sequence[str]) -> int:
    """The line that declares a key, of a missing one that of its table: the shortest beginning of the file that has it.

    tomllib tells no lines. A beginning that ends within a value is no TOML, and is read on to the value's end.
    """

    def has_it(count: int) -> bool:
        for end in range(count, len(lines) + 1):
            try:
                found: Any = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            return _holds(found, place)
        return False

    line = bisect_left(range(1, len(lines) + 1), True, key=has_it) + 1
    return line if line <= len(lines) else _line_of(place[:-1], lines)


def _holds(document: Mapping[str, Any], place: Sequence[str]) -> bool:
    found: Any = document
    for key in place:
        if not isinstance(found, dict) or key not in found:
            return False
        found = cast("dict[str, Any]", found)[key]
    return True
