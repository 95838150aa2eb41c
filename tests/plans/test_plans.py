"""`till plans`: a file → Stripe → the database, on the local Stripe and on real Postgres."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.plans.conftest import Run
from tests.stripe_local.conftest import Local

Connection = psycopg.Connection[Any]

PLANS = """
[products.pro]
name = "Pro"
description = "For people who ship"

[plans.pro_monthly]
product = "pro"
unit_amount = 1900
currency = "usd"
interval = "month"
initial_credits = 500
monthly_credits = 1000
trial_credits = 50
credits_rollover = "periods:2"
credits_on_proration = "full"
credits_on_cancel = "stop"
trial_days = 14
seats = "2-50"
features = { projects = true, project_limit = 25 }

[plans.pro_yearly]
product = "pro"
unit_amount = 19000
currency = "usd"
interval = "year"
monthly_credits = 1000
nickname = "Yearly"

[packs.credits_500]
product = "pro"
unit_amount = 900
currency = "usd"
pack_credits = 500
"""


@pytest.fixture(autouse=True)
def short_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.plans.sync.TIE_SECONDS", 0.4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)
    return path


def changed(file: Path, before: str, after: str) -> Path:
    text = file.read_text()
    assert text.count(before) >= 1
    file.write_text(text.replace(before, after, 1))
    return file


def prices(local: Local, **filters: Any) -> dict[str, dict[str, Any]]:
    """Every price, by its lookup key, else by its id."""
    listed = local.client.prices.list({"limit": 100, **filters}).data
    return {price.lookup_key or price.id: price.to_dict() for price in listed}


def products(local: Local) -> list[dict[str, Any]]:
    return [product.to_dict() for product in local.client.products.list({"limit": 100}).data]


def plan(conn: Connection, lookup_key: str) -> tuple[Any, ...]:
    found = conn.execute(
        "select stripe_price_id, active, unit_amount, recurring_interval, initial_credits, monthly_credits, "
        "trial_credits, rollover, rollover_periods, proration_credits, cancel_credits, features "
        "from billing.plans where lookup_key = %s",
        [lookup_key],
    ).fetchone()
    assert found is not None
    return found


@contextmanager
def counted_writes(local: Local) -> Iterator[list[str]]:
    """The events that Stripe sent meanwhile: none when nothing was written."""
    before = len(local.event_types())
    events: list[str] = []
    yield events
    events += local.event_types()[before:]


def test_the_first_push_shows_and_writes_nothing(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    with counted_writes(local) as writes:
        shown = run("push", file)
    assert writes == []
    lines = [line.split() for line in shown.out.splitlines() if line.startswith("create")]
    assert [line[:3] for line in lines] == [
        ["create", "product", "pro"], ["create", "plan", "pro_monthly"], ["create", "plan", "pro_yearly"],
        ["create", "pack", "credits_500"],
    ]  # fmt: skip
    assert "price: 1900 usd / month" in shown.out
    assert shown.err == "changes to make: 4; nothing was done: repeat it with --yes\n"
    assert conn.execute("select count(*) from billing.plans").fetchone() == (0,)


def test_push_makes_products_and_prices_and_brings_them_here(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    run("push", file, "--yes")
    terms = "select lookup_key, trial_days, seats_min, seats_max from billing.plans order by 1"
    assert conn.execute(terms).fetchall() == [("pro_monthly", 14, 2, 50), ("pro_yearly", 0, 1, None)]
    [product] = products(local)
    assert (product["name"], product["description"]) == ("Pro", "For people who ship")
    made = prices(local)
    assert set(made) == {"pro_monthly", "pro_yearly", "credits_500"}
    assert {price["product"] for price in made.values()} == {product["id"]}
    assert made["pro_yearly"]["metadata"] == {"monthly_credits": "1000"}
    assert plan(conn, "pro_monthly") == (
        made["pro_monthly"]["id"], True, 1900, "month", 500, 1000, 50, "periods", 2, "full", "stop",
        {"projects": True, "project_limit": 25},
    )  # fmt: skip
    assert plan(conn, "pro_yearly")[1:4] == (True, 19000, "year")
    packs = conn.execute("select lookup_key, unit_amount, pack_credits from billing.credit_packs").fetchall()
    assert packs == [("credits_500", 900, 500)]
    assert conn.execute("select name from billing.products").fetchall() == [("Pro",)]


def test_a_repeat_writes_nothing(local: Local, run: Run, file: Path) -> None:
    run("push", file, "--yes")
    with counted_writes(local) as writes:
        shown = run("push", file, "--yes")
    assert writes == []
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ["same"] * 4
    assert run("push", file).err == "nothing to change\n"


def test_a_new_amount_is_a_new_price_and_the_old_one_is_archived(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    run("push", file, "--yes")
    before = prices(local)["pro_monthly"]
    local.client.prices.update(
        before["id"], {"metadata": {"campaign": "spring"}, "tax_behavior": "exclusive"}
    )
    shown = run("push", changed(file, "unit_amount = 1900", "unit_amount = 2900"))
    assert "unit_amount: 1900 → 2900" in shown.out
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ["same", "create", "archive"] + [
        "same"
    ] * 2
    run("push", file, "--yes")
    after = prices(local)
    assert len(after) == 4
    assert (after["pro_monthly"]["unit_amount"], after["pro_monthly"]["active"]) == (2900, True)
    assert after["pro_monthly"]["tax_behavior"] == "exclusive"
    assert after["pro_monthly"]["metadata"] == before["metadata"] | {
        "campaign": "spring", "tillbase_replaces": before["id"]
    }  # fmt: skip
    assert (after[before["id"]]["active"], after[before["id"]]["lookup_key"]) == (False, None)
    assert plan(conn, "pro_monthly")[:3] == (after["pro_monthly"]["id"], True, 2900)
    old = "select active, lookup_key from billing.plans where stripe_price_id = %s"
    assert conn.execute(old, [before["id"]]).fetchone() == (False, None)
    with counted_writes(local) as writes:
        run("push", file, "--yes")
    assert writes == []


@pytest.mark.parametrize(
    ("before", "after", "field", "value"),
    [
        ('interval = "month"', 'interval = "week"', "recurring_interval", "week"),
        ('interval = "month"', 'interval = "month"\ninterval_count = 3', "recurring_interval_count", 3),
        ('currency = "usd"', 'currency = "eur"', "currency", "eur"),
    ],
)
def test_a_new_interval_or_currency_is_a_new_price(
    local: Local, conn: Connection, run: Run, file: Path, before: str, after: str, field: str, value: object
) -> None:
    run("push", file, "--yes")
    old = prices(local)["pro_monthly"]["id"]
    run("push", changed(file, before, after), "--yes")
    assert prices(local)["pro_monthly"]["id"] != old
    found = conn.execute(
        f"select {field} from billing.plans where lookup_key = 'pro_monthly' and active"
    ).fetchall()  # type: ignore[arg-type]
    assert found == [(value,)]
    assert len(prices(local, active=True)) == 3


CUSTOM = """
[packs.any_amount]
product = "pro"
currency = "usd"
custom_unit_amount = { minimum = 500, preset = 2000 }
credits_per_unit = 100
pack_expires_after = "12 months"
"""


def pack_held(conn: Connection, lookup_key: str) -> tuple[Any, ...]:
    found = conn.execute(
        "select stripe_price_id, active, unit_amount, pack_credits, credits_per_unit, expires_after::text "
        "from billing.credit_packs where lookup_key = %s",
        [lookup_key],
    ).fetchone()
    assert found is not None
    return found


def test_a_pack_whose_amount_the_customer_chooses(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    file.write_text(PLANS + CUSTOM)
    shown = run("push", file, "--yes")
    assert "price: chosen by the customer, minimum 500, preset 2000 usd" in shown.out
    assert "100 per 1.00 usd" in shown.out
    made = prices(local)["any_amount"]
    assert made["custom_unit_amount"] == {"minimum": 500, "maximum": None, "preset": 2000}
    assert made["metadata"] == {"credits_per_unit": "100", "pack_expires_after": "12 months"}
    assert pack_held(conn, "any_amount") == (made["id"], True, None, None, 100, "1 year")
    with counted_writes(local) as writes:
        assert run("push", file).err == "nothing to change\n"
    assert writes == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("preset = 2000", "preset = 3000", "preset 2000 → chosen by the customer, minimum 500, preset 3000"),
        ("{ minimum = 500, preset = 2000 }", "{}", "minimum 500, preset 2000 → chosen by the customer"),
        ("custom_unit_amount = { minimum = 500, preset = 2000 }\ncredits_per_unit = 100",
         "unit_amount = 900\npack_credits = 500", "preset 2000 → nothing"),
    ],
)  # fmt: skip
def test_other_amounts_to_choose_from_are_a_new_price(
    local: Local, conn: Connection, run: Run, file: Path, before: str, after: str, told: str
) -> None:
    file.write_text(PLANS + CUSTOM)
    run("push", file, "--yes")
    old = prices(local)["any_amount"]["id"]
    shown = run("push", changed(file, before, after), "--yes")
    assert told in shown.out
    new = prices(local)["any_amount"]
    assert new["id"] != old
    assert prices(local)[old]["active"] is False
    assert pack_held(conn, "any_amount")[:2] == (new["id"], True)
    with counted_writes(local) as writes:
        run("push", file, "--yes")
    assert writes == []


def test_terms_of_a_pack_are_changed_in_place_and_removed(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    file.write_text(PLANS + CUSTOM)
    run("push", file, "--yes")
    before = pack_held(conn, "any_amount")
    shown = run("push", changed(file, "credits_per_unit = 100", "credits_per_unit = 0.5"), "--yes")
    assert "credits_per_unit: 100 → 0.5" in shown.out
    shown = run("push", changed(file, 'pack_expires_after = "12 months"\n', ""), "--yes")
    assert "pack_expires_after: 12 months → nothing" in shown.out
    assert prices(local)["any_amount"]["metadata"] == {"credits_per_unit": "0.5"}
    found = pack_held(conn, "any_amount")
    assert (found[0], float(found[4]), found[5]) == (before[0], 0.5, None)
    with counted_writes(local) as writes:
        run("push", file, "--yes")
    assert writes == []


def test_policies_are_pushed_and_return_to_their_defaults(conn: Connection, run: Run, file: Path) -> None:
    policies = (
        "select downgrade_credits, trial_end_credits from billing.plans where lookup_key = 'pro_monthly'"
    )
    changed(file, 'credits_on_cancel = "stop"', 'credits_on_downgrade = "keep"\ntrial_credits_end = "keep"')
    run("push", file, "--yes")
    assert conn.execute(policies).fetchone() == ("keep", "keep")
    shown = run(
        "push", changed(file, 'credits_on_downgrade = "keep"\ntrial_credits_end = "keep"\n', ""), "--yes"
    )
    assert "credits_on_downgrade: keep → take_back" in shown.out
    assert "trial_credits_end: keep → trial_end" in shown.out
    assert conn.execute(policies).fetchone() == ("take_back", "trial_end")


def test_to_an_amount_and_back_within_a_day(local: Local, conn: Connection, run: Run, file: Path) -> None:
    """Stripe keeps its answer to an idempotency key for a day: the third price must not be the first one."""
    for amount in (1900, 2900, 1900, 2900):
        file.write_text(PLANS.replace("unit_amount = 1900\n", f"unit_amount = {amount}\n"))
        run("push", file, "--yes")
        assert plan(conn, "pro_monthly")[1:3] == (True, amount)
    assert len(prices(local)) == 6
    assert len(prices(local, active=True)) == 3


def test_credits_are_changed_in_place(local: Local, conn: Connection, run: Run, file: Path) -> None:
    run("push", file, "--yes")
    before = prices(local)["pro_monthly"]["id"]
    changed(file, "monthly_credits = 1000", "monthly_credits = 2000")
    changed(file, 'credits_rollover = "periods:2"\n', "")
    shown = run("push", file, "--yes")
    assert "monthly_credits: 1000 → 2000" in shown.out
    assert "credits_rollover: periods:2 → all" in shown.out
    found = plan(conn, "pro_monthly")
    assert (found[0], found[5], found[7]) == (before, 2000, "all")
    assert len(prices(local)) == 3


def test_what_the_file_leaves_out_is_its_default(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    """Metadata that vanished would leave the plan here as it was, and go on giving credits away."""
    run("push", file, "--yes")
    for line in ("monthly_credits = 1000\n", "features = { projects = true, project_limit = 25 }\n"):
        changed(file, line, "")
    run("push", file, "--yes")
    found = plan(conn, "pro_monthly")
    assert (found[5], found[11]) == (0, {})


def test_a_product_gives_what_its_price_does_not_say(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    run("push", file, "--yes")
    [product] = products(local)
    local.client.products.update(
        product["id"], {"metadata": {"initial_credits": "70", "monthly_credits": "x"}}
    )
    shown = run("push", file, "--yes")
    assert "initial_credits: 70 → 0" in shown.out  # of the yearly plan, which says nothing
    assert plan(conn, "pro_yearly")[4:6] == (0, 1000)


def test_names_and_descriptions_are_changed_in_place(local: Local, run: Run, file: Path) -> None:
    run("push", file, "--yes")
    changed(file, 'name = "Pro"', 'name = "Professional"')
    changed(file, 'nickname = "Yearly"', 'nickname = "By the year"')
    with counted_writes(local) as writes:
        run("push", file, "--yes")
    assert writes == ["product.updated", "price.updated"]
    assert products(local)[0]["name"] == "Professional"
    assert prices(local)["pro_yearly"]["nickname"] == "By the year"


def test_a_plan_is_taken_off_sale_and_put_back(local: Local, conn: Connection, run: Run, file: Path) -> None:
    run("push", file, "--yes")
    before = prices(local)["pro_yearly"]["id"]
    changed(file, 'nickname = "Yearly"', 'nickname = "Yearly"\nactive = false')
    shown = run("push", file, "--yes")
    assert any(line.split()[:3] == ["archive", "plan", "pro_yearly"] for line in shown.out.splitlines())
    assert plan(conn, "pro_yearly")[:2] == (before, False)
    changed(file, "unit_amount = 19000", "unit_amount = 29000")
    assert run("push", file).err == "nothing to change\n", "nobody buys it: there is no price to be made"
    changed(file, "unit_amount = 29000", "unit_amount = 19000")
    changed(file, "\nactive = false", "\nactive = true")
    run("push", file, "--yes")
    assert plan(conn, "pro_yearly")[:2] == (before, True)
    assert len(prices(local)) == 3


def test_the_default_price_of_a_product_moves_on_before_it_is_archived(
    local: Local, run: Run, file: Path
) -> None:
    run("push", file, "--yes")
    [product] = products(local)
    local.client.products.update(product["id"], {"default_price": prices(local)["pro_monthly"]["id"]})
    with counted_writes(local) as writes:
        shown = run("push", changed(file, "unit_amount = 1900", "unit_amount = 2900"), "--yes")
    assert "default_price" in shown.out
    assert writes.index("product.updated") < len(writes) - 1 - writes[::-1].index("price.updated")
    assert products(local)[0]["default_price"] == prices(local)["pro_monthly"]["id"]


def test_plans_that_the_file_does_not_mention_are_left_alone(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    other = local.price(700, lookup_key="legacy")
    nameless = local.price(800)
    once = local.price(100, interval=None)
    with counted_writes(local) as writes:
        shown = run("push", file, "--yes")
    left = [line.split() for line in shown.out.splitlines() if line.startswith("not in file")]
    assert sorted(line[-1] for line in left) == sorted([other.id, nameless.id])
    assert once.id not in shown.out.split("in the database")[0]
    assert "price.updated" not in writes
    assert plan(conn, "legacy")[1:3] == (True, 700)


def test_an_existing_price_and_its_product_are_taken_over(
    local: Local, conn: Connection, run: Run, file: Path
) -> None:
    existing = local.price(1900, lookup_key="pro_monthly", metadata={"monthly_credits": "10"})
    run("push", file, "--yes")
    [product] = products(local)
    assert product["id"] == existing.product
    assert product["metadata"] == {"tillbase_product": "pro"}
    assert plan(conn, "pro_monthly")[0] == existing.id


def test_a_product_can_be_named_by_its_id(local: Local, run: Run, file: Path) -> None:
    existing = local.client.products.create({"name": "Old name"})
    changed(file, 'name = "Pro"', f'name = "Pro"\nstripe_id = "{existing.id}"')
    run("push", file, "--yes")
    [product] = products(local)
    assert (product["id"], product["name"]) == (existing.id, "Pro")
    changed(file, existing.id, "prod_nope")
    refused = run("push", file, "--yes", expect=1)
    assert refused.err == f"error: {file}: products.pro.stripe_id: Stripe has no product prod_nope\n"


def test_of_two_products_that_may_be_meant_none_is_taken(local: Local, run: Run, file: Path) -> None:
    for _ in range(2):
        local.client.products.create({"name": "Pro", "metadata": {"tillbase_product": "pro"}})
    refused = run("push", file, "--yes", expect=1)
    assert refused.err.count("\n") == 1
    assert "choose one with stripe_id" in refused.err
    assert len(prices(local)) == 0


def test_two_products_of_the_file_are_not_one_in_stripe(local: Local, run: Run, file: Path) -> None:
    existing = local.price(1900, lookup_key="pro_monthly")
    local.client.prices.create(
        {"product": existing.product, "currency": "usd", "unit_amount": 900, "lookup_key": "credits_500"}
    )
    file.write_text(
        PLANS.replace('[packs.credits_500]\nproduct = "pro"', '[packs.credits_500]\nproduct = "other"')
        + '[products.other]\nname = "Other"\n'
    )
    with counted_writes(local) as writes:
        refused = run("push", file, "--yes", expect=1)
    assert writes == []
    assert f"Stripe has one product, {existing.product}, for it and for products.pro" in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    ("special", "told"),
    [
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": [{"up_to": "inf", "unit_amount": 5}],
            },
            "has tiers",
        ),
        ({"unit_amount_decimal": "0.5"}, "has no amount in whole minor units"),
        ({"unit_amount": 5, "transform_quantity": {"divide_by": 10, "round": "up"}}, "sells packages"),
    ],
)
def test_a_price_that_no_file_can_say_is_not_replaced(
    local: Local, run: Run, file: Path, special: dict[str, Any], told: str
) -> None:
    product = local.client.products.create({"name": "Pro"})
    local.client.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "recurring": {"interval": "month"},
            "lookup_key": "pro_monthly",
            **special,
        }
    )
    with counted_writes(local) as writes:
        refused = run("push", file, "--yes", expect=1)
    assert writes == []
    assert refused.err.startswith(f"error: {file}: plans.pro_monthly: price_")
    assert told in refused.err


def test_json_of_a_push(local: Local, run: Run, file: Path) -> None:
    planned = json.loads(run("push", file, "--json").out)
    assert planned["dry_run"] is True
    assert planned["steps"][0] == {
        "action": "create", "kind": "product", "key": "pro", "stripe_id": None,
        "differences": {"name": [None, "Pro"], "description": [None, "For people who ship"]},
    }  # fmt: skip
    done = json.loads(run("push", file, "--yes", "--json").out)
    assert [step["action"] for step in done["steps"]] == ["create"] * 4
    assert [change["change"] for change in done["database"]["changes"]] == ["new"] * 4
    assert done["database"]["refused"] == done["database"]["missing"] == []


# A push that is cut off, at each of its requests.
REQUESTS_OF_A_FIRST_PUSH = 8  # 2 listings, 1 product, 3 prices, 2 listings
CHANGE = PLANS.replace("unit_amount = 1900\n", "unit_amount = 2900\n").replace(
    'name = "Pro"', 'name = "Pro 2"'
)


def cut(local: Local, monkeypatch: pytest.MonkeyPatch, request: int, fault: str) -> list[int]:
    """The n-th request from now on, and every one after it, fails: the local Stripe's own faults."""
    asked: list[int] = []

    def api_fault() -> str | None:
        asked.append(1)
        return fault if len(asked) >= request else None

    monkeypatch.setattr(local.world.faults, "api_fault", api_fault)
    return asked


