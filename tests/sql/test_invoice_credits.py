"""A paid invoice grants what its lines are worth: once for each item and period, and nothing by halves."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    SECOND,
    Connection,
    Row,
    balance,
    discrepancies,
    entries,
    fetch,
    fetch_one,
    item,
    line,
    link,
    lots,
    move_clock,
    refused,
    spend,
    sync_invoice,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once
from tests.support import Database


@pytest.fixture
def customer(app: Connection, account: UUID) -> UUID:
    """An account whose customer is cus_1."""
    link(app, account, "cus_1")
    return account


def sell(worker: Connection, **metadata: int | str) -> None:
    """Put price_1 on sale with these credits."""
    sync_price(worker, metadata={name: str(amount) for name, amount in metadata.items()})


def next_month(**more: Any) -> dict[str, Any]:
    """The invoice that renews the first one's subscription for February."""
    renewal = line("il_2", period_start=FEBRUARY, period_end=MARCH)
    return {
        "stripe_invoice_id": "in_2",
        "billing_reason": "subscription_cycle",
        "lines": [renewal],
        "as_of": FEBRUARY,
    } | more


def test_first_paid_period_grants_initial_and_monthly_credits(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    assert sync_invoice(worker) == "applied"
    granted = fetch(
        conn, "select source, amount, key_space, idempotency_key from billing.credit_entries order by id"
    )
    assert granted == [
        {
            "source": "stripe.subscription",
            "amount": 50,
            "key_space": "stripe",
            "idempotency_key": f"initial:{customer}:prod_1",
        },
        {
            "source": "stripe.monthly_allocation",
            "amount": 100,
            "key_space": "stripe",
            "idempotency_key": "monthly:si_1:2026-01-01T00:00:00Z",
        },
    ]
    assert balance(conn, customer) == 150
    assert discrepancies(conn) == []


def test_lots_say_what_paid_for_them(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker, monthly_credits=100)
    sync_invoice(worker)
    (lot,) = lots(conn, customer)
    assert (lot["stripe_invoice_id"], lot["stripe_price_id"]) == ("in_1", "price_1")
    assert (lot["stripe_subscription_item_id"], lot["reference_id"]) == ("si_1", "sub_1")
    assert lot["effective_at"] == JANUARY


def test_every_renewal_grants_monthly_credits_only(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_invoice(worker)
    sync_invoice(worker, **next_month())
    assert entries(conn, customer) == [("grant", 50), ("grant", 100), ("grant", 100)]


def test_the_same_invoice_told_again_grants_nothing(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    for seconds in range(3):
        assert sync_invoice(worker, as_of=JANUARY + seconds * SECOND) == "applied"
    assert balance(conn, customer) == 150
    assert value(conn, "select count(*) from billing.credit_schedules") == 1


def test_two_invoices_for_one_item_and_period_grant_once(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_invoice(worker)
    assert sync_invoice(worker, stripe_invoice_id="in_again", lines=[line("il_again")]) == "applied"
    assert balance(conn, customer) == 150


def test_two_workers_at_once_grant_once(database: Database, conn: Connection, customer: UUID) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        sell(one, initial_credits=50, monthly_credits=100)
        other = {"stripe_invoice_id": "in_again", "lines": [line("il_again")]}
        answers = at_once([lambda: sync_invoice(one), lambda: sync_invoice(two, **other)])
    assert answers == ["applied", "applied"]
    assert balance(conn, customer) == 150
    assert discrepancies(conn) == []


def test_initial_credits_come_once_for_an_account_and_product(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50)
    sync_price(worker, stripe_price_id="price_yearly", metadata={"initial_credits": "50"})
    sync_invoice(worker)
    again = line("il_2", stripe_subscription_item_id="si_2", stripe_price_id="price_yearly")
    sync_invoice(worker, stripe_invoice_id="in_2", stripe_subscription_id="sub_2", lines=[again])
    assert entries(conn, customer) == [("grant", 50)]


def test_seats_multiply_monthly_credits(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_invoice(worker, lines=[line(quantity=3)])
    assert entries(conn, customer) == [("grant", 50), ("grant", 300)]


def test_lines_of_one_item_and_period_are_summed_before_they_grant(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100)
    tiers = [line("il_1", quantity=5, amount=5000), line("il_2", quantity=2, amount=1000)]
    sync_invoice(worker, lines=tiers)
    assert entries(conn, customer) == [("grant", 700)]


def test_items_of_one_invoice_are_granted_each(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker, monthly_credits=100)
    sync_price(worker, stripe_price_id="price_2", metadata={"monthly_credits": "7"})
    other = line("il_2", stripe_subscription_item_id="si_2", stripe_price_id="price_2")
    sync_invoice(worker, lines=[line(), other])
    assert entries(conn, customer) == [("grant", 100), ("grant", 7)]


def test_usage_of_a_metered_price_is_no_number_of_seats(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sync_price(worker, usage_type="metered", metadata={"monthly_credits": "100"})
    sync_invoice(worker, lines=[line(quantity=5000)])
    assert entries(conn, customer) == [("grant", 100)]


def test_trial_grants_trial_credits_once_and_the_paid_period_the_rest(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100, trial_credits=10)
    sync_invoice(worker, amount_paid=0, total=0, lines=[line(amount=0)])
    assert entries(conn, customer) == []  # it may be a free plan: the subscription tells
    sync_subscription(worker, status="trialing", trial_start=JANUARY, trial_end=FEBRUARY)
    assert entries(conn, customer) == [("grant", 10)]
    assert fetch_one(conn, "select source, idempotency_key from billing.credit_entries") == {
        "source": "stripe.trial",
        "idempotency_key": f"trial:{customer}:prod_1",
    }

    second_trial = line("il_t", stripe_subscription_item_id="si_2", amount=0)
    sync_subscription(
        worker,
        stripe_subscription_id="sub_2",
        status="trialing",
        trial_start=JANUARY,
        trial_end=FEBRUARY,
        items=[item("si_2")],
    )
    sync_invoice(worker, stripe_invoice_id="in_t", stripe_subscription_id="sub_2", lines=[second_trial])
    assert entries(conn, customer) == [("grant", 10)]

    sync_invoice(worker, **next_month())
    assert entries(conn, customer) == [("grant", 10), ("grant", 50), ("grant", 100)]


def test_trial_without_trial_credits_grants_nothing(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_invoice(worker, lines=[line(amount=0)])
    assert entries(conn, customer) == []


def test_free_plan_is_no_trial(worker: Connection, conn: Connection, customer: UUID) -> None:
    sync_price(worker, unit_amount=0, metadata={"monthly_credits": "5", "trial_credits": "1"})
    sync_invoice(worker, lines=[line(amount=0)])
    sync_subscription(worker)
    assert entries(conn, customer) == [("grant", 5)]


def test_trial_without_an_invoice_gives_its_credits_with_the_subscription(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100, trial_credits=10)
    for seconds in range(2):
        sync_subscription(
            worker,
            status="trialing",
            trial_start=JANUARY,
            trial_end=FEBRUARY,
            as_of=JANUARY + seconds * SECOND,
        )
    assert entries(conn, customer) == [("grant", 10)]
    sync_subscription(worker, trial_start=JANUARY, trial_end=FEBRUARY, as_of=FEBRUARY)
    sync_invoice(worker, **next_month())
    assert entries(conn, customer) == [("grant", 10), ("grant", 100)]


@pytest.mark.parametrize("scope", ["product", "account"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_trial_gives_what_the_plan_that_it_began_with_gives_in_every_order(
    worker: Connection, conn: Connection, customer: UUID, order: tuple[int, ...], scope: str
) -> None:
    """A trial of a plan without trial credits changes to one with them; then another trial begins with that one."""
    conn.execute("update billing.settings set one_trial_per = %s", [scope])
    sell(worker, monthly_credits=100)
    sync_product(worker, stripe_product_id="prod_2")
    generous = {"stripe_price_id": "price_2", "stripe_product_id": "prod_2"}
    sync_price(worker, **generous, metadata={"monthly_credits": "300", "trial_credits": "10"})
    reports: list[Row] = [
        {"items": [item()], "trial_start": JANUARY},
        {"items": [item(**generous)], "trial_start": JANUARY},
        {
            "items": [item("si_2", **generous)],
            "trial_start": JANUARY + 2 * SECOND,
            "stripe_subscription_id": "sub_2",
        },
    ]
    for number in order:
        sync_subscription(
            worker,
            status="trialing",
            trial_end=datetime(2036, 1, 1, tzinfo=UTC),
            as_of=JANUARY + number * SECOND,
            **reports[number],
        )
    assert balance(conn, customer) == 10
    assert discrepancies(conn) == []


@pytest.mark.parametrize("is_told_first", ["invoice", "subscription"])
def test_trial_s_invoice_names_the_plan_that_it_began_with(
    worker: Connection, conn: Connection, customer: UUID, is_told_first: str
) -> None:
    """The state that did is lost: the subscription has changed to a plan without trial credits meanwhile."""
    sell(worker, monthly_credits=100, trial_credits=10)
    sync_product(worker, stripe_product_id="prod_2")
    other = {"stripe_price_id": "price_2", "stripe_product_id": "prod_2"}
    sync_price(worker, **other, metadata={"monthly_credits": "25"})
    end = datetime(2036, 1, 1, tzinfo=UTC)
    reports: dict[str, Callable[[], object]] = {
        "invoice": lambda: sync_invoice(
            worker, subtotal=0, total=0, amount_due=0, amount_paid=0, lines=[line(amount=0, period_end=end)]
        ),
        "subscription": lambda: sync_subscription(
            worker,
            status="trialing",
            trial_start=JANUARY,
            trial_end=end,
            items=[item(**other)],
            as_of=JANUARY + SECOND,
        ),
    }
    for report in sorted(reports, key=lambda name: name != is_told_first):
        reports[report]()
    assert entries(conn, customer) == [("grant", 10)]
    assert discrepancies(conn) == []


def test_credits_declared_later_pay_nothing_for_months_gone_by(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sync_product(worker)
    sync_price(worker)
    sync_invoice(worker)
    sync_price(worker, metadata={"monthly_credits": "100"}, as_of=JANUARY + SECOND)
    for seconds in range(2):
        sync_subscription(worker, as_of=JANUARY + seconds * SECOND)
    assert entries(conn, customer) == []
    sync_invoice(worker, **next_month())
    assert entries(conn, customer) == [("grant", 100)]


def test_trial_linked_before_its_price_arrives_gets_its_credits_with_the_price(
    app: Connection, worker: Connection, conn: Connection, account: UUID
) -> None:
    sync_subscription(worker, status="trialing", trial_start=JANUARY, trial_end=FEBRUARY)
    link(app, account, "cus_1")
    assert entries(conn, account) == []
    sell(worker, monthly_credits=100, trial_credits=10)
    assert entries(conn, account) == [("grant", 10)]
    sync_price(worker, metadata={"trial_credits": "20"}, as_of=JANUARY + SECOND)
    assert entries(conn, account) == [("grant", 10)]


@pytest.mark.parametrize("is_told_first", ["earlier", "later"])
def test_initial_credits_are_those_of_the_earliest_paid_period(
    worker: Connection, conn: Connection, customer: UUID, is_told_first: str
) -> None:
    """The second plan of the product gives more or less; whichever is told first, the first period counts."""
    for first, second in [(50, 80), (80, 50), (50, 0)]:
        product = f"prod_{first}_{second}"
        for price, credits in [(f"price_a_{product}", first), (f"price_b_{product}", second)]:
            sync_price(
                worker,
                stripe_price_id=price,
                stripe_product_id=product,
                metadata={"initial_credits": str(credits), "monthly_credits": "1"},
            )
        january = {
            "stripe_invoice_id": f"in_a_{product}",
            "stripe_subscription_id": f"sub_{product}",
            "lines": [
                line(
                    f"il_a_{product}",
                    stripe_subscription_item_id=f"si_{product}",
                    stripe_price_id=f"price_a_{product}",
                )
            ],
        }
        february = {
            "stripe_invoice_id": f"in_b_{product}",
            "stripe_subscription_id": f"sub_{product}",
            "billing_reason": "subscription_cycle",
            "lines": [
                line(
                    f"il_b_{product}",
                    stripe_subscription_item_id=f"si_{product}",
                    stripe_price_id=f"price_b_{product}",
                    period_start=FEBRUARY,
                    period_end=MARCH,
                )
            ],
        }
        order = [january, february] if is_told_first == "earlier" else [february, january]
        for invoice in order:
            sync_invoice(worker, **invoice)
        given = fetch_one(
            conn,
            "select sum(remaining) as credits, min(stripe_invoice_id) as invoice from billing.credit_grants "
            "where source = 'stripe.subscription' and idempotency_key like %s",
            [f"%{product}%"],
        )
        assert given["credits"] == first
        if second:
            assert given["invoice"] == f"in_a_{product}"
    assert discrepancies(conn) == []


@pytest.mark.parametrize("unit_amount", [2000, None])
def test_known_trial_is_a_trial_whatever_the_price_says(
    worker: Connection, conn: Connection, customer: UUID, unit_amount: int | None
) -> None:
    sync_price(worker, unit_amount=unit_amount, metadata={"monthly_credits": "100", "trial_credits": "10"})
    sync_subscription(worker, status="trialing", trial_start=JANUARY, trial_end=FEBRUARY)
    sync_invoice(worker, lines=[line(amount=0)])
    assert entries(conn, customer) == [("grant", 10)]
    sync_invoice(worker, **next_month())
    assert entries(conn, customer) == [("grant", 10), ("grant", 100)]


def test_month_that_cost_nothing_without_a_trial_is_paid(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sync_price(worker, usage_type="metered", metadata={"monthly_credits": "100", "trial_credits": "10"})
    sync_subscription(worker)
    sync_invoice(worker, lines=[line(amount=0, quantity=0)])
    assert entries(conn, customer) == [("grant", 100)]


def test_free_tier_of_a_paid_price_is_no_trial(worker: Connection, conn: Connection, customer: UUID) -> None:
    sync_price(worker, unit_amount=None, metadata={"monthly_credits": "100", "trial_credits": "10"})
    sync_subscription(worker)
    sync_invoice(worker, lines=[line(amount=0)])
    assert entries(conn, customer) == [("grant", 100)]


def test_no_seats_are_worth_nothing(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_subscription(worker)
    sync_invoice(worker, lines=[line(amount=0, quantity=0)])
    assert entries(conn, customer) == []


def test_full_discount_is_paid_all_the_same(worker: Connection, conn: Connection, customer: UUID) -> None:
    sell(worker, monthly_credits=100)
    sync_invoice(worker, total=0, amount_due=0, amount_paid=0)
    assert entries(conn, customer) == [("grant", 100)]


@pytest.mark.parametrize(
    "invoice",
    [
        {"billing_reason": "manual"},
        {"billing_reason": "subscription_threshold"},
        {"billing_reason": None},
        {"status": "open"},
        {"status": "void"},
        {"status": "uncollectible"},
        {"lines": [line(stripe_subscription_item_id=None)]},
        {"lines": [line(period_end=JANUARY)]},
        {"lines": []},
    ],
    ids=str,
)
def test_what_pays_for_no_new_period_grants_nothing(
    worker: Connection, conn: Connection, customer: UUID, invoice: dict[str, Any]
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    assert sync_invoice(worker, **invoice) == "applied"
    assert entries(conn, customer) == []


def test_change_that_adds_a_whole_period_gives_its_months_and_no_initial_credits(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    sync_invoice(worker, lines=[line(is_proration=True)])
    assert entries(conn, customer) == [("grant", 100)]


def test_proration_beside_a_renewal_does_not_add_to_it(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    """It credits a line of another invoice, and none was paid."""
    sell(worker, monthly_credits=100)
    sync_invoice(worker, lines=[line(), line("il_2", is_proration=True, amount=-500, quantity=4)])
    assert entries(conn, customer) == [("grant", 100)]


@pytest.mark.parametrize(
    ("rule", "expires_at"),
    [
        ("none", FEBRUARY),
        ("all", None),
        ("periods:1", MARCH),
        ("periods:12", datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_rollover_says_when_monthly_credits_expire(
    worker: Connection, conn: Connection, customer: UUID, rule: str, expires_at: datetime | None
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100, credits_rollover=rule)
    sync_invoice(worker)
    sync_subscription(worker)
    initial, monthly = lots(conn, customer)
    assert monthly["expires_at"] == expires_at
    assert initial["expires_at"] is None


def test_no_more_than_the_cap_is_carried_into_the_next_month(
    app: Connection, worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100, credits_rollover="cap:130")
    sync_invoice(worker)
    sync_invoice(worker, **next_month())
    spend(app, customer, 20)
    march = line("il_3", period_start=MARCH, period_end=MARCH + timedelta(days=31))
    renewal = next_month(stripe_invoice_id="in_3", lines=[march], as_of=MARCH)
    for _ in range(2):
        sync_invoice(worker, **renewal)
    moves = [("grant", 100), ("grant", 100), ("spend", -20), ("expiry", -50), ("grant", 100)]
    assert entries(conn, customer) == moves
    assert [lot["remaining"] for lot in lots(conn, customer)] == [30, 100, 100]
    assert discrepancies(conn) == []


def test_period_paid_ahead_of_time_is_open_at_once(
    app: Connection, worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100)
    start = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    sync_invoice(worker, lines=[line(period_start=start, period_end=start + timedelta(days=31))])
    (lot,) = lots(conn, customer)
    assert (lot["effective_at"], lot["entry_id"] is None) == (start, False)
    assert spend(app, customer, 100)["balance_after"] == 0
    assert discrepancies(conn) == []


def test_price_that_is_no_plan_stops_the_whole_invoice_and_is_named(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, initial_credits=50, monthly_credits=100)
    unknown = line("il_2", stripe_subscription_item_id="si_2", stripe_price_id="price_unknown")
    with refused("TB010") as caught:
        sync_invoice(worker, lines=[line(), unknown])
    assert caught.value.diag.message_detail == "price_unknown"
    assert entries(conn, customer) == []
    for table in ["invoices", "invoice_lines", "credit_schedules", "credit_grants"]:
        assert value(conn, f"select count(*) from billing.{table}") == 0, table

    sync_price(worker, stripe_price_id="price_unknown", metadata={"monthly_credits": "1"})
    sync_invoice(worker, lines=[line(), unknown])
    assert balance(conn, customer) == 151


def test_customer_that_nobody_linked_stops_the_invoice_and_is_named(
    worker: Connection, conn: Connection, account: UUID
) -> None:
    sell(worker, monthly_credits=100)
    with refused("TB011") as caught:
        sync_invoice(worker)
    assert caught.value.diag.message_detail == "cus_1"
    assert fetch(conn, "select from billing.invoices") == []
    assert entries(conn, account) == []


def test_plan_worth_nothing_needs_no_account(worker: Connection, conn: Connection) -> None:
    sync_product(worker)
    sync_price(worker)
    assert sync_invoice(worker) == "applied"
    assert fetch(conn, "select from billing.credit_schedules") == []


def test_plan_waits_for_a_product_that_may_declare_its_credits(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sync_price(worker)
    with refused("TB010") as refusal:
        sync_invoice(worker)
    assert refusal.value.diag.message_detail == "prod_1"
    sync_product(worker, metadata={"monthly_credits": "100"})
    sync_invoice(worker)
    assert entries(conn, customer) == [("grant", 100)]


def test_month_of_31_days_is_one_slot_to_its_end(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100, credits_rollover="none")
    start, end = datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    sync_invoice(worker, lines=[line(period_start=start, period_end=end)])
    assert [lot["expires_at"] for lot in lots(conn, customer)] == [end]
    assert value(conn, "select next_slot_at from billing.credit_schedules") is None


def test_grants_to_an_account_that_is_closed_are_refused(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100)
    conn.execute("update billing.accounts set closed_at = now()")
    with refused("TB008"):
        sync_invoice(worker)
    assert fetch(conn, "select from billing.invoices") == []


def test_frozen_account_still_gets_what_it_paid_for(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100)
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'a test'")
    sync_invoice(worker)
    assert balance(conn, customer) == 100


def test_metadata_edited_later_does_not_change_what_was_granted(
    worker: Connection, conn: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100)
    sync_invoice(worker)
    sync_price(worker, metadata={"monthly_credits": "900"}, as_of=JANUARY + SECOND)
    sync_invoice(worker)
    assert balance(conn, customer) == 100
    sync_invoice(worker, **next_month())
    assert balance(conn, customer) == 1000


def test_credits_of_a_month_long_past_are_granted_and_due_at_once(
    worker: Connection, conn: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker, monthly_credits=100, credits_rollover="none")
    move_clock(admin, timedelta(days=3650))
    sync_invoice(worker)
    assert balance(conn, customer) == 100
    assert value(conn, "select available from public.credit_balance") == 0
    assert discrepancies(conn) == []


def test_one_business_key_is_granted_once_across_accounts(conn: Connection, customer: UUID) -> None:
    other = value(conn, "insert into billing.accounts (kind) values ('team') returning id")
    query = b"select billing._grant_credits(%s, 5, 'stripe', 'monthly:si_1:x', 's', null, null)"
    conn.execute(query, [customer])
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(query, [other])
