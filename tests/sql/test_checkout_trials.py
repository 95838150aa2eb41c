"""A plan's terms at checkout: its trial, once for whoever is new to it, and its seats."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    call,
    item,
    link,
    refused,
    sync_checkout_session,
    sync_price,
    sync_product,
    sync_subscription,
)
from tests.sql.races import blocked
from tests.sql.test_checkout_requests import SITE, prepare, record
from tests.support import Database, account_of, create_user


@pytest.fixture
def function(database: Database) -> Iterator[Connection]:
    with database.connect("billing_checkout") as connection:
        yield connection


@pytest.fixture
def user(database: Database, conn: Connection) -> UUID:
    user_id = create_user(database, "ada@example.com")
    link(conn, account_of(conn, user_id))
    return user_id


@pytest.fixture(autouse=True)
def shop(conn: Connection, worker: Connection) -> None:
    """Three plans with a trial: two of one product, and another product's; and one without."""
    conn.execute("update billing.settings set site_url = %s", [SITE])
    sync_product(worker, metadata={"trial_days": "14"})
    sync_product(worker, stripe_product_id="prod_2", name="Team", metadata={"seats": "2-50"})
    sync_price(worker, lookup_key="pro_monthly")
    sync_price(worker, stripe_price_id="price_year", recurring_interval="year", metadata={"trial_days": "30"})
    team = {"stripe_price_id": "price_team", "stripe_product_id": "prod_2"}
    sync_price(worker, lookup_key="team", metadata={"trial_days": "7"}, **team)
    sync_price(worker, stripe_price_id="price_none", metadata={"trial_days": "0"})


def trial(checkout: Row) -> int | None:
    return checkout["session"]["params"]["subscription_data"].get("trial_period_days")


def trials(function: Connection, user: UUID) -> list[int | None]:
    return [trial(prepare(function, user, plan=plan)) for plan in ("price_1", "price_year", "team")]


def set_(conn: Connection, **settings: Any) -> None:
    for name, value in settings.items():
        conn.execute(f"update billing.settings set {name} = %s".encode(), [value])


def test_a_new_subscriber_gets_the_plan_s_trial_and_a_card_is_asked_for(
    function: Connection, user: UUID
) -> None:
    params = prepare(function, user)["session"]["params"]
    assert params["subscription_data"].keys() == {"metadata", "trial_period_days"}
    assert params["subscription_data"]["trial_period_days"] == 14
    assert "payment_method_collection" not in params
    assert trials(function, user) == [14, 30, 7]
    assert trial(prepare(function, user, plan="price_none")) is None


@pytest.mark.parametrize("end", ["cancel", "pause", "create_invoice"])
def test_a_trial_begins_without_a_card_when_the_owner_says_how_it_ends(
    conn: Connection, function: Connection, user: UUID, end: str
) -> None:
    set_(conn, trial_without_card=end)
    params = prepare(function, user)["session"]["params"]
    assert params["payment_method_collection"] == "if_required"
    assert params["subscription_data"]["trial_settings"] == {"end_behavior": {"missing_payment_method": end}}
    paid = prepare(function, user, plan="price_none")["session"]["params"]
    assert "payment_method_collection" not in paid
    assert "trial_settings" not in paid["subscription_data"]


@pytest.mark.parametrize(
    ("scope", "left"),
    [("product", [None, None, 7]), ("account", [None, None, None]), ("none", [14, 30, 7])],
)
@pytest.mark.parametrize("trialed", [True, False])
def test_whoever_subscribed_before_gets_no_trial_as_far_as_the_owner_minds(
    conn: Connection,
    function: Connection,
    worker: Connection,
    user: UUID,
    scope: str,
    left: Any,
    trialed: bool,
) -> None:
    set_(conn, one_trial_per=scope)
    sync_subscription(worker, status="canceled", ended_at=JANUARY, trial_end=JANUARY if trialed else None)
    assert trials(function, user) == left


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_a_subscription_that_was_never_paid_costs_no_trial(
    function: Connection, worker: Connection, user: UUID, status: str
) -> None:
    sync_subscription(worker, status=status)
    assert trial(prepare(function, user)) == 14


