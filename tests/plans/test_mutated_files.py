"""Plan files with mistakes that nobody foresaw → every mistake by its line, and never a traceback."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.plans.read import BadPlanFile, read_plan_file

PLAN_FILE = Path(__file__).parents[2] / "docs" / "how-to" / "plans.toml"
WICKED = [
    "", "0", "-1", "1.5", "1e400", "nan", "inf", "true", '""', '" "', '"x"', '"usd"', '"month"', "[]", "{}", "[[]]",
    "[1, 2]", "{a = 1}", "9223372036854775807", "9223372036854775808", "1" * 400, "1" * 5000, "2026-11-30",
    "07:32:00", "2026-11-30T07:32:00Z", '"' + "x" * 5000 + '"', '"\\u0000"', '"\\ud800"', '"ü漢😀"', '"\\u202e"',
    "'''a\nb'''", "[" * 2000, "0xff", "1_000", '"1_000"', '"10"',
]  # fmt: skip
HEADINGS = [
    "[plans]", "[plans.x]", "[plans.x.y]", "[packs.'a b']", "[products.x]", "[[plans]]", "[nothing]", '[plans.""]',
    '["plans".x]', "[plans.x]\n[plans.x]", "plans = 1", "packs = []", "products = 'x'",
]  # fmt: skip
LINE = re.compile(r".+?:(\d+: .+|.*is not (TOML|UTF-8)|.* declares no plans).*", re.S)


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = PLAN_FILE.read_text().splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[at].partition("=")
        match draw(st.sampled_from(["value", "value", "heading", "remove", "double", "rename", "cut"])):
            case "value" if equals:
                lines[at] = f"{key}= {draw(st.sampled_from(WICKED))}"
            case "heading":
                lines.insert(at, draw(st.sampled_from(HEADINGS)))
            case "remove":
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "rename" if equals:
                lines[at] = draw(st.sampled_from(["x", "credits", f"{key.strip()}s", '""'])) + " = 1"
            case _:
                lines[at] = lines[at][: draw(st.integers(0, max(len(lines[at]), 1)))]
    return "\n".join(lines)


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(text=files())
def test_a_file_is_read_or_its_mistakes_are_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plans.toml"
    path.write_text(text)
    mistakes: list[str] = []
    try:
        read_plan_file(path)
    except BadPlanFile as refused:
        mistakes = list(refused.mistakes) or ["nothing was told"]
    assert [told for told in mistakes if not LINE.fullmatch(told) or "pydantic" in told] == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00", b"a = '\x00'", b"\xef\xbb\xbfplans = 1", b"= = ="])
def test_bytes_that_are_no_toml_are_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plans.toml"
    path.write_bytes(content)
    with pytest.raises(BadPlanFile) as refused:
        read_plan_file(path)
    assert len(str(refused.value).splitlines()) == 1
