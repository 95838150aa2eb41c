"""Changes of plan and seats within a paid period: credits by the days left, given and taken back, to and fro alike."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    SECOND,
    Connection,
    Row,
    allocate,
    balance,
    discrepancies,
    entries,
    fetch,
    item,
    line,
    link,
    lots,
    move_clock,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)

START = datetime(2028, 6, 1, tzinfo=UTC)
JULY = datetime(2028, 7, 1, tzinfo=UTC)
AUGUST = datetime(2028, 8, 1, tzinfo=UTC)
YEAR_END = datetime(2029, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOON = START + 15 * DAY  # half of June is left

CREDITS = {"basic": 100, "pro": 500, "free": 10, "none": 0}


@pytest.fixture
def customer(app: Connection, account: UUID) -> UUID:
    """An account whose customer is cus_1."""
    link(app, account, "cus_1")
    return account


def sell(worker: Connection, interval: str = "month", **metadata: str) -> None:
    """Put all plans on sale, each named by its credits a month."""
    for name, credits in CREDITS.items():
        sync_product(worker, stripe_product_id=f"prod_{name}")
        sync_price(
            worker,
            stripe_price_id=f"price_{name}",
            stripe_product_id=f"prod_{name}",
            recurring_interval=interval,
            metadata={"monthly_credits": str(credits), "credits_rollover": "none", **metadata},
        )


def subscribe(worker: Connection, plan: str = "basic", end: datetime = JULY, quantity: int = 1) -> None:
    sync_subscription(
        worker,
        billing_cycle_anchor=START,
        started_at=START,
        as_of=START,
        items=[item(stripe_price_id=f"price_{plan}", current_period_start=START, current_period_end=end)],
    )
    paid = line(
        "il_0", stripe_price_id=f"price_{plan}", period_start=START, period_end=end, quantity=quantity
    )
    sync_invoice(worker, stripe_invoice_id="in_0", invoiced_at=START, as_of=START, lines=[paid])


def change(
    number: int, at: datetime, end: datetime, taken: Row | None, added: Row | None, **more: Any
) -> Row:
    """An invoice of proration lines: what is taken away and what is added, from a moment to the period's end."""
    lines = [
        line(
            f"il_{number}_{sign}",
            amount=sign * 1000,
            is_proration=True,
            period_start=at,
            period_end=end,
            **{"stripe_price_id": f"price_{side.pop('plan', 'basic')}", **side},
        )
        for sign, side in ((-1, dict(taken or {})), (1, dict(added or {})))
        if side
    ]
    return {
        "stripe_invoice_id": f"in_{number}",
        "billing_reason": "subscription_update",
        "invoiced_at": at,
        "as_of": at,
        "lines": lines,
    } | more


BASIC, PRO = {"plan": "basic"}, {"plan": "pro"}


