"""Products and prices: what their metadata declares in credits, and which of two states is kept."""

from datetime import timedelta

import pytest

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    fetch,
    fetch_one,
    refused,
    sync_price,
    sync_product,
    value,
)
from tests.sql.races import at_once
from tests.support import Database

CREDITS = (
    "initial_credits, monthly_credits, trial_credits, rollover, rollover_periods, rollover_cap, features"
)


def plan(conn: Connection) -> Row:
    return fetch_one(conn, f"select {CREDITS} from billing.plans")


def test_price_without_declarations_is_a_plan_worth_nothing(worker: Connection, conn: Connection) -> None:
    assert sync_price(worker) == "applied"
    assert plan(conn) == {
        "initial_credits": 0,
        "monthly_credits": 0,
        "trial_credits": 0,
        "rollover": "all",
        "rollover_periods": None,
        "rollover_cap": None,
        "features": {},
    }


def test_price_declares_what_a_plan_is_worth(worker: Connection, conn: Connection) -> None:
    declared = {
        "initial_credits": "50",
        "monthly_credits": "100",
        "trial_credits": "10",
        "credits_rollover": "periods:3",
        "features": '{"seats": 5}',
    }
    sync_price(worker, metadata=declared)
    assert plan(conn) == {
        "initial_credits": 50,
        "monthly_credits": 100,
        "trial_credits": 10,
        "rollover": "periods",
        "rollover_periods": 3,
        "rollover_cap": None,
        "features": {"seats": 5},
    }


@pytest.mark.parametrize("price_first", [True, False])
def test_price_goes_before_product_whichever_arrives_first(
    worker: Connection, conn: Connection, price_first: bool
) -> None:
    def product() -> None:
        sync_product(worker, metadata={"monthly_credits": "7", "initial_credits": "3"})

    def price() -> None:
        sync_price(worker, metadata={"monthly_credits": "100"})

    for arrive in [price, product] if price_first else [product, price]:
        arrive()
    assert (plan(conn)["monthly_credits"], plan(conn)["initial_credits"]) == (100, 3)
    assert value(conn, "select name from billing.products") == "Pro"


def test_what_is_not_declared_stays_as_it_was(worker: Connection, conn: Connection) -> None:
    sync_price(worker, metadata={"monthly_credits": "100", "credits_rollover": "periods:2"})
    conn.execute("update billing.plans set initial_credits = 25")  # set by hand
    sync_price(worker, metadata={"team": "blue"}, as_of=JANUARY + SECOND)
    assert plan(conn)["monthly_credits"] == 100
    assert plan(conn)["initial_credits"] == 25
    assert (plan(conn)["rollover"], plan(conn)["rollover_periods"]) == ("periods", 2)


def test_a_declaration_of_zero_is_zero(worker: Connection, conn: Connection) -> None:
    sync_price(worker, metadata={"monthly_credits": "100"})
    sync_price(worker, metadata={"monthly_credits": "0"}, as_of=JANUARY + SECOND)
    assert plan(conn)["monthly_credits"] == 0


@pytest.mark.parametrize("rule", ["none", "all"])
def test_rollover_rule_replaces_an_earlier_one(worker: Connection, conn: Connection, rule: str) -> None:
    sync_price(worker, metadata={"credits_rollover": "periods:2"})
    sync_price(worker, metadata={"credits_rollover": rule}, as_of=JANUARY + SECOND)
    assert (plan(conn)["rollover"], plan(conn)["rollover_periods"]) == (rule, None)


def test_rollover_up_to_a_cap(worker: Connection, conn: Connection) -> None:
    sync_price(worker, metadata={"credits_rollover": "cap:500"})
    assert (plan(conn)["rollover"], plan(conn)["rollover_cap"]) == ("cap", 500)
    sync_price(worker, metadata={"credits_rollover": "all"}, as_of=JANUARY + SECOND)
    assert (plan(conn)["rollover"], plan(conn)["rollover_cap"]) == ("all", None)


BAD_METADATA = [
    {"monthly_credits": "1,000"},
    {"monthly_credits": "-1"},
    {"monthly_credits": "1.5"},
    {"monthly_credits": ""},
    {"monthly_credits": "NaN"},
    {"monthly_credits": "1e3"},
    {"monthly_credits": "10\n"},
    {"monthly_credits": "9999999999999999999"},
    {"initial_credits": "many"},
    {"trial_credits": " 5"},
    {"credits_rollover": "some"},
    {"credits_rollover": "periods"},
    {"credits_rollover": "periods:0"},
    {"credits_rollover": "periods:-1"},
    {"features": "fast"},
    {"features": "[1]"},
    {"features": "null"},
]


