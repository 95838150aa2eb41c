"""What is printed is what is in the database, whatever characters it has."""

import pytest
from rich.panel import Panel

from cli.output import err, out, print_fields, print_rows


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
