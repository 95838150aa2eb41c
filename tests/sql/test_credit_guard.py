"""Initial and trial credits are given once, and held where a card was seen on another account before: in any order."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from random import Random
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
    answer,
    balance,
    begin_jobs,
    call,
    capture,
    discrepancies,
    entries,
    fetch,
    fetch_one,
    fresh,
    grant,
    hold,
    item,
    line,
    link,
    lots,
    refund,
    refused,
    reinstate,
    release,
    revoke,
    spend,
    sync_invoice,
    sync_payment,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once, blocked
from tests.support import Database, account_of, create_user

INITIAL, TRIAL = 100, 40
Event = Callable[[], object]


class Person:
    """An account with one Stripe customer, and what Stripe tells of it."""

    def __init__(self, account_id: UUID, worker: Connection, app: Connection) -> None:
        self.account_id = account_id
        self.customer = fresh("cus")
        self._worker = worker
        self._app = app
        self._subscription = fresh("sub")
        self._item = fresh("si")

    def link(self) -> "Person":
        link(self._app, self.account_id, self.customer)
        return self

    def attach(self, card: str, at: datetime = JANUARY, conn: Connection | None = None) -> str:
        """`payment_method.attached`."""
        return answer(
            conn or self._worker,
            "record_card",
            stripe_customer_id=self.customer,
            livemode=False,
            card_fingerprint=card,
            seen_at=at,
        )

    def charge(self, card: str | None, at: datetime = JANUARY, **more: Any) -> str:
        """`charge.succeeded`."""
        charge = {"stripe_charge_id": fresh("ch"), "stripe_customer_id": self.customer, **more}
        return sync_payment(self._worker, card_fingerprint=card, charged_at=at, **charge)

    def pay(self, price: str = "price_1", conn: Connection | None = None, **more: Any) -> str:
        """`invoice.paid`."""
        # Each plan is an item of its own: a period of an item is paid for once.
        of_item = f"{self._item}_{price}"
        paid = line(fresh("il"), stripe_subscription_item_id=of_item, stripe_price_id=price)
        invoice = {"stripe_invoice_id": fresh("in"), "lines": [paid | more.pop("line", {})], **more}
        return sync_invoice(
            conn or self._worker,
            stripe_customer_id=self.customer,
            stripe_subscription_id=self._subscription,
            **invoice,
        )

    def start_trial(self, price: str = "price_1") -> str:
        """`customer.subscription.created`."""
        trial = {"trial_start": JANUARY, "trial_end": FEBRUARY, "status": "trialing"}
        return sync_subscription(
            self._worker,
            stripe_subscription_id=self._subscription,
            stripe_customer_id=self.customer,
            items=[item(self._item, stripe_price_id=price)],
            **trial,
        )


@pytest.fixture
def plans(worker: Connection) -> None:
    """One product of 100 initial and 40 trial credits, another of 7 initial ones."""
    sync_product(worker)
    credits = {"initial_credits": str(INITIAL), "trial_credits": str(TRIAL)}
    sync_price(worker, metadata=credits)
    sync_product(worker, stripe_product_id="prod_2")
    sync_price(
        worker, stripe_price_id="price_2", stripe_product_id="prod_2", metadata={"initial_credits": "7"}
    )


@pytest.fixture
def people(
    plans: None, database: Database, conn: Connection, worker: Connection, app: Connection
) -> Callable[[], list[Person]]:
    """Makes two people, in the order of their account ids, linked to nobody yet."""

    policy(conn, "hold")  # which live mode is by default

    def make() -> list[Person]:
        accounts = sorted(account_of(conn, create_user(database)) for _ in range(2))
        return [Person(account, worker, app) for account in accounts]

    return make


@pytest.fixture
def pair(people: Callable[[], list[Person]]) -> list[Person]:
    """Two people with their customers."""
    return [person.link() for person in people()]


@pytest.fixture
def ada(pair: list[Person]) -> Person:
    """The person of the smaller account id."""
    return pair[0]


@pytest.fixture
def eve(pair: list[Person]) -> Person:
    """The person of the larger account id."""
    return pair[1]


def policy(conn: Connection, seen_card_policy: str) -> None:
    conn.execute("update billing.settings set seen_card_policy = %s", [seen_card_policy])


def held(conn: Connection, *people: Person) -> list[Row]:
    """What is held and was decided, less ids and times."""
    return fetch(
        conn,
        "select account_id, kind, amount, card_fingerprint, matched_account_id, status from billing.held_credits "
        "where account_id = any (%s) order by idempotency_key",
        [[person.account_id for person in people]],
    )


def held_id(conn: Connection, person: Person) -> int:
    return value(conn, "select id from billing.held_credits where account_id = %s", [person.account_id])


def row_of(later: Person, earlier: Person, card: str, **more: Any) -> Row:
    return {
        "account_id": later.account_id,
        "kind": "initial",
        "amount": INITIAL,
        "card_fingerprint": card,
        "matched_account_id": earlier.account_id,
        "status": "pending",
        **more,
    }


def review(app: Connection, id: int | None, decision: str | None, **more: Any) -> Row:
    arguments = {"reason": "a couple with one card", "actor": "root@example.com", **more}
    return call(app, "review_held_credits", id=id, decision=decision, **arguments)


def tell(events: Sequence[Event]) -> None:
    """As the worker does: what a link is missing for comes back after the others."""
    waiting: list[Event] = []
    for event in events:
        try:
            event()
        except psycopg.Error as error:
            if error.sqlstate != "TB011":
                raise
            waiting.append(event)
    for event in waiting:
        event()


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


# What was granted before the card was told of.


def test_only_what_is_unspent_is_taken_back_and_given_back(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    spend(app, eve.account_id, 30)
    eve.attach("visa", FEBRUARY)
    assert balance(conn, eve.account_id) == 70
    ada.attach("visa", JANUARY)
    assert balance(conn, eve.account_id) == 0
    revocation = fetch_one(conn, "select requested, taken, shortfall from billing.credit_revocations")
    assert revocation == {"requested": INITIAL, "taken": 70, "shortfall": 30}
    assert held(conn, eve) == [row_of(eve, ada, "visa")]

    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 70
    assert [(lot["amount"], lot["remaining"]) for lot in lots(conn, eve.account_id)] == [(INITIAL, 70)]
    assert discrepancies(conn) == []


def test_what_was_spent_entirely_is_still_held_up_to_the_administrators(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    spend(app, eve.account_id, INITIAL)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    assert held(conn, eve) == [row_of(eve, ada, "visa")]
    review(app, held_id(conn, eve), "approve")
    assert entries(conn, eve.account_id) == [("grant", INITIAL), ("spend", -INITIAL)]
    assert discrepancies(conn) == []


def test_credits_that_a_hold_has_pinned_stay_with_it_until_it_is_released(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    held_credits = hold(app, eve.account_id, 60)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    assert balance(conn, eve.account_id) == 60
    capture(app, held_credits["id"], 20)
    release(app, held_credits["id"])
    assert balance(conn, eve.account_id) == 0  # what comes back is under review as well
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 80
    assert discrepancies(conn) == []


def test_what_was_taken_back_by_hand_is_not_taken_again(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.pay("price_2")
    part, whole = lots(conn, eve.account_id)
    revoke(app, part["id"], 60)
    revoke(app, whole["id"])
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    assert held(conn, eve) == [row_of(eve, ada, "visa", amount=40)]
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 40
    assert discrepancies(conn) == []


def test_what_somebody_gave_back_by_hand_is_not_given_again(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    reinstate(app, value(conn, "select revocation_id from billing.held_credits"), 30)
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == INITIAL
    assert discrepancies(conn) == []


def test_held_credits_go_over_to_an_earlier_paid_period(
    conn: Connection, app: Connection, worker: Connection, ada: Person, eve: Person
) -> None:
    sync_price(worker, stripe_price_id="price_3", metadata={"initial_credits": "30"})
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    february = {"period_start": FEBRUARY, "period_end": MARCH}
    eve.pay(stripe_invoice_id="in_february", line=february)
    eve.pay("price_3", stripe_invoice_id="in_january")
    eve.pay(stripe_invoice_id="in_february", line=february)
    row = fetch_one(conn, "select amount, stripe_invoice_id, stripe_price_id from billing.held_credits")
    assert row == {"amount": 30, "stripe_invoice_id": "in_january", "stripe_price_id": "price_3"}
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 30


@pytest.mark.parametrize(
    ("spent", "by_hand", "earlier_amount", "left"),
    [(0, 0, 30, 30), (20, 0, 30, 10), (50, 0, 30, 0), (20, 0, 130, 110), (0, 20, 30, 30), (20, 20, 130, 110)],
)
def test_credits_that_were_taken_back_go_over_to_an_earlier_paid_period(
    conn: Connection,
    app: Connection,
    worker: Connection,
    ada: Person,
    eve: Person,
    spent: int,
    by_hand: int,
    earlier_amount: int,
    left: int,
) -> None:
    sync_price(worker, stripe_price_id="price_3")
    eve.pay(stripe_invoice_id="in_february", line={"period_start": FEBRUARY, "period_end": MARCH})
    if spent:
        spend(app, eve.account_id, spent)
    eve.attach("visa", FEBRUARY)
    ada.attach("visa", JANUARY)
    (lot,) = lots(conn, eve.account_id)
    of_item = {"stripe_subscription_item_id": lot["stripe_subscription_item_id"]}
    eve.pay("price_3", stripe_invoice_id="in_january", line=of_item)
    call(
        conn,
        "_grant_once",
        account_id=eve.account_id,
        kind="initial",
        amount=earlier_amount,
        stripe_invoice_id="in_january",
        stripe_price_id="price_3",
        description="Initial",
        **{
            name: lot[name]
            for name in ("idempotency_key", "source", "reference_id", "stripe_subscription_item_id")
        },
    )
    if by_hand:
        reinstate(app, value(conn, "select revocation_id from billing.held_credits"), by_hand)
    assert balance(conn, eve.account_id) == by_hand
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == left
    paid_by = {(lot["stripe_invoice_id"], lot["stripe_price_id"]) for lot in lots(conn, eve.account_id)}
    assert paid_by == {("in_january", "price_3")}
    assert discrepancies(conn) == []


def test_a_closed_account_is_left_as_it_is(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.pay()
    eve.attach("visa", FEBRUARY)
    call(app, "close_account", account_id=eve.account_id, reason="left", actor="eve")
    ada.attach("visa", JANUARY)
    ada.pay()
    assert balance(conn, ada.account_id) == INITIAL
    assert held(conn, eve) == []
    assert discrepancies(conn) == []


# Policies and reviews.


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


# At the same moment.


@pytest.fixture
def other_worker(database: Database) -> Iterator[Connection]:
    """A second worker's connection."""
    with database.connect("billing_worker") as connection:
        yield connection


