"""What is printed is what is in the database, whatever characters it has."""

import pytest

from cli.output import print_fields, print_rows


def test_brackets_are_printed_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"description": "Monthly credits for Pro [/x] [red]", "metadata": {"a": "[b]"}}
    print_rows([row], as_json=False, empty="")
    print_fields(row)
    printed = capsys.readouterr().out
    assert printed.count("Pro [/x] [red]") == 2
    assert printed.count('{"a": "[b]"}') == 2


def test_nothing_to_list_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], as_json=False, empty="no such events")
    captured = capsys.readouterr()
    assert (captured.out, captured.err.strip()) == ("", "no such events")
    print_rows([], as_json=True, empty="no such events")
    assert capsys.readouterr().out.strip() == "[]"


def test_amounts_are_grouped_and_ids_are_as_commands_take_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"id": 12345, "grant_id": 23456, "amount": 34567})
    assert capsys.readouterr().out.split() == ["id", "12345", "grant", "id", "23456", "amount", "34,567"]
