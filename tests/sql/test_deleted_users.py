"""Users who are deleted while they pay: reported once, canceled where the settings say so, and never in the way."""

from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    begin_jobs,
    call,
    fetch,
    fetch_one,
    grant,
    link,
    spend,
    sync_price,
    sync_subscription,
    value,
)
from tests.sql.test_packs import pack
from tests.sql.test_recharges import paused, recharges, set_recharge, take
from tests.support import Database, account_of, create_user

KIND = "user_deleted_while_subscribed"


def reported(conn: Connection) -> list[Row]:
    return fetch(
        conn,
        "select account_id, audience, payload from billing.notifications where kind = %s order by id",
        [KIND],
    )


def cancellations(conn: Connection) -> list[Row]:
    return fetch(
        conn, "select stripe_subscription_id, status, actor, reason from billing.fraud_actions order by id"
    )


def delete(admin: Connection, user_id: UUID, how: str = "delete from auth.users where id = %s") -> None:
    """As the auth server does it, whose role owns the table; triggers fire."""
    with admin.transaction():
        admin.execute("set local role supabase_auth_admin")
        admin.execute(how.encode(), [user_id])


def to_cancel(conn: Connection) -> None:
    conn.execute("update billing.settings set on_user_deleted = 'cancel'")


def sweep(worker: Connection) -> None:
    worker.execute("select billing.enqueue_deleted_users()")


SOFTLY = "update auth.users set deleted_at = now() where id = %s"
HOW = {"deleted": "delete from auth.users where id = %s", "deleted softly": SOFTLY}


@pytest.fixture
def user(database: Database) -> UUID:
    return create_user(database)


@pytest.fixture
def account(conn: Connection, user: UUID) -> UUID:
    return account_of(conn, user)


@pytest.fixture
def subscriber(conn: Connection, worker: Connection, account: UUID) -> UUID:
    link(conn, account)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    return account


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_deleted_subscriber_is_reported_once(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, subscriber: UUID, how: str
) -> None:
    delete(admin, user, how)
    sweep(worker)
    sync_subscription(worker, metadata={"later": "1"}, as_of=JANUARY + SECOND)
    sweep(worker)
    [row] = reported(conn)
    assert (row["account_id"], row["audience"]) == (subscriber, "administrators")
    assert row["payload"] == {
        "stripe_subscription_id": "sub_1", "stripe_customer_id": "cus_1", "status": "active",
        "on_user_deleted": "report",
    }  # fmt: skip
    assert cancellations(conn) == []


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_where_the_settings_say_so_stripe_is_asked_to_cancel_once(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, subscriber: UUID, how: str
) -> None:
    to_cancel(conn)
    delete(admin, user, how)
    sweep(worker)
    assert cancellations(conn) == [
        {
            "stripe_subscription_id": "sub_1", "status": "queued", "actor": "on_user_deleted",
            "reason": "the user was deleted",
        }
    ]  # fmt: skip
    assert len(reported(conn)) == 1
    taken = answer_of_take(worker)
    assert [(row["action"], row["stripe_subscription_id"]) for row in taken] == [
        ("cancel_subscription", "sub_1")
    ]
    answer(worker, "record_fraud_action", msg_id=taken[0]["msg_id"], id=taken[0]["id"], outcome="done",
           stripe_refund_id=None, reason=None, is_in_doubt=False, retry_in_seconds=0)  # fmt: skip
    sweep(worker)
    assert len(cancellations(conn)) == 1


def answer_of_take(worker: Connection) -> list[Row]:
    return begin_jobs(worker, "begin_fraud_actions", "fraud_action")


def test_a_policy_that_is_changed_later_is_followed_for_those_who_were_deleted_before(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, subscriber: UUID
) -> None:
    delete(admin, user)
    to_cancel(conn)
    sweep(worker)
    assert (len(reported(conn)), len(cancellations(conn))) == (1, 1)


def test_a_cancellation_that_a_person_undid_is_not_asked_for_again(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, subscriber: UUID
) -> None:
    to_cancel(conn)
    delete(admin, user)
    action = value(conn, "select id from billing.fraud_actions")
    call(conn, "undo_fraud_action", id=action, reason="they came back", actor="ada")
    sweep(worker)
    assert [row["status"] for row in cancellations(conn)] == ["undone"]


@pytest.mark.parametrize(
    "state",
    [
        {"status": "canceled", "ended_at": JANUARY + SECOND},
        {"status": "incomplete_expired", "ended_at": JANUARY + SECOND},
        {"cancel_at_period_end": True},
    ],
    ids=["canceled", "never paid", "ends with its period"],
)
def test_what_charges_no_more_is_not_reported(
    conn: Connection,
    worker: Connection,
    admin: Connection,
    user: UUID,
    subscriber: UUID,
    state: dict[str, Any],
) -> None:
    to_cancel(conn)
    sync_subscription(worker, **state, as_of=JANUARY + SECOND)
    delete(admin, user)
    sweep(worker)
    assert (reported(conn), cancellations(conn)) == ([], [])


