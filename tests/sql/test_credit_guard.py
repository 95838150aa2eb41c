"""Initial and trial credits are given once, and held where a card was seen on another account before: in any order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random
from uuid import UUID

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    MARCH,
    SECOND,
    Connection,
    balance,
    begin_jobs,
    call,
    discrepancies,
    entries,
    fetch,
    fetch_one,
    fresh,
    grant,
    lots,
    sync_price,
    value,
)
from tests.sql.people import INITIAL, TRIAL, Event, Person, held, held_id, row_of, tell

# Once for each account and product, or for each account.


@pytest.mark.parametrize(("livemode", "is_held"), [(True, True), (False, False)])
def test_nothing_is_held_in_test_mode_unless_the_settings_say_so(
    conn: Connection, livemode: bool, is_held: bool
) -> None:
    conn.execute("update billing.settings set seen_card_policy = null, livemode = %s", [livemode])
    assert value(conn, "select billing._seen_card_policy()") == ("hold" if is_held else "grant")


def test_initial_credits_are_given_once_for_each_product(conn: Connection, ada: Person) -> None:
    for price in ("price_1", "price_1", "price_2", "price_1"):
        ada.pay(price)
    assert [lot["amount"] for lot in lots(conn, ada.account_id)] == [INITIAL, 7]


def test_initial_and_trial_credits_are_given_once_for_each_account_when_the_owner_says_so(
    conn: Connection, ada: Person, eve: Person
) -> None:
    conn.execute("update billing.settings set initial_credits_per = 'account', one_trial_per = 'account'")
    ada.start_trial()
    for price in ("price_2", "price_1"):
        ada.pay(price)
    eve.pay("price_1")
    keys = {(lot["idempotency_key"], lot["amount"]) for lot in lots(conn, ada.account_id)}
    assert keys == {(f"trial:{ada.account_id}", TRIAL), (f"initial:{ada.account_id}", 7)}
    assert balance(conn, eve.account_id) == INITIAL


@pytest.mark.parametrize(("before", "after"), [("product", "account"), ("account", "product")])
def test_the_setting_can_be_changed_and_nothing_is_given_again(
    conn: Connection, ada: Person, before: str, after: str
) -> None:
    conn.execute("update billing.settings set initial_credits_per = %s", [before])
    ada.pay()
    conn.execute("update billing.settings set initial_credits_per = %s", [after])
    ada.pay()
    assert balance(conn, ada.account_id) == INITIAL
    ada.pay("price_2")
    assert balance(conn, ada.account_id) == INITIAL + (7 if after == "product" else 0)


def test_the_key_names_account_and_product_or_the_account_alone(conn: Connection, account: UUID) -> None:
    key = "select billing._once_key(kind => 'trial', account_id => %s, stripe_product_id => 'prod_1')"
    assert value(conn, key, [account]) == f"trial:{account}:prod_1"
    conn.execute("update billing.settings set initial_credits_per = 'account'")
    assert value(conn, key, [account]) == f"trial:{account}:prod_1"
    conn.execute("update billing.settings set one_trial_per = 'account'")
    assert value(conn, key, [account]) == f"trial:{account}"
    assert value(conn, key.replace("trial", "initial"), [account]) == f"initial:{account}"


# Cards that were seen before.


def test_initial_credits_of_an_account_whose_card_was_seen_on_another_are_held(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    ada.charge("visa")
    ada.pay()
    eve.charge("visa", FEBRUARY)
    eve.pay()
    assert balance(conn, ada.account_id) == INITIAL
    assert balance(conn, eve.account_id) == 0
    assert held(app, ada, eve) == [row_of(eve, ada, "visa")]
    told = fetch_one(conn, "select * from billing.notifications where audience = 'administrators'")
    assert (told["kind"], told["account_id"]) == ("credits_held", eve.account_id)
    assert told["payload"] == {
        "held_credits_id": held_id(conn, eve),
        "kind": "initial",
        "amount": INITIAL,
        "status": "pending",
        "matched_account_id": str(ada.account_id),
    }
    assert discrepancies(conn) == []


def test_only_initial_and_trial_credits_are_held(
    conn: Connection, app: Connection, worker: Connection, ada: Person, eve: Person
) -> None:
    credits = {"initial_credits": "100", "monthly_credits": "30"}
    sync_price(worker, stripe_price_id="price_3", metadata=credits)
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    eve.pay("price_3")
    grant(app, eve.account_id, 5)
    assert balance(conn, eve.account_id) == 35
    ada.pay("price_3")
    assert balance(conn, ada.account_id) == 130


@pytest.mark.parametrize("is_card_first", [True, False])
def test_trial_credits_are_held_by_the_card_that_was_attached(
    conn: Connection, ada: Person, eve: Person, is_card_first: bool
) -> None:
    ada.attach("visa")
    if is_card_first:
        eve.attach("visa", JANUARY + SECOND)
    for person in (ada, eve, eve):
        person.start_trial()
    eve.attach("visa", JANUARY + SECOND)
    assert balance(conn, ada.account_id) == TRIAL
    assert balance(conn, eve.account_id) == 0
    assert held(conn, eve) == [row_of(eve, ada, "visa", kind="trial", amount=TRIAL)]


@pytest.mark.parametrize("earlier", ["ada", "eve", "tie"])
def test_every_order_of_cards_links_and_payments_ends_alike(
    conn: Connection, people: Callable[[], list[Person]], earlier: str
) -> None:
    random = Random(earlier)
    orders = list(permutations(range(6)))
    for order in random.sample(orders, 60):
        ada, eve = people()
        card = fresh("card")
        at = {"ada": (JANUARY, FEBRUARY), "eve": (FEBRUARY, JANUARY), "tie": (JANUARY, JANUARY)}[earlier]
        events: list[Event] = [
            ada.link,
            eve.link,
            lambda ada=ada, card=card, at=at: ada.charge(card, at[0]),
            lambda eve=eve, card=card, at=at: eve.attach(card, at[1]),
            ada.pay,
            eve.pay,
        ]
        tell([events[i] for i in order])
        first, second = (eve, ada) if earlier == "eve" else (ada, eve)
        assert (balance(conn, first.account_id), balance(conn, second.account_id)) == (INITIAL, 0), order
        assert held(conn, ada, eve) == [row_of(second, first, card)], order
    assert discrepancies(conn) == []


def test_an_earlier_sighting_that_arrives_late_turns_the_judgement_round(
    conn: Connection, people: Callable[[], list[Person]]
) -> None:
    """Eve's card was attached first of all; her charge alone would make ada the earlier one."""
    random = Random(1)
    orders = list(permutations(range(6)))
    for order in [tuple(range(6)), *random.sample(orders, 60)]:
        ada, eve = (person.link() for person in people())
        card = fresh("card")
        events: list[Event] = [
            lambda ada=ada, card=card: ada.attach(card, FEBRUARY),
            ada.pay,
            lambda eve=eve, card=card: eve.charge(card, MARCH),
            eve.pay,
            lambda eve=eve, card=card: eve.attach(card, JANUARY),
            eve.pay,
        ]
        tell([events[i] for i in order])
        assert (balance(conn, ada.account_id), balance(conn, eve.account_id)) == (0, INITIAL), order
        assert held(conn, ada, eve) == [row_of(ada, eve, card)], order
        told = fetch(
            conn,
            "select account_id from billing.notifications where account_id = any (%s)",
            [[ada.account_id, eve.account_id]],
        )
        assert told == [{"account_id": ada.account_id}], order
    assert discrepancies(conn) == []


