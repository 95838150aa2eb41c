"""What the schemas raise → docs/reference/errors.md."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.reference.catalogue import ROOT, SCHEMAS, Raise, raises_in
from tests.reference.markdown import code, page, table

_INTRODUCTION = """
Code branches on the SQLSTATE, never on the text. Through the Data API it is `error.code`; the hint is
`error.hint`. In the messages, … stands for a value.

The edge functions answer `{"error": {"code", "message"}}` instead: the last column has the status and the code,
where one of them passes this error on. All answers of theirs are in [edge functions](edge-functions.md).
"""
_REFUSAL = re.compile(r'(TB\d+): \[\s*(\d+),\s*"(\w+)"(?:,\s*"([^"]*)")?')


class Refusal(NamedTuple):
    """What the edge functions answer instead of an error; the message is the database's where there is none."""

    status: str
    code: str
    message: str


def raises() -> list[Raise]:
    """Each error of the schemas, by code."""
    return sorted({one for file in SCHEMAS.glob("*/*.sql") for one in raises_in(file.read_text())})


def refusals() -> dict[str, Refusal]:
    """SQLSTATE → the edge functions' answer."""
    text = (ROOT / "supabase/functions/_tillbase/refusals.ts").read_text()
    return {sqlstate: Refusal(*answer) for sqlstate, *answer in _REFUSAL.findall(text)}


def errors() -> str:
    """The page."""
    return page("Error codes", _INTRODUCTION, [table(["SQLSTATE", "message", "what to do", "HTTP"], _rows())])


def _rows() -> Iterator[list[str]]:
    answers = refusals()
    seen: set[str] = set()
    for sqlstate, message, hint in raises():
        mark = "" if sqlstate in seen else f'<a id="{sqlstate.lower()}"></a>'
        seen.add(sqlstate)
        yield [f"{mark}{sqlstate}", message, hint, code(" ".join(answers.get(sqlstate, ())[:2]))]