def heal(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.world.faults, "api_fault", lambda: None)


@pytest.mark.parametrize("fault", ["500", "timeout"])
@pytest.mark.parametrize("request_number", range(1, REQUESTS_OF_A_FIRST_PUSH + 1))
def test_a_push_that_is_cut_off_goes_on_when_repeated(
    local: Local, conn: Connection, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, request_number: int,
    fault: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("cli.stripe_key.REQUEST_TIMEOUT_SECONDS", 0.4 if fault == "timeout" else 20)
    cut(local, monkeypatch, request_number, fault)
    stopped = run("push", file, "--yes", expect=1)
    assert stopped.err.count("\n") == 1
    assert "again" in stopped.err
    heal(local, monkeypatch)
    run("push", file, "--yes")
    assert len(products(local)) == 1
    assert set(prices(local)) == {"pro_monthly", "pro_yearly", "credits_500"}
    assert plan(conn, "pro_monthly")[1:3] == (True, 1900)
    assert run("push", file).err == "nothing to change\n"


@pytest.mark.parametrize("fault", ["500", "timeout"])
@pytest.mark.parametrize("request_number", [3, 4, 5, 6])
def test_a_change_that_is_cut_off_goes_on_when_repeated(
    local: Local, conn: Connection, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, request_number: int,
    fault: str,
) -> None:  # fmt: skip
    run("push", file, "--yes")
    [product] = products(local)
    local.client.products.update(product["id"], {"default_price": prices(local)["pro_monthly"]["id"]})
    file.write_text(CHANGE)
    monkeypatch.setattr("cli.stripe_key.REQUEST_TIMEOUT_SECONDS", 0.4 if fault == "timeout" else 20)
    cut(local, monkeypatch, request_number, fault)
    stopped = run("push", file, "--yes", expect=1)
    assert f"Steps done before it: {request_number - 3} of 4" in stopped.err
    heal(local, monkeypatch)
    assert "not in file" not in run("push", file).out
    run("push", file, "--yes")
    active = prices(local, active=True)
    assert {key: price["unit_amount"] for key, price in active.items()} == {
        "pro_monthly": 2900, "pro_yearly": 19000, "credits_500": 900
    }  # fmt: skip
    assert len(prices(local)) == 4
    assert products(local)[0]["name"] == "Pro 2"
    assert products(local)[0]["default_price"] == active["pro_monthly"]["id"]
    assert plan(conn, "pro_monthly")[1:3] == (True, 2900)


def test_a_stripe_that_is_not_well_is_one_line(local: Local, run: Run, file: Path) -> None:
    local.control("faults", {"api": {"500": 1}})
    for command in (("push", file), ("sync",)):
        refused = run(*command, expect=1)
        assert refused.out == ""
        assert refused.err == (
            "error: the request to Stripe failed: An unknown error occurred (injected fault); try again\n"
        )
    local.control("faults", {"api": {"429": 1}})
    assert "Too many requests" in run("sync", expect=1).err
    local.control("faults")
    run("push", file, "--yes")


def test_a_price_changed_again_before_the_repeat_leaves_no_older_one_on_sale(
    local: Local, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("push", file, "--yes")
    cut(local, monkeypatch, 4, "500")  # the new price is there, the old one is on sale still
    run("push", changed(file, "unit_amount = 1900", "unit_amount = 2900"), "--yes", expect=1)
    heal(local, monkeypatch)
    assert len(prices(local, active=True)) == 4
    cut(local, monkeypatch, 4, "500")
    run("push", changed(file, "unit_amount = 2900", "unit_amount = 3900"), "--yes", expect=1)
    heal(local, monkeypatch)
    assert len(prices(local, active=True)) == 5
    run("push", file, "--yes")
    assert {price["unit_amount"] for price in prices(local, active=True).values()} == {3900, 19000, 900}
