"""`till credits` on real Postgres: repeated calls, times and numbers as people type them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli import Till
from tests.support import Database, create_user

ADA = "ada@example.com"
REVOKE = ("--reason", "x", "--yes")


@pytest.fixture
def till(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    """With Ada and Eve, who have 100 credits each."""
    till = Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")
    for email in (ADA, "eve@example.com"):
        create_user(database, email)
        till("credits", "grant", email, 100, "--key", "first")
    return till


def _spent(till: Till) -> tuple[object, ...]:
    return ("refund", till.json("credits", "spend", ADA, 10)["id"], "--key", "k")


def _held(till: Till) -> str:
    return till.json("credits", "hold", ADA, 10)["id"]


def _revoked(till: Till) -> tuple[object, ...]:
    [lot] = till.json("credits", "grants", ADA)
    revoked = till.json("credits", "revoke", lot["id"], 5, *REVOKE)
    return ("reinstate", revoked["id"], "--reason", "y", "--key", "k", "--yes")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda _: ("grant", ADA, 5, "--key", "k"), "entry"),
        (lambda _: ("grant", ADA, 5, "--key", "k", "--opens-at", "2099-01-01"), "credit grant"),
        (lambda _: ("spend", ADA, 5, "--key", "k"), "entry"),
        (lambda _: ("spend", ADA, 500, "--up-to", "--key", "k"), "entry"),
        (lambda _: ("transfer", ADA, "eve@example.com", 5, "--key", "k"), "entry"),
        (lambda _: ("hold", ADA, 5, "--key", "k"), "hold"),
        (lambda till: ("capture", _held(till), 5, "--key", "k"), "entry"),
        (lambda till: ("release", _held(till), "--key", "k"), "release of hold"),
        (_spent, "entry"),
        (
            lambda till: ("revoke", till.json("credits", "grants", ADA)[0]["id"], 5, *REVOKE, "--key", "k"),
            "revocation",
        ),
        (_revoked, "reinstatement"),
        (lambda _: ("adjust", ADA, 5, "--reason", "x", "--key", "k", "--yes"), "entry"),
        (lambda _: ("adjust", ADA, -5, "--reason", "x", "--key", "k", "--yes"), "entry"),
    ],
)  # fmt: skip
def test_a_repeated_call_says_so(till: Till, call: Callable[[Till], Any], what: str) -> None:
    arguments = ("credits", *call(till))
    first = till.json(*arguments)
    assert first["replayed"] is False
    before = till.json("credits", "history", ADA)
    again = till.json(*arguments)
    assert again == first | {"replayed": True}
    assert till(*arguments).err.strip() == f"already done under this key: {what} {first['id']}"
    assert till.json("credits", "history", ADA) == before


def test_a_hold_that_was_released_meanwhile_is_still_a_replay(till: Till) -> None:
    hold = ("credits", "hold", ADA, 10, "--key", "k")
    till("credits", "release", till.json(*hold)["id"], "--key", "done")
    again = till.json(*hold)
    assert (again["status"], again["replayed"]) == ("released", True)


def test_adjusting_is_a_dry_run_both_ways_without_yes(till: Till) -> None:
    for amount in (5, -5):
        adjust = ("credits", "adjust", ADA, amount, "--reason", "Miscounted")
        planned = till.json(*adjust)
        assert (planned["dry_run"], planned["balance_after"]) == (True, 100 + amount)
        assert "id" not in planned
        assert till(*adjust).err.strip() == "nothing was done: repeat it with --yes"
    assert till.json("credits", "balance", ADA)["balance"] == 100


def test_a_negative_amount_may_stand_anywhere(till: Till) -> None:
    for arguments in (
        ("adjust", ADA, -5, "--reason", "x", "--yes"),
        ("adjust", "--reason", "x", "--yes", ADA, -5),
        ("adjust", "--yes", ADA, "--reason", "x", "--", -5),
    ):
        till("credits", *arguments)
    assert till.json("credits", "balance", ADA)["balance"] == 85


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("2099-01-02", "2099-01-02T00:00:00Z"),
        ("2099-01-02 03:04", "2099-01-02T03:04:00Z"),
        ("2099-01-02T03:04:05Z", "2099-01-02T03:04:05Z"),
        ("2099-01-02 03:04:05+02:00", "2099-01-02T01:04:05Z"),
    ],
)
def test_times_are_utc_unless_they_name_an_offset(till: Till, typed: str, means: str) -> None:
    granted = till.json("credits", "grant", ADA, 5, "--opens-at", typed)
    assert granted["effective_at"] == means


@pytest.mark.parametrize(("typed", "seconds"), [("15", 900), ("2 hours", 7200), ("1 day", 86400)])
def test_holds_last_for_minutes_or_what_is_named(till: Till, typed: str, seconds: int) -> None:
    held = till.json("credits", "hold", ADA, 1, "--expires-in", typed)
    days, rest = divmod(seconds, 86400)
    assert held["expires_in"] == f"P{days}DT{rest}S"


def test_lists_are_whole_in_a_pipe_of_80_columns(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    held = till.json("credits", "hold", ADA, 1, "--description", "a render " * 12)
    assert held["id"] in till("credits", "holds", ADA).out
    long = "order-" + "1" * 60
    till("credits", "grant", ADA, 1, "--reference", long)
    assert long in till("credits", "history", ADA).out
    account = till.json("credits", "balance", ADA)["account_id"]
    assert account in till("accounts", "list").out
