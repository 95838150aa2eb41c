"""Charges keep their newest state; an early fraud warning of the highest risk freezes its account, once."""

from uuid import UUID

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    fetch,
    fetch_one,
    grant,
    link,
    record_fraud_warning,
    refused,
    spend,
    sync_payment,
    value,
)


@pytest.fixture
def linked(app: Connection, account: UUID) -> UUID:
    """An account whose customer is cus_1."""
    link(app, account, "cus_1")
    return account


def frozen_reason(conn: Connection) -> str | None:
    return value(conn, "select frozen_reason from billing.accounts")


def test_charge_keeps_its_newest_state(worker: Connection, conn: Connection) -> None:
    assert sync_payment(worker) == "applied"
    assert sync_payment(worker, amount_refunded=500) == "refetch"
    assert sync_payment(worker, amount_refunded=500, as_of=JANUARY + SECOND) == "applied"
    assert sync_payment(worker) == "stale"
    assert value(conn, "select amount_refunded from billing.payments") == 500


def test_charge_belongs_to_the_account_of_its_customer(
    worker: Connection, conn: Connection, linked: UUID
) -> None:
    sync_payment(worker)
    assert value(conn, "select account_id from billing.payments") == linked


def test_charge_of_a_guest_belongs_to_nobody(worker: Connection, conn: Connection) -> None:
    assert sync_payment(worker, stripe_customer_id=None) == "applied"
    assert value(conn, "select account_id from billing.payments") is None
    assert fetch(conn, "select from billing.customers") == []


def test_warning_of_the_highest_risk_freezes_spending_and_nothing_else(
    app: Connection, worker: Connection, linked: UUID
) -> None:
    grant(app, linked, 100)
    assert record_fraud_warning(worker) == "applied"
    assert frozen_reason(app) == "early fraud warning issfr_1"
    with refused("TB003"):
        spend(app, linked, 1)
    grant(app, linked, 5)


@pytest.mark.parametrize("risk_level", ["normal", "elevated", "not_assessed", "unknown", None])
def test_warning_of_less_risk_is_recorded_only(
    worker: Connection, conn: Connection, linked: UUID, risk_level: str | None
) -> None:
    assert record_fraud_warning(worker, risk_level=risk_level) == "applied"
    row = fetch_one(conn, "select account_id, risk_level, status from billing.fraud_warnings")
    assert row == {"account_id": linked, "risk_level": risk_level, "status": "open"}
    assert frozen_reason(conn) is None


@pytest.mark.usefixtures("linked")
def test_replayed_warning_does_not_freeze_an_account_that_was_opened_again(
    worker: Connection, conn: Connection
) -> None:
    record_fraud_warning(worker)
    conn.execute("update billing.accounts set frozen_at = null, frozen_reason = null")
    assert record_fraud_warning(worker) == "stale"
    assert record_fraud_warning(worker, as_of=JANUARY + SECOND) == "stale"
    assert frozen_reason(conn) is None


@pytest.mark.usefixtures("linked")
def test_second_warning_leaves_the_first_reason(worker: Connection, conn: Connection) -> None:
    record_fraud_warning(worker)
    frozen_at = value(conn, "select frozen_at from billing.accounts")
    record_fraud_warning(worker, stripe_early_fraud_warning_id="issfr_2", stripe_charge_id="ch_2")
    assert frozen_reason(conn) == "early fraud warning issfr_1"
    assert value(conn, "select frozen_at from billing.accounts") == frozen_at


def test_warning_freezes_nobody_else(worker: Connection, conn: Connection, linked: UUID) -> None:
    record_fraud_warning(worker, stripe_customer_id="cus_stranger")
    record_fraud_warning(worker, stripe_early_fraud_warning_id="issfr_2", stripe_customer_id=None)
    assert frozen_reason(conn) is None
    assert value(conn, "select count(*) from billing.fraud_warnings where account_id is null") == 2


def test_warning_that_came_before_the_link_freezes_when_the_customer_is_linked(
    app: Connection, worker: Connection, account: UUID
) -> None:
    record_fraud_warning(worker)
    assert frozen_reason(app) is None
    link(app, account, "cus_1")
    assert frozen_reason(app) == "early fraud warning issfr_1"
    assert value(app, "select account_id from billing.fraud_warnings") == account