def test_of_two_sightings_at_once_the_second_sees_the_first(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    for person in (ada, eve):
        person.pay()
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(other_worker, conn, lambda: eve.attach("visa", FEBRUARY, other_worker)) as second:
            worker.execute("commit")
            worker.execute("begin")
            assert second.result() == "applied"
    assert (balance(conn, ada.account_id), balance(conn, eve.account_id)) == (INITIAL, 0)


def test_a_grant_that_commits_beside_a_sighting_is_taken_back(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        eve.pay()
        with blocked(other_worker, conn, lambda: ada.attach("visa", JANUARY, other_worker)) as sighting:
            worker.execute("commit")
            worker.execute("begin")
            assert sighting.result() == "applied"
    assert balance(conn, eve.account_id) == 0
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_a_grant_waits_for_the_sighting_that_is_about_to_commit(
    conn: Connection, worker: Connection, other_worker: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(other_worker, conn, lambda: eve.pay(conn=other_worker)) as payment:
            worker.execute("commit")
            worker.execute("begin")
            assert payment.result() == "applied"
    assert entries(conn, eve.account_id) == []
    assert held(conn, eve) == [row_of(eve, ada, "visa")]


def test_a_link_that_commits_beside_a_sighting_is_seen(
    database: Database,
    conn: Connection,
    app: Connection,
    people: Callable[[], list[Person]],
    worker: Connection,
) -> None:
    ada, eve = people()
    eve.link().pay()
    eve.attach("visa", FEBRUARY)
    with worker.transaction():
        ada.attach("visa", JANUARY)
        with blocked(app, conn, ada.link) as linking:
            worker.execute("commit")
            worker.execute("begin")
            linking.result()
    assert balance(conn, eve.account_id) == 0


def test_two_administrators_at_once_give_once(
    database: Database, conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    eve.attach("visa", FEBRUARY)
    eve.pay()
    ada.attach("visa")
    id = held_id(conn, eve)
    with database.connect("service_role") as other, app.transaction():
        first = review(app, id, "approve", actor="one")
        with blocked(other, conn, lambda: review(other, id, "approve", actor="two")) as second:
            app.execute("commit")
            app.execute("begin")
            assert second.result() == first
    assert balance(conn, eve.account_id) == INITIAL
    assert value(conn, "select count(*) from billing.credit_reinstatements") == 1


def test_two_workers_in_whatever_interleaving_end_alike(
    conn: Connection, worker: Connection, other_worker: Connection, people: Callable[[], list[Person]]
) -> None:
    """Each in transactions of several events, repeated when Postgres refuses them, as the worker's batches are."""
    random = Random(7)
    for _ in range(30):
        ada, eve = (person.link() for person in people())
        card = fresh("card")
        invoices = {person: fresh("in") for person in (ada, eve)}
        events: list[Callable[[Connection], object]] = [
            lambda conn, ada=ada, card=card: ada.attach(card, FEBRUARY, conn),
            lambda conn, ada=ada, invoices=invoices: ada.pay(conn=conn, stripe_invoice_id=invoices[ada]),
            lambda conn, eve=eve, card=card: eve.attach(card, MARCH, conn),
            lambda conn, eve=eve, invoices=invoices: eve.pay(conn=conn, stripe_invoice_id=invoices[eve]),
            lambda conn, eve=eve, card=card: eve.attach(card, JANUARY, conn),
            lambda conn, ada=ada, card=card: ada.attach(card, JANUARY + SECOND, conn),
        ]
        random.shuffle(events)
        assert at_once(
            [
                partial(_apply, worker, events[:3]),
                partial(_apply, other_worker, events[3:]),
            ]
        ) == [None, None]
        assert (balance(conn, ada.account_id), balance(conn, eve.account_id)) == (0, INITIAL)
        assert held(conn, ada, eve) == [row_of(ada, eve, card)]
    assert discrepancies(conn) == []


def _apply(conn: Connection, events: Sequence[Callable[[Connection], object]]) -> None:
    while True:
        try:
            with conn.transaction():
                conn.execute("set local lock_timeout = '50ms'")
                for event in events:
                    event(conn)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
        return


# What else moves an account.


def test_a_refund_of_what_was_spent_joins_what_is_held_and_comes_back_with_it(
    conn: Connection, app: Connection, ada: Person, eve: Person
) -> None:
    grant(app, eve.account_id, 10)
    eve.pay()
    spent = spend(app, eve.account_id, 105)
    ada.attach("visa")
    eve.attach("visa", FEBRUARY)
    assert balance(conn, eve.account_id) == 0
    refund(app, spent["id"], 50)
    assert balance(conn, eve.account_id) == 0
    review(app, held_id(conn, eve), "approve")
    assert balance(conn, eve.account_id) == 55
    assert discrepancies(conn) == []