def test_what_turned_out_to_be_no_news_does_not_take_a_digest_with_it(
    conn: Connection, worker: Connection, people: Callable[[], list[Person]]
) -> None:
    ada, eve = (person.link() for person in people())
    tell([lambda: ada.attach("card", FEBRUARY), ada.pay, lambda: eve.charge("card", MARCH), eve.pay])
    conn.execute(
        "insert into billing.notifications (audience, kind, dedupe_key) "
        "select 'administrators', 'credits_held', 'other:' || n from generate_series(1, 9) as n"
    )
    (digest,) = begin_jobs(worker, "begin_notifications", "administrators_notification", jobs_max=40)
    failed = "select billing.record_notification(%s, %s, 1, '{}', 'queued', 60, 'no answer')"
    worker.execute(failed, [digest["msg_id"], digest["id"]])
    tell([lambda: eve.attach("card", JANUARY)])
    assert held(conn, eve) == []
    assert (
        value(conn, "select count(*) from billing.notifications where digest_id = %s", [digest["id"]]) == 10
    )


def test_of_three_accounts_the_first_gets_credits_and_the_others_name_it(
    conn: Connection, people: Callable[[], list[Person]]
) -> None:
    times = [JANUARY, FEBRUARY, MARCH]
    for order in permutations(range(3)):
        three = [*people(), people()[0]]
        card = fresh("card")
        for person in three:
            person.link().pay()
        for i in order:
            three[i].attach(card, times[i])
        assert [balance(conn, person.account_id) for person in three] == [INITIAL, 0, 0], order
        assert {row["matched_account_id"] for row in held(conn, *three)} == {three[0].account_id}, order
    assert discrepancies(conn) == []


