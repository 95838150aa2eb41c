"""Auto-recharge in the database: what is agreed to, when one is claimed, what each answer of Stripe's makes of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    balance,
    balances,
    begin_jobs,
    call,
    discrepancies,
    entries,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    link,
    lots,
    make_jobs_due,
    move_clock,
    refused,
    release,
    spend,
    sync_price,
    value,
)
from tests.sql.races import at_once
from tests.sql.test_packs import PACK_CREDITS, pack
from tests.support import Database, create_user

THRESHOLD = 100
PRICE = 2000
# The messages of recharges that were taken.
JOBS: dict[UUID, int] = {}


def set_recharge(conn: Connection, account: UUID | None, **more: Any) -> Row:
    arguments: Row = {"threshold": THRESHOLD, "stripe_price_id": "price_pack"}
    return call(conn, "set_recharge", account_id=account, **(arguments | more))


def recharges(conn: Connection) -> list[Row]:
    return fetch(conn, "select * from billing.recharges order by claimed_at, created_at")


def settings(conn: Connection) -> Row:
    return fetch_one(conn, "select * from billing.recharge_settings")


def paused(conn: Connection) -> str | None:
    return settings(conn)["paused_reason"]


def notifications(conn: Connection) -> list[tuple[str, str]]:
    rows = fetch(conn, "select audience, kind from billing.notifications order by id")
    return [(row["audience"], row["kind"]) for row in rows]


def take(worker: Connection, recharges_max: int = 10) -> list[Row]:
    begun = begin_jobs(worker, "begin_recharges", "recharge", jobs_max=recharges_max)
    JOBS.update({row["id"]: row["msg_id"] for row in begun})
    return begun


def check_again(worker: Connection) -> None:
    call(worker, "check_recharges_again")


def settle(worker: Connection, recharge_id: UUID, status: str, **more: Any) -> str:
    arguments: Row = {
        "stripe_payment_intent_id": "pi_1",
        "stripe_payment_method_id": "pm_1",
        "reason": None if status in ("paid", "charging") else "insufficient_funds",
        "is_final": False,
        "action_url": None,
        "audience": "customer",
    }
    told = {"msg_id": JOBS.get(recharge_id), "recharge_id": recharge_id, "status": status}
    return answer(worker, "record_recharge", **told, **(arguments | more))


def sync_intent(worker: Connection, recharge_id: UUID | None = None, **more: Any) -> str:
    """An event's payment intent that names a recharge."""
    arguments: Row = {
        "stripe_payment_intent_id": "pi_1",
        "stripe_customer_id": "cus_1",
        "stripe_charge_id": "ch_1",
        "stripe_payment_method_id": "pm_1",
        "livemode": False,
        "status": "succeeded",
        "currency": "usd",
        "amount": PRICE,
        "amount_received": PRICE,
        "failure_code": None,
        "metadata": {} if recharge_id is None else {"recharge_id": str(recharge_id)},
        "created_at": JANUARY,
        "as_of": JANUARY,
    }
    return answer(worker, "sync_payment_intent", **(arguments | more))


def make_due(admin: Connection) -> None:
    make_jobs_due(admin)


@pytest.fixture
def customer(conn: Connection, worker: Connection, account: UUID) -> UUID:
    """An account with 150 credits whose customer is linked, in a shop with one pack of 500."""
    link(conn, account)
    pack(worker)
    grant(conn, account, 150)
    return account


@pytest.fixture
def claimed(conn: Connection, customer: UUID) -> UUID:
    """A recharge that a spend claimed."""
    set_recharge(conn, customer)
    spend(conn, customer, 60)
    (row,) = recharges(conn)
    return row["id"]


@pytest.fixture
def charging(worker: Connection, claimed: UUID) -> UUID:
    """A recharge in the worker's hands."""
    (row,) = take(worker)
    assert row["id"] == claimed
    return claimed


# Claiming


