"""Credit packs: what a paid Checkout Session grants, in every order, and what stops it."""

from collections.abc import Callable
from itertools import permutations
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    balance,
    discrepancies,
    fetch,
    fetch_one,
    link,
    lots,
    refused,
    sync_checkout_session,
    sync_price,
    value,
)
from tests.sql.races import at_once, blocked
from tests.sql.test_stripe_events import event, queued, read, receive, settle
from tests.support import Database

PACK_CREDITS = 500


def pack(conn: Connection, stripe_price_id: str = "price_pack", **more: Any) -> str:
    arguments: Row = {"type": "one_time", "nickname": "Pack", "metadata": {"pack_credits": str(PACK_CREDITS)}}
    return sync_price(conn, stripe_price_id=stripe_price_id, **(arguments | more))


def bought(number: int = 1, **more: Any) -> Row:
    """One line item as the worker passes it."""
    return {
        "stripe_line_item_id": f"li_{number}",
        "stripe_price_id": "price_pack",
        "quantity": 1,
        "amount_total": 2000,
        "declares_credits": True,
    } | more


def buy(conn: Connection, *items: Row, **more: Any) -> str:
    """A session of mode payment that was completed and paid, with the line items that Stripe answered."""
    arguments: Row = {
        "mode": "payment",
        "stripe_subscription_id": None,
        "stripe_invoice_id": None,
        "stripe_payment_intent_id": "pi_1",
        "lines": list(items) or [bought()],
    }
    return sync_checkout_session(conn, **(arguments | more))


@pytest.fixture
def customer(conn: Connection, worker: Connection, account: UUID) -> UUID:
    """An account whose customer is linked, in a shop with one pack."""
    link(conn, account)
    pack(worker)
    return account


def test_paid_pack_is_granted_with_its_lineage(conn: Connection, worker: Connection, customer: UUID) -> None:
    assert buy(worker) == "applied"
    (lot,) = lots(conn, customer)
    assert (lot["amount"], lot["source"], lot["reference_id"]) == (PACK_CREDITS, "stripe.pack", "cs_1")
    assert (lot["key_space"], lot["idempotency_key"]) == ("stripe", "pack:cs_1")
    assert (lot["stripe_checkout_session_id"], lot["stripe_payment_intent_id"]) == ("cs_1", "pi_1")
    assert (lot["stripe_price_id"], lot["expires_at"]) == ("price_pack", None)
    assert discrepancies(conn) == []


def test_replayed_session_grants_once(conn: Connection, worker: Connection, customer: UUID) -> None:
    for later in range(3):
        buy(worker, as_of=JANUARY + later * SECOND)
    assert balance(conn, customer) == PACK_CREDITS


