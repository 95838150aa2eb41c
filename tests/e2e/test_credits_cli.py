"""`till credits` against a running stack: a story for each group of commands, and what they refuse."""

import getpass
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from cli.main import main
from cli.shop import Shop
from devstack.stack import Stack

Credits = Callable[..., Any]


@pytest.fixture
def run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run a group of `till` within this process, with the stack's settings: its stdout and stderr."""
    for name, setting in stack.settings.items():
        monkeypatch.setenv(name, setting)

    def run(*arguments: object, expect: int = 0, group: str = "credits") -> Any:
        monkeypatch.setattr(sys, "argv", ["till", group, *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


@pytest.fixture
def credits(run: Callable[..., Any]) -> Credits:
    """Run `till credits … --json`: the document that it printed."""
    return lambda *arguments: json.loads(run(*arguments, "--json").out)


@pytest.fixture
def accounts(run: Callable[..., Any]) -> Credits:
    """Run `till accounts … --json`: the document that it printed."""
    return lambda *arguments: json.loads(run(*arguments, "--json", group="accounts").out)


def test_lots_are_listed_in_the_order_they_are_spent(till: Any, credits: Credits, email: str) -> None:
    credits("grant", email, 10, "--key", "a", "--reference", "order-1")
    credits("grant", email, 20, "--key", "b", "--expires-at", "2100-01-01")
    scheduled = [
        credits("grant", email, 30, "--key", "later", "--opens-at", "2099-01-01T12:00:00") for _ in range(2)
    ]
    assert [lot["replayed"] for lot in scheduled] == [False, True]
    assert scheduled[0]["id"] == scheduled[1]["id"], "the same key again schedules nothing"
    spent = credits("spend", email, 25, "--up-to", "--reference", "job-1")
    assert (spent["amount"], spent["reference_id"]) == (-25, "job-1")

    lots = credits("grants", email)
    assert [(lot["amount"], lot["remaining"], lot["paid_by"]) for lot in lots] == [
        (10, 5, "order-1"),
        (30, 0, None),
    ]
    assert lots[1]["opens_at"].startswith("2099-01-01T12:00:00Z")
    assert credits("spend", email, 25, "--up-to")["amount"] == -5
    back = credits("refund", spent["id"], 15, "--key", "r")
    assert (back["kind"], back["amount"], back["balance_after"]) == ("refund", 15, 15)
    assert credits("refund", spent["id"])["amount"] == 10
    assert "2100-01-01" in till("credits", "grants", email).stdout


def test_a_hold_is_extended_captured_and_released(credits: Credits, email: str) -> None:
    credits("grant", email, 100)
    held = credits("hold", email, 40, "--key", "render", "--expires-in", "15", "--description", "Rendering")
    extended = credits("extend", held["id"], "--expires-in", "2 hours")
    assert extended["expires_at"] > held["expires_at"]
    captured = credits("capture", held["id"], 10, "--key", "frame-1")
    assert (captured["amount"], captured["description"]) == (-10, "Rendering")
    [open_hold] = credits("holds", email)
    assert (open_hold["id"], open_hold["captured"], open_hold["held"]) == (held["id"], 10, 30)
    assert credits("balance", email)["available"] == 60

    assert credits("release", held["id"], "--key", "done")["status"] == "released"
    other = credits("hold", email, 50)
    assert credits("capture", other["id"], 20, "--release-rest")["balance_after"] == 70
    assert credits("holds", email) == []
    assert credits("balance", email)["available"] == 70


def test_what_is_destructive_is_shown_first_and_done_with_yes(
    till: Any, credits: Credits, email: str
) -> None:
    credits("grant", email, 100)
    credits("spend", email, 30)
    [lot] = credits("grants", email)
    revoke = ("revoke", lot["id"], "--reason", "Charged back", "--policy", "allow_negative")
    shown = till("credits", *map(str, revoke))
    assert "shortfall" in shown.stdout
    assert "--yes" in shown.stderr
    planned = credits(*revoke)
    assert credits("balance", email)["balance"] == 70, "a dry run did something"
    done = credits(*revoke, "--yes")
    for name in ("grant_id", "requested", "taken", "shortfall", "shortfall_policy", "reason"):
        assert planned[name] == done[name]
    assert planned["dry_run"] is True
    assert "id" not in planned
    assert (done["taken"], done["shortfall"], done["actor"]) == (70, 30, getpass.getuser())
    assert credits("balance", email)["balance"] == -30

    reinstate = ("reinstate", done["id"], 80, "--reason", "Won", "--actor", "ada")
    assert credits(*reinstate)["dry_run"] is True
    assert credits(*reinstate, "--yes")["amount"] == 80
    assert credits("balance", email)["balance"] == 50

    up, down = ("adjust", email, 5, "--reason", "Sorry"), ("adjust", email, -10, "--reason", "Miscounted")
    for adjust in (up, down):
        assert credits(*adjust)["dry_run"] is True
    assert credits("balance", email)["balance"] == 50, "a dry run did something"
    assert credits(*up, "--yes")["balance_after"] == 55
    taken = credits(*down, "--yes")
    assert (taken["dry_run"], taken["amount"], taken["balance_after"]) == (False, -10, 45)


def test_limits_are_set_one_by_one_and_an_account_is_closed_and_opened_again(
    run: Any, credits: Credits, accounts: Credits, shop: Shop, email: str
) -> None:
    friend = f"{uuid4().hex}@example.com"
    shop.sign_up(friend)
    credits("grant", email, 100)
    moved = credits("transfer", email, friend, 40, "--key", "gift")
    assert (moved["kind"], moved["balance_after"]) == ("transfer_out", 60)
    assert credits("balance", friend)["balance"] == 40

    limits = ("overdraft", "spend_cap", "spend_cap_period", "low_balance_threshold")
    assert [credits("limits", email)[name] for name in limits] == [0, None, None, None]
    credits("limits", email, "--overdraft", 10, "--warn-below", 5)
    capped = credits("limits", email, "--cap", 65, "--cap-period", "day")
    assert [capped[name] for name in limits] == [10, 65, "day", 5]
    assert "TB021" in run("spend", email, 66, expect=1).err
    uncapped = credits("limits", email, "--no-cap")
    assert [uncapped[name] for name in limits] == [10, None, None, 5]

    credits("hold", email, 1)
    credits("grant", email, 7, "--opens-at", "2099-01-01")
    close = ("close", email, "--reason", "Moved away")
    planned = accounts(*close)
    shown = ("forfeited", "written_off", "holds_released", "grants_cancelled")
    assert [planned[name] for name in shown] == [60, 0, 1, 1]
    assert credits("balance", email)["balance"] == 60
    assert accounts(*close, "--yes")["forfeited"] == 60
    assert "TB008" in run("grant", email, 1, expect=1).err
    assert accounts("reopen", email)["closed_at"] is None


def test_reports_add_up(till: Any, credits: Credits, email: str) -> None:
    credits("grant", email, 100)
    before = credits("history", email)[0]["occurred_at"].partition(".")[0]
    credits("spend", email, 30, "--feature", "video")
    statement = credits("statement", email)
    assert [(line["line"], line["kind"], line["amount"]) for line in statement] == [
        ("opening", None, 0),
        ("movement", "grant", 100),
        ("movement", "spend", -30),
        ("closing", None, 70),
    ]
    [used] = credits("usage", email, "--from", "2020-01-01")
    assert (used["feature"], used["spends"], used["credits"]) == ("video", 1, 30)
    assert credits("usage", email, "--to", "2020-01-01", "--from", "2019-01-01") == []
    assert credits("balance", email, "--as-of", before)["balance"] == 0
    assert "closing" in till("credits", "statement", email).stdout


@pytest.fixture
def cards_are_guarded(shop: Shop) -> Iterator[None]:
    """As in live mode, where a card is one person's."""
    change = "update billing.settings set seen_card_policy = %s"
    with shop.connect() as conn:
        conn.execute(change, ["hold"])
        yield
        conn.execute(change, [None])


@pytest.mark.usefixtures("cards_are_guarded")
def test_credits_of_a_card_that_was_seen_before_are_listed_approved_and_refused(
    till: Any, run: Any, credits: Credits, shop: Shop
) -> None:
    price = shop.plan(f"Plan {uuid4().hex}", unit_amount=1900, initial_credits=500, monthly_credits=0)
    first, second, third = (f"{uuid4().hex}@example.com" for _ in range(3))
    for email in (first, second, third):
        shop.subscribe(shop.sign_up(email), price, payment_method="pm_card_jcb")
        shop.settle()
    assert [credits("balance", email)["balance"] for email in (first, second, third)] == [500, 0, 0]

    waiting = {row["email"]: row for row in credits("review", "list")}
    assert first not in waiting
    assert {waiting[email]["matched_email"] for email in (second, third)} == {first}
    assert (waiting[second]["kind"], waiting[second]["amount"]) == ("initial", 500)
    listed = till("credits", "review", "list").stdout
    assert "card seen before on" in listed
    assert second in listed

    approve = ("review", "approve", waiting[second]["id"], "--reason", "A couple")
    approved = credits(*approve)
    assert (approved["status"], approved["reviewed_by"]) == ("approved", getpass.getuser())
    assert credits(*approve) == approved
    refused = credits("review", "refuse", waiting[third]["id"], "--reason", "Thrice", "--actor", "ada")
    assert (refused["status"], refused["reviewed_by"]) == ("refused", "ada")
    assert [credits("balance", email)["balance"] for email in (second, third)] == [500, 0]
    assert {second, third}.isdisjoint(row["email"] for row in credits("review", "list"))
    assert "A couple" in till("credits", "review", "list", "--status", "approved").stdout
    assert third in till("credits", "review", "list", "--status", "refused", "--limit", "1").stdout
    assert "TB036" in run("review", "refuse", waiting[second]["id"], "--reason", "No", expect=1).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["capture", "00000000-0000-0000-0000-000000000000"], "TB019"),
        (["hold", "{email}", "1"], "TB001"),
        (["refund", "999999999"], "TB026"),
        (["revoke", "999999999", "--reason", "x"], "TB026"),
        (["review", "approve", "999999999", "--reason", "x"], "TB035"),
        (["review", "refuse", "999999999", "--reason", ""], "TB028"),
        (["limits", "{email}", "--cap", "5"], "TB031"),
        (["transfer", "{email}", "{email}", "5"], "TB030"),
        (["statement", "nobody@example.com"], "no account for"),
    ],
)
def test_a_refusal_is_one_line(run: Any, email: str, arguments: list[str], says: str) -> None:
    refused = run(*(argument.format(email=email) for argument in arguments), expect=1)
    assert refused.out == ""
    assert says in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["capture", "no-uuid"],
        ["hold", "x", "1", "--expires-in", "soon"],
        ["refund", "99999999999999999999"],
        ["balance", "x", "--as-of", "2020"],
        ["spend", "x", "-5"],
        ["revoke", "1"],
        ["revoke", "1", "--reason", "x", "--policy", "shrug"],
        ["review", "approve", "1"],
        ["review", "refuse", "--reason", "x"],
        ["review", "list", "--status", "forgotten"],
        ["adjust", "x", "-5", "--raeson", "y"],
        ["limits", "x", "--no-cap", "--cap", "1"],
    ],
)
def test_wrong_usage_exits_with_2(run: Any, arguments: list[str]) -> None:
    run(*arguments, expect=2)