def test_fall_below_the_threshold_claims_one_recharge(conn: Connection, customer: UUID) -> None:
    set_recharge(conn, customer, return_url="https://app.example/billing")
    spend(conn, customer, 50)
    assert recharges(conn) == []  # at the threshold is not below it
    spend(conn, customer, 1)
    (row,) = recharges(conn)
    assert (row["account_id"], row["status"], row["credits"], row["amount"], row["currency"]) == (
        customer,
        "claimed",
        PACK_CREDITS,
        PRICE,
        "usd",
    )
    assert (row["stripe_customer_id"], row["stripe_price_id"]) == ("cus_1", "price_pack")
    assert row["idempotency_key"] == str(row["id"])
    assert row["return_url"] == "https://app.example/billing"


@pytest.mark.slow
def test_a_thousand_spends_below_the_threshold_make_one_claim(
    database: Database, conn: Connection, customer: UUID
) -> None:
    grant(conn, customer, 950)  # 1,100 in all
    set_recharge(conn, customer, threshold=1090)

    def spend_some(number: int) -> None:
        with database.connect("service_role") as app:
            for step in range(125):
                spend(app, customer, 1, f"{number}:{step}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend_some, range(8)))
    assert balance(conn, customer) == 100
    assert len(recharges(conn)) == 1


def test_two_spends_at_once_make_one_claim(database: Database, conn: Connection, customer: UUID) -> None:
    set_recharge(conn, customer)
    with database.connect("service_role") as one, database.connect("service_role") as two:
        at_once([lambda: spend(one, customer, 60), lambda: spend(two, customer, 60)])
    assert len(recharges(conn)) == 1


def test_account_without_auto_recharge_is_not_armed(conn: Connection, customer: UUID) -> None:
    spend(conn, customer, 150)
    assert recharges(conn) == []
    assert balances(conn, customer)["recharge_below"] is None


def test_falling_and_rising_within_one_transaction_is_no_fall(
    database: Database, conn: Connection, customer: UUID
) -> None:
    set_recharge(conn, customer)
    with database.connect("service_role", autocommit=False) as app:
        spend(app, customer, 100)
        grant(app, customer, 100)
        app.commit()
    assert recharges(conn) == []
    assert balances(conn, customer)["recharge_below"] == THRESHOLD


def test_hold_and_expiry_are_falls_too(
    database: Database, conn: Connection, worker: Connection, admin: Connection, customer: UUID
) -> None:
    set_recharge(conn, customer)
    hold(conn, customer, 60)
    assert len(recharges(conn)) == 1


def test_lot_that_expires_claims_by_the_clock(
    conn: Connection, worker: Connection, admin: Connection, customer: UUID
) -> None:
    spend(conn, customer, 150)
    grant(conn, customer, 200, expires_at=value(conn, "select now() + interval '1 hour'"))
    set_recharge(conn, customer)
    move_clock(admin, timedelta(hours=2))
    expire_due(worker)
    assert len(recharges(conn)) == 1


def test_agreeing_below_the_threshold_claims_at_once(conn: Connection, customer: UUID) -> None:
    set_recharge(conn, customer, threshold=200)
    assert len(recharges(conn)) == 1
    set_recharge(conn, customer, threshold=200)
    assert len(recharges(conn)) == 1


def test_nothing_is_claimed_while_paused(conn: Connection, customer: UUID) -> None:
    row = set_recharge(conn, customer, is_paused=True)
    assert (row["is_paused"], row["paused_reason"]) == (True, "paused")
    assert balances(conn, customer)["recharge_below"] is None
    spend(conn, customer, 100)
    assert recharges(conn) == []
    set_recharge(conn, customer)
    assert len(recharges(conn)) == 1


def test_nothing_is_claimed_for_a_closed_account(conn: Connection, customer: UUID) -> None:
    set_recharge(conn, customer)
    call(conn, "close_account", account_id=customer, reason="left", actor="ada")
    assert recharges(conn) == []
    assert paused(conn) == "account_closed"


def test_frozen_account_is_checked_again_in_an_hour(
    conn: Connection, worker: Connection, admin: Connection, customer: UUID
) -> None:
    set_recharge(conn, customer)
    held = hold(conn, customer, 100)["id"]
    assert len(recharges(conn)) == 1
    admin.execute("delete from billing.recharges")
    release(conn, held)
    set_recharge(conn, customer)
    admin.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'fraud'")
    call(conn, "adjust_credits", account_id=customer, amount=-100, idempotency_key="k", reason="r", actor="a")
    assert recharges(conn) == []
    check_again(worker)
    assert take(worker) == []
    admin.execute("update billing.accounts set frozen_at = null, frozen_reason = null")
    move_clock(admin, timedelta(hours=2))
    assert take(worker) == []
    check_again(worker)
    assert len(take(worker)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("update billing.customers set deleted_at = now()", "no_customer"),
        ("update billing.credit_packs set active = false", "no_pack"),
        ("update billing.credit_packs set unit_amount = null", "no_pack"),
        ("update billing.products set active = false", "no_pack"),
    ],
)
def test_unavailable_pack_pauses_and_notifies_administrators_and_never_fails_a_spend(
    conn: Connection, admin: Connection, customer: UUID, change: str, reason: str
) -> None:
    set_recharge(conn, customer)
    admin.execute(change.encode())
    spend(conn, customer, 100)
    assert balance(conn, customer) == 50
    assert (recharges(conn), paused(conn)) == ([], reason)
    assert notifications(conn) == [("administrators", "recharge_paused")]


