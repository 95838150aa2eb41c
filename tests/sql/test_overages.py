"""Credits beyond those of the plan: how far spending goes, what a period owes, and when it is claimed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    Connection,
    allocate,
    answer,
    balances,
    call,
    capture,
    discrepancies,
    fetch,
    fetch_one,
    fresh,
    grant,
    hold,
    item,
    line,
    link,
    make_jobs_due,
    move_clock,
    refund,
    refused,
    revoke,
    schedule,
    set_limits,
    spend,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    take_jobs,
    value,
)
from tests.sql.lots import lot_of
from tests.support import Database, account_of, create_user

MONTHLY, LIMIT = 400, 100
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PACK = "price_overage"


@pytest.fixture
def start() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - HOUR


@pytest.fixture
def subscriber(app: Connection, worker: Connection, account: UUID, start: datetime) -> UUID:
    """An account with 400 credits a month, and 100 more on account at 1 cent each."""
    sell(worker)
    link(app, account, "cus_1")
    subscribe(worker, start)
    return account


def sell(worker: Connection, pack_credits: int = 1, **more: Any) -> None:
    sync_product(worker)
    sync_price(
        worker,
        stripe_price_id=PACK,
        lookup_key="overage",
        type="one_time",
        unit_amount=pack_credits,
        metadata={"pack_credits": str(pack_credits)},
    )
    sync_price(worker, **({"metadata": terms()} | more))


def terms(**more: str) -> dict[str, str]:
    found = {
        "monthly_credits": str(MONTHLY),
        "credits_rollover": "none",
        "overage_limit": str(LIMIT),
        "overage_pack": "overage",
    }
    return {key: text for key, text in (found | more).items() if text}


def change_plan(worker: Connection, after: timedelta = HOUR, **more: str) -> None:
    sync_price(worker, metadata=terms(**more), as_of=datetime.now(UTC) + after)


def month(start: datetime, number: int) -> datetime:
    """The beginning of the nth month of credits, as Postgres counts."""
    with_months = start.month - 1 + number
    year, months = start.year + with_months // 12, with_months % 12 + 1
    for day in (start.day, 30, 29, 28):
        try:
            return start.replace(year=year, month=months, day=day)
        except ValueError:
            continue
    raise AssertionError


def subscribe(
    worker: Connection, start: datetime, months: int = 1, status: str = "active", **more: Any
) -> None:
    period = {"current_period_start": start, "current_period_end": month(start, months)}
    sync_state(worker, start, status=status, items=[item(**period)], as_of=start, **more)
    sync_invoice(
        worker,
        invoiced_at=start,
        paid_at=start,
        as_of=start,
        lines=[line(period_start=start, period_end=month(start, months))],
    )


def sync_state(worker: Connection, start: datetime, **more: Any) -> None:
    period = {"current_period_start": start, "current_period_end": month(start, 1)}
    arguments = {
        "billing_cycle_anchor": start,
        "started_at": start,
        "items": [item(**period)],
        "as_of": datetime.now(UTC),
    }
    sync_subscription(worker, **(arguments | more))


def renew(worker: Connection, start: datetime, number: int = 1, *packs: int) -> None:
    """The invoice of the nth further month is paid, with so many packs of overage on it."""
    since, until = month(start, number), month(start, number + 1)
    lines = [line(f"il_month_{number}", period_start=since, period_end=until)]
    for place, quantity in enumerate(packs):
        lines.append(pack_line(f"il_pack_{number}_{place}", quantity, since))
    total = sum(each["amount"] for each in lines)
    sync_invoice(
        worker,
        stripe_invoice_id=f"in_month_{number}",
        billing_reason="subscription_cycle",
        subtotal=total,
        total=total,
        amount_due=total,
        amount_paid=total,
        invoiced_at=since,
        paid_at=since + HOUR,
        as_of=since + HOUR,
        lines=lines,
    )


def pack_line(line_id: str, quantity: int, at: datetime) -> dict[str, Any]:
    return line(
        line_id,
        stripe_subscription_item_id=None,
        stripe_price_id=PACK,
        amount=quantity,
        quantity=quantity,
        period_start=at,
        period_end=at,
    )


def pay_overage(worker: Connection, quantity: int, at: datetime, name: str = "in_own") -> None:
    """The overage's own invoice is paid."""
    sync_invoice(
        worker,
        stripe_invoice_id=name,
        stripe_subscription_id=None,
        billing_reason="manual",
        subtotal=quantity,
        total=quantity,
        amount_due=quantity,
        amount_paid=quantity,
        invoiced_at=at,
        paid_at=at,
        as_of=at,
        lines=[pack_line(f"il_{name}", quantity, at)],
    )