def test_completed_session_that_is_not_paid_grants_nothing(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    assert buy(worker, payment_status="unpaid") == "applied"
    assert lots(conn, customer) == []
    assert fetch(conn, "select * from billing.pack_purchases") == []


def test_open_session_with_nothing_to_pay_grants_nothing_before_it_is_completed(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    buy(worker, status="open", payment_status="no_payment_required", stripe_payment_intent_id=None)
    assert balance(conn, customer) == 0
    buy(worker, payment_status="no_payment_required", stripe_payment_intent_id=None, amount_total=0)
    assert balance(conn, customer) == PACK_CREDITS


def test_session_that_had_nothing_to_pay_when_it_was_opened_may_be_paid(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    buy(worker, status="open", payment_status="no_payment_required", stripe_payment_intent_id=None)
    buy(worker)
    assert balance(conn, customer) == PACK_CREDITS


def test_session_of_another_mode_grants_no_pack(conn: Connection, worker: Connection, customer: UUID) -> None:
    buy(worker, mode="subscription")
    assert balance(conn, customer) == 0


def test_lines_and_quantities_add_up(conn: Connection, worker: Connection, customer: UUID) -> None:
    pack(worker, "price_big", nickname="Big pack", metadata={"pack_credits": "2000"})
    buy(
        worker,
        bought(1, quantity=3),
        bought(2, stripe_price_id="price_big", quantity=2),
        bought(3, quantity=None),
    )
    (lot,) = lots(conn, customer)
    assert lot["amount"] == 4 * PACK_CREDITS + 2 * 2000
    assert lot["stripe_price_id"] is None
    kept = fetch(
        conn, "select stripe_price_id, quantity from billing.checkout_line_items order by stripe_line_item_id"
    )
    assert [tuple(row.values()) for row in kept] == [
        ("price_pack", 3),
        ("price_big", 2),
        ("price_pack", None),
    ]
    assert value(conn, "select description from billing.credit_entries") == "Big pack, Pack"


def test_pack_that_is_no_longer_on_sale_is_granted_to_whoever_paid(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    pack(worker, active=False, as_of=JANUARY + SECOND)
    buy(worker)
    assert balance(conn, customer) == PACK_CREDITS


def test_pack_that_is_worth_more_later_changes_nothing_of_what_was_granted(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    buy(worker)
    pack(worker, metadata={"pack_credits": "9000"}, as_of=JANUARY + SECOND)
    buy(worker, as_of=JANUARY + 2 * SECOND)
    assert balance(conn, customer) == PACK_CREDITS


def test_more_credits_than_fit_are_refused(conn: Connection, worker: Connection, customer: UUID) -> None:
    with refused("TB005"):
        buy(worker, bought(quantity=2**62))
    assert lots(conn, customer) == []


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_delayed_payment_ends_the_same_in_every_order(
    conn: Connection, worker: Connection, customer: UUID, order: tuple[int, ...]
) -> None:
    told: list[Callable[[], str]] = [
        lambda: buy(worker, payment_status="unpaid", as_of=JANUARY),
        lambda: buy(worker, as_of=JANUARY + 60 * SECOND),
        lambda: buy(worker, as_of=JANUARY + 60 * SECOND),
    ]
    for number in order:
        told[number]()
    assert balance(conn, customer) == PACK_CREDITS
    session = fetch_one(conn, "select payment_status, as_of from billing.checkout_sessions")
    assert session == {"payment_status": "paid", "as_of": JANUARY + 60 * SECOND}


def test_unknown_price_stops_the_whole_session(conn: Connection, worker: Connection, customer: UUID) -> None:
    with refused("TB010") as caught:
        buy(worker, bought(1), bought(2, stripe_price_id="price_unknown"))
    assert caught.value.diag.message_detail == "price_unknown"
    assert lots(conn, customer) == []
    assert fetch(conn, "select * from billing.checkout_sessions") == []


def test_price_that_is_a_plan_is_no_pack(conn: Connection, worker: Connection, customer: UUID) -> None:
    sync_price(worker, stripe_price_id="price_plan", metadata={"monthly_credits": "10"})
    with refused("TB010"):
        buy(worker, bought(stripe_price_id="price_plan"))


OWN = {"stripe_price_id": "price_t_shirt", "declares_credits": False}


@pytest.mark.parametrize(
    "lines",
    [[], [bought(**OWN | {"stripe_price_id": None})], [bought(**OWN)]],
    ids=["none", "no price", "own"],
)
@pytest.mark.parametrize("customer_id", ["cus_1", "cus_of_nobody", None])
def test_what_is_no_pack_is_the_app_s_own_business(
    conn: Connection, worker: Connection, customer: UUID, lines: list[Row], customer_id: str | None
) -> None:
    assert buy(worker, lines=lines, stripe_customer_id=customer_id) == "applied"
    assert lots(conn, customer) == []


def test_pack_beside_something_else_is_granted(conn: Connection, worker: Connection, customer: UUID) -> None:
    pack(worker)
    buy(worker, bought(1), bought(2, **OWN))
    assert balance(conn, customer) == PACK_CREDITS


def test_unlinked_customer_stops_the_session_until_it_is_linked(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    pack(worker)
    with refused("TB011") as caught:
        buy(worker)
    assert caught.value.diag.message_detail == "cus_1"
    link(conn, account)
    buy(worker)
    assert balance(conn, account) == PACK_CREDITS


def test_guest_is_refused_and_waits_for_nobody(conn: Connection, worker: Connection, customer: UUID) -> None:
    with refused("TB055"):
        buy(worker, stripe_customer_id=None)
    assert lots(conn, customer) == []


def test_customer_that_completing_a_session_made_is_taken_over(
    conn: Connection, worker: Connection, customer: UUID
) -> None:
    buy(worker, stripe_customer_id=None, status="open", payment_status="unpaid")
    buy(worker)
    assert balance(conn, customer) == PACK_CREDITS


def test_client_reference_id_says_nothing(conn: Connection, worker: Connection, customer: UUID) -> None:
    with refused("TB011"):
        buy(worker, stripe_customer_id="cus_stranger", client_reference_id=str(customer))


def test_one_session_told_twice_at_once_grants_once(
    database: Database, conn: Connection, customer: UUID
) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        outcomes = at_once([lambda: buy(one), lambda: buy(two)])
    assert outcomes == ["applied", "applied"]
    assert balance(conn, customer) == PACK_CREDITS
    assert discrepancies(conn) == []


def is_back(conn: Connection) -> bool:
    row = event(conn)
    return (row["status"], row["waiting_for"], queued(conn)) == ("queued", None, 1)


def test_dead_letter_goes_on_when_its_pack_arrives(conn: Connection, worker: Connection) -> None:
    receive(conn)
    (taken,) = read(worker)
    settle(worker, taken, "dead", "not here", "price_pack")
    assert queued(conn) == 0
    pack(worker)
    assert is_back(conn)


def test_dead_letter_whose_pack_arrived_first_goes_on_at_once(conn: Connection, worker: Connection) -> None:
    receive(conn)
    (taken,) = read(worker)
    pack(worker)
    settle(worker, taken, "dead", "not here", "price_pack")
    assert is_back(conn)


def test_pack_that_is_about_to_arrive_is_waited_for(
    database: Database, conn: Connection, worker: Connection
) -> None:
    receive(conn)
    (taken,) = read(worker)
    with database.connect("billing_worker", autocommit=False) as bringing:
        pack(bringing)
        with blocked(worker, conn, lambda: settle(worker, taken, "dead", "not here", "price_pack")) as done:
            bringing.commit()
        done.result()
    assert is_back(conn)


def test_clients_read_nothing_of_what_was_bought(database: Database, conn: Connection) -> None:
    with database.connect("authenticated") as client, pytest.raises(psycopg.errors.InsufficientPrivilege):
        client.execute("select * from billing.checkout_line_items")
