"""The price list: dated versions that never change, and prices that are exact until they are rounded once."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.calls import Connection, fetch, fetch_one, move_clock, refused, value
from tests.sql.work import estimate, set_price
from tests.support import Database, as_anon, as_user, create_user

DAY = timedelta(days=1)
BIGGEST = 2**63 - 1


def versions(conn: Connection, operation: str = "chat") -> list[tuple[int, Any]]:
    """Their ids, and the rate of input in each."""
    rows = fetch(
        conn,
        "select id, rates -> 'input' -> 'credits' as credits from billing.operation_prices "
        "where operation = %s order by valid_from",
        [operation],
    )
    return [(row["id"], row["credits"]) for row in rows]


def chat(credits: float) -> dict[str, Any]:
    return {"input": {"credits": credits, "per": 1000, "unit": "tokens"}}


def test_a_call_costs_the_sum_of_its_components_rounded_once(app: Connection) -> None:
    set_price(app)
    found = estimate(app, "chat", {"input": 1500, "cached": 10_000, "output": 250})
    assert found["unrounded"] == Decimal("1.05")  # 0.45 + 0.3 + 0.3; rounded one by one it would be 3
    assert found["credits"] == 2


def test_a_call_is_one_call_unless_told(app: Connection) -> None:
    set_price(app, rates={"call": 2, "seconds": 3})
    assert estimate(app, "chat", {})["credits"] == 2
    assert estimate(app, "chat", {"seconds": 1})["credits"] == 5
    assert estimate(app, "chat", {"seconds": 1, "call": 10})["credits"] == 23
    assert estimate(app, "chat", {"call": 0})["credits"] == 0


@pytest.mark.parametrize(
    ("rounding", "seconds", "credits"),
    [
        ("up", 0, 0), ("up", 1, 1), ("up", 60, 1), ("up", 61, 2),
        ("half_up", 29, 0), ("half_up", 30, 1), ("half_up", 89, 1), ("half_up", 90, 2),
        ("down", 59, 0), ("down", 60, 1), ("down", 119, 1),
    ],
)  # fmt: skip
def test_the_stated_rule_rounds(app: Connection, rounding: str, seconds: int, credits: int) -> None:
    set_price(app, rates={"seconds": {"credits": 1, "per": 60}}, rounding=rounding)
    assert estimate(app, "chat", {"seconds": seconds})["credits"] == credits


def test_a_call_costs_the_minimum_at_least(app: Connection) -> None:
    set_price(app, minimum=3)
    assert estimate(app, "chat", {})["credits"] == 3
    assert estimate(app, "chat", {"input": 10_001})["credits"] == 4


def test_the_markup_is_part_of_every_rate(app: Connection) -> None:
    set_price(app, markup=Decimal("20"))
    assert estimate(app, "chat", {"input": 1_000_000})["unrounded"] == 360
    rates = value(app, "select rates from public.billing_operations where operation = 'chat'")
    assert {name: rate["credits"] for name, rate in rates.items()} == {
        "input": 0.36, "cached": 0.036, "output": 1.44,
    }  # fmt: skip


numbers = st.one_of(
    st.integers(0, 10**6),
    st.decimals(0, 10**6, places=6),
    st.sampled_from([0, 1, Decimal("0.000000000001"), Decimal("0.5"), 10**12]),
)
rates = st.dictionaries(
    st.sampled_from(["input", "cached", "output", "seconds", "megabytes"]),
    st.tuples(numbers, st.sampled_from([1, 3, 7, 60, 1000, 1024, 3600, 10**6, 10**9])),
    min_size=1,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rates=rates,
    quantities=st.dictionaries(
        st.sampled_from(["input", "cached", "output", "seconds", "megabytes"]),
        st.one_of(st.integers(0, 10**9), st.decimals(0, 10**9, places=9)),
    ),
    markup=st.one_of(st.integers(-100, 400), st.decimals(-100, 400, places=6)),
    rounding=st.sampled_from(["up", "half_up", "down"]),
    minimum=st.integers(0, 5),
)
def test_a_price_is_what_fractions_say(
    app: Connection,
    rates: dict[str, tuple[Decimal | int, int]],
    quantities: dict[str, Decimal | int],
    markup: Decimal | int,
    rounding: str,
    minimum: int,
) -> None:
    quantities = {name: number for name, number in quantities.items() if name in rates}
    exact = sum(
        (
            Fraction(rates[name][0]) / rates[name][1] * Fraction(number) * (1 + Fraction(markup) / 100)
            for name, number in quantities.items()
        ),
        Fraction(0),
    )
    whole, rest = divmod(exact.numerator, exact.denominator)
    up = {"up": rest > 0, "half_up": 2 * rest >= exact.denominator, "down": False}[rounding]
    expected = max(whole + up, minimum)

    given_rates = {name: {"credits": _as_json(credits), "per": per} for name, (credits, per) in rates.items()}
    with app.transaction(force_rollback=True):
        app.execute(
            "select billing.set_operation_price(operation => 'chat', rates => %s::jsonb, markup => %s, "
            "rounding => %s, minimum => %s)",
            [_text(given_rates), markup, rounding, minimum],
        )
        query = "select * from billing.estimate_work('chat', %s::jsonb)"
        asked = [_text({name: _as_json(number) for name, number in quantities.items()})]
        if expected > 2**63 - 1:
            with refused("TB103"):
                fetch_one(app, query, asked)
            return
        row = fetch_one(app, query, asked)
    assert row["credits"] == expected
    assert Fraction(row["unrounded"]) == Fraction(exact.numerator * 10**18 // exact.denominator, 10**18)


def _as_json(number: Decimal | int) -> str:
    return f"<{number:f}>"


def _text(document: Any) -> str:
    """JSON whose decimals have every digit."""
    return json.dumps(document).replace('"<', "").replace('>"', "")


@pytest.mark.parametrize(
    ("quantities", "code"),
    [
        ({"inputs": 1}, "TB101"), ({"input": -1}, "TB102"), ({"input": "7"}, "TB102"), ({"input": None}, "TB102"),
        ({"input": True}, "TB102"), ({"input": [1]}, "TB102"), ({"input": 10**15 + 1}, "TB102"), ([1], "TB102"),
        (None, "TB102"), ("input", "TB102"),
    ],
)  # fmt: skip
def test_quantities_must_be_numbers_of_components(app: Connection, quantities: Any, code: str) -> None:
    set_price(app)
    with refused(code):
        estimate(app, "chat", quantities)


def test_quantities_are_refused_by_name(app: Connection) -> None:
    set_price(app)
    with refused("TB101") as caught:
        estimate(app, "chat", {"prompt": 1})
    assert "has no rate for prompt, only for cached, input, output" in str(caught.value)
    with refused("TB102"), app.transaction():
        app.execute("select billing.estimate_work('chat', null)")


def test_a_price_beyond_the_largest_balance_is_refused(app: Connection) -> None:
    set_price(app, rates={"seconds": 10**12})
    most = BIGGEST // 10**12
    assert estimate(app, "chat", {"seconds": most})["credits"] == most * 10**12
    with refused("TB103"):
        estimate(app, "chat", {"seconds": most + 1})


@pytest.mark.parametrize("operation", ["nothing", "", None])
def test_an_operation_must_be_in_the_price_list(app: Connection, operation: str | None) -> None:
    set_price(app)
    with refused("TB100"):
        estimate(app, operation, {})


def test_an_operation_that_is_no_longer_offered_has_no_price(app: Connection) -> None:
    set_price(app)
    set_price(app, active=False)
    with refused("TB100"):
        estimate(app, "chat", {})
    assert fetch(app, "select operation from public.billing_operations") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": {}}, {"rates": []}, {"rates": {"Input": 1}}, {"rates": {"input": -1}}, {"rates": {"input": "1"}},
        {"rates": {"input": {"per": 1000}}}, {"rates": {"input": {"credits": 1, "per": 0}}},
        {"rates": {"input": {"credits": 1, "per": 1.5}}}, {"rates": {"input": {"credits": 1, "unit": ""}}},
        {"rates": {"input": {"credits": 1, "units": "x"}}}, {"rates": {"input": 10**12 + 1}},
        {"rates": {"input": 1e-13}}, {"markup": -101}, {"markup": None}, {"markup": Decimal("0.0000001")},
        {"rounding": "even"}, {"rounding": None}, {"operation": ""}, {"operation": "x" * 201},
    ],
)  # fmt: skip
def test_a_price_that_cannot_be_worked_out_is_refused(app: Connection, wrong: dict[str, Any]) -> None:
    with refused("TB107"):
        set_price(app, **wrong)


def test_a_minimum_and_a_policy_must_be_possible(app: Connection) -> None:
    for minimum in (-1, Decimal("0.5")):
        with refused("TB005"):
            set_price(app, minimum=minimum)
    for policy in ("forgive", None):
        with refused("TB106"):
            set_price(app, on_excess=policy)


def test_a_change_is_a_new_version_and_the_same_price_is_none(app: Connection) -> None:
    first = set_price(app, rates=chat(0.3))
    assert set_price(app, rates=chat(0.30))["id"] == first["id"]
    second = set_price(app, rates=chat(0.4))
    assert [credits for _, credits in versions(app)] == [0.3, 0.4]
    assert second["valid_from"] > first["valid_from"]
    assert estimate(app, "chat", {"input": 10_000})["credits"] == 4


@pytest.mark.parametrize(
    "change",
    [{"markup": 5}, {"minimum": 1}, {"rounding": "down"}, {"on_excess": "clip"}, {"name": "Chat"}, {"active": False}],
)  # fmt: skip
def test_any_change_is_a_new_version(app: Connection, change: dict[str, Any]) -> None:
    first = set_price(app, rates=chat(0.3))
    assert set_price(app, rates=chat(0.3), **change)["id"] != first["id"]


def test_an_announced_price_comes_into_force_at_its_time(app: Connection, admin: Connection) -> None:
    set_price(app, rates=chat(0.3))
    announced = set_price(app, rates=chat(0.4), valid_from=datetime.now(UTC) + 10 * DAY)
    assert set_price(app, rates=chat(0.4), valid_from=announced["valid_from"])["id"] == announced["id"]
    assert estimate(app, "chat", {"input": 10_000})["credits"] == 3
    move_clock(admin, 11 * DAY)
    assert estimate(app, "chat", {"input": 10_000})["credits"] == 4


def test_a_later_push_replaces_what_was_announced(app: Connection) -> None:
    first = set_price(app, rates=chat(0.3))
    soon = datetime.now(UTC) + DAY
    set_price(app, rates=chat(0.4), valid_from=soon)
    set_price(app, rates=chat(0.5), valid_from=soon + DAY)
    assert [credits for _, credits in versions(app)] == [0.3, 0.5]
    assert set_price(app, rates=chat(0.3))["id"] == first["id"]
    assert [credits for _, credits in versions(app)] == [0.3]


def test_a_time_that_is_past_means_now(app: Connection) -> None:
    first = set_price(app, rates=chat(0.3), valid_from=datetime.now(UTC) - DAY)
    assert first["valid_from"] > datetime.now(UTC) - timedelta(minutes=5)
    assert set_price(app, rates=chat(0.3), valid_from=datetime.now(UTC) - DAY)["id"] == first["id"]


def test_a_version_that_was_in_force_stays_as_it_is(app: Connection, admin: Connection) -> None:
    price = set_price(app)
    with refused("TB108"):
        admin.execute("delete from billing.operation_prices")
    for change in (
        "update billing.operation_prices set minimum = 7",
        "truncate billing.operation_prices cascade",
    ):
        with refused("TB015"):
            admin.execute(change)
    assert fetch_one(app, "select * from billing.operation_prices") == price


def test_clients_read_what_is_in_force_without_the_markup(database: Database, app: Connection) -> None:
    set_price(app, markup=20, name="Chat")
    set_price(app, rates=chat(9), markup=20, valid_from=datetime.now(UTC) + DAY)
    user = create_user(database)
    with database.connect() as conn:
        for client in (as_anon(conn), as_user(conn, user)):
            with client:
                [row] = fetch(conn, "select * from public.billing_operations")
                assert (row["name"], row["rates"]["input"]["credits"]) == ("Chat", 0.36)
                assert value(conn, "select count(*) from billing.operation_prices") == 1
                with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                    conn.execute("select markup from billing.operation_prices")