def test_upgrade_gives_the_difference_for_the_days_left(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    for _ in range(2):
        sync_invoice(worker, **change(1, NOON, JULY, BASIC, PRO))
    assert entries(conn, customer) == [("grant", 100), ("grant", 200)]
    lot = lots(conn, customer)[1]
    assert (lot["source"], lot["stripe_invoice_id"], lot["expires_at"]) == ("stripe.proration", "in_1", JULY)
    assert discrepancies(conn) == []


@pytest.mark.parametrize(("policy", "credits"), [("delta", 200), ("full", 450), ("none", 0)])
def test_plan_s_policy_says_what_an_upgrade_gives(
    worker: Connection, conn: Connection, customer: UUID, policy: str, credits: int
) -> None:
    sell(worker, credits_on_proration=policy)
    subscribe(worker)
    sync_invoice(worker, **change(1, NOON, JULY, BASIC, PRO))
    assert balance(conn, customer) == 100 + credits


def test_part_of_a_credit_is_given_to_nobody(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker)
    subscribe(worker)
    sync_invoice(worker, **change(1, JULY - DAY, JULY, BASIC, PRO))  # 400 / 30
    assert balance(conn, customer) == 113


def test_downgrade_takes_back_the_difference_for_the_days_left(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker, "pro")
    for _ in range(2):
        sync_invoice(worker, **change(1, NOON, JULY, PRO, BASIC))
    assert entries(conn, customer) == [("grant", 500), ("revocation", -200)]
    assert discrepancies(conn) == []


def test_downgrade_takes_nothing_back_where_the_plan_says_so(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, credits_on_downgrade="keep")
    subscribe(worker, "pro")
    sync_invoice(worker, **change(1, NOON, JULY, PRO, BASIC))
    assert entries(conn, customer) == [("grant", 500)]


@pytest.mark.parametrize("policy", ["delta", "full"])
def test_going_to_and_fro_gives_no_more_than_going_once(
    worker: Connection, conn: Connection, customer: UUID, policy: str
) -> None:
    sell(worker, credits_on_proration=policy)
    subscribe(worker)
    sync_invoice(worker, **change(1, NOON, JULY, BASIC, PRO))
    once = balance(conn, customer)
    for number in range(2, 8, 2):
        back, forth = NOON + number * SECOND, NOON + (number + 1) * SECOND
        sync_invoice(worker, **change(number, back, JULY, PRO, BASIC))
        sync_invoice(worker, **change(number + 1, forth, JULY, BASIC, PRO))
    # Under `full` the month of the plan that was left is made whole as well: it, too, was changed to.
    most = once + (50 if policy == "full" else 0)
    # Each change is rounded down, so one to and fro may cost a credit and never gives one.
    assert most - 3 <= balance(conn, customer) <= most
    assert discrepancies(conn) == []


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_changes_end_in_the_same_credits_in_every_order(
    worker: Connection, conn: Connection, customer: UUID, order: tuple[int, ...]
) -> None:
    sell(worker)
    subscribe(worker, "pro")
    changes = [
        change(1, START + 6 * DAY, JULY, PRO, BASIC),  # -320
        change(2, START + 12 * DAY, JULY, BASIC, PRO),  # +240
        change(
            3, START + 15 * DAY, JULY, {}, {"plan": "basic", "stripe_subscription_item_id": "si_2"}
        ),  # +50
    ]
    for index in order:
        sync_invoice(worker, **changes[index])
    assert balance(conn, customer) == 500 - 320 + 240 + 50
    assert discrepancies(conn) == []


def test_more_seats_give_their_part_and_count_from_the_next_slot_on(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker, "year")
    subscribe(worker, end=YEAR_END, quantity=2)
    assert balance(conn, customer) == 200
    sync_invoice(worker, **change(1, NOON, YEAR_END, {"quantity": 2}, {"quantity": 5}))
    assert balance(conn, customer) == 350
    move_clock(admin, JULY + DAY - datetime.now(UTC))
    allocate(worker)
    assert lots(conn, customer)[-1]["amount"] == 500


def test_yearly_upgrade_changes_the_slots_from_then_on(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker, "year")
    subscribe(worker, end=YEAR_END)
    move_clock(admin, JULY + DAY - datetime.now(UTC))
    allocate(worker)
    sync_invoice(worker, **change(1, JULY + 15.5 * DAY, YEAR_END, BASIC, PRO))
    move_clock(admin, YEAR_END + DAY - datetime.now(UTC))
    allocate(worker)
    given = [lot["amount"] for lot in lots(conn, customer)]
    assert given == [100, 100, 200, *[500] * 10]
    assert discrepancies(conn) == []


def test_upgrade_paid_late_makes_up_for_the_slots_granted_meanwhile(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker, "year")
    subscribe(worker, end=YEAR_END)
    upgrade = change(1, NOON, YEAR_END, BASIC, PRO)
    move_clock(admin, AUGUST + DAY - datetime.now(UTC))
    allocate(worker)  # July and August at the old price
    sync_invoice(worker, **upgrade)
    monthly = fetch(
        conn,
        "select right(split_part(idempotency_key, 'Z', 1), 19) as slot, sum(amount)::int as credits "
        "from billing.credit_grants where source = 'stripe.monthly_allocation' group by 1 order by 1",
    )
    assert [row["credits"] for row in monthly] == [100, 500, 500]
    assert (
        value(conn, "select sum(amount) from billing.credit_grants where source = 'stripe.proration'") == 200
    )


def test_item_taken_away_for_money_gives_nothing_more(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker, "year")
    subscribe(worker, end=YEAR_END)
    sync_invoice(worker, **change(1, NOON, YEAR_END, BASIC, None))
    move_clock(admin, YEAR_END + DAY - datetime.now(UTC))
    allocate(worker)
    assert [lot["amount"] for lot in lots(conn, customer)] == [100]


def test_changes_billed_with_the_next_invoice_count_for_the_month_that_is_over(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    renewal = line("il_r", stripe_price_id="price_pro", period_start=JULY, period_end=AUGUST)
    pending = change(1, NOON, JULY, BASIC, PRO, billing_reason="subscription_cycle", invoiced_at=JULY)
    sync_invoice(worker, **(pending | {"lines": [*pending["lines"], renewal], "as_of": JULY}))
    assert balance(conn, customer) == 100 + 200 + 500
    assert {lot["amount"] for lot in lots(conn, customer)} == {100, 200, 500}


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_new_period_by_a_change_of_plan_is_less_what_the_cut_month_gave(
    worker: Connection, conn: Connection, customer: UUID, order: tuple[int, ...]
) -> None:
    """From monthly to yearly and back within an hour: the days left of the month are not given twice."""
    sell(worker)
    sync_price(
        worker,
        stripe_price_id="price_year",
        stripe_product_id="prod_basic",
        recurring_interval="year",
        metadata={"monthly_credits": "100", "credits_rollover": "none"},
    )
    hour = timedelta(hours=1)
    invoices = []
    for number, (plan, old) in enumerate([("year", "basic"), ("basic", "year")], start=1):
        at = NOON + (number - 1) * hour
        cut = JULY if number == 1 else NOON.replace(year=2029)
        begins = line(
            f"il_n{number}",
            stripe_price_id=f"price_{plan}",
            period_start=at,
            period_end=at.replace(year=2029) if plan == "year" else at.replace(month=7),
        )
        invoices.append(change(number, at, cut, {"plan": old}, None))
        invoices[-1]["lines"].append(begins)
    state = {
        "billing_cycle_anchor": NOON + hour,
        "as_of": NOON + 2 * hour,
        "items": [
            item(
                stripe_price_id="price_basic",
                current_period_start=NOON + hour,
                current_period_end=(NOON + hour).replace(month=7),
            )
        ],
    }
    first = {"stripe_invoice_id": "in_0", "invoiced_at": START, "as_of": START}
    first["lines"] = [line("il_0", stripe_price_id="price_basic", period_start=START, period_end=JULY)]
    told = [
        lambda: sync_invoice(worker, **first),
        lambda: sync_invoice(worker, **invoices[0]),
        lambda: sync_invoice(worker, **invoices[1]),
        lambda: sync_subscription(worker, **state),
    ]
    for index in order:
        told[index]()
    # June, then a month less the half of June that was given; an hour of the last one is less than a credit.
    assert balance(conn, customer) == 100 + 50
    assert discrepancies(conn) == []


@pytest.mark.parametrize("policy", ["delta", "full", "none"])
def test_new_period_is_less_the_cut_one_whatever_the_plan_s_policy(
    worker: Connection, conn: Connection, customer: UUID, policy: str
) -> None:
    sell(worker, credits_on_proration=policy)
    subscribe(worker)
    invoice = change(1, NOON, JULY, {"plan": "basic"}, None)
    begins = line("il_n", stripe_price_id="price_basic", period_start=NOON, period_end=NOON.replace(month=7))
    sync_invoice(worker, **(invoice | {"lines": [*invoice["lines"], begins]}))
    assert balance(conn, customer) == 100 - 50 + 100


def test_time_that_nobody_paid_for_is_not_taken_back(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    """The month that the change credits was voided, or is of another item: there is nothing to take."""
    sell(worker)
    subscribe(worker, "free")
    sync_invoice(worker, **change(1, NOON, JULY, BASIC, PRO))
    assert balance(conn, customer) == CREDITS["free"] + 250


def test_change_between_plans_without_credits_needs_no_account(worker: Connection, conn: Connection) -> None:
    sell(worker)
    sync_invoice(worker, **change(1, NOON, JULY, {"plan": "none"}, {"plan": "none"}))
    assert fetch(conn, "select from billing.credit_schedules") == []


def test_change_to_a_plan_without_credits_ends_the_slots(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker, "year")
    subscribe(worker, end=YEAR_END)
    sync_invoice(worker, **change(1, NOON, YEAR_END, BASIC, {"plan": "none"}))
    move_clock(admin, YEAR_END + DAY - datetime.now(UTC))
    allocate(worker)
    assert [lot["amount"] for lot in lots(conn, customer)] == [100]


def test_changes_in_the_second_in_which_a_slot_starts_give_the_plan_that_was_chosen_last(
    worker: Connection, conn: Connection, admin: Any, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    move_clock(admin, START + DAY - datetime.now(UTC))
    for number in range(1, 6, 2):
        sync_invoice(worker, **change(number, START, JULY, BASIC, PRO))
        assert balance(conn, customer) == 500
        sync_invoice(worker, **change(number + 1, START, JULY, PRO, BASIC))
        assert balance(conn, customer) == 100
    assert discrepancies(conn) == []