def test_one_without_a_subscription_is_not_reported(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, account: UUID
) -> None:
    link(conn, account)
    delete(admin, user)
    sweep(worker)
    assert reported(conn) == []


def test_a_subscription_that_stripe_tells_of_after_the_deletion_is_reported(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, account: UUID
) -> None:
    to_cancel(conn)
    link(conn, account)
    delete(admin, user)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    sweep(worker)
    assert (len(reported(conn)), len(cancellations(conn))) == (1, 1)


def team(admin: Connection, *members: UUID) -> UUID:
    row = admin.execute(
        "insert into billing.accounts (kind, name) values ('team', 'Ada and Co') returning id"
    ).fetchone()
    assert row is not None
    for member in members:
        admin.execute(
            "insert into billing.account_members (account_id, user_id) values (%s, %s)", [row[0], member]
        )
    return row[0]


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_team_is_reported_when_its_last_user_is_deleted(
    database: Database, conn: Connection, worker: Connection, admin: Connection, how: str
) -> None:
    first, last = create_user(database), create_user(database)
    account = team(admin, first, last)
    admin.execute("update billing.accounts set owner_id = %s where id = %s", [first, account])
    to_cancel(conn)
    link(conn, account)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    delete(admin, first, how)
    assert reported(conn) == []
    delete(admin, last, how)
    assert [row["account_id"] for row in reported(conn)] == [account]
    assert len(cancellations(conn)) == 1


def test_a_member_who_is_removed_or_an_owner_who_hands_over_cancels_nothing(
    database: Database, conn: Connection, worker: Connection, admin: Connection
) -> None:
    """Another one may come a moment later, and no cancellation can be taken back."""
    member = create_user(database)
    account = team(admin, member)
    to_cancel(conn)
    link(conn, account)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    admin.execute("update billing.accounts set owner_id = %s where id = %s", [member, account])
    admin.execute("delete from billing.account_members")
    admin.execute("update billing.accounts set owner_id = null where id = %s", [account])
    sweep(worker)
    assert (reported(conn), cancellations(conn)) == ([], [])


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize(
    "obstacle",
    [
        "alter function billing._report_deleted_user(uuid) rename to broken",
        "alter table billing.notifications rename to broken",
        "alter table billing.notifications add constraint refuses check (kind not like 'user%') not valid",
    ],
    ids=["no function", "no table", "a table that refuses"],
)
def test_a_deletion_never_fails_and_is_made_up_for(
    conn: Connection,
    worker: Connection,
    admin: Connection,
    user: UUID,
    subscriber: UUID,
    obstacle: str,
    how: str,
) -> None:
    admin.execute(obstacle.encode())
    delete(admin, user, how)
    gone = "select count(*) from auth.users where id = %s and deleted_at is null"
    assert value(admin, gone, [user]) == 0


def test_a_deletion_waits_for_billing_a_second_at_most(
    database: Database, conn: Connection, worker: Connection, admin: Connection, user: UUID, subscriber: UUID
) -> None:
    with database.connect() as other, other.transaction():
        other.execute(
            "insert into billing.notifications (audience, kind, dedupe_key) values ('administrators', 'test', %s)",
            [f"{KIND}:sub_1"],
        )
        admin.execute("set statement_timeout = '5s'")
        delete(admin, user)
        other.execute("delete from billing.notifications")
    assert reported(conn) == []
    sweep(worker)
    assert len(reported(conn)) == 1


# The saved card


@pytest.fixture
def recharged(conn: Connection, worker: Connection, account: UUID) -> UUID:
    """An account whose balance buys a pack when it falls."""
    pack(worker)
    link(conn, account)
    grant(conn, account, 150)
    set_recharge(conn, account)
    return account


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_the_card_of_a_deleted_user_is_not_charged(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, recharged: UUID, how: str
) -> None:
    delete(admin, user, how)
    spend(conn, recharged, 100)
    assert (recharges(conn), paused(conn)) == ([], "no_user")
    assert take(worker) == []


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_recharge_that_was_claimed_before_the_deletion_is_not_charged(
    conn: Connection, worker: Connection, admin: Connection, user: UUID, recharged: UUID, how: str
) -> None:
    spend(conn, recharged, 100)
    delete(admin, user, how)
    assert take(worker) == []
    row = fetch_one(conn, "select status, reason from billing.recharges")
    assert (row["status"], row["reason"]) == ("failed", "no_user")


def test_a_team_with_a_member_left_is_charged(
    database: Database, conn: Connection, worker: Connection, admin: Connection
) -> None:
    first, last = create_user(database), create_user(database)
    account = team(admin, first, last)
    pack(worker)
    link(conn, account)
    grant(conn, account, 150)
    set_recharge(conn, account)
    delete(admin, first)
    spend(conn, account, 100)
    assert len(take(worker)) == 1