def claim(conn: Connection, **arguments: Any) -> dict[str, Any]:
    return call(conn, "claim_due_overages", **arguments)


def overages(conn: Connection) -> list[tuple[int, int, int]]:
    """Credits, packs and amount of each, the oldest first."""
    rows = fetch(conn, "select credits, quantity, amount from billing.overages order by counted_from")
    return [(row["credits"], row["quantity"], row["amount"]) for row in rows]


def limit_of(conn: Connection, account: UUID) -> int:
    return balances(conn, account)["overage_limit"]


def go_to_month(admin: Connection, start: datetime, number: int = 1, later: timedelta = HOUR) -> None:
    move_clock(admin, month(start, number) - datetime.now(UTC) + later)


def state(conn: Connection, account: UUID) -> tuple[int, int]:
    row = balances(conn, account)
    return row["balance"], row["debt"]


def sound(conn: Connection) -> None:
    assert discrepancies(conn) == []
    assert fetch(conn, "select * from billing.entitlement_discrepancies") == []


def test_spending_goes_on_beyond_the_credits_and_stops_at_the_limit(
    app: Connection, subscriber: UUID
) -> None:
    spend(app, subscriber, MONTHLY)
    spend(app, subscriber, LIMIT - 1)
    with refused("TB001"):
        spend(app, subscriber, 2)
    assert spend(app, subscriber, 5, up_to=True)["amount"] == -1
    with refused("TB001"):
        spend(app, subscriber, 1)
    assert state(app, subscriber) == (-LIMIT, LIMIT)
    sound(app)


