"""`[free_credits.…]` of a plan file → rules in the database: shown, written with --yes, ended when they are gone."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest

from cli.plans.file import FreeCredits
from cli.plans.rules import FREE_EXPIRES, SHORT_NAME, Every
from tests.cli import Till
from tests.plans.test_plan_file import mistakes
from tests.sql.calls import balance, fetch, refused, value
from tests.support import Database, account_of, create_user

RULES = """
[free_credits.welcome]
credits = 100
every = "once"
expires = "30 days"
description = "Welcome"
for_accounts_since = 2026-11-30

[free_credits.daily]
credits = 20
every = "day"
until_subscribed = true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plans.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(admin=True) as connection:
        yield connection


@pytest.fixture
def till(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    return Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")


def steps(till: Till, file: Path, *more: str) -> list[tuple[str, str]]:
    return [(step["action"], step["key"]) for step in till.json("plans", "push", file, *more)["steps"]]


def test_rules_are_shown_then_written_and_need_no_stripe(
    till: Till, file: Path, admin: psycopg.Connection[Any], database: Database
) -> None:
    planned = till("plans", "push", file)
    assert "for_accounts_since: 2026-11-30T00:00:00Z" in planned.out
    assert "changes to make: 2; nothing was done" in planned.err
    assert fetch(admin, "select * from billing.free_credits") == []
    assert steps(till, file, "--yes") == [("create", "daily"), ("create", "welcome")]
    assert balance(admin, account_of(admin, create_user(database))) == 120
    rules = fetch(
        admin,
        "select name, credits, every, expires, description, until_subscribed, once_per_person, active "
        "from billing.free_credits order by name",
    )
    assert [tuple(rule.values()) for rule in rules] == [
        ("daily", 20, "day", "period_end", "Free credits", True, True, True),
        ("welcome", 100, "once", "30 days", "Welcome", False, True, True),
    ]
    assert steps(till, file, "--yes") == [("same", "daily"), ("same", "welcome")]


def test_a_change_is_shown_and_written(till: Till, file: Path, admin: psycopg.Connection[Any]) -> None:
    till("plans", "push", file, "--yes")
    file.write_text(RULES.replace("credits = 20", "credits = 25\nonce_per_person = false"))
    [changed, _] = till.json("plans", "push", file)["steps"]
    assert (changed["action"], changed["differences"]) == (
        "change",
        {"credits": ["20", "25"], "once_per_person": ["yes", "no"]},
    )
    till("plans", "push", file, "--yes")
    assert value(admin, "select credits from billing.free_credits where name = 'daily'") == 25


def test_a_rule_that_the_file_no_longer_has_ends(
    till: Till, file: Path, admin: psycopg.Connection[Any]
) -> None:
    till("plans", "push", file, "--yes")
    file.write_text(RULES.partition("[free_credits.daily]")[0])
    [ended, same] = till.json("plans", "push", file)["steps"]
    assert (ended["key"], ended["differences"]) == ("daily", {"active": ["yes", "no"]})
    assert same["action"] == "same"
    assert value(admin, "select active from billing.free_credits where name = 'daily'") is True
    till("plans", "push", file, "--yes")
    assert value(admin, "select active from billing.free_credits where name = 'daily'") is False
    assert steps(till, file) == [("not in file", "daily"), ("same", "welcome")]
    file.write_text("[free_credits]\n")
    assert steps(till, file, "--yes") == [("not in file", "daily"), ("change", "welcome")]
    assert value(admin, "select bool_or(active) from billing.free_credits") is False


def test_a_file_without_the_section_ends_none(till: Till, file: Path, admin: psycopg.Connection[Any]) -> None:
    till("plans", "push", file, "--yes")
    file.write_text("[operations.chat]\nrates = { call = 1 }\n")
    till("plans", "push", file, "--yes")
    assert value(admin, "select bool_and(active) from billing.free_credits") is True


def test_a_rule_cannot_be_granted_by_another_period(till: Till, file: Path) -> None:
    till("plans", "push", file, "--yes")
    file.write_text(RULES.replace('"day"', '"month"'))
    assert "free credits daily are granted by day, which cannot change to month" in till.refused(
        "plans", "push", file, "--yes"
    )


@pytest.mark.parametrize(
    ("changed", "mistake"),
    [
        ("credits = 0", "free_credits.daily.credits: is 0, not a whole number of credits from 1 to 999999999999999999"),
        ("credits = 1\ncredit = 1", "free_credits.daily.credit: is not known here; did you mean credits?"),
        ("", "free_credits.daily.credits: is missing"),
        ('credits = 1\nexpires = "soon"',
         'free_credits.daily.expires: is "soon", not period_end, never or a time such as "30 days"'),
        ("credits = 1\nonce_per_person = 1", "free_credits.daily.once_per_person: is 1, not true or false"),
        ('credits = 1\nfor_accounts_since = "x"',
         'free_credits.daily.for_accounts_since: is "x", not a date or a time such as 2027-01-31 or '
         "2027-01-31T12:00:00Z"),
        (f'credits = 1\ndescription = "{"x" * 201}"',
         f'free_credits.daily.description: is "{"x" * 40}", not at most 200 characters'),
    ],
)  # fmt: skip
def test_every_mistake_says_where_it_is(tmp_path: Path, changed: str, mistake: str) -> None:
    assert mistakes(tmp_path, RULES.replace("credits = 20", changed)) == [mistake]


def test_a_rule_has_a_plain_name_and_a_period_that_fits(tmp_path: Path) -> None:
    text = RULES.replace("free_credits.daily", 'free_credits."per day"').replace('"30 days"', '"period_end"')
    assert mistakes(tmp_path, text.replace('"day"', '"hour"')) == [
        "free_credits.welcome: expires is period_end, and credits that are granted once have no period: write "
        '"30 days"',
        'free_credits."per day": is not a name: use lower-case letters, digits and _, at most 63 characters',
        'free_credits."per day".every: is "hour", not one of once, day, week, month',
    ]


def test_the_file_takes_what_the_database_takes(admin: psycopg.Connection[Any]) -> None:
    add = "select billing.set_free_credits(name => %s, credits => 1, every => %s, expires => %s)"
    for name, is_taken in (
        ("a", True),
        ("a_1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("A", False),
        ("1a", False),
    ):
        assert bool(SHORT_NAME.fullmatch(name)) is is_taken
        if is_taken:
            admin.execute(add, [name, "day", None])
        else:
            with refused("TB111"):
                admin.execute(add, [name, "day", None])
    for every in get_args(Every):
        admin.execute(add, [f"by_{every}", every, None])
    for expires in ("never", "period_end", "1 day", "9999 years", "0 days", "1 hour", "99999 days"):
        if FREE_EXPIRES.fullmatch(expires):
            admin.execute(add, ["by_day", "day", expires])
        else:
            with refused("TB111"):
                admin.execute(add, ["by_day", "day", expires])


def test_the_example_of_the_documentation_is_good_and_every_key_is_documented(till: Till, file: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/free-credits.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    file.write_text(example)
    assert steps(till, file, "--yes") == [("create", "daily"), ("create", "welcome")]
    documented = re.findall(r"^\| `([a-z_]+)` \|", guide, re.MULTILINE)
    assert documented == list(FreeCredits.model_fields)
