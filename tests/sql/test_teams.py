"""Teams: who may do what in them, who owns them, how people join; under every role of the Data API."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.calls import fetch, item, link, refused, sync_subscription
from tests.sql.races import at_once, blocked
from tests.support import Database, as_role, as_user, create_user

Connection = psycopg.Connection[Any]
ROLES = ("owner", "admin", "member")


class Team:
    """A team with an owner, an admin and a member, and the eyes of each."""

    def __init__(self, database: Database, app: Connection) -> None:
        self.database = database
        self.app = app
        self.users = {name: create_user(database, f"{name}@example.com") for name in (*ROLES, "stranger")}
        self.id: UUID = self.call("create_team", "Rocket", self.users["owner"])["id"]
        self.call("add_member", self.id, self.users["admin"], "admin")
        self.call("add_member", self.id, self.users["member"])

    def call(self, function: str, *arguments: Any) -> dict[str, Any]:
        """As the app's own server."""
        return call(self.app, function, *arguments)

    def call_as(self, name: str, function: str, *arguments: Any) -> dict[str, Any]:
        """As a signed-in user, through the RPC."""
        with self.database.connect() as conn, as_user(conn, self.users[name]):
            return call(conn, function, *arguments, schema="public")

    @property
    def roles(self) -> dict[str, str]:
        """Who is a member, by the local part of their address."""
        found = fetch(self.app, "select email, role from billing.team_members(%s)", [self.id])
        return {row["email"].partition("@")[0]: row["role"] for row in found}

    @property
    def owner(self) -> str | None:
        """Whom the account belongs to."""
        [found] = fetch(self.app, "select owner_id from billing.accounts where id = %s", [self.id])
        return next((name for name, user in self.users.items() if user == found["owner_id"]), None)


def call(conn: Connection, function: str, *arguments: Any, schema: str = "billing") -> dict[str, Any]:
    places = ", ".join(["%s"] * len(arguments))
    [found] = fetch(conn, f"select * from {schema}.{function}({places})", list(arguments))
    return found


@pytest.fixture
def team(database: Database, app: Connection) -> Team:
    return Team(database, app)


# Making one


def test_team_is_made_once_and_its_owner_is_a_member(team: Team) -> None:
    assert team.call("create_team", " Rocket ", team.users["owner"])["id"] == team.id
    assert team.roles == {"owner": "owner", "admin": "admin", "member": "member"}
    assert team.owner == "owner"
    other = team.call("create_team", "Rocket", team.users["admin"])
    assert (other["id"] == team.id, other["kind"], other["name"]) == (False, "team", "Rocket")


def test_each_user_sees_their_own_role(team: Team) -> None:
    query = "select kind, name, role from public.billing_account order by kind"
    for name in ROLES:
        with team.database.connect() as conn, as_user(conn, team.users[name]):
            assert fetch(conn, query) == [
                {"kind": "personal", "name": None, "role": "owner"},
                {"kind": "team", "name": "Rocket", "role": name},
            ]
    with team.database.connect() as conn, as_user(conn, team.users["stranger"]):
        assert [row["kind"] for row in fetch(conn, query)] == ["personal"]


@pytest.mark.parametrize("name", ["", "   ", None, "x" * 256])
def test_team_needs_a_name(team: Team, name: str | None) -> None:
    with refused("TB090"):
        team.call("create_team", name, team.users["owner"])


def test_team_of_nobody_is_refused(team: Team) -> None:
    for nobody in (uuid4(), None):
        with refused("TB079"):
            team.call("create_team", "Ghosts", nobody)


