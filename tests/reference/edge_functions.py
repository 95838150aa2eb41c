"""The edge functions' sources → docs/reference/edge-functions.md."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.reference.catalogue import ROOT, Connection, Raises
from tests.reference.errors import refusals
from tests.reference.markdown import code, page, sentence, table

FUNCTIONS = ROOT / "supabase/functions"

_INTRODUCTION = """
At `https://<ref>.supabase.co/functions/v1/<name>`. All but `stripe-webhook` take the access token of a
signed-in user, `Authorization: Bearer …`, as `supabase.functions.invoke` sends it; anonymous users have to sign
up first. Fields that are not named here are ignored.

Errors are `{"error": {"code", "message"}}`. Branch on the code. An answer with a `Retry-After` header is worth
repeating: the same request continues where it stopped.
"""
_FIELD = re.compile(r'(\w+): fields\.(text|uuid|number|boolean)\("(\w+)"\)')
_ERROR = re.compile(r'(?:new HttpError|super)\(\s*(\d{3}),\s*"(\w+)",')
_MESSAGE_ENDS = re.compile(r"\{\s*(?:headers|cause)\b|\);")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
_NAMED_MESSAGE = re.compile(r"const message =\s*([^;]*);")


def edge_functions(conn: Connection) -> str:
    """The page."""
    raised = Raises(conn)
    names = sorted(file.parent.name for file in FUNCTIONS.glob("[!_]*/index.ts"))
    return page("Edge functions", _INTRODUCTION, [_section(name, raised) for name in names])


def _section(name: str, raised: Raises) -> str:
    own = "\n".join(_text(file) for file in _own_files(name))
    handler = _text(FUNCTIONS / name / "handler.ts")
    described = re.match(r"/\*\* (.*?) \*/", handler, re.DOTALL)
    parts = [
        f"## {name}",
        sentence(described[1] if described else ""),
        f"`{_method(handler)} /functions/v1/{name}`",
    ]
    fields = [
        [code(field), _kind(kind), _meaning(own, variable)]
        for variable, kind, field in _FIELD.findall(handler)
    ]
    if fields:
        where = "parameter" if _method(handler) == "GET" else "field"
        parts.append(table([where, "type", "meaning"], fields))
    parts.append(f"Answer: {_answers(handler)}.")
    parts.append("Errors:\n\n" + table(["status", "code", "message"], _errors(name, own, raised)))
    return "\n\n".join(parts)


def _own_files(name: str) -> list[Path]:
    return [file for file in sorted((FUNCTIONS / name).glob("*.ts")) if not file.name.endswith("_test.ts")]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _method(handler: str) -> str:
    return "GET" if "answerGet(" in handler else "POST"


def _kind(kind: str) -> str:
    return {"uuid": "UUID"}.get(kind, kind)


def _meaning(source: str, variable: str) -> str:
    """The comment of the field's declaration."""
    found = re.search(rf"/\*\*((?:(?!\*/).)*)\*/\s*{variable}:", source, re.DOTALL)
    return sentence(re.sub(r"^\s*\* ?", "", found[1], flags=re.MULTILINE)) if found else ""


def _answers(handler: str) -> str:
    """The keys of what it answers."""
    answer = handler.split("Response.json(")[1].split(");")[0]
    answers = [re.findall(r"(?:^|,)\s*(\w+)", one) for one in re.findall(r"\{([^{}]*)\}", answer)]
    return " or ".join(code("{" + ", ".join(f'"{key}"' for key in keys) + "}") for keys in answers)


def _errors(name: str, own: str, raised: Raises) -> list[list[str]]:
    """What the modules that the function is made of throw, and what the database refuses; one row for each code."""
    found = set(_refused(own, raised)) if "judged(" in own else set[tuple[str, str, str]]()
    for file in _modules(FUNCTIONS / name / "index.ts", set()):
        found |= set(_thrown(_text(file)))
    messages: dict[tuple[str, str], list[str]] = {}
    for status, error, message in sorted(found):
        messages.setdefault((status, error), []).append(message)
    return [[status, code(error), " · ".join(texts)] for (status, error), texts in messages.items()]


def _thrown(source: str) -> Iterator[tuple[str, str, str]]:
    for found in _ERROR.finditer(source):
        rest = _MESSAGE_ENDS.split(source[found.end() :], maxsplit=1)[0]
        if not _LITERAL.search(rest) and (named := _NAMED_MESSAGE.search(source)):
            rest = named[1]
        texts = [plain or template for plain, template in _LITERAL.findall(rest)]
        yield found[1], found[2], " · ".join(re.sub(r"\$\{\w+\}", "…", text) for text in texts)


def _refused(own: str, raised: Raises) -> Iterator[tuple[str, str, str]]:
    known = refusals()
    names = re.findall(r'billing\.(\w+)\(|, "(continue_\w+)"', own)
    called = {one for name in names for one in raised.of("".join(name))}
    for one in called:
        if one.code in known:
            status, error, message = known[one.code]
            yield status, error, message or sentence(one.message[:1].upper() + one.message[1:])


def _modules(file: Path, seen: set[Path]) -> set[Path]:
    """A module and all that it imports of ours."""
    seen.add(file)
    for target in re.findall(r'from "(\.[^"]+)"', _text(file)):
        imported = (file.parent / target).resolve()
        if imported not in seen:
            _modules(imported, seen)
    return seen