@pytest.mark.parametrize("metadata", BAD_METADATA, ids=str)
def test_bad_metadata_is_refused_by_its_name_and_changes_nothing(
    worker: Connection, conn: Connection, metadata: dict[str, str]
) -> None:
    sync_price(worker, metadata={"monthly_credits": "100"})
    (key,) = metadata
    with refused("TB017") as caught:
        sync_price(worker, metadata=metadata, as_of=JANUARY + SECOND)
    assert key in str(caught.value)
    assert "price_1" in str(caught.value)
    assert plan(conn)["monthly_credits"] == 100
    assert plan(conn)["rollover"] == "all"


def test_bad_metadata_of_a_product_is_refused_with_the_price_that_would_use_it(
    worker: Connection, conn: Connection
) -> None:
    sync_price(worker)
    with refused("TB017") as caught:
        sync_product(worker, metadata={"monthly_credits": "many"}, active=False)
    assert "monthly_credits of price_1" in str(caught.value)
    assert value(conn, "select active from billing.products") is True


@pytest.mark.parametrize("sync", [sync_product, sync_price], ids=["product", "price"])
def test_only_a_newer_state_replaces_what_is_held(worker: Connection, conn: Connection, sync: object) -> None:
    assert callable(sync)
    assert sync(worker, active=False, as_of=JANUARY) == "applied"
    assert sync(worker, as_of=JANUARY - SECOND) == "stale"
    assert sync(worker, as_of=JANUARY) == "refetch"
    table = "products" if sync is sync_product else "plans"
    assert value(conn, f"select active from billing.{table}") is False
    assert sync(worker, as_of=JANUARY + SECOND) == "applied"
    assert value(conn, f"select active from billing.{table}") is True


def test_product_that_a_price_named_first_waits_for_its_own_state(
    worker: Connection, conn: Connection
) -> None:
    sync_price(worker, stripe_product_id="prod_9")
    assert value(conn, "select name from billing.products") == "prod_9"
    long_ago = JANUARY - timedelta(days=3650)
    assert sync_product(worker, stripe_product_id="prod_9", name="Team", as_of=long_ago) == "applied"
    assert value(conn, "select name from billing.products") == "Team"


def test_one_time_price_with_credits_is_a_pack(worker: Connection, conn: Connection) -> None:
    assert sync_price(worker, type="one_time", metadata={"pack_credits": "500"}) == "applied"
    assert fetch(conn, "select from billing.plans") == []
    pack = fetch_one(conn, "select stripe_price_id, pack_credits, active from billing.credit_packs")
    assert pack == {"stripe_price_id": "price_1", "pack_credits": 500, "active": True}


def test_pack_takes_its_credits_from_the_product_as_fallback(worker: Connection, conn: Connection) -> None:
    sync_product(worker, metadata={"pack_credits": "40"})
    sync_price(worker, type="one_time")
    assert value(conn, "select pack_credits from billing.credit_packs") == 40


def test_pack_keeps_the_newest_state(worker: Connection, conn: Connection) -> None:
    def sync(credits: str, seconds: int) -> str:
        as_of = JANUARY + seconds * SECOND
        return sync_price(worker, type="one_time", metadata={"pack_credits": credits}, as_of=as_of)

    assert [sync("10", 5), sync("20", 4), sync("30", 5), sync("40", 6)] == [
        "applied",
        "stale",
        "refetch",
        "applied",
    ]
    assert value(conn, "select pack_credits from billing.credit_packs") == 40


def test_one_time_price_without_credits_is_nothing_to_us(worker: Connection, conn: Connection) -> None:
    assert sync_price(worker, type="one_time") == "applied"
    assert fetch(conn, "select from billing.credit_packs") == []


@pytest.mark.parametrize("credits", ["0", "-5", "lots"])
def test_pack_of_no_whole_credits_is_refused_by_name(
    worker: Connection, conn: Connection, credits: str
) -> None:
    with refused("TB017") as caught:
        sync_price(worker, type="one_time", metadata={"pack_credits": credits})
    assert "pack_credits" in str(caught.value)
    assert fetch(conn, "select from billing.credit_packs") == []


def test_states_of_one_price_from_two_workers_at_once_leave_the_newest(
    database: Database, conn: Connection
) -> None:
    with database.connect("billing_worker") as one, database.connect("billing_worker") as two:
        answers = at_once(
            [
                lambda: sync_price(one, metadata={"monthly_credits": "1"}, as_of=JANUARY),
                lambda: sync_price(two, metadata={"monthly_credits": "2"}, as_of=JANUARY + SECOND),
            ]
        )
    assert answers in (["applied", "applied"], ["stale", "applied"])
    assert plan(conn)["monthly_credits"] == 2