def test_only_the_server_makes_teams_and_adds_users(team: Team) -> None:
    for arguments in (
        ("create_team", "Mine", team.users["stranger"]),
        ("add_member", team.id, team.users["stranger"]),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            team.call_as("owner", *arguments)


def test_member_is_added_once(team: Team) -> None:
    first = team.call("add_member", team.id, team.users["stranger"], "admin")
    assert team.call("add_member", team.id, team.users["stranger"], "admin") == first
    with refused("TB083"):
        team.call("add_member", team.id, team.users["stranger"], "member")
    with refused("TB077"):
        team.call("add_member", team.id, team.users["stranger"], "king")
    with refused("TB076"):
        team.call("add_member", uuid4(), team.users["stranger"])


def test_personal_account_is_no_team(team: Team) -> None:
    [mine] = fetch(
        team.app,
        "select id from billing.accounts where owner_id = %s and kind = 'personal'",
        [team.users["owner"]],
    )
    with refused("TB076"):
        team.call("add_member", mine["id"], team.users["stranger"])


# Who may do what

RANKS = {"owner": 3, "admin": 2, "member": 1, "stranger": 0}


@pytest.mark.parametrize("who", RANKS)
@pytest.mark.parametrize("whom", ROLES)
@pytest.mark.parametrize("role", ROLES)
def test_role_is_given_by_those_who_may(team: Team, who: str, whom: str, role: str) -> None:
    before = team.roles
    arguments = ("set_member_role", team.id, team.users[whom], role)
    if RANKS[who] < max(RANKS[role], RANKS[whom], 2):
        with refused("TB076" if who == "stranger" else "TB078"):
            team.call_as(who, *arguments)
        assert team.roles == before
    elif whom == "owner" != role:
        with refused("TB089"):
            team.call_as(who, *arguments)
        assert team.roles == before
    else:
        team.call_as(who, *arguments)
        assert team.roles == before | {whom: role}


@pytest.mark.parametrize("who", [*ROLES, "stranger"])
@pytest.mark.parametrize("whom", ROLES)
def test_member_is_removed_by_those_who_may_and_anybody_may_leave(team: Team, who: str, whom: str) -> None:
    before = team.roles
    may = who == whom or RANKS[who] >= max(RANKS[whom], 2)
    if may and whom != "owner":
        team.call_as(who, "remove_member", team.id, team.users[whom])
        assert team.roles == {name: role for name, role in before.items() if name != whom}
    else:
        with refused("TB076" if who == "stranger" else "TB089" if who == whom else "TB078"):
            team.call_as(who, "remove_member", team.id, team.users[whom])
        assert team.roles == before


def test_members_see_each_other_and_strangers_see_nobody(team: Team) -> None:
    listed = "select email from public.team_members(%s)"
    with team.database.connect() as conn:
        for name in ROLES:
            with as_user(conn, team.users[name]):
                assert [row["email"] for row in fetch(conn, listed, [team.id])] == [
                    "owner@example.com", "admin@example.com", "member@example.com",
                ]  # fmt: skip
        with as_user(conn, team.users["stranger"]):
            assert fetch(conn, listed, [team.id]) == []


def test_token_without_a_user_is_nobody(team: Team) -> None:
    with team.database.connect() as conn:
        conn.autocommit = True
        with conn.transaction():
            conn.execute("set local role authenticated")
            conn.execute("select set_config('request.jwt.claims', '{\"role\": \"authenticated\"}', true)")
            with refused("TB076"), conn.transaction():
                call(conn, "remove_member", team.id, team.users["member"], schema="public")
    assert "member" in team.roles


@pytest.mark.parametrize("change", ["deleted_at = now()", "banned_until = now() + interval '1 day'"])
def test_token_of_a_user_who_is_deleted_or_banned_manages_nothing(
    team: Team, admin: Connection, change: str
) -> None:
    """A token outlives its user by an hour."""
    invited = team.call_as("owner", "invite_member", team.id, "stranger@example.com")["token"]
    admin.execute(
        f"update auth.users set {change} where id = any (%s)".encode(),
        [[team.users[name] for name in ("owner", "admin", "stranger")]],
    )
    before = team.roles
    for who, *arguments in (
        ("owner", "transfer_ownership", team.id, team.users["member"]),
        ("owner", "set_member_role", team.id, team.users["member"], "owner"),
        ("admin", "remove_member", team.id, team.users["member"]),
        ("admin", "invite_member", team.id, "accomplice@example.com", "admin"),
        ("admin", "revoke_invitation", team.id, "stranger@example.com"),
    ):
        with refused("TB076"):
            team.call_as(who, *arguments)
    with refused("TB079"):
        team.call_as("stranger", "accept_invitation", invited)
    assert team.roles == before


# Owners


def test_team_is_handed_over(team: Team) -> None:
    team.call_as("owner", "transfer_ownership", team.id, team.users["member"])
    assert team.roles == {"owner": "admin", "admin": "admin", "member": "owner"}
    assert team.owner == "member"
    with refused("TB078"):
        team.call_as("owner", "transfer_ownership", team.id, team.users["owner"])


def test_owner_hands_over_to_members_only_and_the_server_to_anybody(team: Team) -> None:
    with refused("TB084"):
        team.call_as("owner", "transfer_ownership", team.id, team.users["stranger"])
    team.call("transfer_ownership", team.id, team.users["stranger"])
    assert team.owner == "stranger"
    team.call("transfer_ownership", team.id, team.users["stranger"])
    assert team.roles["stranger"] == "owner"


def test_second_owner_takes_the_place_of_the_first(team: Team) -> None:
    team.call_as("owner", "set_member_role", team.id, team.users["admin"], "owner")
    assert team.owner == "owner"
    team.call_as("owner", "remove_member", team.id, team.users["owner"])
    assert team.owner == "admin"
    with refused("TB089"):
        team.call_as("admin", "set_member_role", team.id, team.users["admin"], "member")


def test_owner_stays_while_there_are_others_of_longer_standing(team: Team) -> None:
    team.call("transfer_ownership", team.id, team.users["member"])
    team.call("set_member_role", team.id, team.users["owner"], "owner")
    assert team.owner == "member"


def test_owner_of_longest_standing_follows(team: Team) -> None:
    for name in ("member", "admin"):
        team.call("set_member_role", team.id, team.users[name], "owner")
    team.call("remove_member", team.id, team.users["owner"])
    assert team.owner == "admin"


def test_deleted_owner_is_followed_by_another(team: Team, admin: Connection) -> None:
    team.call("set_member_role", team.id, team.users["member"], "owner")
    admin.execute("delete from auth.users where id = %s", [team.users["owner"]])
    assert team.owner == "member"
    admin.execute("delete from auth.users where id = %s", [team.users["member"]])
    assert team.owner is None
    assert team.roles == {"admin": "admin"}
    team.call("transfer_ownership", team.id, team.users["admin"])
    assert team.owner == "admin"


def test_account_of_a_deleted_user_becomes_a_team(team: Team, admin: Connection) -> None:
    [left] = fetch(
        team.app,
        "select id from billing.accounts where owner_id = %s and kind = 'personal'",
        [team.users["stranger"]],
    )
    with refused("TB076"):
        team.call("transfer_ownership", left["id"], team.users["owner"])
    admin.execute("delete from auth.users where id = %s", [team.users["stranger"]])
    assert team.call("transfer_ownership", left["id"], team.users["owner"])["role"] == "owner"
    [taken] = fetch(team.app, "select kind, owner_id from billing.accounts where id = %s", [left["id"]])
    assert taken == {"kind": "team", "owner_id": team.users["owner"]}


def test_erased_account_is_handed_to_nobody(team: Team, admin: Connection) -> None:
    """It has no user, and every later event of its customer would remove a new one."""
    [left] = fetch(
        team.app,
        "select id from billing.accounts where owner_id = %s and kind = 'personal'",
        [team.users["stranger"]],
    )
    for account_id in (left["id"], team.id):
        team.call("erase_account", account_id, "asked for", "root@example.org")
        with refused("TB076"):
            team.call("transfer_ownership", account_id, team.users["member"])
        with refused("TB076"):
            team.call("add_member", account_id, team.users["member"])
    found = "select kind, owner_id from billing.accounts where id = %s"
    assert fetch(team.app, found, [left["id"]]) == [{"kind": "personal", "owner_id": None}]


# Seats


def test_members_and_invitations_fit_the_seats(team: Team, worker: Connection, admin: Connection) -> None:
    admin.execute("update billing.settings set limit_members_to_seats = true")
    with refused("TB088"):
        team.call("add_member", team.id, team.users["stranger"])
    link(team.app, team.id)
    sync_subscription(worker, items=[item(quantity=5)])
    team.call_as("admin", "invite_member", team.id, "new@example.com")
    team.call_as("admin", "invite_member", team.id, "new@example.com")  # in the place of the first
    team.call("add_member", team.id, team.users["stranger"])
    team.call_as("admin", "invite_member", team.id, "new@example.com")  # although all seats are taken
    with refused("TB088"):
        team.call_as("admin", "invite_member", team.id, "newer@example.com")
    team.call_as("admin", "revoke_invitation", team.id, "new@example.com")
    team.call_as("admin", "invite_member", team.id, "newer@example.com")


# Invitations


def invite(team: Team, who: str = "admin", role: str = "member") -> str:
    return team.call_as(who, "invite_member", team.id, "Stranger@Example.com", role)["token"]


def test_invited_user_joins_once(team: Team) -> None:
    token = invite(team, role="admin")
    member = team.call_as("stranger", "accept_invitation", token)
    assert (member["role"], team.roles["stranger"]) == ("admin", "admin")
    assert team.call_as("stranger", "accept_invitation", token) == member
    team.call("remove_member", team.id, team.users["stranger"])
    with refused("TB086"):
        team.call_as("stranger", "accept_invitation", token)


@pytest.mark.parametrize("who", ["member", "stranger"])
def test_only_those_who_manage_invite(team: Team, who: str) -> None:
    for arguments in (
        ("invite_member", team.id, "new@example.com"),
        ("revoke_invitation", team.id, "new@example.com"),
    ):
        with refused("TB076" if who == "stranger" else "TB078"):
            team.call_as(who, *arguments)


def test_nobody_joins_with_another_address_or_an_unconfirmed_one(team: Team, admin: Connection) -> None:
    token = invite(team)
    with refused("TB087"):
        team.call_as("member", "accept_invitation", token)
    with refused("TB086"):
        team.call_as("stranger", "accept_invitation", token[:-1])
    admin.execute("update auth.users set email_confirmed_at = null where id = %s", [team.users["stranger"]])
    with refused("TB087"):
        team.call_as("stranger", "accept_invitation", token)
    admin.execute("update auth.users set email_confirmed_at = now() where id = %s", [team.users["stranger"]])
    assert team.call_as("stranger", "accept_invitation", token)["role"] == "member"


def test_signed_in_user_accepts_for_nobody_else(team: Team) -> None:
    token = invite(team)
    with refused("TB087"):
        team.call_as("member", "accept_invitation", token, team.users["stranger"])
    assert team.call("accept_invitation", token, team.users["stranger"])["user_id"] == team.users["stranger"]


def test_closed_and_expired_invitations_are_refused(team: Team, admin: Connection) -> None:
    replaced = invite(team)
    revoked = invite(team)
    assert team.call_as("owner", "revoke_invitation", team.id, "stranger@example.com")["revoke_invitation"]
    assert not team.call_as("owner", "revoke_invitation", team.id, "stranger@example.com")[
        "revoke_invitation"
    ]
    expired = invite(team)
    admin.execute("update billing.clock set ahead_by = interval '8 days'")
    for token in (replaced, revoked, expired):
        with refused("TB086"):
            team.call_as("stranger", "accept_invitation", token)
    assert "stranger" not in team.roles
    with team.database.connect() as conn, as_user(conn, team.users["owner"]):
        assert fetch(conn, "select * from public.team_invitations") == []


@pytest.mark.parametrize("how", ["removed", "left", "made a member", "deleted"])
def test_invitations_end_with_the_right_of_who_sent_them(team: Team, admin: Connection, how: str) -> None:
    """Else an admin comes back by an invitation of another address of their own."""
    token = invite(team, "admin", role="admin")
    other = team.call_as("owner", "invite_member", team.id, "lin@example.com")["invitation_id"]
    match how:
        case "removed":
            team.call_as("owner", "remove_member", team.id, team.users["admin"])
        case "left":
            team.call_as("admin", "remove_member", team.id, team.users["admin"])
        case "made a member":
            team.call_as("owner", "set_member_role", team.id, team.users["admin"], "member")
        case _:
            admin.execute("delete from auth.users where id = %s", [team.users["admin"]])
    with refused("TB086"):
        team.call_as("stranger", "accept_invitation", token)
    left = "select id from billing.team_invitations where closed_at is null"
    assert fetch(admin, left) == [{"id": other}]


@pytest.mark.parametrize("email", ["", "ada", "a@b c", "@", None, "a" * 250 + "@example.com"])
def test_what_is_no_address_is_not_invited(team: Team, email: str | None) -> None:
    with refused("TB085"):
        team.call("invite_member", team.id, email)


def test_member_and_owner_are_not_invited(team: Team) -> None:
    with refused("TB083"):
        team.call("invite_member", team.id, "MEMBER@example.com")
    with refused("TB077"):
        team.call("invite_member", team.id, "new@example.com", "owner")


def test_token_is_not_stored_and_only_managers_read_invitations(team: Team) -> None:
    token = invite(team)
    with team.database.connect() as conn, as_role(conn, "service_role"):
        [kept] = fetch(conn, "select team_invitations::text as text from public.team_invitations")
    with team.database.connect(admin=True) as admin:
        [row] = fetch(admin, "select team_invitations::text as text from billing.team_invitations")
    assert token not in kept["text"] + row["text"]
    for name, rows in (("owner", 1), ("admin", 1), ("member", 0), ("stranger", 0)):
        with team.database.connect() as conn, as_user(conn, team.users[name]):
            assert len(fetch(conn, "select * from public.team_invitations")) == rows


# At the same moment


def test_two_owners_cannot_both_leave(team: Team) -> None:
    team.call("set_member_role", team.id, team.users["admin"], "owner")
    with team.database.connect("service_role") as one, team.database.connect("service_role") as two:
        left = at_once(
            [
                lambda: call(one, "remove_member", team.id, team.users["owner"]),
                lambda: call(two, "remove_member", team.id, team.users["admin"]),
            ]
        )
    assert [each.sqlstate for each in left if isinstance(each, psycopg.Error)] == ["TB089"]
    assert list(team.roles.values()).count("owner") == 1
    assert team.roles[team.owner or ""] == "owner"


def test_last_seat_is_taken_once(team: Team, worker: Connection, admin: Connection) -> None:
    admin.execute("update billing.settings set limit_members_to_seats = true")
    link(team.app, team.id)
    sync_subscription(worker, items=[item(quantity=4)])
    late = create_user(team.database)
    with team.database.connect("service_role") as one, team.database.connect("service_role") as two:
        added = at_once(
            [
                lambda: call(one, "add_member", team.id, team.users["stranger"]),
                lambda: call(two, "add_member", team.id, late),
            ]
        )
    assert [each.sqlstate for each in added if isinstance(each, psycopg.Error)] == ["TB088"]
    assert len(team.roles) == 4


def test_team_that_is_made_twice_at_once_is_one(team: Team, conn: Connection) -> None:
    owner = team.users["stranger"]
    with team.database.connect("service_role", autocommit=False) as first:
        made = call(first, "create_team", "T", owner)
        with (
            team.database.connect("service_role") as second,
            blocked(second, conn, lambda: call(second, "create_team", "T", owner)) as again,
        ):
            first.commit()
            assert again.result() == made


def test_owner_who_is_erased_at_that_moment_is_not_the_last_one(team: Team, conn: Connection) -> None:
    team.call("set_member_role", team.id, team.users["admin"], "owner")
    [erased] = fetch(
        team.app,
        "select id from billing.accounts where owner_id = %s and kind = 'personal'",
        [team.users["admin"]],
    )
    arguments = ("erase_account", erased["id"], "asked for", "root@example.org")
    with team.database.connect("service_role", autocommit=False) as first:
        call(first, "set_member_role", team.id, team.users["owner"], "member")
        with (
            team.database.connect("service_role") as second,
            blocked(second, conn, lambda: call(second, *arguments)) as erasure,
        ):
            first.commit()
            with refused("TB080"):
                erasure.result()
    assert team.roles["admin"] == "owner"
    assert team.owner == "admin"


@pytest.mark.parametrize("wins", ["deletion", "call"])
def test_a_user_who_is_just_being_deleted_becomes_no_owner_and_nothing_deadlocks(
    team: Team, database: Database, wins: str
) -> None:
    """Both lock the user first, then what the user has."""
    admin = team.users["admin"]
    with database.connect(admin=True, autocommit=False) as auth, database.connect() as other:
        if wins == "deletion":
            auth.execute("select from auth.users where id = %s for update", [admin])

        def hand_over() -> dict[str, Any]:
            return call(other, "transfer_ownership", team.id, admin)

        if wins == "call":
            assert hand_over()["role"] == "owner"
            auth.execute("delete from auth.users where id = %s", [admin])
            auth.commit()
            assert team.owner is None
            return
        with blocked(other, team.app, hand_over) as waiting:
            auth.execute("delete from auth.users where id = %s", [admin])
            auth.commit()
            with pytest.raises(psycopg.Error) as no_user:
                waiting.result()
        assert no_user.value.sqlstate == "TB079"
    assert team.owner == "owner"


def test_an_invitation_is_accepted_beside_the_deletion_of_who_sent_it_to_themselves(
    team: Team, database: Database
) -> None:
    admin = team.users["admin"]
    with database.connect() as conn, as_user(conn, admin):
        token = call(conn, "invite_member", team.id, "admin2@example.com", schema="public")["token"]
    with database.connect(admin=True) as auth:
        auth.execute("update auth.users set email = 'admin2@example.com' where id = %s", [admin])
    with database.connect(admin=True, autocommit=False) as auth, database.connect() as other:
        auth.execute("select from auth.users where id = %s for update", [admin])
        with blocked(other, team.app, lambda: call(other, "accept_invitation", token, admin)) as waiting:
            auth.execute("delete from auth.users where id = %s", [admin])
            auth.commit()
            with pytest.raises(psycopg.Error) as no_user:
                waiting.result()
        assert no_user.value.sqlstate != "40P01"