def test_what_is_owed_at_the_end_of_the_month_is_claimed_once(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    claim(worker)
    assert overages(app) == []
    go_to_month(admin, start)
    assert claim(worker)["overages_claimed"] == 1
    claim(worker)
    assert overages(app) == [(50, 50, 50)]
    row = fetch_one(app, "select * from billing.overages")
    assert (row["period_end"], row["counted_until"]) == (month(start, 1), month(start, 1))
    assert [job["kind"] for job in take_jobs(worker, "overage")] == ["overage"]
    sound(app)


def test_a_renewal_that_pays_for_plan_and_overage_leaves_the_whole_month(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    claim(worker)
    renew(worker, start, 1, 50)
    assert state(app, subscriber) == (MONTHLY, 0)
    remaining = fetch(app, "select source, remaining from billing.credit_grants order by id")
    assert remaining[-2:] == [
        {"source": "stripe.pack", "remaining": 0},
        {"source": "stripe.monthly_allocation", "remaining": MONTHLY},
    ]
    sound(app)


def test_the_month_that_is_paid_before_the_claim_does_not_pay_the_overage(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start, later=2 * HOUR)
    renew(worker, start)
    assert state(app, subscriber) == (MONTHLY - 50, 0)
    claim(worker)
    assert overages(app) == [(50, 50, 50)]
    pay_overage(worker, 50, month(start, 1) + 2 * HOUR)
    assert state(app, subscriber) == (MONTHLY, 0)
    sound(app)


def test_spends_after_the_end_of_the_month_belong_to_the_next(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    spend(app, subscriber, 20)
    claim(worker)
    assert overages(app) == [(50, 50, 50)]
    go_to_month(admin, start, 2)
    claim(worker)
    assert overages(app) == [(50, 50, 50), (20, 20, 20)]
    sound(app)


def test_a_worker_that_was_down_for_months_claims_each(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start, 1)
    spend(app, subscriber, 10)
    go_to_month(admin, start, 3)
    assert claim(worker)["overages_claimed"] == 2
    assert overages(app) == [(50, 50, 50), (10, 10, 10)]
    sound(app)


def test_a_pack_that_repays_during_the_month_leaves_nothing_to_bill(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    grant(app, subscriber, 30)
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(20, 20, 20)]


def test_a_grant_on_schedule_repays_as_of_its_time(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    schedule(app, subscriber, 50, month(start, 1) - DAY)
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == []
    sound(app)


def test_refunds_count_with_their_spend(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spent = spend(app, subscriber, MONTHLY + 50)
    refund(app, spent["id"], 20)
    go_to_month(admin, start)
    later = spend(app, subscriber, 5)
    claim(worker)
    assert overages(app) == [(30, 30, 30)]
    # Of a spend that is billed already: it lowers what is owed, not what later spends owe.
    refund(app, spent["id"], 30)
    spend(app, subscriber, 7)
    go_to_month(admin, start, 2)
    claim(worker)
    assert overages(app) == [(30, 30, 30), (12, 12, 12)]
    assert later["debt"] == 5
    sound(app)


def test_debt_of_revoked_credits_is_never_billed(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    admin.execute("update billing.settings set shortfall_policy = 'allow_negative'")
    given = grant(app, subscriber, 60)
    spend(app, subscriber, MONTHLY + 60)
    revoke(app, lot_of(app, given), shortfall_policy="allow_negative")
    assert state(app, subscriber) == (-60, 60)
    spend(app, subscriber, 15)
    refund(app, spend(app, subscriber, 7)["id"])
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(15, 15, 15)]


def test_captures_beyond_the_credits_count(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    held = hold(app, subscriber, MONTHLY)
    spend(app, subscriber, 10)
    capture(app, held["id"], MONTHLY)
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(10, 10, 10)]


def test_packs_are_billed_whole(
    app: Connection, worker: Connection, admin: Connection, account: UUID, start: datetime
) -> None:
    sell(worker, pack_credits=40)
    link(app, account, "cus_1")
    subscribe(worker, start)
    spend(app, account, MONTHLY + 81)
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(81, 3, 120)]


def test_a_year_is_billed_month_by_month(
    app: Connection, worker: Connection, admin: Connection, account: UUID, start: datetime
) -> None:
    sell(worker, recurring_interval="year")
    link(app, account, "cus_1")
    subscribe(worker, start, 12)
    spend(app, account, MONTHLY + 50)
    go_to_month(admin, start)
    allocate(worker)  # the next month's credits come first, and repay
    claim(worker)
    assert overages(app) == [(50, 50, 50)]
    pay_overage(worker, 50, month(start, 1) + HOUR)
    assert state(app, account) == (MONTHLY, 0)
    spend(app, account, MONTHLY + 3)
    go_to_month(admin, start, 2)
    claim(worker)
    assert overages(app) == [(50, 50, 50), (3, 3, 3)]
    sound(app)


def test_a_plan_by_weeks_is_billed_week_by_week(
    app: Connection, worker: Connection, admin: Connection, account: UUID, start: datetime
) -> None:
    sell(worker, recurring_interval="week")
    link(app, account, "cus_1")
    week = [item(current_period_start=start, current_period_end=start + 7 * DAY)]
    sync_state(worker, start, items=week)
    spend(app, account, 9)
    move_clock(admin, 7 * DAY)
    claim(worker)
    assert overages(app) == [(9, 9, 9)]
    assert value(app, "select period_end from billing.overages") == start + 7 * DAY


@pytest.mark.parametrize(
    "state",
    [
        {"status": "unpaid"},
        {"status": "paused"},
        {"status": "trialing"},
        {"status": "canceled"},
        {"is_collection_paused": True},
    ],
    ids=str,
)
def test_a_subscription_that_is_not_paid_for_has_no_overage(
    app: Connection, worker: Connection, account: UUID, start: datetime, state: dict[str, Any]
) -> None:
    sell(worker)
    link(app, account, "cus_1")
    ended = {"ended_at": datetime.now(UTC)} if state.get("status") == "canceled" else {}
    sync_state(worker, start, **state, **ended)
    assert limit_of(app, account) == 0
    with refused("TB001"):
        spend(app, account, 1)


def test_past_due_keeps_its_overage_as_its_features(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    sync_state(worker, start, status="past_due", as_of=datetime.now(UTC))
    assert limit_of(app, subscriber) == LIMIT
    admin.execute("update billing.settings set past_due_keeps_features = false")
    sync_state(worker, start, status="past_due", as_of=datetime.now(UTC) + HOUR)
    assert limit_of(app, subscriber) == 0


def test_an_ended_subscription_is_claimed_at_once(
    app: Connection, worker: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    now = datetime.now(UTC)
    sync_state(worker, start, status="canceled", canceled_at=now, ended_at=now)
    assert overages(app) == [(50, 50, 50)]
    with refused("TB001"):
        spend(app, subscriber, 1)
    assert fetch(app, "select * from billing.overage_periods") == []
    sound(app)


def test_a_change_to_a_plan_without_overage_claims_at_once(
    app: Connection, worker: Connection, subscriber: UUID, start: datetime
) -> None:
    sync_price(worker, stripe_price_id="price_2", metadata={"monthly_credits": "10"})
    spend(app, subscriber, MONTHLY + 50)
    period = {"current_period_start": start, "current_period_end": month(start, 1)}
    sync_state(worker, start, items=[item(stripe_price_id="price_2", **period)])
    assert overages(app) == [(50, 50, 50)]
    assert limit_of(app, subscriber) == 0
    sound(app)


def test_a_change_to_a_plan_with_the_same_pack_goes_on_with_the_period(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    sync_price(worker, stripe_price_id="price_2", metadata=terms(overage_limit="7"))
    spend(app, subscriber, MONTHLY + 5)
    period = {"current_period_start": start, "current_period_end": month(start, 1)}
    sync_state(worker, start, items=[item(stripe_price_id="price_2", **period)])
    assert (overages(app), limit_of(app, subscriber)) == ([], 7)
    spend(app, subscriber, 2)
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(7, 7, 7)]


def test_months_that_begin_anew_end_the_running_one_where_they_begin(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    """Even if the credits of the new months arrive first: they are not there to repay it."""
    spend(app, subscriber, MONTHLY + 50)
    anchor = start + 9 * DAY
    move_clock(admin, anchor - datetime.now(UTC) + HOUR)
    new = line("il_anew", period_start=anchor, period_end=month(anchor, 1))
    sync_invoice(
        worker, stripe_invoice_id="in_anew", invoiced_at=anchor, paid_at=anchor, as_of=anchor, lines=[new]
    )
    period = {"current_period_start": anchor, "current_period_end": month(anchor, 1)}
    sync_state(worker, start, billing_cycle_anchor=anchor, items=[item(**period)], as_of=anchor + HOUR)
    assert overages(app) == [(50, 50, 50)]
    spend(app, subscriber, state(app, subscriber)[0] + 20)
    go_to_month(admin, anchor)
    claim(worker)
    assert overages(app) == [(50, 50, 50), (20, 20, 20)]
    spans = fetch(app, "select counted_from, counted_until from billing.overages order by counted_from")
    assert (spans[0]["counted_until"], spans[1]["counted_until"]) == (anchor, month(anchor, 1))
    assert spans[1]["counted_from"] == anchor
    sound(app)


def test_new_terms_of_a_plan_reach_all_its_subscribers(
    app: Connection, worker: Connection, subscriber: UUID
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    change_plan(worker, overage_limit="60")
    claim(worker)
    assert limit_of(app, subscriber) == 60
    change_plan(worker, 2 * HOUR, overage_limit="0")
    claim(worker)
    assert (limit_of(app, subscriber), overages(app)) == (0, [(50, 50, 50)])
    change_plan(worker, 3 * HOUR, overage_limit="80")
    claim(worker)
    assert limit_of(app, subscriber) == 80
    sound(app)


def test_a_pack_that_arrives_after_its_plan_begins_the_overage(
    app: Connection, worker: Connection, account: UUID, start: datetime
) -> None:
    sync_product(worker)
    sync_price(worker, metadata=terms())
    link(app, account, "cus_1")
    subscribe(worker, start)
    assert limit_of(app, account) == 0
    sell(worker)
    claim(worker)
    assert limit_of(app, account) == LIMIT


@pytest.mark.parametrize("wrong", [{"currency": "eur"}, {"active": False}, {"unit_amount": 0}], ids=str)
def test_a_pack_that_cannot_bill_gives_no_overage(
    app: Connection, worker: Connection, account: UUID, start: datetime, wrong: dict[str, Any]
) -> None:
    sell(worker)
    order = {"stripe_price_id": "price_wrong", "type": "one_time", "unit_amount": 1} | wrong
    sync_price(worker, metadata={"pack_credits": "1"}, **order)
    change_plan(worker, overage_pack="price_wrong")
    link(app, account, "cus_1")
    subscribe(worker, start)
    assert limit_of(app, account) == 0


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "late"])
def test_the_rate_is_that_of_the_pack_that_the_plan_names_at_the_end(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime, is_late: bool
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    new = {"stripe_price_id": "price_dear", "type": "one_time", "unit_amount": 300}
    sync_price(worker, lookup_key="dear", metadata={"pack_credits": "100"}, **new)
    change_plan(worker, overage_pack="dear")
    if not is_late:
        claim(worker)
    assert overages(app) == []
    go_to_month(admin, start)
    claim(worker)
    assert overages(app) == [(50, 1, 300)]


def test_an_overdraft_is_not_billed_without_overage(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    change_plan(worker, overage_limit="0")
    claim(worker)
    set_limits(app, subscriber, overdraft=30)
    spend(app, subscriber, MONTHLY + 30)
    go_to_month(admin, start)
    claim(worker)
    assert (overages(app), state(app, subscriber)) == ([], (-30, 30))


def test_a_larger_overdraft_counts_instead_of_the_limit(app: Connection, subscriber: UUID) -> None:
    set_limits(app, subscriber, overdraft=LIMIT + 50)
    spend(app, subscriber, MONTHLY + LIMIT + 50)
    with refused("TB001"):
        spend(app, subscriber, 1)
    assert limit_of(app, subscriber) == LIMIT


def test_a_closed_account_owes_nothing(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    call(app, "close_account", account_id=subscriber, reason="gone", actor="ada")
    go_to_month(admin, start)
    claim(worker)
    assert (overages(app), limit_of(app, subscriber)) == ([], 0)


def test_two_workers_claim_once(
    app: Connection,
    database: Database,
    worker: Connection,
    admin: Connection,
    subscriber: UUID,
    start: datetime,
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    with database.connect("billing_worker") as other, other.transaction():
        assert claim(other)["overages_claimed"] == 1
        assert claim(worker) == {"accounts": 0, "overages_claimed": 0, "credits_claimed": 0}
    assert claim(worker)["accounts"] == 0
    assert overages(app) == [(50, 50, 50)]


def test_a_subscription_on_a_test_clock_is_billed_by_its_time(
    app: Connection, worker: Connection, account: UUID, start: datetime
) -> None:
    sell(worker)
    link(app, account, "cus_1")
    subscribe(worker, start, stripe_test_clock_id="clock_1")
    spend(app, account, MONTHLY + 50)
    # The invoice of the next month is reported before the clock is.
    renew(worker, start)
    assert state(app, account) == (MONTHLY - 50, 0)
    advance(worker, month(start, 1) + HOUR)
    assert overages(app) == [(50, 50, 50)]
    spend(app, account, MONTHLY - 50 + 4)
    advance(worker, month(start, 3))
    assert overages(app) == [(50, 50, 50), (4, 4, 4)]
    sound(app)


def advance(worker: Connection, to: datetime) -> None:
    answer(worker, "sync_test_clock", stripe_test_clock_id="clock_1", livemode=False, frozen_at=to)


def test_a_subscription_of_another_account_takes_its_overage_along(
    app: Connection, worker: Connection, admin: Connection, database: Database, subscriber: UUID
) -> None:
    other = account_of(app, create_user(database))
    admin.execute("update billing.subscriptions set account_id = %s", [other])
    claim(worker)
    assert limit_of(app, subscriber) == 0


@pytest.mark.parametrize(
    "metadata",
    [{"overage_limit": "-1"}, {"overage_limit": "many"}, {"overage_pack": ""}],
    ids=str,
)
def test_wrong_terms_are_an_error(worker: Connection, metadata: dict[str, str]) -> None:
    sync_product(worker)
    with refused("TB017"):
        sync_price(worker, metadata=terms(**metadata))


def test_the_proof_names_an_overage_that_is_not_what_the_ledger_says(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    claim(worker)
    sound(app)
    admin.execute("update billing.overages set credits = 49")
    assert [invariant for invariant, _ in discrepancies(app)] == ["overage_is_what_was_owed"]
    admin.execute("update billing.overages set credits = 50")
    columns = (
        "account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, stripe_pack_price_id, period_start, "
        "period_end, credits, quantity, amount, currency, claimed_at, stripe_invoice_id, is_own_invoice, "
        "stripe_invoice_item_id, status, settled_at"
    )
    admin.execute(
        f"insert into billing.overages ({columns}, counted_from, counted_until) select {columns}, "
        "counted_from - interval '1 day', counted_until from billing.overages".encode()
    )
    assert "spends_are_billed_once" in [invariant for invariant, _ in discrepancies(app)]


def test_a_failed_overage_is_retried_with_the_pack_on_sale(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    claim(worker)
    overage = value(app, "select id from billing.overages")
    with refused("TB121"):
        call(app, "retry_overage", overage_id=overage)
    [job] = take_jobs(worker, "overage")
    record(worker, job["msg_id"], overage, status="failed", reason="the price is archived")
    assert value(app, "select kind from billing.notifications") == "overage_failed"
    sync_price(
        worker, stripe_price_id=PACK, type="one_time", unit_amount=1, active=False,
        metadata={"pack_credits": "1"}, as_of=datetime.now(UTC) + HOUR,
    )  # fmt: skip
    new = {"stripe_price_id": "price_new", "type": "one_time", "unit_amount": 50, "lookup_key": "overage"}
    sync_price(worker, metadata={"pack_credits": "20"}, **new)
    row = call(app, "retry_overage", overage_id=overage)
    assert (row["status"], row["stripe_pack_price_id"], row["quantity"], row["amount"]) == (
        "claimed", "price_new", 3, 150,
    )  # fmt: skip
    make_jobs_due(admin)
    assert [job["id"] for job in take_jobs(worker, "overage")] == [str(overage)]
    with refused("TB120"):
        call(app, "retry_overage", overage_id=None)


def record(worker: Connection, msg_id: int, overage: UUID, **more: Any) -> None:
    arguments: dict[str, Any] = {
        "status": "claimed",
        "stripe_invoice_id": None,
        "is_own_invoice": None,
        "stripe_invoice_item_id": None,
        "reason": None,
        "retry_in_seconds": 0,
    }
    call(worker, "record_overage", msg_id=msg_id, overage_id=overage, **(arguments | more))


def test_a_claim_of_a_closed_account_is_not_billed(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    claim(worker)
    call(app, "close_account", account_id=subscriber, reason="gone", actor="ada")
    jobs = take_jobs(worker, "overage")
    begun = fetch(
        worker, "select * from billing.begin_overages(%s, %s)",
        [[job["msg_id"] for job in jobs], [job["id"] for job in jobs]],
    )  # fmt: skip
    assert begun == []
    assert fetch_one(app, "select status, reason from billing.overages") == {
        "status": "failed",
        "reason": "account_closed",
    }


def test_an_overage_without_a_job_gets_one(
    app: Connection, worker: Connection, admin: Connection, subscriber: UUID, start: datetime
) -> None:
    spend(app, subscriber, MONTHLY + 50)
    go_to_month(admin, start)
    claim(worker)
    admin.execute("delete from pgmq.q_billing_jobs")
    assert [invariant for invariant, _ in discrepancies(app)] == ["open_work_has_a_job"]
    assert answer(worker, "requeue_jobs") == 1


def test_a_replayed_spend_is_owed_once(app: Connection, subscriber: UUID) -> None:
    key = fresh("spend")
    first = spend(app, subscriber, MONTHLY + 50, key)
    assert spend(app, subscriber, MONTHLY + 50, key)["id"] == first["id"]
    assert state(app, subscriber) == (-50, 50)


def test_an_idle_run_reads_no_account(worker: Connection, subscriber: UUID) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute("select * from billing.overage_periods")
    assert claim(worker) == {"accounts": 0, "overages_claimed": 0, "credits_claimed": 0}