def test_an_unlinked_customers_card_counts_from_its_link_on(
    conn: Connection, app: Connection, people: Callable[[], list[Person]]
) -> None:
    ada, eve = people()
    ada.charge("visa")
    eve.link().charge("visa", FEBRUARY)
    eve.pay()
    assert balance(conn, eve.account_id) == INITIAL
    assert fetch(
        app, "select account_id from billing.card_fingerprints where first_seen_at = %s", [JANUARY]
    ) == [{"account_id": None}]
    ada.link()
    assert balance(conn, eve.account_id) == 0
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_two_customers_of_one_account_are_one_account(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    kept, duplicate = ada.customer, fresh("cus")
    ada.attach("visa", FEBRUARY)
    ada.customer = duplicate
    ada.attach("visa", JANUARY)
    call(app, "merge_customer", stripe_customer_id=duplicate, duplicate_of=kept)
    ada.pay()
    assert balance(conn, ada.account_id) == INITIAL
    assert held(conn, ada) == []
    # The account had it by its first customer's time.
    eve.attach("visa", JANUARY + SECOND)
    eve.pay()
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_guests_other_cards_no_cards_and_declined_ones_mean_nothing(
    conn: Connection, ada: Person, eve: Person
) -> None:
    ada.charge("visa", status="failed")
    ada.charge(None)
    ada.charge("visa", stripe_customer_id=None)
    ada.charge("amex")
    ada.pay()
    eve.charge("visa", FEBRUARY)
    eve.charge(None, FEBRUARY)
    eve.pay()
    assert balance(conn, ada.account_id) == balance(conn, eve.account_id) == INITIAL
    assert fetch(conn, "select from billing.held_credits") == []
    seen = fetch(conn, "select card_fingerprint from billing.card_fingerprints order by 1")
    assert [row["card_fingerprint"] for row in seen] == ["amex", "visa"]


def test_one_account_pays_twice_by_one_card(conn: Connection, ada: Person) -> None:
    for _ in range(2):
        ada.charge("visa")
        ada.pay()
        ada.pay("price_2")
    assert balance(conn, ada.account_id) == INITIAL + 7


def test_a_card_keeps_the_earliest_time_that_was_told(conn: Connection, ada: Person) -> None:
    assert [ada.attach("visa", at) for at in (FEBRUARY, MARCH, FEBRUARY, JANUARY)] == [
        "applied",
        "stale",
        "stale",
        "applied",
    ]
    assert value(conn, "select first_seen_at from billing.card_fingerprints") == JANUARY


def test_a_card_that_is_used_a_month_after_the_credits_says_nothing_of_them(
    conn: Connection, ada: Person, eve: Person
) -> None:
    ada.attach("visa")
    eve.pay()
    eve.attach("visa", datetime.now(UTC) + timedelta(days=31))
    assert balance(conn, eve.account_id) == INITIAL
    eve.attach("visa", datetime.now(UTC) + timedelta(days=29))
    assert balance(conn, eve.account_id) == 0


def test_replays_change_nothing(conn: Connection, people: Callable[[], list[Person]]) -> None:
    ada, eve = (person.link() for person in people())
    charges = {person: fresh("ch") for person in (ada, eve)}
    invoices = {person: fresh("in") for person in (ada, eve)}
    for _ in range(3):
        for person, at in ((eve, FEBRUARY), (ada, JANUARY)):
            person.pay(stripe_invoice_id=invoices[person])
            person.charge("visa", at, stripe_charge_id=charges[person])
    assert entries(conn, eve.account_id) == [("grant", INITIAL), ("revocation", -INITIAL)]
    assert entries(conn, ada.account_id) == [("grant", INITIAL)]
    assert value(conn, "select count(*) from billing.notifications") == 1
    assert len(held(conn, ada, eve)) == 1
