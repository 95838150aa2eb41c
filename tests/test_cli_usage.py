"""What was typed wrongly is one line that says what is wrong and where help is, with exit code 2."""

import pytest

from tests.cli import Till


@pytest.fixture
def till(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    return Till(monkeypatch, capsys, POSTGRES_URL="postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("creds", "there is no command 'creds': did you mean 'credits'? (see `till --help`)"),
        ("credits blance x", "there is no command 'blance': did you mean 'balance'? (see `till credits --help`)"),
        ("events zap", "there is no command 'zap' (see `till events --help`)"),
        ("credits grant", "ACCOUNT is missing (see `till credits grant --help`)"),
        ("credits grant ada", "AMOUNT is missing (see `till credits grant --help`)"),
        ("credits grant ada 1.5", "AMOUNT: '1.5' is not a whole number from 1 (see `till credits grant --help`)"),
        ("credits spend ada -5", "AMOUNT: '-5' is not a whole number from 1 (see `till credits spend --help`)"),
        ("credits grant ada 5 7", "too many arguments: 7 (see `till credits grant --help`)"),
        (
            "credits grant ada 5 --kye x",
            "there is no option --kye: did you mean --key? (see `till credits grant --help`)",
        ),
        (
            "credits adjust ada -5 --reason x --raeson y",
            "there is no option --raeson (see `till credits adjust --help`)",
        ),
        ("credits grant ada 5 --key", "--key needs a value"),
        ("credits grant ada 5 --json=yes", "--json takes no value"),
        ("credits capture x", "HOLD_ID: 'x' is not an id such as 6d2c1f3e-… (see `till credits capture --help`)"),
        (
            "credits refund x",
            "ENTRY_ID: 'x' is no id: write the number that the listing prints (see `till credits refund --help`)",
        ),
        ("events list --limit 0", "--limit: '0' is not a whole number from 1 to 1000 (see `till events list --help`)"),
        (
            "events list --status gone",
            "--status: 'gone' is not one of queued, applied, ignored, parked, dead (see `till events list --help`)",
        ),
        ("plans push none.toml", "FILE: there is no file 'none.toml' (see `till plans push --help`)"),
        ("checkout", "--plan, --pack: name either a plan or a pack (see `till checkout --help`)"),
        ("events retry", "give event ids or --status, not both (see `till events retry --help`)"),
        (
            "credits balance ada --as-of 2020",
            "--as-of: '2020' is no time: write 2026-11-30, 2026-11-30T07:15 or 2026-11-30T07:15:00+01:00 "
            "(see `till credits balance --help`)",
        ),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(till: Till, typed: str, line: str) -> None:
    assert till.refused(*typed.split(), expect=2) == line


@pytest.mark.parametrize("group", [(), ("credits",), ("worker",), ("trigger",)])
def test_a_group_alone_shows_its_help(till: Till, group: tuple[str, ...]) -> None:
    shown = till(*group, expect=2)
    assert "Usage: till" in shown.out
    assert shown.err == ""


def test_trigger_lists_its_events(till: Till) -> None:
    assert "radar.early_fraud_warning.created" in till("trigger", "--help").out