def test_card_of_a_deleted_user_is_not_charged_for_who_takes_over_the_account(
    database: Database, conn: Connection, admin: Connection, customer: UUID
) -> None:
    set_recharge(conn, customer)
    admin.execute(
        "delete from auth.users where id = (select owner_id from billing.accounts where id = %s)", [customer]
    )
    call(conn, "transfer_ownership", account_id=customer, user_id=create_user(database))
    spend(conn, customer, 100)
    assert (recharges(conn), paused(conn)) == ([], "no_user")
    set_recharge(conn, customer)  # the new owner agrees
    assert [each["status"] for each in recharges(conn)] == ["claimed"]


# Agreeing


@pytest.mark.parametrize(
    ("arguments", "sqlstate"),
    [
        ({"threshold": 0}, "TB005"),
        ({"threshold": Decimal("1.5")}, "TB005"),
        ({"threshold": None}, "TB005"),
        ({"threshold": "NaN"}, "TB005"),
        ({"stripe_price_id": "price_unknown"}, "TB050"),
        ({"stripe_price_id": None}, "TB050"),
        ({"monthly_cap_amount": 0}, "TB052"),
        ({"monthly_cap_amount": Decimal("0.5")}, "TB052"),
        ({"monthly_cap_count": 0}, "TB052"),
        ({"return_url": "javascript:alert(1)"}, "TB053"),
    ],
)
def test_invalid_settings_are_refused(
    conn: Connection, customer: UUID, arguments: Row, sqlstate: str
) -> None:
    with refused(sqlstate):
        set_recharge(conn, customer, **arguments)
    assert fetch(conn, "select * from billing.recharge_settings") == []


def test_settings_need_a_customer_and_an_account(conn: Connection, worker: Connection, account: UUID) -> None:
    pack(worker)
    with refused("TB051"):
        set_recharge(conn, account)
    with refused("TB004"):
        set_recharge(conn, uuid4())


def test_pack_that_is_not_on_sale_is_refused(conn: Connection, worker: Connection, customer: UUID) -> None:
    conn.execute("update billing.products set active = false")
    with refused("TB050"):
        set_recharge(conn, customer)
    conn.execute("update billing.products set active = true")
    pack(worker, active=False, as_of=JANUARY + SECOND)
    with refused("TB050"):
        set_recharge(conn, customer)


