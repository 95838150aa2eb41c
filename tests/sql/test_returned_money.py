"""Money that goes back: each lot loses its share, rounded down, whatever the order in which Stripe tells of it."""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from fractions import Fraction
from math import floor
from typing import Any
from uuid import UUID

import pytest
from dateutil.relativedelta import relativedelta

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    allocate,
    available,
    balance,
    balances,
    capture,
    discrepancies,
    expire_due,
    fetch,
    fetch_one,
    grant,
    hold,
    line,
    link,
    lots,
    move_clock,
    refund,
    refused,
    reinstate,
    release,
    revoke,
    set_limits,
    spend,
    sync_checkout_session,
    sync_credit_note,
    sync_dispute,
    sync_invoice,
    sync_invoice_payment,
    sync_payment,
    sync_price,
    sync_refund,
    value,
)
from tests.sql.races import at_once, blocked
from tests.sql.test_packs import buy, pack
from tests.sql.test_slots import on, sell, subscribe
from tests.support import Database

PRICE = 2000
CREDITS = 107  # no round share of it is whole
PACK = 500


@pytest.fixture
def customer(app: Connection, account: UUID) -> UUID:
    link(app, account, "cus_1")
    return account


@pytest.fixture
def paid(worker: Connection, customer: UUID) -> UUID:
    """An account that pays for a month of CREDITS, the charge known."""
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    sync_invoice(worker)
    sync_invoice_payment(worker)
    sync_payment(worker)
    return customer


@pytest.fixture
def packed(worker: Connection, customer: UUID) -> UUID:
    """An account that bought a pack of PACK credits for PRICE."""
    pack(worker, metadata={"pack_credits": str(PACK)})
    buy(worker)
    sync_payment(worker)
    return customer


def left(credits: int, returned: int) -> int:
    return credits - floor(Fraction(credits * returned, PRICE))


def policy(conn: Connection, name: str) -> None:
    conn.execute("update billing.settings set shortfall_policy = %s", [name])


def test_partial_refunds_add_up_and_never_go_beyond(app: Connection, worker: Connection, paid: UUID) -> None:
    for number in range(1, 4):
        for _ in range(2):  # told of twice
            sync_refund(worker, stripe_refund_id=f"re_{number}", amount=400)
        assert balance(app, paid) == left(CREDITS, 400 * number)
    sync_refund(worker, stripe_refund_id="re_4", amount=800)
    assert balance(app, paid) == 0
    sync_refund(worker, stripe_refund_id="re_5", amount=800)  # more than was paid
    assert balance(app, paid) == 0
    assert value(app, "select amount_returned from billing.invoices") == PRICE
    assert discrepancies(app) == []


def test_refund_of_a_charge_tells_even_without_an_event_of_its_own(
    app: Connection, worker: Connection, paid: UUID
) -> None:
    sync_payment(worker, amount_refunded=500, as_of=JANUARY + SECOND)
    assert balance(app, paid) == left(CREDITS, 500)
    sync_refund(worker, amount=500)
    assert balance(app, paid) == left(CREDITS, 500)
    sync_refund(worker, amount=500, status="failed")
    assert balance(app, paid) == CREDITS


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_failed_refund_gives_back_and_does_not_stand_again(
    app: Connection, worker: Connection, paid: UUID, status: str
) -> None:
    sync_refund(worker, amount=1500, status="pending")
    assert balance(app, paid) == left(CREDITS, 1500)
    sync_refund(worker, amount=1500, status=status)
    assert balance(app, paid) == CREDITS
    assert sync_refund(worker, amount=1500, status="succeeded", as_of=JANUARY + SECOND) == "stale"
    assert balance(app, paid) == CREDITS
    assert discrepancies(app) == []


