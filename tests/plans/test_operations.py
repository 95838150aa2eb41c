"""`[operations.…]` of a plan file → the price list in the database, and `till operations`, which shows it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.plans.file import ComponentRate, Operation
from tests.cli import Till
from tests.plans.conftest import Run
from tests.plans.test_plan_file import GOOD, mistakes
from tests.sql.calls import fetch, move_clock, value
from tests.sql.work import estimate
from tests.stripe_local.conftest import Local
from tests.support import Database

CHAT = """
[operations.chat]
name = "Chat"
markup = 20
minimum = 1

[operations.chat.rates]
call = 0.1
input = { credits = 0.3, per = 1000, unit = "tokens", cost = 0.002 }
output = { credits = 1.25, per = 1000, unit = "tokens" }

[operations."openai/gpt-5"]
rates = { seconds = { credits = 1, per = 60 } }
rounding = "half_up"
on_excess = "refuse"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plans.toml"
    path.write_text(CHAT)
    return path


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(admin=True) as connection:
        yield connection


@pytest.fixture
def till(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> Till:
    return Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")


def actions(till: Till, file: Path, *more: str) -> list[tuple[str, str]]:
    return [(step["action"], step["key"]) for step in till.json("plans", "push", file, *more)["steps"]]


def test_a_file_of_operations_needs_no_stripe(till: Till, file: Path, admin: psycopg.Connection[Any]) -> None:
    planned = till("plans", "push", file)
    assert "rates.input: 0.3 per 1000 tokens" in planned.out
    assert "changes to make: 2; nothing was done" in planned.err
    assert fetch(admin, "select * from billing.operation_prices") == []
    done = till.json("plans", "push", file, "--yes")
    assert done == {"dry_run": False, "steps": done["steps"]}
    assert done["steps"][1] == {
        "action": "create", "kind": "operation", "key": "openai/gpt-5", "stripe_id": None,
        "differences": {
            "active": [None, "yes"], "markup": [None, "0 %"], "minimum": [None, "0"],
            "name": [None, "openai/gpt-5"], "on_excess": [None, "refuse"],
            "rates.seconds": [None, "1 per 60 seconds"], "rounding": [None, "half_up"],
        },
    }  # fmt: skip
    assert estimate(admin, "chat", {"input": 1000, "output": 1000})["unrounded"] == Decimal("1.98")
    again = till("plans", "push", file, "--yes")
    assert "changed in the database: 0" in again.err


def test_a_change_is_shown_and_becomes_a_new_version(
    till: Till, file: Path, admin: psycopg.Connection[Any]
) -> None:
    till("plans", "push", file, "--yes")
    file.write_text(CHAT.replace("0.3,", "0.4,").replace("markup = 20\n", ""))
    steps = till.json("plans", "push", file)["steps"]
    assert [(step["action"], step["key"]) for step in steps] == [("change", "chat"), ("same", "openai/gpt-5")]
    assert steps[0]["differences"] == {
        "markup": ["20 %", "0 %"], "rates.input": ["0.3 per 1000 tokens", "0.4 per 1000 tokens"],
    }  # fmt: skip
    till("plans", "push", file, "--yes")
    versions = till.json("operations", "show", "chat")
    assert [version["rates"]["input"]["credits"] for version in versions] == [0.4, 0.3]
    assert versions[1]["valid_until"] == versions[0]["valid_from"]


def test_operations_that_the_file_does_not_mention_stay(till: Till, file: Path) -> None:
    till("plans", "push", file, "--yes")
    file.write_text("[operations.chat]\nrates = { call = 1 }\nactive = false\n")
    assert actions(till, file, "--yes") == [("change", "chat"), ("not in file", "openai/gpt-5")]
    listed = till.json("operations", "list")
    assert [(each["operation"], each["active"]) for each in listed] == [
        ("openai/gpt-5", True),
        ("chat", False),
    ]


def test_an_announced_price_is_listed_and_can_be_withdrawn(
    till: Till, file: Path, admin: psycopg.Connection[Any]
) -> None:
    till("plans", "push", file, "--yes")
    file.write_text("[operations.chat]\nrates = { call = 7 }\nvalid_from = 2099-01-31\n")
    announced = "chat from 2099-01-31T00:00:00Z"
    expected = [("same", "chat"), ("create", announced), ("not in file", "openai/gpt-5")]
    assert actions(till, file, "--yes") == expected
    assert ("same", announced) in actions(till, file)
    assert "2099-01-31 00:00:00Z" in till("operations", "list").out
    assert value(admin, "select count(*) from public.billing_operations where operation = 'chat'") == 1
    file.write_text(CHAT)
    assert actions(till, file, "--yes")[-1] == ("withdraw", announced)
    move_clock(admin, timedelta(days=365 * 100))
    assert estimate(admin, "chat", {})["credits"] == 1


def test_stripe_and_the_price_list_are_pushed_together(
    local: Local, run: Run, file: Path, database: Database, admin: psycopg.Connection[Any]
) -> None:
    file.write_text(GOOD + CHAT)
    planned = json.loads(run("push", file, "--json").out)
    assert [step["kind"] for step in planned["steps"]] == ["product", "plan", "operation", "operation"]
    assert local.client.prices.list({"limit": 1}).data == []
    shown = run("push", file, "--yes")
    assert "in Stripe" in shown.out
    assert "in the database" in shown.out
    assert value(admin, "select count(*) from billing.plans") == 1
    assert value(admin, "select count(*) from billing.operation_prices") == 2


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "operations.chat.rates: is missing"),
        ("rates = 5", "operations.chat.rates: is 5, not a table of rates such as { input = 0.3, output = 1.2 }"),
        ("rates = {}", "operations.chat.rates: is empty: write a rate such as call = 1"),
        ('rates = { call = "1" }',
         'operations.chat.rates.call: is "1", not a number or a table such as { credits = 0.3, per = 1000, unit = '
         '"tokens" }'),
        ("rates = { call = -1 }",
         "operations.chat.rates.call.credits: is -1, not a number from 0 to 1000000000000 with at most 12 decimal "
         "places"),
        ("rates = { call = nan }",
         "operations.chat.rates.call.credits: is nan, not a number from 0 to 1000000000000 with at most 12 decimal "
         "places"),
        ("rates = { call = 1e-13 }",
         "operations.chat.rates.call.credits: is 1e-13, not a number from 0 to 1000000000000 with at most 12 decimal "
         "places"),
        ("rates = { Call = 1 }",
         "operations.chat.rates.Call: is not a name: use lower-case letters, digits and _, at most 63 characters"),
        ("rates = { call = { per = 5 } }", "operations.chat.rates.call.credits: is missing"),
        ("rates = { call = { credits = 1, per = 0 } }",
         "operations.chat.rates.call.per: is 0, not a whole number of units from 1 to 1000000000"),
        ("rates = { call = { credits = 1, units = 1 } }",
         "operations.chat.rates.call.units: is not known here; did you mean unit?"),
        ("rates = { call = 1 }\nmarkup = -101",
         "operations.chat.markup: is -101, not a number from -100 to 1000000 with at most 6 decimal places"),
        ("rates = { call = 1 }\nminimum = 0.5",
         "operations.chat.minimum: is 0.5, not a whole number of credits from 0 to 1000000000000000"),
        ('rates = { call = 1 }\nrounding = "even"',
         'operations.chat.rounding: is "even", not one of up, half_up, down'),
        ('rates = { call = 1 }\non_excess = "forgive"',
         'operations.chat.on_excess: is "forgive", not one of debt, clip, refuse'),
        ('rates = { call = 1 }\nvalid_from = "soon"',
         'operations.chat.valid_from: is "soon", not a date or a time such as 2027-01-31 or 2027-01-31T12:00:00Z'),
        ("rates = { call = 1 }\nmark_up = 5", "operations.chat.mark_up: is not known here; did you mean markup?"),
    ],
)  # fmt: skip
def test_mistakes_in_operations_are_named(tmp_path: Path, text: str, mistake: str) -> None:
    assert mistakes(tmp_path, f"[operations.chat]\n{text}\n") == [mistake]