def test_a_trial_of_another_account_or_mode_costs_none(
    database: Database, conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    other = account_of(conn, create_user(database))
    link(conn, other, "cus_2")
    sync_subscription(worker, stripe_customer_id="cus_2", status="canceled", ended_at=JANUARY)
    assert trial(prepare(function, user)) == 14


def test_a_trial_that_was_changed_to_another_product_is_remembered(
    function: Connection, worker: Connection, user: UUID
) -> None:
    assert record(function, prepare(function, user), "cs_1")
    sync_checkout_session(worker)
    moved = item(stripe_price_id="price_team", stripe_product_id="prod_2")
    sync_subscription(worker, status="canceled", ended_at=JANUARY, items=[moved])
    assert trials(function, user) == [None, None, None]


def test_two_open_sessions_are_never_two_trials(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    set_(conn, one_subscription_per="price")
    record(function, prepare(function, user), "cs_1")
    other = prepare(function, user, plan="team")
    assert (other["superseded"], trial(other)) == ([], 7)
    record(function, other, "cs_2")
    yearly = prepare(function, user, plan="price_year")
    assert (yearly["superseded"], trial(yearly)) == (["cs_1"], 30)
    record(function, yearly, "cs_3")
    assert prepare(function, user, plan="price_none")["superseded"] == []
    set_(conn, one_trial_per="none")
    assert prepare(function, user, quantity=2)["superseded"] == []
    sync_checkout_session(worker, stripe_checkout_session_id="cs_3", stripe_subscription_id=None)
    set_(conn, one_trial_per="product")
    assert trial(prepare(function, user, quantity=2)) is None, "the session counts before its subscription"


def test_a_trial_that_begins_while_another_click_waits_is_none_for_that(
    database: Database, conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    set_(conn, one_subscription_per="none")
    record(function, prepare(function, user), "cs_1")
    with database.connect(autocommit=False) as other:
        other.execute("select from billing.customer_claims for update")
        with blocked(function, conn, lambda: prepare(function, user, plan="price_year")) as second:
            sync_checkout_session(worker)
            other.commit()
            with refused("40001"):
                second.result()
    assert trial(prepare(function, user, plan="price_year")) is None


def test_seats_are_those_of_the_plan_or_else_of_the_owner(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    def quantity(plan: str, asked: int | None = None) -> int:
        return prepare(function, user, plan=plan, quantity=asked)["session"]["params"]["line_items"][0][
            "quantity"
        ]

    assert [quantity("team"), quantity("team", 50), quantity("price_1"), quantity("price_1", 100)] == [
        2,
        50,
        1,
        100,
    ]
    for plan, asked in (("team", 1), ("team", 51), ("price_1", 101)):
        with refused("TB043"):
            quantity(plan, asked)
    sync_price(worker, stripe_price_id="price_5", metadata={"seats": "5"})
    assert quantity("price_5") == 5
    with refused("TB043") as caught:
        quantity("price_5", 4)
    assert "from 5 to 5" in str(caught.value)
    set_(conn, max_checkout_quantity=3)
    assert quantity("team", 50) == 50, "the plan knows better"
    with refused("TB043"):
        quantity("price_1", 4)


def test_a_free_plan_has_as_many_seats_as_were_declared(
    function: Connection, worker: Connection, user: UUID
) -> None:
    free = {"stripe_price_id": "price_free", "unit_amount": 0}
    sync_price(worker, **free)
    assert prepare(function, user, plan="price_free", quantity=1)
    with refused("TB043"):
        prepare(function, user, plan="price_free", quantity=2)
    sync_price(worker, metadata={"seats": "2-5"}, as_of=JANUARY + SECOND, **free)
    assert prepare(function, user, plan="price_free", quantity=5)
    with refused("TB043"):
        prepare(function, user, plan="price_free", quantity=6)


def test_addresses_and_tax_ids_are_asked_for_when_the_owner_says_so(
    conn: Connection, function: Connection, user: UUID
) -> None:
    set_(conn, collect_tax_ids=True, billing_address_collection="required")
    for params in (prepare(function, user)["session"]["params"],):
        assert params["tax_id_collection"] == {"enabled": True}
        assert params["customer_update"] == {"address": "auto", "name": "auto"}
        assert params["billing_address_collection"] == "required"
    for name, value in (
        ("one_trial_per", "price"), ("trial_without_card", "ask"), ("billing_address_collection", "never")
    ):  # fmt: skip
        with refused("23514"):
            set_(conn, **{name: value})


def test_terms_are_read_by_clients(conn: Connection) -> None:
    query = "select trial_days, seats_min, seats_max from public.billing_plans where lookup_key = 'team'"
    with conn.transaction():
        conn.execute("set local role anon")
        assert conn.execute(query).fetchall() == [(7, 2, 50)]


def test_trial_credits_come_with_the_trial_that_checkout_gives(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, lookup_key="pro_monthly", metadata={"trial_credits": "50"}, as_of=JANUARY + SECOND)
    assert trial(prepare(function, user)) == 14
    trialing = {"status": "trialing", "trial_start": JANUARY, "trial_end": JANUARY + 14 * 86400 * SECOND}
    sync_subscription(worker, **trialing)
    sync_subscription(worker, stripe_subscription_id="sub_2", items=[item("si_2")], **trialing)
    balance = call(conn, "public.credit_balance_as_of", account_id=account_of(conn, user), moment="now")
    assert list(balance.values()) == [50]