def test_refund_that_comes_before_all_else_is_not_lost(
    app: Connection, worker: Connection, customer: UUID
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    sync_refund(worker, amount=500)
    sync_invoice_payment(worker)
    sync_invoice(worker)
    assert balance(app, customer) == left(CREDITS, 500)


@pytest.mark.parametrize(
    ("name", "after", "debt", "withheld"),
    [
        ("clamp_and_record", 0, 0, 0),
        ("allow_negative", -150, 150, 0),
        ("block_future_grants", 0, 0, 150),
    ],
)
def test_spent_pack_follows_the_shortfall_policy(
    app: Connection,
    worker: Connection,
    conn: Connection,
    packed: UUID,
    name: str,
    after: int,
    debt: int,
    withheld: int,
) -> None:
    policy(conn, name)
    spend(app, packed, 400)
    sync_refund(worker, amount=PRICE // 2)
    row = balances(app, packed)
    assert (row["balance"], row["debt"], row["withheld"]) == (after, debt, withheld)
    revocation = fetch_one(app, "select requested, taken, shortfall from billing.credit_revocations")
    assert tuple(revocation.values()) == (250, 100, 150)
    sync_refund(worker, amount=PRICE // 2, status="failed")
    row = balances(app, packed)
    assert (row["balance"], row["debt"], row["withheld"]) == (100, 0, 0)
    assert discrepancies(app) == []


def test_what_was_never_taken_is_not_given_back_by_the_refund_before_it(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    sync_refund(worker, stripe_refund_id="re_1", amount=PRICE // 5)
    spend(app, packed, 400)
    sync_refund(worker, stripe_refund_id="re_2", amount=PRICE // 5)
    assert balance(app, packed) == 0
    sync_refund(worker, stripe_refund_id="re_2", amount=PRICE // 5, status="failed")
    assert balance(app, packed) == 0
    sync_refund(worker, stripe_refund_id="re_1", amount=PRICE // 5, status="failed")
    assert balance(app, packed) == 100
    assert discrepancies(app) == []


def test_open_dispute_freezes_and_a_won_one_releases(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    spend(app, packed, 100)
    sync_dispute(worker)
    assert (balance(app, packed), available(app, packed)) == (400, 0)
    with refused("TB001"):
        spend(app, packed, 1)
    sync_dispute(worker, status="under_review", as_of=JANUARY + SECOND)
    assert available(app, packed) == 0
    sync_dispute(worker, status="won", as_of=JANUARY + 2 * SECOND)
    assert (balance(app, packed), available(app, packed)) == (400, 400)
    assert sync_dispute(worker, status="under_review", as_of=JANUARY + 3 * SECOND) == "stale"
    assert available(app, packed) == 400
    assert discrepancies(app) == []


@pytest.mark.parametrize("outcome", ["won", "lost"])
@pytest.mark.parametrize("told", ["within the month", "after the month"])
def test_what_a_dispute_froze_expires_with_its_month(
    app: Connection, worker: Connection, admin: Connection, customer: UUID, outcome: str, told: str
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS), "credits_rollover": "none"})
    start = value(app, "select date_trunc('second', now())")
    month = {"period_start": start, "period_end": start + relativedelta(months=1)}
    sync_invoice(worker, lines=[line(**month)])
    sync_invoice_payment(worker)
    spend(app, customer, 20)
    if told == "within the month":
        sync_dispute(worker)
        assert (balance(app, customer), available(app, customer)) == (CREDITS - 20, 0)
    move_clock(admin, timedelta(days=75))
    expire_due(app)
    assert (balance(app, customer), available(app, customer)) == (0, 0)
    sync_dispute(worker)
    assert (balance(app, customer), available(app, customer)) == (0, 0)
    sync_dispute(worker, status=outcome, as_of=JANUARY + SECOND)
    assert (balance(app, customer), available(app, customer)) == (0, 0)
    assert discrepancies(app) == []


def test_what_comes_back_of_a_spend_after_its_month_lapses_although_it_is_disputed(
    app: Connection, worker: Connection, admin: Connection, customer: UUID
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS), "credits_rollover": "none"})
    start = value(app, "select date_trunc('second', now())")
    month = {"period_start": start, "period_end": start + relativedelta(months=1)}
    sync_invoice(worker, lines=[line(**month)])
    sync_invoice_payment(worker)
    hold(app, customer, 20, expires_in=timedelta(days=40))
    sync_dispute(worker)
    move_clock(admin, timedelta(days=75))
    expire_due(app)
    assert (balance(app, customer), balances(app, customer)["held"]) == (0, 0)
    assert discrepancies(app) == []


def test_lost_dispute_takes_what_it_froze(app: Connection, worker: Connection, packed: UUID) -> None:
    sync_dispute(worker)
    sync_dispute(worker, status="lost", as_of=JANUARY + SECOND)
    assert (balance(app, packed), balances(app, packed)["held"]) == (0, 0)
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    "status", ["warning_needs_response", "warning_under_review", "warning_closed", "prevented"]
)
def test_inquiry_is_noted_and_moves_nothing(
    app: Connection, worker: Connection, packed: UUID, status: str
) -> None:
    sync_dispute(worker, status=status)
    assert available(app, packed) == PACK
    assert value(app, "select status from billing.disputes") == status


def test_lost_dispute_that_is_appealed_is_frozen_and_lost_again(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    for after, (status, whole, free) in enumerate(
        [
            ("needs_response", PACK, 0),
            ("lost", 0, 0),
            ("appeal_under_review", PACK, 0),
            ("lost", 0, 0),
        ]
    ):
        assert sync_dispute(worker, status=status, as_of=JANUARY + after * SECOND) == "applied"
        assert (balance(app, packed), available(app, packed)) == (whole, free)
    assert discrepancies(app) == []


def test_dispute_of_unknown_status_stops_its_event(worker: Connection) -> None:
    with refused("TB071"):
        sync_dispute(worker, status="settled_on_the_moon")


def test_dispute_won_after_a_partial_refund_leaves_the_refund(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    sync_refund(worker, amount=PRICE // 5)
    sync_dispute(worker)
    assert (balance(app, packed), available(app, packed)) == (400, 0)
    sync_dispute(worker, status="won", as_of=JANUARY + SECOND)
    assert (balance(app, packed), available(app, packed)) == (400, 400)


def test_dispute_over_another_amount_than_at_first_freezes_that_share(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    sync_dispute(worker)
    sync_dispute(worker, amount=PRICE // 2, as_of=JANUARY + SECOND)
    assert available(app, packed) == PACK // 2
    assert discrepancies(app) == []


def test_partial_dispute_freezes_its_share(app: Connection, worker: Connection, packed: UUID) -> None:
    sync_dispute(worker, amount=PRICE // 4)
    assert (balance(app, packed), available(app, packed)) == (500, 375)


def test_app_can_neither_capture_nor_release_what_a_dispute_froze(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    sync_dispute(worker)
    hold_id = value(app, "select id from billing.credit_holds")
    with refused("TB070"):
        capture(app, hold_id, 1)
    with refused("TB070"):
        release(app, hold_id)


def test_what_a_dispute_froze_takes_no_room_under_a_cap(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    grant(app, packed, 100)
    set_limits(app, packed, spend_cap=50, spend_cap_period="day")
    sync_dispute(worker)
    assert balances(app, packed)["held"] > 50
    assert spend(app, packed, 50)["amount"] == -50


def test_administrators_are_told_of_a_dispute_once_when_it_opens_and_once_when_it_closes(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    states = ["warning_needs_response", "needs_response", "under_review", "lost"]
    for after, status in enumerate([*states, *states]):
        sync_dispute(worker, status=status, as_of=JANUARY + after * SECOND)
    told = fetch(app, "select kind, account_id from billing.notifications order by id")
    assert [row["kind"] for row in told] == ["dispute_opened", "dispute_opened", "dispute_closed"]
    assert {row["account_id"] for row in told} == {packed}


def test_administrators_are_told_of_a_refund_once_it_is_certain(
    app: Connection, worker: Connection, packed: UUID
) -> None:
    sync_refund(worker, status="pending")
    assert fetch(app, "select from billing.notifications") == []
    for _ in range(2):
        sync_refund(worker)
    (told,) = fetch(app, "select kind, account_id from billing.notifications")
    assert (told["kind"], told["account_id"]) == ("refund_applied", packed)


def test_credit_note_counts_once_beside_its_refund(app: Connection, worker: Connection, paid: UUID) -> None:
    sync_credit_note(worker, amount=1000, amount_refunded=400)
    assert balance(app, paid) == left(CREDITS, 600)
    sync_refund(worker, amount=400)
    assert balance(app, paid) == left(CREDITS, 1000)
    sync_credit_note(worker, amount=1000, amount_refunded=400, status="void")
    assert balance(app, paid) == left(CREDITS, 400)
    assert sync_credit_note(worker, amount=1000, amount_refunded=400) == "stale"


@pytest.mark.parametrize("note_first", [True, False])
def test_credit_note_on_an_invoice_that_was_paid_out_of_band_takes_its_share(
    app: Connection, worker: Connection, customer: UUID, note_first: bool
) -> None:
    """No payment is ever reported for it."""
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    steps = [lambda: sync_credit_note(worker, amount=500), lambda: sync_invoice(worker)]
    for step in steps if note_first else reversed(steps):
        step()
    assert balance(app, customer) == left(CREDITS, 500)


def test_refund_of_an_annual_line_cuts_the_slots_to_come(
    app: Connection, worker: Connection, admin: Connection, customer: UUID
) -> None:
    sell(worker)
    subscribe(worker)
    sync_invoice_payment(
        worker, stripe_invoice_id=value(app, "select stripe_invoice_id from billing.invoices")
    )
    move_clock(admin, on(2028, 2, 1) - value(app, "select now()"))
    allocate(app)
    granted = balance(app, customer)
    sync_refund(worker, amount=PRICE // 4)
    assert balance(app, customer) == granted * 3 // 4
    move_clock(admin, on(2028, 5, 1) - value(app, "select now()"))
    allocate(app)
    assert balance(app, customer) == 75 * 4
    sync_refund(worker, amount=PRICE // 4, status="failed")
    assert balance(app, customer) == 100 * 4
    allocate(app)
    assert balance(app, customer) == 100 * 4
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("stop", "go"),
    [
        (
            lambda worker: sync_refund(worker),
            lambda worker: sync_refund(worker, status="failed"),
        ),
        (
            lambda worker: sync_dispute(worker),
            lambda worker: sync_dispute(worker, status="won", as_of=JANUARY + SECOND),
        ),
    ],
    ids=["refund", "dispute"],
)
def test_slots_wait_while_their_whole_price_is_gone(
    app: Connection,
    worker: Connection,
    admin: Connection,
    customer: UUID,
    stop: Callable[[Connection], Any],
    go: Callable[[Connection], Any],
) -> None:
    sell(worker)
    subscribe(worker)
    sync_invoice_payment(
        worker, stripe_invoice_id=value(app, "select stripe_invoice_id from billing.invoices")
    )
    stop(worker)
    assert available(app, customer) == 0
    move_clock(admin, on(2028, 4, 1) - value(app, "select now()"))
    allocate(app)
    assert len(lots(app, customer)) == 1
    assert available(app, customer) == 0
    go(worker)
    assert len(lots(app, customer)) == 3
    assert available(app, customer) == 300
    assert discrepancies(app) == []


# Facts of one payment, and how much of it is back at the end: 3 x 20 %, of which one fails, then 50 % lost in dispute.
FACTS: Sequence[Callable[[Connection], Any]] = (
    lambda worker: sync_invoice(worker),
    lambda worker: sync_invoice_payment(worker),
    lambda worker: sync_payment(worker, amount_refunded=800, is_disputed=True, as_of=JANUARY + SECOND),
    lambda worker: sync_refund(worker, stripe_refund_id="re_1", amount=400),
    lambda worker: sync_refund(worker, stripe_refund_id="re_2", amount=400, status="pending"),
    lambda worker: sync_refund(worker, stripe_refund_id="re_2", amount=400, status="failed"),
    lambda worker: sync_refund(worker, stripe_refund_id="re_3", amount=400),
    lambda worker: sync_dispute(worker, amount=1000),
    lambda worker: sync_dispute(worker, amount=1000, status="lost", as_of=JANUARY + SECOND),
)
RETURNED = 400 + 400 + 1000


@pytest.mark.parametrize("seed", range(25))
def test_every_order_of_facts_and_any_repetition_ends_alike(
    app: Connection, worker: Connection, customer: UUID, seed: int
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    order = random.Random(seed)
    told = order.choices(FACTS, k=6) + list(FACTS)
    order.shuffle(told)
    for tell in told:
        tell(worker)
    assert balance(app, customer) == left(CREDITS, RETURNED)
    assert available(app, customer) == left(CREDITS, RETURNED)
    assert discrepancies(app) == []


@pytest.mark.parametrize("seed", range(6))
def test_facts_told_at_once_by_several_workers_are_all_heeded(
    database: Database, app: Connection, worker: Connection, customer: UUID, seed: int
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    tellers = [database.connect("billing_worker") for _ in FACTS]
    random.Random(seed).shuffle(tellers)
    try:
        outcomes = at_once(
            [lambda one=one, tell=tell: tell(one) for one, tell in zip(tellers, FACTS, strict=True)]
        )
    finally:
        for one in tellers:
            one.close()
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert balance(app, customer) == left(CREDITS, RETURNED)
    assert discrepancies(app) == []


@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        ([sync_invoice], sync_invoice_payment, sync_refund),
        ([sync_invoice], sync_refund, sync_invoice_payment),
        ([sync_invoice_payment], sync_invoice, sync_refund),
        ([sync_invoice_payment], sync_refund, sync_invoice),
        ([sync_invoice_payment], sync_dispute, sync_invoice),
        ([], sync_invoice, sync_credit_note),
        ([], sync_credit_note, sync_invoice),
    ],
    ids=[
        "payment-refund",
        "refund-payment",
        "invoice-refund",
        "refund-invoice",
        "dispute-invoice",
        "invoice-note",
        "note-invoice",
    ],
)
def test_what_two_tell_of_one_payment_at_once_is_not_lost_between_them(
    database: Database,
    app: Connection,
    worker: Connection,
    customer: UUID,
    before: Sequence[Callable[[Connection], str]],
    first: Callable[[Connection], str],
    second: Callable[[Connection], str],
) -> None:
    sync_price(worker, metadata={"monthly_credits": str(CREDITS)})
    for told in before:
        told(worker)
    with database.connect("billing_worker", autocommit=False) as earlier:
        first(earlier)
        with blocked(worker, app, lambda: second(worker)) as done:
            earlier.commit()
        assert done.result() == "applied"
    assert available(app, customer) == 0
    assert discrepancies(app) == []


def test_invoice_without_a_subscription_locks_its_balance_too(
    database: Database, app: Connection, worker: Connection, customer: UUID
) -> None:
    """Before its arrival, as everything that returns money does: or two could wait for each other."""
    grant(app, customer, 5)
    with database.connect("billing_worker", autocommit=False) as earlier:
        sync_invoice(earlier, stripe_subscription_id=None, lines=[])
        with blocked(app, worker, lambda: spend(app, customer, 5)) as done:
            earlier.commit()
        assert done.result()["amount"] == -5


def test_pack_whose_refund_came_first_is_granted_less(
    app: Connection, worker: Connection, customer: UUID
) -> None:
    pack(worker, metadata={"pack_credits": str(PACK)})
    sync_refund(worker, amount=500)
    sync_checkout_session(
        worker, mode="payment", status="open", payment_status="unpaid", stripe_invoice_id=None
    )
    buy(worker)
    assert balance(app, customer) == 375


@pytest.mark.parametrize("tell", [sync_refund, sync_dispute], ids=["refund", "dispute"])
def test_what_names_only_its_charge_counts_once_the_charge_is_known(
    app: Connection, worker: Connection, customer: UUID, tell: Callable[..., str]
) -> None:
    pack(worker, metadata={"pack_credits": str(PACK)})
    buy(worker)
    tell(worker, stripe_payment_intent_id=None)
    assert available(app, customer) == PACK
    sync_payment(worker)
    assert available(app, customer) == 0
    assert discrepancies(app) == []


@pytest.mark.parametrize("tell", [sync_refund, sync_dispute], ids=["refund", "dispute"])
@pytest.mark.parametrize("is_payment_first", [True, False], ids=["payment first", "payment last"])
def test_what_names_only_its_charge_meets_a_payment_that_commits_at_the_same_moment(
    database: Database,
    app: Connection,
    worker: Connection,
    customer: UUID,
    tell: Callable[..., str],
    is_payment_first: bool,
) -> None:
    def told(conn: Connection) -> str:
        return tell(conn, stripe_payment_intent_id=None)

    pack(worker, metadata={"pack_credits": str(PACK)})
    buy(worker)
    first, second = (sync_payment, told) if is_payment_first else (told, sync_payment)
    with database.connect("billing_worker", autocommit=False) as earlier:
        first(earlier)
        earlier.execute("set constraints all immediate")
        with blocked(worker, app, lambda: second(worker)) as done:
            earlier.commit()
        assert done.result() == "applied"
    assert available(app, customer) == 0
    assert discrepancies(app) == []


def _release_a_hold(app: Connection, account: UUID, _admin: Connection) -> Callable[[], object]:
    held = hold(app, account, PACK)
    return lambda: release(app, held["id"])


def _let_a_hold_expire(app: Connection, account: UUID, admin: Connection) -> Callable[[], object]:
    hold(app, account, PACK, expires_in=SECOND)

    def expire() -> None:
        move_clock(admin, 2 * SECOND)
        expire_due(app)

    return expire


def _capture_a_part(app: Connection, account: UUID, _admin: Connection) -> Callable[[], object]:
    held = hold(app, account, PACK)
    return lambda: capture(app, held["id"], 1, release_rest=True)


def _refund_a_spend(app: Connection, account: UUID, _admin: Connection) -> Callable[[], object]:
    spent = spend(app, account, PACK)
    return lambda: refund(app, spent["id"])


def _reinstate_a_revocation(app: Connection, account: UUID, _admin: Connection) -> Callable[[], object]:
    (lot,) = lots(app, account)
    revoked = revoke(app, lot["id"])
    return lambda: reinstate(app, revoked["id"])


@pytest.mark.parametrize("tell", [sync_refund, sync_dispute], ids=["refunded", "disputed"])
@pytest.mark.parametrize(
    "take",
    [_release_a_hold, _let_a_hold_expire, _capture_a_part, _refund_a_spend, _reinstate_a_revocation],
)
def test_credits_that_come_back_after_their_money_are_not_free(
    app: Connection,
    worker: Connection,
    admin: Connection,
    packed: UUID,
    tell: Callable[..., str],
    take: Callable[[Connection, UUID, Connection], Callable[[], object]],
) -> None:
    give_back = take(app, packed, admin)
    tell(worker)
    give_back()
    assert available(app, packed) == 0
    assert discrepancies(app) == []
    if tell is sync_dispute:
        sync_dispute(worker, status="won", as_of=JANUARY + SECOND)
        assert available(app, packed) == PACK - (take is _capture_a_part)
