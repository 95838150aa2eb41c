"""Credits that are held for a card: by which policy, and how an administrator decides."""

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    SECOND,
    Connection,
    balance,
    call,
    discrepancies,
    fetch,
    lots,
    refused,
    value,
)
from tests.sql.people import INITIAL, Person, held, held_id, policy, review, row_of


@pytest.mark.parametrize("is_card_first", [True, False])
def test_the_policy_grant_records_cards_and_holds_nothing(
    conn: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    policy(conn, "grant")
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", FEBRUARY)
    for person in (ada, eve):
        person.pay()
    eve.attach("visa", FEBRUARY)
    assert balance(conn, ada.account_id) == balance(conn, eve.account_id) == INITIAL
    assert value(conn, "select count(*) from billing.card_fingerprints") == 2
    assert fetch(conn, "select from billing.held_credits") == []


@pytest.mark.parametrize("is_card_first", [True, False])
def test_the_policy_refuse_decides_by_itself_and_can_be_overruled(
    conn: Connection, app: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    policy(conn, "refuse")
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", FEBRUARY)
        eve.pay()
    else:
        eve.pay()
        eve.attach("visa", FEBRUARY)
    assert balance(conn, eve.account_id) == 0
    assert held(conn, eve) == [row_of(eve, ada, "visa", status="refused")]
    assert value(conn, "select payload ->> 'status' from billing.notifications") == "refused"
    approved = review(app, held_id(conn, eve), "approve")
    assert (approved["status"], approved["reviewed_by"]) == ("approved", "root@example.com")
    assert balance(conn, eve.account_id) == INITIAL


@pytest.mark.parametrize("is_card_first", [True, False])
def test_approving_gives_what_is_held_exactly_once(
    conn: Connection, app: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", FEBRUARY)
    eve.pay(stripe_invoice_id="in_eve")
    eve.attach("visa", FEBRUARY)
    row = review(app, held_id(conn, eve), "approve")
    assert (row["status"], row["reason"], row["reviewed_by"]) == (
        "approved",
        "a couple with one card",
        "root@example.com",
    )
    assert row["reviewed_at"] is not None
    assert review(app, row["id"], "approve", reason="again", actor="somebody") == row
    eve.pay(stripe_invoice_id="in_eve")
    eve.attach("visa", JANUARY + SECOND)
    ada.attach("visa", JANUARY - SECOND)
    assert balance(conn, eve.account_id) == INITIAL
    (lot,) = lots(conn, eve.account_id)
    assert lot["idempotency_key"] == f"initial:{eve.account_id}:prod_1"
    assert (lot["stripe_invoice_id"], lot["stripe_price_id"], lot["source"]) == (
        "in_eve",
        "price_1",
        "stripe.subscription",
    )
    assert discrepancies(conn) == []


@pytest.mark.parametrize("is_card_first", [True, False])
def test_refusing_closes_the_matter(
    conn: Connection, app: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", FEBRUARY)
    eve.pay()
    eve.attach("visa", FEBRUARY)
    row = review(app, held_id(conn, eve), "refuse")
    assert row["status"] == "refused"
    assert review(app, row["id"], "refuse") == row
    eve.pay()
    eve.attach("visa", JANUARY - SECOND)
    assert balance(conn, eve.account_id) == 0
    with refused("TB036"):
        review(app, row["id"], "approve")
    assert discrepancies(conn) == []


def test_what_was_approved_is_not_refused_afterwards(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    eve.pay()
    review(app, held_id(conn, eve), "approve")
    with refused("TB036"):
        review(app, held_id(conn, eve), "refuse")
    assert balance(conn, eve.account_id) == INITIAL


def test_an_account_that_was_approved_is_not_held_again_for_that_card_but_for_another(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    ada.attach("visa")
    ada.attach("amex")
    eve.attach("visa", FEBRUARY)
    eve.pay()
    eve.start_trial()
    assert [row["kind"] for row in held(conn, eve)] == ["initial", "trial"]
    review(app, value(conn, "select id from billing.held_credits where kind = 'initial'"), "approve")
    # What was held already is an administrator's to decide; what comes is not held for that card.
    ada.attach("visa", JANUARY - SECOND)
    assert [row["status"] for row in held(conn, eve)] == ["approved", "pending"]
    eve.pay("price_2")
    assert balance(conn, eve.account_id) == INITIAL + 7
    eve.attach("amex", FEBRUARY)
    assert balance(conn, eve.account_id) == INITIAL
    assert [(row["card_fingerprint"], row["status"]) for row in held(conn, eve)] == [
        ("visa", "approved"),
        ("amex", "pending"),
        ("visa", "pending"),
    ]


@pytest.mark.parametrize("decision", ["approved", "", "pending", None])
def test_a_decision_is_approve_or_refuse(
    conn: Connection, app: Connection, ada: Person, eve: Person, decision: str | None
) -> None:
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    eve.pay()
    with refused("TB034"):
        review(app, held_id(conn, eve), decision)
    assert held(conn, eve)[0]["status"] == "pending"


@pytest.mark.parametrize("missing", ["reason", "actor"])
@pytest.mark.parametrize("nothing", ["", None])
def test_a_review_says_who_and_why(app: Connection, missing: str, nothing: str | None) -> None:
    with refused("TB028"):
        review(app, 1, "approve", **{missing: nothing})


@pytest.mark.parametrize("id", [0, 4711, None])
def test_there_is_nothing_to_review_under_an_unknown_id(app: Connection, id: int | None) -> None:
    with refused("TB035"):
        review(app, id, "approve")


@pytest.mark.parametrize("is_card_first", [True, False])
def test_nothing_is_given_to_a_closed_account(
    conn: Connection, app: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", FEBRUARY)
    eve.pay()
    eve.attach("visa", FEBRUARY)
    call(app, "close_account", account_id=eve.account_id, reason="left", actor="eve")
    with refused("TB008"):
        review(app, held_id(conn, eve), "approve")
    assert review(app, held_id(conn, eve), "refuse")["status"] == "refused"
    with refused("TB008"):
        eve.pay("price_2")


def test_the_server_reviews_over_the_data_api_too(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    eve.pay()
    row = call(
        app,
        "public.review_held_credits",
        id=held_id(conn, eve),
        decision="approve",
        reason="a couple",
        actor="root",
    )
    assert (row["status"], balance(conn, eve.account_id)) == ("approved", INITIAL)
