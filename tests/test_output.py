"""What is printed is what is in the database, whatever characters it has and however narrow the screen is."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from rich.panel import Panel

from cli.output import err, out, print_fields, print_json, print_rows

ID = "evt_1234567890123456789012345678"


def test_brackets_are_printed_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"description": "Monthly credits for Pro [/x] [red]", "metadata": {"a": "[b]"}}
    print_rows([row], as_json=False, empty="")
    print_fields(row)
    printed = capsys.readouterr().out
    assert printed.count("Pro [/x] [red]") == 2
    assert printed.count('{"a": "[b]"}') == 2


@pytest.mark.parametrize(
    "sent",
    [
        "\x1b]52;c;Y3VybA==\x07",
        "\x1b[1A\x1b[2K",
        "\x9b2K",
        "\x90q",
        "\u202etxt.exe",
        "\u2066x\u2069",
        "\r",
        "\x7f",
    ],
)
def test_what_a_customer_wrote_does_not_control_the_terminal(
    capsys: pytest.CaptureFixture[str], sent: str
) -> None:
    print_rows([{"description": f"a{sent}b", "metadata": {"a": sent}}], as_json=False, empty=sent)
    print_rows([], as_json=False, empty=f"a{sent}b")
    print_fields({"description": f"a{sent}b"})
    out.print(Panel(f"a{sent}b"), f"a{sent}b")
    err.print(f"[bold]a{sent}b[/bold]", style="dim")
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert not set(text) & set("\x1b\x07\x9b\x90\u202e\u2066\u2069\r\x7f")
        assert "a" in text
        assert "b" in text


def test_nothing_to_list_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], as_json=False, empty="no such events")
    captured = capsys.readouterr()
    assert (captured.out, captured.err.strip()) == ("", "no such events")
    print_rows([], as_json=True, empty="no such events")
    assert capsys.readouterr().out.strip() == "[]"


def test_amounts_are_grouped_and_ids_are_as_commands_take_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"id": 12345, "grant_id": 23456, "amount": 34567})
    assert capsys.readouterr().out.split() == ["id", "12345", "grant", "id", "23456", "amount", "34,567"]


@pytest.fixture(params=["pipe", "screen"])
def narrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Eighty columns, of a pipe or of a screen."""
    monkeypatch.setenv("COLUMNS", "80")
    if request.param == "screen":
        monkeypatch.setenv("FORCE_COLOR", "1")
    return request.param


@pytest.mark.usefixtures("narrow")
def test_nothing_is_cut_in_a_pipe_and_on_a_narrow_screen(capsys: pytest.CaptureFixture[str]) -> None:
    account_id = UUID(int=7)
    row = {
        "stripe_event_id": ID,
        "account_id": account_id,
        "type": "customer.subscription.deleted",
        "reason": "x y",
    }
    print_rows([row, row], as_json=False, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines[1:]:
        for word in (ID, str(account_id), "customer.subscription.deleted"):
            assert word in line
    print_fields({"stripe_event_id": ID * 4, "account_id": account_id})
    assert ID * 4 in capsys.readouterr().out


def test_prose_is_wrapped_on_a_screen_only(
    narrow: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows([{"id": ID, "reason": "so " * 40}], as_json=False, empty="")
    assert (len(capsys.readouterr().out.splitlines()) > 2) == (narrow == "screen")


def test_columns_that_are_empty_in_every_row_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(
        [{"id": 1, "feature": None, "held": 0}, {"id": 2, "feature": "", "held": 0}], as_json=False, empty=""
    )
    assert capsys.readouterr().out.split() == ["id", "held", "1", "0", "2", "0"]


def test_a_key_has_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"key": "monthly:gift:2026"})
    assert "monthly:gift:2026" in capsys.readouterr().out


def test_times_are_iso_8601_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 30, 9, 15, 0, 250, tzinfo=timezone(timedelta(hours=2)))
    print_json(
        {"at": moment, "day": date(2026, 11, 30), "lasts": timedelta(days=1, hours=2), "sum": Decimal(7)}
    )
    told = json.loads(capsys.readouterr().out)
    assert told == {"at": "2026-11-30T07:15:00.000250Z", "day": "2026-11-30", "lasts": "P1DT7200S", "sum": 7}
    assert datetime.fromisoformat(told["at"]) == moment
    print_fields({"at": moment})
    assert capsys.readouterr().out.split(maxsplit=1)[1].strip() == "2026-11-30 07:15:00Z"
    assert datetime.fromisoformat("2026-11-30 07:15:00Z") == moment.replace(microsecond=0).astimezone(UTC)


def test_json_is_exact_and_still_does_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "a\x1b[2K\u202eb\x9b\u200f\r\x7f é :gift: [red]", "long": "word " * 60}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert not set(printed) & set("\x1b\u202e\x9b\u200f\r\x7f")