def test_the_defaults_of_the_file_are_those_of_the_database(till: Till, file: Path, admin: Any) -> None:
    file.write_text("[operations.chat]\nrates = { call = 1 }\n")
    till("plans", "push", file, "--yes")
    admin.execute("select billing.set_operation_price(operation => 'chat', rates => '{\"call\": 1}')")
    assert value(admin, "select count(*) from billing.operation_prices") == 1


def test_what_the_database_refuses_is_one_line(
    till: Till, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    assert "read-only" in till.refused("plans", "push", file)


def test_operations_are_estimated(till: Till, file: Path) -> None:
    till("plans", "push", file, "--yes")
    found = till.json("operations", "estimate", "chat", "input=1000", "output=500.5")
    assert (found["operation"], found["unrounded"], found["credits"]) == ("chat", 1.23075, 2)
    assert "credits" in till("operations", "estimate", "openai/gpt-5").out
    assert "there is no operation nothing" in till.refused("operations", "estimate", "nothing")
    assert "has no rate for outputs" in till.refused("operations", "estimate", "chat", "outputs=1")
    assert "is no quantity" in till.refused("operations", "estimate", "chat", "input", expect=2)


def test_an_empty_price_list_says_how_to_fill_it(till: Till) -> None:
    assert "till plans push" in till("operations", "list").err
    assert "there is no operation" in till.refused("operations", "show", "chat")


def test_rates_are_shown_as_people_read_them(till: Till, file: Path) -> None:
    till("plans", "push", file, "--yes")
    listed = till("operations", "list").out
    assert "call 0.12, input 0.36 per 1,000 tokens, output 1.5 per 1,000 tokens" in listed
    assert "seconds 1 per 60 seconds" in listed


def test_every_key_of_an_operation_is_documented() -> None:
    guide = Path(__file__).parents[2] / "docs/how-to/priced-work.md"
    text = guide.read_text()
    keys = {*Operation.model_fields, *ComponentRate.model_fields}
    assert {key for key in keys if f"`{key}`" not in text} == set()
