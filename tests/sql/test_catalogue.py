"""Products and prices: what their metadata declares in credits, and which of two states is kept."""

from datetime import timedelta
from itertools import permutations
from typing import Any

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
    {"trial_days": "two weeks"},
    {"trial_days": "731"},
    {"trial_days": "-1"},
    {"seats": "0"},
    {"seats": "5-2"},
    {"seats": "2-"},
    {"seats": "1000000"},
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


def test_price_that_comes_before_its_product_is_a_pack_when_the_product_declares_it(
    worker: Connection, conn: Connection
) -> None:
    sync_price(worker, type="one_time", lookup_key="pack", unit_amount=900)
    assert fetch(conn, "select from billing.credit_packs") == []
    sync_product(worker, metadata={"pack_credits": "40"})
    found = fetch_one(
        conn, "select lookup_key, unit_amount, pack_credits, active, as_of from billing.credit_packs"
    )
    assert tuple(found.values()) == ("pack", 900, 40, True, JANUARY)
    assert fetch(conn, "select from billing.one_time_prices") == []


def test_pack_follows_its_product_and_its_own_word_counts_first(worker: Connection, conn: Connection) -> None:
    sync_product(worker, metadata={"pack_credits": "40"})
    sync_price(worker, type="one_time")
    sync_price(worker, type="one_time", stripe_price_id="price_2", metadata={"pack_credits": "7"})
    sync_product(worker, metadata={"pack_credits": "50"}, as_of=JANUARY + SECOND)
    packs = "select stripe_price_id, pack_credits from billing.credit_packs order by 1"
    assert [tuple(row.values()) for row in fetch(conn, packs)] == [("price_1", 50), ("price_2", 7)]
    sync_product(worker, metadata={}, as_of=JANUARY + 2 * SECOND)
    assert [tuple(row.values()) for row in fetch(conn, packs)] == [("price_1", 50), ("price_2", 7)]
    with refused("TB017"):
        sync_product(worker, metadata={"pack_credits": "0"}, as_of=JANUARY + 3 * SECOND)


@pytest.mark.parametrize("declared_by", ["price", "product"])
def test_states_of_a_one_time_price_end_alike_in_every_order(conn: Connection, declared_by: str) -> None:
    """Three states of a price and two of its product, told in every order."""
    of_price = {"pack_credits": "40"} if declared_by == "price" else {}
    of_product = {"pack_credits": "40"} if declared_by == "product" else {}

    def price(step: int, **more: Any) -> Any:
        return lambda: sync_price(conn, type="one_time", as_of=JANUARY + step * SECOND, **more)

    told = [
        price(0),
        price(2, metadata=of_price, nickname="Forty"),
        price(4, metadata=of_price, nickname="Forty", active=False),
        lambda: sync_product(conn),
        lambda: sync_product(conn, metadata=of_product, as_of=JANUARY + 3 * SECOND),
    ]
    for order in permutations(told):
        with conn.transaction(force_rollback=True):
            for tell in order:
                assert tell() in ("applied", "stale")
            found = fetch_one(conn, "select nickname, active, pack_credits from billing.credit_packs")
            assert tuple(found.values()) == ("Forty", False, 40)


def test_one_time_price_that_declares_nothing_keeps_the_newest_state(
    worker: Connection, conn: Connection
) -> None:
    sync_price(worker, type="one_time", nickname="new", as_of=JANUARY + SECOND)
    assert sync_price(worker, type="one_time", nickname="old") == "stale"
    assert sync_price(worker, type="one_time", nickname="tie", as_of=JANUARY + SECOND) == "refetch"
    assert value(conn, "select nickname from billing.one_time_prices") == "new"


def test_pack_that_its_product_brings_sends_on_what_waited_for_it(
    worker: Connection, conn: Connection
) -> None:
    sync_price(worker, type="one_time")
    conn.execute(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, status, created_at, settled_at, "
        "last_error, waiting_for) values ('evt_1', 't', false, '{}', 'dead', now(), now(), 'TB010', 'price_1')"
    )
    sync_product(worker, metadata={"pack_credits": "40"})
    assert value(conn, "select status from billing.stripe_events") == "queued"


def test_terms_of_the_price_count_before_those_of_the_product_and_stay_when_nobody_says(
    worker: Connection, conn: Connection
) -> None:
    def terms() -> tuple[Any, ...]:
        return tuple(fetch_one(conn, "select trial_days, seats_min, seats_max from billing.plans").values())

    sync_product(worker, metadata={"trial_days": "14", "seats": "3"})
    sync_price(worker)
    assert terms() == (14, 3, 3)
    sync_price(worker, metadata={"trial_days": "0", "seats": "2-50"}, as_of=JANUARY + SECOND)
    assert terms() == (0, 2, 50)
    sync_price(worker, as_of=JANUARY + 2 * SECOND)
    sync_product(worker, as_of=JANUARY + SECOND)
    assert terms() == (14, 3, 3)
    sync_price(worker, metadata={"seats": "any"}, as_of=JANUARY + 3 * SECOND)
    assert terms()[1:] == (1, None)
