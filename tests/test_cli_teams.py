"""`till teams` on real Postgres."""

from typing import Any

import psycopg
import pytest

from tests.cli import Till
from tests.support import Database, create_user


@pytest.fixture
def till(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    for name in ("ada", "bob", "eve"):
        create_user(database, f"{name}@example.com")
    return Till(monkeypatch, capsys, POSTGRES_URL=database.url, COLUMNS="300")


def members(till: Till, team: str = "Rocket") -> dict[str, str]:
    return {row["email"]: row["role"] for row in till.json("teams", "show", team)["members"]}


def test_a_team_from_its_making_to_another_owner(till: Till) -> None:
    made = till.json("teams", "create", "Rocket", "--owner", "ada@example.com")
    assert till.json("teams", "create", "Rocket", "--owner", "ADA@example.com") == made
    till("teams", "add", "Rocket", "bob@example.com")
    till("teams", "add", made["id"], "eve@example.com", "--role", "admin")
    assert members(till) == {
        "ada@example.com": "owner",
        "eve@example.com": "admin",
        "bob@example.com": "member",
    }
    till("teams", "role", "Rocket", "bob@example.com", "admin")
    till("teams", "transfer", "Rocket", "bob@example.com")
    till("teams", "remove", "Rocket", "eve@example.com")
    assert members(till) == {"bob@example.com": "owner", "ada@example.com": "admin"}
    [listed] = till.json("teams", "list")
    assert (listed["name"], listed["owner"], listed["members"], listed["status"]) == (
        "Rocket", "bob@example.com", 2, "active",
    )  # fmt: skip
    assert "bob@example.com" in till("teams", "list").out
    shown = till("teams", "show", "Rocket").out
    assert "members" in shown
    assert "ada@example.com" in shown


def test_an_invitation_is_made_shown_and_revoked(till: Till, conn: psycopg.Connection[Any]) -> None:
    till("teams", "create", "Rocket", "--owner", "ada@example.com")
    made = till.json("teams", "invite", "Rocket", "bob@example.com", "--role", "admin")
    assert len(made["token"]) == 64
    till("teams", "invite", "Rocket", "new@example.com")
    [bob, new] = till.json("teams", "show", "Rocket")["invitations"]
    assert (bob["email"], bob["role"], new["email"]) == ("bob@example.com", "admin", "new@example.com")
    assert till.json("teams", "revoke", "Rocket", "new@example.com") == {"revoked": True}
    assert "no open invitation" in till("teams", "revoke", "Rocket", "new@example.com").err
    user = conn.execute("select id from auth.users where email = 'bob@example.com'").fetchone()
    assert user is not None
    conn.execute("select billing.accept_invitation(%s, %s)", [made["token"], user[0]])
    assert members(till)["bob@example.com"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "Nothing"), "there is no team 'Nothing': list them with `till teams list`"),
        (("add", "Rocket", "new@example.com"), "no user 'new@example.com' has signed up: invite them"),
        (("remove", "Rocket", "ada@example.com"), "a team needs an owner (TB089)"),
        (("remove", "Rocket", "bob@example.com"), "this user is not a member of the team (TB084)"),
        (("show", "Twins"), "several teams are called 'Twins': give the id"),
        (("create", " ", "--owner", "ada@example.com"), "1 to 255 characters (TB090)"),
    ],
)
def test_what_is_refused_says_what_to_do(till: Till, arguments: tuple[str, ...], says: str) -> None:
    till("teams", "create", "Rocket", "--owner", "ada@example.com")
    for owner in ("ada", "bob"):
        till("teams", "create", "Twins", "--owner", f"{owner}@example.com")
    assert says in till.refused("teams", *arguments)


def test_an_address_that_is_not_confirmed_or_of_two_users_names_nobody(
    till: Till, database: Database
) -> None:
    """Anybody can sign up with the address of another, and single sign-on can bring one twice."""
    till("teams", "create", "Rocket", "--owner", "ada@example.com")
    eve = create_user(database, "eve@example.com")
    with database.connect(admin=True) as admin:
        admin.execute("update auth.users set email_confirmed_at = null where id = %s", [eve])
    told = till.refused("teams", "add", "Rocket", "eve@example.com")
    assert "has not confirmed" in told
    assert str(eve) in told
    with database.connect(admin=True) as admin:
        twice = "update auth.users set email = 'Bob@example.com', email_confirmed_at = now() where id = %s"
        admin.execute(twice, [eve])
    assert "several users" in till.refused("teams", "add", "Rocket", "bob@example.com")
    assert members(till) == {"ada@example.com": "owner"}
    till("teams", "add", "Rocket", eve)
