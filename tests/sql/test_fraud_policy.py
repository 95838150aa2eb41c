"""Early fraud warnings: the policy as a table, dry runs, replays; what people decide; what frozen accounts can't do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    available,
    balance,
    begin_jobs,
    call,
    discrepancies,
    fetch,
    fetch_one,
    grant,
    hold,
    link,
    make_jobs_due,
    record_fraud_warning,
    refused,
    spend,
    sync_invoice,
    sync_invoice_payment,
    sync_payment,
    sync_price,
    sync_product,
    sync_refund,
    sync_subscription,
    transfer,
    value,
)
from tests.sql.races import at_once
from tests.support import Database, account_of, as_user, create_user

WARNING = "issfr_1"
WHO = {"reason": "seen by hand", "actor": "ada@example.com"}


def now() -> datetime:
    return datetime.now(UTC)


def set_policy(conn: Connection, risk_level: str = "highest", **columns: Any) -> None:
    for name, setting in columns.items():
        conn.execute(
            f"update billing.fraud_policies set {name} = %s where risk_level = %s".encode(),
            [setting, risk_level],
        )


def set_dry_run(conn: Connection, is_dry: bool) -> None:
    conn.execute("update billing.settings set fraud_dry_run = %s", [is_dry])


def actions(conn: Connection) -> list[tuple[str, str, str]]:
    """Action, status and reason of all that was decided, in order."""
    rows = fetch(conn, "select action, status, reason from billing.fraud_actions order by id")
    return [(row["action"], row["status"], row["reason"]) for row in rows]


def judged(conn: Connection, warning: str = WARNING) -> list[tuple[str, bool, str]]:
    rows = fetch(conn, "select action, is_due, reason from billing.judge_fraud_warning(%s)", [warning])
    return [(row["action"], row["is_due"], row["reason"]) for row in rows]


def is_frozen(conn: Connection, account: UUID) -> bool:
    return value(conn, "select frozen_at is not null from billing.accounts where id = %s", [account])


def freeze(conn: Connection, account: UUID, **more: Any) -> Row:
    return call(conn, "freeze_account", account_id=account, **(WHO | more))


def unfreeze(conn: Connection, account: UUID, **more: Any) -> Row:
    return call(conn, "unfreeze_account", account_id=account, **(WHO | more))


def undo(conn: Connection, action_id: int | None, **more: Any) -> Row:
    return call(conn, "undo_fraud_action", id=action_id, **(WHO | more))


def take(conn: Connection) -> list[Row]:
    return sorted(begin_jobs(conn, "begin_fraud_actions", "fraud_action"), key=lambda row: row["id"])


def settle(conn: Connection, task: Row, outcome: str = "done", **more: Any) -> None:
    arguments = {"stripe_refund_id": None, "reason": None, "is_in_doubt": False, "retry_in_seconds": 5}
    told = {"msg_id": task["msg_id"], "id": task["id"], "outcome": outcome}
    call(conn, "record_fraud_action", **told, **(arguments | more))


@pytest.fixture
def linked(app: Connection, account: UUID) -> UUID:
    """An account whose customer is cus_1."""
    link(app, account, "cus_1")
    return account


@pytest.fixture
def strict(conn: Connection) -> None:
    """A policy that does all there is to do, about any risk."""
    for level in ("normal", "elevated", "highest", "not_assessed", "unknown"):
        set_policy(conn, level, freeze_account=True, refund=True, cancel_subscription=True)


def charge(worker: Connection, **more: Any) -> None:
    sync_payment(worker, **({"charged_at": now() - timedelta(days=1)} | more))


ALERT = ("alert", "done", "risk highest")
FREEZE = ("freeze_account", "done", "risk highest")
REFUND = ("refund", "queued", "risk highest")
NO_REFUND = "refund", "skipped"

# Policy over the default, charge, warning → what is done, and why not what is not.
TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], list[tuple[str, str, str]]]] = [
    ("default_highest", {}, {}, {}, [ALERT, FREEZE]),
    ("default_elevated", {}, {}, {"risk_level": "elevated"}, [("alert", "done", "risk elevated")]),
    ("default_unknown", {}, {}, {"risk_level": None}, [("alert", "done", "risk unknown")]),
    ("record_only", {"alert": False, "freeze_account": False}, {}, {}, []),
    ("refund", {"refund": True}, {}, {}, [ALERT, FREEZE, REFUND]),
    ("refund_only", {"alert": False, "freeze_account": False, "refund": True}, {}, {}, [REFUND]),
    (
        "disputed",
        {"refund": True},
        {"is_disputed": True},
        {"actionable": False},
        [ALERT, FREEZE, (*NO_REFUND, "the charge is disputed")],
    ),
    (
        "refunded",
        {"refund": True},
        {"amount_refunded": 2000},
        {"actionable": False},
        [ALERT, FREEZE, (*NO_REFUND, "the charge is refunded already")],
    ),
    ("refunded_in_part", {"refund": True}, {"amount_refunded": 500}, {}, [ALERT, FREEZE, REFUND]),
    (
        "not_actionable",
        {"refund": True},
        {},
        {"actionable": False},
        [ALERT, FREEZE, (*NO_REFUND, "the warning is not actionable")],
    ),
    (
        "liability_shifted",
        {"refund": True},
        {"is_liability_shifted": True},
        {},
        [ALERT, FREEZE, (*NO_REFUND, "the card was authenticated: the issuer is liable")],
    ),
    ("within_the_cap", {"refund": True, "refund_amount_max": 2000}, {}, {}, [ALERT, FREEZE, REFUND]),
    (
        "above_the_cap",
        {"refund": True, "refund_amount_max": 1999},
        {},
        {},
        [ALERT, FREEZE, (*NO_REFUND, "2000 are more than refund_amount_max 1999")],
    ),
    (
        "rest_within_the_cap",
        {"refund": True, "refund_amount_max": 1999},
        {"amount_refunded": 1},
        {},
        [ALERT, FREEZE, REFUND],
    ),
    (
        "too_old",
        {"refund": True},
        {"charged_at": now() - timedelta(days=8)},
        {},
        [ALERT, FREEZE, (*NO_REFUND, "the charge is older than refund_age_max 7 days")],
    ),
    (
        "older_allowed",
        {"refund": True, "refund_age_max": timedelta(days=30)},
        {"charged_at": now() - timedelta(days=8)},
        {},
        [ALERT, FREEZE, REFUND],
    ),
    (
        "cancel_without_a_subscription",
        {"cancel_subscription": True},
        {},
        {},
        [
            ALERT,
            FREEZE,
            ("cancel_subscription", "skipped", "its charge paid for no subscription that is known here"),
        ],
    ),
    (
        "unlinked",
        {},
        {"stripe_customer_id": "cus_2"},
        {"stripe_customer_id": "cus_2"},
        [ALERT, ("freeze_account", "skipped", "its customer is not linked to an account")],
    ),
]


@pytest.mark.parametrize(
    ("policy", "charged", "warned", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_policy_decides_by_warning_charge_and_account(
    worker: Connection,
    conn: Connection,
    linked: UUID,
    policy: dict[str, Any],
    charged: dict[str, Any],
    warned: dict[str, Any],
    expected: list[tuple[str, str, str]],
) -> None:
    set_policy(conn, **policy)
    charge(worker, **charged)
    assert record_fraud_warning(worker, **warned) == "applied"
    assert actions(conn) == expected
    assert is_frozen(conn, linked) == (FREEZE in expected)
    told = value(conn, "select count(*) from billing.notifications where kind = 'fraud_warning'")
    assert told == any(action == "alert" for action, _, _ in expected)
    assert {row["actor"] for row in fetch(conn, "select actor from billing.fraud_actions")} <= {"policy"}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("frozen", "the account is frozen already"),
        ("closed", "the account is closed"),
    ],
)
def test_state_of_the_account_decides_too(
    app: Connection, worker: Connection, linked: UUID, state: str, reason: str
) -> None:
    if state == "frozen":
        freeze(app, linked)
    else:
        call(app, "close_account", account_id=linked, **WHO)
    charge(worker)
    record_fraud_warning(worker)
    assert actions(app)[-1] == ("freeze_account", "skipped", reason)


@pytest.fixture
def subscribed(worker: Connection, linked: UUID) -> UUID:
    """An account whose subscription the charge paid for."""
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    sync_invoice(worker)
    sync_invoice_payment(worker)
    charge(worker)
    return linked


@pytest.mark.usefixtures("strict")
def test_subscription_that_the_charge_paid_for_is_cancelled_and_no_other(
    worker: Connection, conn: Connection, subscribed: UUID
) -> None:
    sync_subscription(worker, stripe_subscription_id="sub_2", items=[])
    record_fraud_warning(worker)
    queued = "select stripe_subscription_id from billing.fraud_actions where action = 'cancel_subscription'"
    assert value(conn, queued) == "sub_1"
    assert [action["action"] for action in take(worker)] == ["refund", "cancel_subscription"]


@pytest.mark.usefixtures("strict", "linked")
def test_subscription_that_arrives_after_the_warning_is_cancelled(
    worker: Connection, conn: Connection
) -> None:
    charge(worker)
    record_fraud_warning(worker)
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_subscription(worker)
    sync_invoice(worker)
    sync_invoice_payment(worker)
    queued = "select stripe_subscription_id from billing.fraud_actions where status = 'queued' and action <> 'refund'"
    assert value(conn, queued) == "sub_1"


@pytest.mark.usefixtures("strict")
def test_subscription_that_has_ended_is_unchanged(
    worker: Connection, conn: Connection, subscribed: UUID
) -> None:
    sync_subscription(worker, status="canceled", ended_at=JANUARY + SECOND, as_of=JANUARY + SECOND)
    record_fraud_warning(worker)
    assert ("cancel_subscription", "skipped", "the subscription has ended") in actions(conn)


@pytest.mark.usefixtures("strict")
def test_dry_run_records_actions_and_does_nothing(
    app: Connection, worker: Connection, conn: Connection, subscribed: UUID
) -> None:
    set_dry_run(conn, True)
    notified = value(conn, "select count(*) from billing.notifications")
    assert record_fraud_warning(worker) == "applied"
    assert value(app, "select status from billing.fraud_warnings") == "open"
    assert actions(conn) == []
    assert not is_frozen(conn, subscribed)
    assert take(worker) == []
    assert value(conn, "select count(*) from billing.notifications") == notified
    assert judged(app) == [
        (action, True, "risk highest")
        for action in ("alert", "freeze_account", "refund", "cancel_subscription")
    ]
    # Real again: what was told in the meantime stays as it is.
    set_dry_run(conn, False)
    record_fraud_warning(worker, as_of=now())
    assert actions(conn) == []


def test_judgement_shows_earlier_decisions(
    app: Connection, worker: Connection, conn: Connection, linked: UUID
) -> None:
    set_policy(conn, refund=True)
    charge(worker)
    record_fraud_warning(worker)
    assert judged(app) == [
        ("alert", False, "it is done already"),
        ("freeze_account", False, "it is done already"),
        ("refund", False, "it is queued already"),
    ]
    unfreeze(app, linked)
    assert judged(app)[1] == ("freeze_account", False, "ada@example.com has undone it")


# Replays


@pytest.mark.usefixtures("strict")
def test_month_old_event_does_nothing_after_an_administrator_has_undone(
    app: Connection, worker: Connection, conn: Connection, subscribed: UUID
) -> None:
    month_ago = now() - timedelta(days=31)
    record_fraud_warning(worker, warned_at=month_ago, as_of=month_ago)
    for row in fetch(app, "select id from billing.fraud_actions where action <> 'alert' order by id"):
        undo(app, row["id"])
    before = actions(conn)
    assert not is_frozen(conn, subscribed)
    for more in ({}, {"as_of": now()}, {"actionable": False, "as_of": now()}):
        record_fraud_warning(worker, **more)
    # What paid an invoice has open warnings looked at again.
    sync_invoice_payment(worker, stripe_invoice_payment_id="inpay_2")
    assert actions(conn) == before
    assert not is_frozen(conn, subscribed)
    assert take(worker) == []


def test_second_warning_of_an_account_that_was_opened_again_does_not_freeze_it_later(
    app: Connection, worker: Connection, linked: UUID
) -> None:
    record_fraud_warning(worker)
    record_fraud_warning(worker, stripe_early_fraud_warning_id="issfr_2", stripe_charge_id="ch_2")
    unfreeze(app, linked)
    sync_invoice_payment(worker)  # looks at both again
    assert not is_frozen(app, linked)
    # A new warning is news.
    record_fraud_warning(worker, stripe_early_fraud_warning_id="issfr_3", stripe_charge_id="ch_3")
    assert is_frozen(app, linked)


def test_customer_linked_later_is_frozen_then(app: Connection, worker: Connection, account: UUID) -> None:
    charge(worker)
    record_fraud_warning(worker)
    assert actions(app)[-1][:2] == ("freeze_account", "skipped")
    link(app, account, "cus_1")
    assert is_frozen(app, account)
    assert actions(app) == [ALERT, FREEZE]
    assert value(app, "select count(*) from billing.notifications where kind = 'fraud_warning'") == 1


def test_warning_that_was_resolved_before_the_link_freezes_nobody(
    app: Connection, worker: Connection, account: UUID
) -> None:
    record_fraud_warning(worker)
    call(
        app,
        "resolve_fraud_warning",
        stripe_early_fraud_warning_id=WARNING,
        decision="dismissed",
        notes="a friend",
        actor="ada",
    )
    link(app, account, "cus_1")
    assert not is_frozen(app, account)


# What a person decides


def test_freeze_and_unfreeze_are_recorded_with_actor_and_reason(app: Connection, linked: UUID) -> None:
    grant(app, linked, 10)
    assert freeze(app, linked)["frozen_reason"] == WHO["reason"]
    assert freeze(app, linked, reason="again")["frozen_reason"] == WHO["reason"]
    with refused("TB003"):
        spend(app, linked, 1)
    assert (
        value(app, "select payload ->> 'reason' from billing.notifications where kind = 'account_frozen'")
        == (WHO["reason"])
    )
    assert unfreeze(app, linked, reason="all is well", actor="bob")["frozen_at"] is None
    unfreeze(app, linked)
    spend(app, linked, 1)
    rows = fetch(
        app,
        "select action, status, reason, actor, undone_by, undone_reason from billing.fraud_actions order by id",
    )
    assert [tuple(row.values()) for row in rows] == [
        ("freeze_account", "undone", "seen by hand", "ada@example.com", "bob", "all is well"),
        ("unfreeze_account", "done", "all is well", "bob", None, None),
    ]


@pytest.mark.parametrize("missing", ["reason", "actor"])
@pytest.mark.parametrize("function", ["freeze_account", "unfreeze_account"])
def test_reason_and_actor_are_required(app: Connection, linked: UUID, function: str, missing: str) -> None:
    with refused("TB028"):
        call(app, function, account_id=linked, **(WHO | {missing: ""}))
    assert actions(app) == []


def test_account_that_does_not_exist_cannot_be_frozen(app: Connection) -> None:
    for function in (freeze, unfreeze):
        with refused("TB004"):
            function(app, UUID(int=7))


def test_warning_is_resolved_and_reopened(app: Connection, worker: Connection, linked: UUID) -> None:
    record_fraud_warning(worker)

    def resolve(decision: str | None) -> Row:
        arguments = {"decision": decision, "notes": "spoke to her", "actor": "ada"}
        return call(app, "resolve_fraud_warning", stripe_early_fraud_warning_id=WARNING, **arguments)

    resolved = resolve("resolved")
    assert (resolved["status"], resolved["notes"]) == ("resolved", "spoke to her")
    assert resolved["processed_at"] is not None
    assert resolve("open")["processed_at"] is None
    for decision in ("closed", None):
        with refused("TB073"):
            resolve(decision)
    assert [reason for action, _, reason in actions(app) if action == "note"] == [
        "resolved: spoke to her",
        "open: spoke to her",
    ]


def test_note_is_added_to_a_warning(app: Connection, worker: Connection, linked: UUID) -> None:
    record_fraud_warning(worker)
    note = call(
        app, "note_fraud", stripe_early_fraud_warning_id=WARNING, notes="called the bank", actor="ada"
    )
    assert (note["action"], note["status"], note["reason"], note["account_id"]) == (
        "note",
        "done",
        "called the bank",
        linked,
    )


@pytest.mark.parametrize(
    ("function", "more"),
    [
        ("resolve_fraud_warning", {"decision": "resolved", "notes": "x", "actor": "ada"}),
        ("note_fraud", {"notes": "x", "actor": "ada"}),
        ("refund_fraud_warning", {"reason": "x", "actor": "ada"}),
    ],
    ids=["resolve", "note", "refund"],
)
def test_warning_that_does_not_exist_is_named(app: Connection, function: str, more: dict[str, str]) -> None:
    with refused("TB072") as caught:
        call(app, function, stripe_early_fraud_warning_id="issfr_none", **more)
    assert "issfr_none" in str(caught.value)


def refund_by_hand(conn: Connection) -> Row:
    return call(conn, "refund_fraud_warning", stripe_early_fraud_warning_id=WARNING, **WHO)


def test_refund_by_hand_is_queued_once_and_ignores_the_caps(
    app: Connection, worker: Connection, conn: Connection, linked: UUID
) -> None:
    set_policy(conn, refund=True, refund_amount_max=1)
    charge(worker, amount_refunded=500)
    record_fraud_warning(worker)
    first = refund_by_hand(app)
    assert (first["status"], first["amount"], first["actor"]) == ("queued", 1500, WHO["actor"])
    assert refund_by_hand(app)["id"] == first["id"]
    # The policy does not ask for it a second time.
    set_policy(conn, refund_amount_max=None)
    sync_invoice_payment(worker)
    (task,) = take(worker)
    settle(worker, task, stripe_refund_id="re_1")
    assert refund_by_hand(app)["id"] == first["id"]
    assert take(worker) == []


@pytest.mark.parametrize(
    ("charged", "word"),
    [
        ({"is_disputed": True}, "disputed"),
        ({"amount_refunded": 2000}, "already refunded"),
        (None, "is unknown"),
    ],
    ids=["disputed", "refunded", "unknown"],
)
def test_charge_that_cannot_be_refunded_says_why(
    app: Connection, worker: Connection, linked: UUID, charged: dict[str, Any] | None, word: str
) -> None:
    if charged is not None:
        charge(worker, **charged)
    record_fraud_warning(worker)
    with refused("TB074") as caught:
        refund_by_hand(app)
    assert word in str(caught.value)


def test_freeze_of_the_policy_is_undone_by_its_action(
    app: Connection, worker: Connection, linked: UUID
) -> None:
    record_fraud_warning(worker)
    frozen = value(app, "select id from billing.fraud_actions where action = 'freeze_account'")
    assert undo(app, frozen)["status"] == "undone"
    assert undo(app, frozen)["status"] == "undone"
    assert not is_frozen(app, linked)


def test_only_actions_that_were_not_sent_to_stripe_can_be_undone(
    app: Connection, worker: Connection, conn: Connection, linked: UUID
) -> None:
    set_policy(conn, refund=True, freeze_account=False)
    charge(worker)
    record_fraud_warning(worker)
    alert, refund = (row["id"] for row in fetch(app, "select id from billing.fraud_actions order by id"))
    for wrong in (alert, 0, None):
        with refused("TB075"):
            undo(app, wrong)
    (task,) = take(worker)
    with refused("TB075"):
        undo(app, refund)  # a worker is asking Stripe
    settle(worker, task, "queued", reason="429")
    assert undo(app, refund)["undone_by"] == WHO["actor"]
    settle(worker, task)  # an answer of before
    assert value(app, "select status from billing.fraud_actions where id = %s", [refund]) == "undone"
    assert take(worker) == []


def test_action_in_doubt_stays_in_doubt_until_stripe_has_answered(
    app: Connection, worker: Connection, conn: Connection, linked: UUID
) -> None:
    set_policy(conn, refund=True, freeze_account=False)
    charge(worker)
    record_fraud_warning(worker)
    assert [task["was_in_doubt"] for task in take(worker)] == [False]
    assert take(worker) == []
    make_jobs_due(conn)
    (task,) = take(worker)  # whoever had it is thought to have died
    assert (task["was_in_doubt"], task["attempts"]) == (True, 2)
    settle(worker, task, "queued", is_in_doubt=True, reason="time-out", retry_in_seconds=0)
    with refused("TB075"):
        undo(app, task["id"])
    (task,) = take(worker)
    assert task["was_in_doubt"]


@pytest.mark.parametrize("first", ["event", "answer"])
def test_refund_that_the_bank_refuses_is_a_failed_action(
    app: Connection, worker: Connection, conn: Connection, linked: UUID, first: str
) -> None:
    set_policy(conn, refund=True, freeze_account=False)
    charge(worker)
    record_fraud_warning(worker)
    (task,) = take(worker)
    told: list[Callable[[], Any]] = [
        lambda: settle(worker, task, stripe_refund_id="re_1"),
        lambda: sync_refund(worker, status="failed", failure_reason="lost_or_stolen_card"),
    ]
    for tell in told if first == "answer" else reversed(told):
        tell()
    failed = fetch_one(app, "select status, last_error from billing.fraud_actions where action = 'refund'")
    assert tuple(failed.values()) == ("failed", "the refund failed: lost_or_stolen_card")
    told = "select payload ->> 'reason' from billing.notifications where kind = 'fraud_action_failed'"
    assert value(app, told) == "the refund failed: lost_or_stolen_card"
    # A person may ask for it again.
    assert refund_by_hand(app)["status"] == "queued"


# Frozen accounts


def checkout(database: Database, user_id: UUID) -> None:
    with database.connect("billing_checkout") as buyer:
        call(buyer, "prepare_checkout", user_id=user_id, plan="price_1", pack=None, quantity=1,
             success_url=None, cancel_url=None)  # fmt: skip


def payment_links(database: Database, user_id: UUID) -> None:
    with database.connect("billing_checkout") as buyer:
        call(buyer, "prepare_payment_links", user_id=user_id, plan="price_1", pack=None)


def portal(database: Database, user_id: UUID) -> None:
    with database.connect("billing_checkout") as buyer:
        call(buyer, "prepare_portal", user_id=user_id, return_url=None, flow=None)


@pytest.fixture
def frozen(database: Database, app: Connection, worker: Connection, conn: Connection) -> tuple[UUID, UUID]:
    """A user whose account has credits and a customer, and is frozen; user and account."""
    conn.execute("update billing.settings set site_url = 'https://app.example.com'")
    user_id = create_user(database, "eve@example.com")
    account_id = account_of(conn, user_id)
    link(app, account_id, "cus_1")
    sync_product(worker)
    sync_price(worker)
    grant(app, account_id, 100)
    freeze(app, account_id, reason="card reported stolen")
    return user_id, account_id


def test_frozen_account_spends_holds_moves_and_buys_nothing(
    database: Database, app: Connection, frozen: tuple[UUID, UUID]
) -> None:
    user_id, account_id = frozen
    other = account_of(app, create_user(database, "bob@example.com"))
    tries: list[Callable[[], Any]] = [
        lambda: spend(app, account_id, 1),
        lambda: hold(app, account_id, 1),
        lambda: transfer(app, account_id, other, 1),
        lambda: checkout(database, user_id),
        lambda: payment_links(database, user_id),
    ]
    for attempt in tries:
        with refused("TB003"):
            attempt()
    assert balance(app, account_id) == 100
    # Whoever can't buy must still be able to cancel.
    portal(database, user_id)
    unfreeze(app, account_id)
    for attempt in tries:
        attempt()


def test_users_read_that_their_own_account_is_frozen_and_nothing_of_why_or_of_others(
    database: Database, conn: Connection, frozen: tuple[UUID, UUID]
) -> None:
    user_id, account_id = frozen
    bob = create_user(database, "bob@example.com")
    query = "select account_id, status, frozen_reason from public.billing_account"
    with as_user(conn, user_id) as session:
        [(seen, status, reason)] = session.execute(query).fetchall()
    assert (seen, status) == (account_id, "frozen")
    assert "under review" in reason
    with pytest.raises(psycopg.errors.InsufficientPrivilege), as_user(conn, user_id) as session:
        session.execute("select frozen_reason from billing.accounts")
    with as_user(conn, bob) as session:
        assert session.execute(query).fetchall() == [(account_of(conn, bob), "active", None)]


@pytest.mark.parametrize("round_", range(5))
def test_freezing_spending_and_closing_at_once_end_without_a_deadlock(
    database: Database, app: Connection, worker: Connection, linked: UUID, round_: int
) -> None:
    grant(app, linked, 1000)
    tellers = [database.connect("service_role") for _ in range(6)]
    warner = database.connect("billing_worker")
    calls: list[Callable[[], Any]] = [
        lambda: [spend(tellers[0], linked, 1) for _ in range(10)],
        lambda: [hold(tellers[1], linked, 1) for _ in range(10)],
        lambda: [(freeze(tellers[2], linked), unfreeze(tellers[2], linked)) for _ in range(5)],
        lambda: [
            record_fraud_warning(
                warner, stripe_early_fraud_warning_id=f"issfr_{n}", stripe_charge_id=f"ch_{n}"
            )
            for n in range(5)
        ],
        lambda: [link(tellers[3], linked, "cus_1") for _ in range(5)],
        lambda: [unfreeze(tellers[4], linked) for _ in range(10)],
        lambda: call(tellers[5], "close_account", account_id=linked, **WHO),
    ]
    try:
        outcomes = at_once(calls[round_:] + calls[:round_])
    finally:
        for one in [*tellers, warner]:
            one.close()
    codes = {error.sqlstate for error in outcomes if isinstance(error, Exception)}
    assert codes <= {"TB003", "TB008"}
    assert discrepancies(app) == []
    assert available(app, linked) == 0


def test_twins_over_the_data_api_decide_the_same(app: Connection, worker: Connection, linked: UUID) -> None:
    charge(worker)
    record_fraud_warning(worker)
    of_warning = {"stripe_early_fraud_warning_id": WARNING}
    assert call(app, "public.unfreeze_account", account_id=linked, **WHO)["frozen_at"] is None
    assert call(app, "public.freeze_account", account_id=linked, **WHO)["frozen_reason"] == WHO["reason"]
    assert call(app, "public.note_fraud", **of_warning, notes="seen", actor="ada")["action"] == "note"
    queued = call(app, "public.refund_fraud_warning", **of_warning, **WHO)
    assert queued["status"] == "queued"
    assert call(app, "public.undo_fraud_action", id=queued["id"], **WHO)["status"] == "undone"
    decided = {"decision": "resolved", "notes": "done", "actor": "ada"}
    assert call(app, "public.resolve_fraud_warning", **of_warning, **decided)["status"] == "resolved"


# Reviews


def sync_review(conn: Connection, **more: Any) -> str:
    arguments: Row = {
        "stripe_review_id": "prv_1",
        "stripe_charge_id": "ch_1",
        "stripe_payment_intent_id": "pi_1",
        "livemode": False,
        "is_open": True,
        "reason": "rule",
        "closed_reason": None,
        "opened_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(conn, "sync_review", **(arguments | more))


def test_review_is_recorded_told_of_once_and_closed_for_good(
    app: Connection, worker: Connection, linked: UUID
) -> None:
    charge(worker)
    assert sync_review(worker) == "applied"
    assert sync_review(worker) == "stale"
    closed = {"is_open": False, "closed_reason": "approved", "as_of": JANUARY + SECOND}
    assert sync_review(worker, **closed) == "applied"
    assert sync_review(worker, as_of=JANUARY + 2 * SECOND) == "stale"
    row = fetch_one(app, "select account_id, is_open, closed_reason from billing.reviews")
    assert tuple(row.values()) == (linked, False, "approved")
    (told,) = fetch(app, "select kind, account_id from billing.notifications")
    assert (told["kind"], told["account_id"]) == ("review_opened", linked)


def test_review_that_is_first_told_of_when_it_is_over_tells_nobody(
    app: Connection, worker: Connection, linked: UUID
) -> None:
    assert sync_review(worker, is_open=False, closed_reason="refunded") == "applied"
    assert sync_review(worker) == "stale"
    assert fetch(app, "select from billing.notifications") == []
