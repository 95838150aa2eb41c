"""`till plans sync` and `list`: Stripe's catalogue → the database → what is shown."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stripe

from cli.plans.catalogue import StripeAccount, idempotency_keys
from cli.plans.tables import price_text
from cli.stripe_key import stripe_client
from tests.plans.conftest import Run
from tests.stripe_local.conftest import KEY, Local
from tests.support import Database, as_worker
from tests.worker.conftest import drain_with_stripe
from worker.events.fetch import StripeReader
from worker.settings import Settings

Connection = psycopg.Connection[Any]
ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from cli.main import main; main()", "plans"]


def found(conn: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return conn.execute(query, list(parameters)).fetchall()  # type: ignore[arg-type]


def let_a_second_pass(local: Local) -> None:
    """Two states that Stripe tells within one second can't be told apart."""
    local.world.pretended_time = local.world.wall_time() + 1


def test_every_page_comes_active_and_archived(
    local: Local, conn: Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.plans.catalogue.PAGE", 2)
    made = [local.price(1000 + n, lookup_key=f"plan_{n}") for n in range(5)]
    local.client.prices.update(made[1].id, {"active": False})
    local.client.products.update(made[2].product, {"active": False})
    shown = run("sync")
    assert shown.err == "read from Stripe: 10; changed here: 10\n"
    assert found(conn, "select lookup_key, active, unit_amount from billing.plans order by 1") == [
        (f"plan_{n}", n != 1, 1000 + n) for n in range(5)
    ]
    assert found(conn, "select count(*) filter (where not active), count(*) from billing.products") == [
        (1, 5)
    ]
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ["new"] * 10


def test_sync_holds_what_the_worker_holds(database: Database, local: Local, run: Run) -> None:
    """The same account, once by its events through the worker and once by `till`: the same rows."""
    query = (
        "select to_jsonb(plans) - '{as_of,created_at,updated_at}'::text[] from billing.plans union all "
        "select to_jsonb(credit_packs) - '{as_of,created_at,updated_at}'::text[] from billing.credit_packs union all "
        "select to_jsonb(products) - '{as_of,created_at,updated_at}'::text[] from billing.products order by 1"
    )
    local.price(1900, lookup_key="pro", metadata={"monthly_credits": "100", "credits_rollover": "cap:7"})
    local.price(
        19000, "year", nickname="Yearly", metadata={"features": '{"a": 1}', "credits_on_proration": "none"}
    )
    local.price(500, None, metadata={"pack_credits": "50"})
    with database.connect() as conn:
        with as_worker(database) as worker:
            for event in local.world.events.bodies():
                conn.execute(
                    "select billing.receive_stripe_event(%s, %s, %s, %s, %s, %s)",
                    [event[key] for key in ("id", "type", "api_version", "created", "livemode")]
                    + [json.dumps(event)],
                )
            drain_with_stripe(worker, StripeReader(KEY, local.url))
        by_events = found(conn, query)
        assert len(by_events) == 6
        assert run("sync").err == "read from Stripe: 6; changed here: 0\n"
        conn.execute("truncate billing.plans, billing.credit_packs, billing.products cascade")
        run("sync")
        assert found(conn, query) == by_events


def test_bad_metadata_is_named_and_the_rest_goes_on(local: Local, conn: Connection, run: Run) -> None:
    bad = local.price(1000, lookup_key="bad", metadata={"monthly_credits": "a lot"})
    worse = local.price(1100, metadata={"features": "[1]"})
    local.price(1200, lookup_key="good", metadata={"monthly_credits": "12"})
    pack = local.price(500, None, lookup_key="pack", metadata={"pack_credits": "0"})
    shown = run("sync", expect=1)
    lines = shown.err.splitlines()
    assert sorted(lines[:-1]) == sorted(
        [
            f'refused: {bad.id} bad: metadata monthly_credits of {bad.id} is "a lot", it must be a whole number of '
            "credits (TB017)",
            f"refused: {worse.id}: metadata features of {worse.id} is not a JSON object (TB017)",
            f'refused: {pack.id} pack: metadata pack_credits of {pack.id} is "0", it must be at least 1 '
            "(TB017)",
        ]
    )
    assert lines[-1].startswith("read from Stripe: 8; changed here: 5; refused: 3.")
    assert found(conn, "select lookup_key, monthly_credits from billing.plans") == [("good", 12)]
    told = json.loads(run("sync", "--json", expect=1).out)
    assert {item["stripe_id"] for item in told["refused"]} == {bad.id, worse.id, pack.id}
    assert told["refused"][0].keys() == {"stripe_id", "lookup_key", "reason"}


def test_bad_metadata_of_a_product_names_the_price(local: Local, conn: Connection, run: Run) -> None:
    price = local.price(1000, lookup_key="pro")
    run("sync")
    local.client.products.update(price.product, {"metadata": {"credits_rollover": "sometimes"}})
    let_a_second_pass(local)
    shown = run("sync", expect=1)
    assert f"refused: {price.product}: metadata credits_rollover of {price.id} is " in shown.err


def test_what_changed_is_printed(local: Local, run: Run) -> None:
    price = local.price(1000, lookup_key="pro", metadata={"monthly_credits": "10", "features": '{"a": 1}'})
    run("sync")
    local.client.prices.update(
        price.id, {"metadata": {"monthly_credits": "20", "features": '{"a": 2}'}, "nickname": "Monthly"}
    )
    local.client.products.update(price.product, {"name": "Professional"})
    let_a_second_pass(local)
    told = json.loads(run("sync", "--json").out)
    assert told["missing"] == told["refused"] == []
    assert {item["kind"]: item["differences"] for item in told["changes"]} == {
        "product": {"name": ["Pro", "Professional"]},
        "plan": {
            "nickname": [None, "Monthly"],
            "monthly_credits": [10, 20],
            "features": [{"a": 1}, {"a": 2}],
        },
    }
    assert {item["change"] for item in told["changes"]} == {"changed"}
    local.client.prices.update(price.id, {"active": False})
    let_a_second_pass(local)
    shown = run("sync")
    assert "active: true → false" in shown.out
    let_a_second_pass(local)
    assert run("sync").out == ""


def test_a_newer_state_that_is_held_stays(local: Local, conn: Connection, run: Run) -> None:
    price = local.price(1000, lookup_key="pro")
    run("sync")
    conn.execute("update billing.plans set as_of = now() + interval '1 hour', nickname = 'newer'")
    local.client.prices.update(price.id, {"nickname": "older"})
    run("sync")
    assert found(conn, "select nickname from billing.plans") == [("newer",)]


def test_of_two_states_of_one_second_the_later_answer_stands(
    local: Local, conn: Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.world.pretended_time = 1_800_000_000
    price = local.price(1000, lookup_key="pro")
    run("sync")
    local.client.prices.update(price.id, {"nickname": "later in that second"})

    def a_second_goes_by(_seconds: float) -> None:
        local.world.pretended_time += 1

    monkeypatch.setattr("cli.plans.sync.time.sleep", a_second_goes_by)
    run("sync")
    assert found(conn, "select nickname from billing.plans") == [("later in that second",)]
    assert local.world.pretended_time == 1_800_000_001, "one wait does for all objects"
    monkeypatch.setattr("cli.plans.sync.time.sleep", lambda _: None)
    assert "not newer than the database" in run("sync", expect=1).err


@pytest.mark.parametrize("objects", [0, 1])
def test_the_modes_of_stripe_are_not_mixed(
    local: Local, conn: Connection, run: Run, tmp_path: Any, objects: int
) -> None:
    conn.execute("update billing.settings set livemode = true")
    file = tmp_path / "plans.toml"
    file.write_text(
        '[products.a]\nname = "A"\n[packs.b]\nproduct = "a"\nunit_amount = 1\ncurrency = "usd"\npack_credits = 1\n'
    )
    for _ in range(objects):
        local.price(1000)
    before = local.event_types()
    for command in (("sync",), ("push", file, "--yes")):
        refused = run(*command, expect=1)
        assert refused.err == (
            "error: STRIPE_API_KEY is a key of test mode, and this installation is in live mode: export a key of "
            "live mode, or set billing.settings.livemode\n"
        )
    assert local.event_types() == before
    assert found(conn, "select count(*) from billing.products") == [(0,)]


def test_objects_of_the_other_mode_are_refused_whatever_the_key_is_called(
    local: Local, conn: Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.price(1000)
    for price in local.world.store.all("price"):
        price["livemode"] = True
    assert "live mode" in run("sync", expect=1).err
    assert found(conn, "select count(*) from billing.products") == [(0,)]


@pytest.mark.parametrize("name", ["POSTGRES_URL", "STRIPE_API_KEY"])
def test_half_of_the_environment_is_not_completed_by_a_local_stack(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "env").write_text(f"{name}='sk_test_of_the_stack'\nSTRIPE_API_BASE='http://127.0.0.1:1'\n")
    monkeypatch.setenv("TILL_STATE", str(tmp_path))
    monkeypatch.delenv(name)
    refused = run("sync", expect=1)
    assert refused.err.startswith(f"error: {name} is not set beside ")
    assert refused.err.count("\n") == 1


def test_a_local_stack_is_used_where_nothing_is_exported(
    local: Local, database: Database, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "env").write_text(
        f"POSTGRES_URL='{database.url}'\nSTRIPE_API_KEY={KEY}\nSTRIPE_API_BASE={local.url}\n"
    )
    monkeypatch.setenv("TILL_STATE", str(tmp_path))
    for name in ("POSTGRES_URL", "STRIPE_API_KEY", "STRIPE_API_BASE"):
        monkeypatch.delenv(name)
    local.price(1000)
    assert run("sync").err == "read from Stripe: 2; changed here: 2\n"


def test_a_key_that_stripe_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_nope_0123456789abcdefghij")
    refused = run("sync", expect=1)
    assert refused.err.startswith("error: Stripe refused the key: ")
    assert "0123456789" not in refused.err
    assert refused.err.count("\n") == 1


def test_a_key_without_permission_to_write(local: Local, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    local.control("settings", {"restricted_keys": {"rk_test_reader": {"products": "read", "prices": "read"}}})
    monkeypatch.setenv("STRIPE_API_KEY", "rk_test_reader")
    local.price(1000)
    run("sync")
    refused = run("push", ROOT / "docs/how-to/plans.toml", "--yes", expect=1)
    assert refused.err.startswith("error: to create product pro: Stripe refused the key: ")
    assert "Steps done before it: 0 of 6." in refused.err
    assert refused.err.count("\n") == 1


def test_what_stripe_no_longer_has_is_named_and_stays(local: Local, conn: Connection, run: Run) -> None:
    conn.execute(
        "insert into billing.products (stripe_product_id, livemode, name) values ('prod_old', false, 'Old')"
    )
    conn.execute(
        "insert into billing.plans (stripe_price_id, stripe_product_id) values ('price_old', 'prod_old')"
    )
    local.price(1000)
    shown = run("sync")
    assert "in the database and not in this Stripe account: 2 (price_old, prod_old)" in shown.err.splitlines()
    assert found(conn, "select active from billing.plans where stripe_price_id = 'price_old'") == [(True,)]


def test_who_looks_sees_a_bar(local: Local, database: Database) -> None:
    for n in range(3):
        local.price(1000 + n)
    ours, its = pty.openpty()
    settings = {"POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url}
    done = subprocess.run(
        [*PROGRAM, "sync", "--json"],
        env={**os.environ, **settings, "COLUMNS": "100", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=its,
        check=True,
        timeout=60,
    )
    os.close(its)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert "reading Stripe" in seen
    assert "6 of 6" in seen
    assert len(json.loads(done.stdout)["changes"]) == 6


def test_the_list(local: Local, run: Run) -> None:
    assert run("list").err == "no plans yet: bring them with `till plans sync`\n"
    local.price(
        1900, lookup_key="pro", nickname="Monthly",
        metadata={
            "initial_credits": "500", "monthly_credits": "1000", "credits_rollover": "periods:2",
            "features": '{"projects": true, "limit": 25, "sso": false}', "trial_days": "14", "seats": "2-50",
            "credits_on_downgrade": "keep",
        },
    )  # fmt: skip
    yearly = local.price(120000, "year", metadata={"trial_credits": "5", "seats": "3"})
    local.price(
        900, None, lookup_key="pack", metadata={"pack_credits": "5000", "pack_expires_after": "3 months"}
    )
    local.client.prices.create(
        {
            "product": yearly.product, "currency": "usd", "custom_unit_amount": {"enabled": True}, "lookup_key": "any",
            "metadata": {"credits_per_unit": "2.5"},
        }
    )  # fmt: skip
    local.client.prices.update(yearly.id, {"active": False})
    run("sync")
    lines = [line.split("  ") for line in run("list").out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["lookup key", "name", "price", "interval", "rollover", "active", "credits", "terms", "features"],
        ["pro", "Pro · Monthly", "19.00 usd", "month", "periods:2", "yes", "500 at first, 1,000 a month",
         "14 days of trial, 2 to 50 seats, credits_on_downgrade: keep", "limit 25, projects"],
        ["pack", "Pro", "9.00 usd", "once", "yes", "5,000", "expires after 3 months"],
        ["any", "Pro", "varies usd", "once", "yes", "2.5 per 1.00 usd"],
        [yearly.id, "Pro", "1,200.00 usd", "year", "all", "no", "5 in trial", "3 seats"],
    ]  # fmt: skip
    listed = json.loads(run("list", "--json").out)
    assert [item["lookup_key"] for item in listed] == ["pro", "pack", "any", None]
    assert (
        listed[0].items()
        >= {
            "kind": "plan", "unit_amount": 1900, "currency": "usd", "recurring_interval": "month", "active": True,
            "monthly_credits": 1000, "rollover": "periods:2", "livemode": False,
            "features": {"projects": True, "limit": 25, "sso": False},
        }.items()
    )  # fmt: skip
    assert (listed[1]["pack_credits"], listed[1]["expires_after"]) == (5000, "3 months")
    assert (listed[2]["pack_credits"], listed[2]["credits_per_unit"]) == (None, 2.5)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1900, "usd", "19.00 usd"), (5, "eur", "0.05 eur"), (0, "usd", "0.00 usd"), (1900, "jpy", "1,900 jpy"),
        (1900, "kwd", "1.900 kwd"), (None, "usd", "varies usd"), (123456789, "usd", "1,234,567.89 usd"),
    ],
)  # fmt: skip
def test_amounts_by_currency(amount: int | None, currency: str, text: str) -> None:
    assert price_text(amount, currency) == text


# Idempotency keys.


@contextmanager
def account(local: Local) -> Iterator[StripeAccount]:
    with stripe_client(Settings("", KEY, local.url)) as client:
        yield StripeAccount(client)


def test_two_pushes_at_a_time_make_one_product_and_one_price(local: Local) -> None:
    with account(local) as one, account(local) as other, ThreadPoolExecutor(2) as pool:
        made = set(pool.map(lambda it: it.create_product({"name": "Pro"}), (one, other)))
        [product_id] = made
        order: Any = {"product": product_id, "currency": "usd", "unit_amount": 1, "lookup_key": "a"}
        prices = set(pool.map(lambda it: it.create_price(order), (one, other)))
    assert len(prices) == 1
    assert len(local.events("product.created")) == len(local.events("price.created")) == 1


def test_an_answer_that_is_repeated_and_no_longer_true_is_not_believed(local: Local) -> None:
    with account(local) as stripe_account:
        first = stripe_account.create_product({"name": "Pro"})
        local.client.products.delete(first)
        second = stripe_account.create_product({"name": "Pro"})
        assert second != first
        assert stripe_account.create_product({"name": "Pro"}) == second
        order: Any = {"product": second, "currency": "usd", "unit_amount": 1, "lookup_key": "a"}
        price = stripe_account.create_price(order)
        local.client.prices.update(price, {"lookup_key": "b"})
        assert stripe_account.create_price(order) != price


def test_a_failure_that_stripe_repeats_calls_for_the_next_key(local: Local) -> None:
    """Stripe keeps the answer to a key for a day, its own 500 too."""
    asked: list[str] = []

    def create(key: str) -> Any:
        asked.append(key)
        if len(asked) < 3:
            raise stripe.APIError("kept", http_status=500, headers={"Idempotent-Replayed": "true"})
        return local.client.products.create({"name": "Pro"})

    with account(local) as stripe_account:
        assert stripe_account._once("product", {"name": "Pro"}, create).startswith("prod_")
        assert asked == list(idempotency_keys("product", {"name": "Pro"}))[:3]
        assert len({*asked}) == 3
        with pytest.raises(stripe.APIError, match="new"):
            stripe_account._once("product", {}, _fail_anew)
    assert all(len(key) <= 255 for key in asked)


def _fail_anew(_key: str) -> Any:
    raise stripe.APIError("new", http_status=500, headers={})


def known(conn: Connection, local: Local) -> None:
    """As the first worker notes it."""
    conn.execute("update billing.settings set stripe_account_id = %s", [local.world.account_id])


def test_what_was_deleted_in_stripe_is_off_sale(local: Local, conn: Connection, run: Run) -> None:
    known(conn, local)
    kept, gone = local.price(1000, lookup_key="kept"), local.price(1100, lookup_key="gone")
    product = local.client.products.create({"name": "Nothing"})
    run("sync")
    local.client.plans.delete(gone.id)
    local.client.products.delete(product.id)
    told = json.loads(run("sync", "--json").out)
    assert (told["deleted"], told["missing"]) == (sorted([gone.id, product.id]), [])
    assert found(conn, "select lookup_key from billing.plans where active") == [("kept",)]
    assert found(conn, "select active from billing.products where name = 'Nothing'") == [(False,)]
    assert found(conn, "select stripe_price_id from billing.plans where active") == [(kept.id,)]
    again = json.loads(run("sync", "--json").out)
    assert (again["deleted"], again["missing"], again["changes"]) == ([], [], [])


def test_it_is_said_what_was_deleted(local: Local, conn: Connection, run: Run) -> None:
    known(conn, local)
    gone = local.price(1100, lookup_key="gone")
    run("sync")
    local.client.plans.delete(gone.id)
    shown = run("sync")
    assert f"deleted in Stripe, so off sale for good: 1 ({gone.id})" in shown.err
    assert "active: true → false" in shown.out


def test_a_key_that_is_not_known_to_be_ours_deletes_nothing(local: Local, conn: Connection, run: Run) -> None:
    """To the key of another account everything looks deleted."""
    gone = local.price(1100, lookup_key="gone")
    run("sync")
    local.client.plans.delete(gone.id)
    told = json.loads(run("sync", "--json").out)
    assert (told["deleted"], told["missing"]) == ([], [gone.id])
    assert found(conn, "select lookup_key from billing.plans where active") == [("gone",)]
    conn.execute("update billing.settings set stripe_account_id = 'acct_another'")
    run("sync", expect=1)
    assert found(conn, "select lookup_key from billing.plans where active") == [("gone",)]
