"""Accounts: every user has one with a balance, sign-ups never fail because of it, the books survive the user."""

from uuid import UUID, uuid4

import psycopg
import pytest

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from tests.sql.calls import (
    Connection,
    answer,
    balance,
    discrepancies,
    fetch,
    fetch_one,
    grant,
    refused,
    value,
)
from tests.support import Database, account_of, create_user


def test_sign_up_opens_a_personal_account_with_an_empty_balance(database: Database, conn: Connection) -> None:
    user_id = create_user(database)
    account = fetch_one(conn, "select * from billing.accounts where owner_id = %s", [user_id])
    assert (account["kind"], account["frozen_at"], account["closed_at"]) == ("personal", None, None)
    row = fetch_one(conn, "select * from billing.credit_balances where account_id = %s", [account["id"]])
    assert (row["balance"], row["held"], row["debt"], row["next_due_at"]) == (0, 0, 0, None)


@pytest.mark.parametrize(
    "sabotage",
    [
        "alter table billing.accounts add constraint nobody check (false) not valid",
        "alter table billing.credit_balances add constraint nobody check (false) not valid",
        "drop table billing.accounts cascade",
        "drop function billing.ensure_account(uuid)",
        "revoke usage on schema billing from postgres",
    ],
)
def test_sign_up_goes_through_whatever_billing_is_like(
    database: Database, admin: Connection, sabotage: str
) -> None:
    admin.execute(sabotage.encode())
    user_id = create_user(database)
    assert value(admin, "select count(*) from auth.users where id = %s", [user_id]) == 1


def test_account_that_a_sign_up_could_not_open_is_opened_later(
    database: Database, admin: Connection, app: Connection
) -> None:
    admin.execute("alter table billing.accounts add constraint nobody check (false) not valid")
    user_id = create_user(database)
    admin.execute("alter table billing.accounts drop constraint nobody")
    assert fetch(admin, "select from billing.accounts where owner_id = %s", [user_id]) == []

    account_id = answer(app, "ensure_account", user_id=user_id)
    assert account_of(admin, user_id) == account_id
    assert balance(admin, account_id) == 0


def test_asking_for_an_account_again_returns_the_first(app: Connection, account: UUID) -> None:
    owner = value(app, "select owner_id from billing.accounts where id = %s", [account])
    assert answer(app, "ensure_account", user_id=owner) == account
    assert value(app, "select count(*) from billing.accounts") == 1


def test_nobody_has_an_account_without_being_a_user(app: Connection) -> None:
    with refused("TB079"):
        answer(app, "ensure_account", user_id=uuid4())


def test_an_account_of_no_user_is_refused(app: Connection) -> None:
    for function in ["ensure_account", "public.ensure_account"]:
        with refused("TB037"):
            answer(app, function, user_id=None)
    assert value(app, "select count(*) from billing.accounts") == 0


def test_users_who_were_there_before_the_migrations_get_accounts(empty_database: Database) -> None:
    users = {create_user(empty_database) for _ in range(3)}
    migrate(empty_database.url, migrations_directory())
    with empty_database.connect() as conn:
        owners = fetch(
            conn,
            "select owner_id, balance from billing.accounts join billing.credit_balances on account_id = id",
        )
        assert {row["owner_id"] for row in owners} == users
        assert [row["balance"] for row in owners] == [0, 0, 0]
        assert discrepancies(conn) == []


def test_books_survive_the_user(database: Database, conn: Connection, app: Connection, account: UUID) -> None:
    grant(app, account, 70)
    # As the auth server does it, with its rights and no more.
    with database.connect(admin=True) as auth, auth.transaction():
        auth.execute("set local role supabase_auth_admin")
        auth.execute("delete from auth.users")
    assert value(conn, "select owner_id from billing.accounts where id = %s", [account]) is None
    assert balance(conn, account) == 70
    assert discrepancies(conn) == []


def test_two_users_who_left_do_not_get_in_each_others_way(database: Database, conn: Connection) -> None:
    create_user(database)
    create_user(database)
    with database.connect(admin=True) as admin:
        admin.execute("delete from auth.users")
    assert value(conn, "select count(*) from billing.accounts where owner_id is null") == 2


def test_user_may_own_a_team_beside_the_personal_account(database: Database, conn: Connection) -> None:
    user_id = create_user(database)
    conn.execute("insert into billing.accounts (kind, owner_id) values ('team', %s)", [user_id])
    assert value(conn, "select count(*) from billing.credit_balances") == 2
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("insert into billing.accounts (kind, owner_id) values ('personal', %s)", [user_id])


def test_membership_ends_with_the_user_and_the_team_stays(database: Database, conn: Connection) -> None:
    user_id = create_user(database)
    team_id = value(conn, "insert into billing.accounts (kind) values ('team') returning id")
    conn.execute("insert into billing.account_members values (%s, %s)", [team_id, user_id])
    with database.connect(admin=True) as admin:
        admin.execute("delete from auth.users")
    assert fetch(conn, "select from billing.account_members") == []
    assert value(conn, "select count(*) from billing.accounts where id = %s", [team_id]) == 1


def test_frozen_account_must_say_why(conn: Connection, account: UUID) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="frozen_accounts_say_why"):
        conn.execute("update billing.accounts set frozen_at = now() where id = %s", [account])