def test_pack_without_a_fixed_amount_is_refused_by_name(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    pack(
        worker,
        "price_any",
        unit_amount=None,
        has_custom_amount=True,
        metadata={"credits_per_unit": "100"},
    )
    with refused("TB050") as caught:
        set_recharge(conn, customer, stripe_price_id="price_any")
    assert "the customer chooses the amount of price price_any" in str(caught.value)
    # An agreement that is paused can be recorded, and ended.
    set_recharge(conn, customer, stripe_price_id="price_any", is_paused=True)
    with refused("TB050"):
        set_recharge(conn, customer, stripe_price_id="price_any")


def test_fall_with_a_pack_that_has_no_fixed_amount_pauses(
    conn: Connection, admin: Connection, customer: UUID
) -> None:
    set_recharge(conn, customer)
    admin.execute(
        "update billing.credit_packs set unit_amount = null, pack_credits = null, credits_per_unit = 100"
    )
    spend(conn, customer, 60)
    assert recharges(conn) == []
    assert paused(conn) == "no_pack"


def test_twin_in_public_does_the_same(app: Connection, customer: UUID) -> None:
    row = call(
        app,
        "public.set_recharge",
        account_id=customer,
        threshold=10,
        stripe_price_id="price_pack",
        monthly_cap_count=None,
    )
    assert (row["threshold"], row["monthly_cap_count"], row["monthly_cap_amount"]) == (10, None, None)


def test_ten_a_month_is_the_default_cap(conn: Connection, customer: UUID) -> None:
    assert set_recharge(conn, customer)["monthly_cap_count"] == 10


@pytest.mark.parametrize("role", ["anon", "authenticated", "billing_worker", "billing_receiver"])
def test_only_the_apps_server_can_set_auto_recharge(database: Database, customer: UUID, role: str) -> None:
    with database.connect(role) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        set_recharge(conn, customer)


# Taking


def test_taken_recharge_is_not_taken_again_before_its_lease_is_over(
    worker: Connection, admin: Connection, claimed: UUID
) -> None:
    (row,) = take(worker)
    assert (row["id"], row["was_asked"], row["amount"], row["barred"]) == (claimed, False, PRICE, [])
    assert take(worker) == []
    make_due(admin)
    (again,) = take(worker)
    assert (again["id"], again["was_asked"], again["first_attempt_at"]) == (
        claimed,
        True,
        row["first_attempt_at"],
    )
    assert recharges(admin)[0]["attempts"] == 2


def test_two_workers_take_a_recharge_once(database: Database, conn: Connection, claimed: UUID) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        taken = at_once([lambda: take(one), lambda: take(two)])
    assert sorted(len(rows) for rows in taken if isinstance(rows, list)) == [0, 1]


def test_second_message_of_a_recharge_waits_for_the_outcome_of_the_first(
    conn: Connection, worker: Connection, claimed: UUID
) -> None:
    conn.execute("select billing._enqueue_jobs('recharge', array[%s::text])", [claimed])
    (begun,) = take(worker)
    assert (begun["id"], begun["was_asked"]) == (claimed, False)
    assert [row["attempts"] for row in fetch(conn, "select * from billing.queued_jobs()")] == [1, 0]


def test_recharge_that_another_worker_is_taking_is_not_waited_for(
    database: Database, worker: Connection, claimed: UUID
) -> None:
    worker.execute("set lock_timeout = '2s'")
    with database.connect("billing_worker", autocommit=False) as other:
        assert len(take(other)) == 1
        assert take(worker) == []


def test_claim_that_is_no_longer_needed_is_not_charged(
    conn: Connection, worker: Connection, customer: UUID, claimed: UUID
) -> None:
    grant(conn, customer, 100)
    assert take(worker) == []
    (row,) = recharges(conn)
    assert (row["status"], row["reason"]) == ("failed", "not_needed")
    assert (paused(conn), notifications(conn)) == (None, [])
    spend(conn, customer, 100)
    assert len(take(worker)) == 1


def test_claim_whose_account_was_frozen_or_paused_meanwhile_is_not_charged(
    conn: Connection, worker: Connection, customer: UUID, claimed: UUID
) -> None:
    set_recharge(conn, customer, is_paused=True)
    assert take(worker) == []
    assert recharges(conn)[0]["reason"] == "paused"


def test_taking_never_waits_for_an_account_that_the_app_has_locked(
    database: Database, conn: Connection, worker: Connection, customer: UUID, claimed: UUID
) -> None:
    grant(conn, customer, 100)
    worker.execute("set lock_timeout = '2s'")
    with database.connect("service_role", autocommit=False) as app:
        spend(app, customer, 1)
        assert take(worker) == []
    assert recharges(conn)[0]["status"] == "claimed"


def test_account_that_is_frozen_concurrently_is_not_charged(
    database: Database, conn: Connection, worker: Connection, customer: UUID, claimed: UUID
) -> None:
    with database.connect("service_role", autocommit=False) as app:
        call(app, "freeze_account", account_id=customer, reason="under review", actor="ada")
        assert take(worker) == []
        app.commit()
    assert fetch_one(conn, "select attempts from billing.queued_jobs() where kind = 'recharge'") == {
        "attempts": 0
    }
    make_due(conn)
    assert take(worker) == []
    assert recharges(conn)[0]["reason"] == "account_frozen"


# Paying


def test_answer_grants_the_pack_once_with_its_lineage(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    assert settle(worker, charging, "paid") == "paid"
    assert settle(worker, charging, "paid") == "paid"
    lot = lots(conn, customer)[-1]
    assert (lot["amount"], lot["source"], lot["reference_id"]) == (
        PACK_CREDITS,
        "stripe.recharge",
        str(charging),
    )
    assert (lot["idempotency_key"], lot["key_space"]) == ("recharge:pi_1", "stripe")
    assert (lot["stripe_payment_intent_id"], lot["stripe_price_id"]) == ("pi_1", "price_pack")
    assert balance(conn, customer) == 90 + PACK_CREDITS
    assert discrepancies(conn) == []


@pytest.mark.parametrize("first", ["answer", "event"])
def test_answer_and_event_grant_once_whichever_is_first(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID, first: str
) -> None:
    told = [lambda: settle(worker, charging, "paid"), lambda: sync_intent(worker, charging)]
    for tell in told if first == "answer" else reversed(told):
        tell()
    assert balance(conn, customer) == 90 + PACK_CREDITS
    assert recharges(conn)[0]["status"] == "paid"


def test_answer_and_event_at_once_grant_once(
    database: Database, conn: Connection, customer: UUID, charging: UUID
) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        at_once([lambda: settle(one, charging, "paid"), lambda: sync_intent(two, charging)])
    assert balance(conn, customer) == 90 + PACK_CREDITS


def test_replayed_event_changes_nothing(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    sync_intent(worker, charging)
    before = recharges(conn)
    sync_intent(worker, charging)
    sync_intent(worker, charging, status="requires_payment_method", amount_received=0)
    sync_intent(worker, charging, status="canceled", amount_received=0)
    assert recharges(conn) == before


def test_decline_is_recorded_by_the_answer_and_not_by_a_faster_event(
    conn: Connection, worker: Connection, charging: UUID
) -> None:
    sync_intent(
        worker, charging, status="requires_payment_method", amount_received=0, failure_code="card_declined"
    )
    assert (recharges(conn)[0]["status"], notifications(conn)) == ("charging", [])


def test_paid_recharge_arms_the_balance_again(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "paid")
    assert balances(conn, customer)["recharge_below"] == THRESHOLD
    spend(conn, customer, 500)
    assert [row["status"] for row in recharges(conn)] == ["paid", "claimed"]


@pytest.mark.parametrize(
    "forged",
    [
        {"stripe_customer_id": "cus_2"},
        {"amount": 50, "amount_received": 50},
        {"amount_received": 50},
        {"currency": "jpy"},
        {"stripe_customer_id": None},
    ],
    ids=str,
)
def test_payment_that_only_names_a_recharge_grants_nothing(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID, forged: Row
) -> None:
    assert sync_intent(worker, charging, **forged) == "applied"
    assert balance(conn, customer) == 90
    assert recharges(conn)[0]["status"] == "charging"


def test_second_payment_that_names_a_recharge_grants_nothing(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "paid")
    sync_intent(worker, charging, stripe_payment_intent_id="pi_2")
    assert balance(conn, customer) == 90 + PACK_CREDITS


@pytest.mark.parametrize(
    "metadata", [{}, {"recharge_id": "nonsense"}, {"recharge_id": str(UUID(int=42))}], ids=str
)
def test_payment_of_no_recharge_is_ignored(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID, metadata: Row
) -> None:
    assert sync_intent(worker, metadata=metadata) == "applied"
    assert balance(conn, customer) == 90


def test_payment_other_than_the_expected_one_grants_nothing(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "requires_action", reason="authentication_required")
    sync_intent(worker, charging, stripe_payment_intent_id="pi_2")
    assert (recharges(conn)[0]["status"], balance(conn, customer)) == ("requires_action", 90)


def test_slow_bank_is_waited_for(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    assert settle(worker, charging, "charging") == "charging"
    assert take(worker) == []
    spend(conn, customer, 10)
    assert len(recharges(conn)) == 1
    sync_intent(worker)
    assert balance(conn, customer) == 80 + PACK_CREDITS


def test_slow_bank_that_refuses_pauses(conn: Connection, worker: Connection, charging: UUID) -> None:
    settle(worker, charging, "charging")
    failed = {"status": "requires_payment_method", "failure_code": "debit_not_authorized"}
    for _ in range(2):
        sync_intent(worker, **failed, amount_received=0)
    assert (recharges(conn)[0]["status"], paused(conn)) == ("failed", "debit_not_authorized")
    assert notifications(conn) == [("customer", "recharge_failed")]


# Not paying


def test_decline_pauses_and_notifies_once(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    for _ in range(10):
        assert settle(worker, charging, "failed") == "failed"
    sync_intent(worker, charging, status="requires_payment_method", amount_received=0)
    assert (paused(conn), notifications(conn)) == ("insufficient_funds", [("customer", "recharge_failed")])
    spend(conn, customer, 10)
    assert [row["status"] for row in recharges(conn)] == ["failed"]
    assert value(conn, "select payload ->> 'reason' from billing.notifications") == "insufficient_funds"


def test_resuming_tries_again_and_names_permanently_refused_cards(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "failed", reason="stolen_card", is_final=True)
    set_recharge(conn, customer)
    (row,) = take(worker)
    assert row["id"] != charging
    assert row["barred"] == ["pm_1"]


def test_authentication_pauses_and_sends_the_link(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    url = "https://hooks.stripe.com/3ds"
    settle(worker, charging, "requires_action", reason="authentication_required", action_url=url)
    assert paused(conn) == "authentication_required"
    assert notifications(conn) == [("customer", "recharge_requires_action")]
    assert value(conn, "select payload ->> 'url' from billing.notifications") == url
    spend(conn, customer, 10)
    assert (len(recharges(conn)), take(worker)) == (1, [])

    sync_intent(worker)
    assert (recharges(conn)[0]["status"], paused(conn)) == ("paid", None)
    assert balance(conn, customer) == 80 + PACK_CREDITS
    assert balances(conn, customer)["recharge_below"] == THRESHOLD


def test_authentication_that_is_canceled_fails(conn: Connection, worker: Connection, charging: UUID) -> None:
    settle(worker, charging, "requires_action", reason="authentication_required")
    sync_intent(worker, status="canceled", amount_received=0)
    assert recharges(conn)[0]["status"] == "failed"
    assert paused(conn) == "authentication_required"


def test_payment_authenticated_after_the_recharge_failed_is_granted(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "requires_action", reason="authentication_required")
    set_recharge(conn, customer)
    assert [row["status"] for row in recharges(conn)] == ["failed", "claimed"]
    sync_intent(worker)
    assert balance(conn, customer) == 90 + PACK_CREDITS
    assert take(worker) == []  # the second is needed no more
    assert [row["status"] for row in recharges(conn)] == ["paid", "failed"]


def test_delay_changes_only_the_due_time(
    conn: Connection, worker: Connection, admin: Connection, charging: UUID
) -> None:
    worker.execute("select billing.delay_recharge(%s, %s, 30, 'Stripe is away')", [JOBS[charging], charging])
    (row,) = recharges(conn)
    assert (row["status"], row["last_error"]) == ("charging", "Stripe is away")
    (job,) = fetch(conn, "select * from billing.queued_jobs()")
    assert timedelta(seconds=20) < job["due_at"] - row["updated_at"] <= timedelta(seconds=31)
    assert (job["id"], job["reason"]) == (str(charging), "Stripe is away")
    assert notifications(conn) == []


def test_unknown_recharge_is_refused(worker: Connection) -> None:
    with refused("TB054"):
        settle(worker, uuid4(), "paid")


# Caps


def pay_next(conn: Connection, worker: Connection, number: int) -> None:
    (row,) = take(worker)
    settle(worker, row["id"], "paid", stripe_payment_intent_id=f"pi_{number}")


def spend_pack(conn: Connection, account: UUID) -> None:
    spend(conn, account, balance(conn, account) - 50)


@pytest.mark.parametrize(
    "cap", [{"monthly_cap_count": 2}, {"monthly_cap_amount": 2 * PRICE + PRICE - 1}], ids=str
)
def test_cap_is_respected_and_reported_once_until_the_next_month_of_utc(
    conn: Connection, worker: Connection, admin: Connection, customer: UUID, cap: Row
) -> None:
    set_recharge(conn, customer, **cap)
    spend_pack(conn, customer)
    for number in range(2):
        pay_next(conn, worker, number)
        spend_pack(conn, customer)
    spend(conn, customer, 1)
    assert take(worker) == []
    assert [row["status"] for row in recharges(conn)] == ["paid", "paid"]
    assert (notifications(conn), paused(conn)) == ([("customer", "recharge_capped")], None)

    now = datetime.now(UTC)
    next_month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    assert settings(conn)["check_again_at"] == next_month
    move_clock(admin, next_month - now - timedelta(minutes=2))
    check_again(worker)
    assert take(worker) == []
    move_clock(admin, next_month - now + timedelta(minutes=1))
    check_again(worker)  # arms it: below the threshold, that is a claim
    assert [row["status"] for row in recharges(conn)][:2] == ["paid", "paid"]
    assert len(recharges(conn)) == 3
    pay_next(conn, worker, 3)


def test_refused_payments_count_towards_no_cap(
    conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    settle(worker, charging, "failed")
    set_recharge(conn, customer, monthly_cap_count=1)
    assert len(take(worker)) == 1


def test_cap_that_is_reached_again_in_one_month_fails_no_spend_and_is_reported_once(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    for _ in range(2):
        set_recharge(conn, customer, monthly_cap_amount=PRICE - 1)
        spend(conn, customer, 60)
        assert recharges(conn) == []
    assert notifications(conn) == [("customer", "recharge_capped")]


def test_raising_the_cap_takes_effect_at_once(conn: Connection, worker: Connection, customer: UUID) -> None:
    set_recharge(conn, customer, monthly_cap_amount=PRICE - 1)
    spend_pack(conn, customer)
    assert recharges(conn) == []
    set_recharge(conn, customer, monthly_cap_amount=PRICE)
    assert len(take(worker)) == 1


def test_debt_is_repaid_from_a_recharge(conn: Connection, worker: Connection, customer: UUID) -> None:
    call(conn, "set_credit_limits", account_id=customer, overdraft=100)
    set_recharge(conn, customer)
    spend(conn, customer, 200)
    pay_next(conn, worker, 1)
    assert balance(conn, customer) == PACK_CREDITS - 50
    assert entries(conn, customer)[-1] == ("grant", PACK_CREDITS)
    assert discrepancies(conn) == []


def test_recharge_has_the_price_of_its_claim(
    conn: Connection, worker: Connection, customer: UUID, claimed: UUID
) -> None:
    pack(worker, metadata={"pack_credits": "1"}, as_of=JANUARY + SECOND)
    sync_price(worker, stripe_price_id="price_other", type="one_time", metadata={"pack_credits": "7"})
    set_recharge(conn, customer, stripe_price_id="price_other")
    pay_next(conn, worker, 1)
    assert balance(conn, customer) == 90 + PACK_CREDITS


def test_settling_does_not_wait_long_for_the_apps_transaction(
    database: Database, conn: Connection, worker: Connection, customer: UUID, charging: UUID
) -> None:
    with database.connect("service_role", autocommit=False) as app:
        spend(app, customer, 10)
        with refused("55P03"):
            settle(worker, charging, "paid")
        app.commit()
    assert settle(worker, charging, "paid") == "paid"
    assert balance(conn, customer) == 80 + PACK_CREDITS


def test_customer_returns_to_the_apps_site_by_default(
    conn: Connection, admin: Connection, customer: UUID
) -> None:
    admin.execute("update billing.settings set site_url = 'https://app.example'")
    set_recharge(conn, customer, threshold=200)
    assert recharges(conn)[0]["return_url"] == "https://app.example"
