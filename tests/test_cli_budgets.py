"""`till budgets` on real Postgres: set, list, remove, and who spent what."""

import psycopg
import pytest

from tests.cli import Till
from tests.support import Database, create_user

ADA = "ada@example.com"


@pytest.fixture
def till(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    """With Ada, who has 100 credits, a member's budget and an agent's below it."""
    till = Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")
    create_user(database, ADA)
    till("credits", "grant", ADA, 100)
    till("budgets", "set", ADA, "member:1", "--cap", 50, "--period", "month")
    till("budgets", "set", ADA, "agent:writer", "--cap", 20, "--period", "day", "--parent", "member:1")
    return till


def test_budgets_are_listed_from_the_top_with_what_is_left(till: Till) -> None:
    till("budgets", "set", ADA, "zebra", "--period", "total")
    till("credits", "spend", ADA, 5, "--actor", "agent:writer")
    till("credits", "hold", ADA, 4, "--actor", "member:1")
    listed = till.json("budgets", "list", ADA)
    assert [(row["actor"], row["cap"], row["spent"], row["held"], row["remaining"]) for row in listed] == [
        ("member:1", 50, 5, 4, 41),
        ("agent:writer", 20, 5, 0, 15),
        ("zebra", None, 0, 0, None),
    ]
    shown = till("budgets", "list", ADA).out
    assert "agent:writer" in shown
    assert "resets at" in shown


def test_a_spend_over_the_budget_is_refused_in_one_line(till: Till) -> None:
    said = till.refused("credits", "spend", ADA, 21, "--actor", "agent:writer")
    assert "allows 20 more credits this day, 21 are needed (TB091)" in said
    assert till.json("budgets", "set", ADA, "agent:writer", "--cap", 30, "--period", "day")["remaining"] == 30
    till("credits", "spend", ADA, 21, "--actor", "agent:writer")


def test_a_budget_is_removed_only_with_yes(till: Till) -> None:
    assert till.json("budgets", "remove", ADA, "agent:writer")["dry_run"] is True
    assert len(till.json("budgets", "list", ADA)) == 2
    assert "TB096" in till.refused("budgets", "remove", ADA, "member:1", "--yes")
    till("budgets", "remove", ADA, "agent:writer", "--yes")
    till("budgets", "remove", ADA, "member:1", "--yes")
    assert till.json("budgets", "list", ADA) == []
    assert "no budgets" in till("budgets", "list", ADA).err


def test_usage_by_actor(till: Till, conn: psycopg.Connection) -> None:
    spent = till.json("credits", "spend", ADA, 9, "--actor", "agent:writer")
    till("credits", "refund", spent["id"], 4)
    till("credits", "spend", ADA, 2)
    used = till.json("credits", "usage", ADA, "--by-actor")
    assert {row["actor"]: (row["spends"], row["credits"]) for row in used} == {
        "agent:writer": (1, 5),
        None: (1, 2),
    }
    assert "actor" not in till.json("credits", "usage", ADA)[0]
