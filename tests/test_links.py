"""`till links`: got or made, listed and deactivated, on the local Stripe and on real Postgres."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
import pytest

from cli.main import main
from tests.sql.calls import begin_jobs, sync_price, sync_product
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user

Run = Callable[..., Any]


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def plan(database: Database, local: Local) -> str:
    """The id of a price that Stripe and the database know as pro; there is a pack, too."""
    product = local.client.products.create({"name": "Pro"})
    order = {"product": product.id, "currency": "usd", "unit_amount": 2000}
    price = local.client.prices.create(order | {"recurring": {"interval": "month"}, "lookup_key": "pro"})
    pack = local.client.prices.create(order | {"lookup_key": "pack"})
    with database.connect("billing_worker") as worker:
        of_product = {"stripe_product_id": product.id}
        sync_product(worker, **of_product)
        sync_price(worker, stripe_price_id=price.id, lookup_key="pro", **of_product)
        credits = {"type": "one_time", "metadata": {"pack_credits": "100"}}
        sync_price(worker, stripe_price_id=pack.id, lookup_key="pack", **credits, **of_product)
    with database.connect() as conn:
        conn.execute("update billing.settings set site_url = 'https://app.example.com'")
    return price.id


@pytest.fixture
def run(
    database: Database,
    local: Local,
    plan: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run `till links` within this process: its stdout and stderr."""
    settings = {
        "POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url, "COLUMNS": "300",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cli.stripe_key.REQUEST_RETRIES", 0)

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "links", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


def made(local: Local) -> list[Any]:
    return local.client.payment_links.list({"limit": 100}).data


def test_a_link_is_made_once_and_printed(local: Local, plan: str, run: Run) -> None:
    first = run("create", "pro")
    [link] = made(local)
    assert first.out == f"{link.url}\n"
    assert run("create", plan).out == first.out
    assert json.loads(run("create", "pro", "--json").out) == {
        "stripe_payment_link_id": link.id,
        "stripe_price_id": plan,
        "options": {"allow_promotion_codes": True, "billing_address_collection": "auto"},
        "url": link.url,
    }
    assert len(made(local)) == 1


def test_options_are_sent_to_stripe_and_each_set_is_a_link(local: Local, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text('{"submit_type": "pay", "allow_promotion_codes": true}')
    run(
        "create", "--pack", "pack", "--automatic-tax", "--no-promotion-codes", "--custom-field", "vat=VAT number",
        "--custom-field", "ref=Your reference", "--after-completion", "https://app.example.com/thanks",
        "--options", file,
    )  # fmt: skip
    [link] = made(local)
    assert (link.automatic_tax.enabled, link.allow_promotion_codes, link.submit_type) == (True, False, "pay")
    assert [(field.key, field.label.custom) for field in link.custom_fields] == [
        ("vat", "VAT number"),
        ("ref", "Your reference"),
    ]
    assert link.after_completion.redirect.url == "https://app.example.com/thanks"
    assert link.customer_creation == "always"
    run("create", "--pack", "pack", "--after-completion", "Thank you!")
    assert made(local)[0].after_completion.hosted_confirmation.custom_message == "Thank you!"


def test_for_an_account_the_url_names_it(
    database: Database, conn: psycopg.Connection[Any], local: Local, run: Run
) -> None:
    account = account_of(conn, create_user(database, "ada@example.com"))

    def named(*arguments: object) -> tuple[UUID | None, Any]:
        url = run("create", "pro", "--account", *arguments).out.strip()
        [reference] = parse_qs(urlsplit(url).query)["client_reference_id"]
        query = (
            "select account_id, to_timestamp(split_part(%s, '_', 5)::bigint) - now() "
            "from billing._read_reference(%s, false, now())"
        )
        row = conn.execute(query, [reference, reference]).fetchone()
        assert row is not None
        return row

    assert named("ada@example.com")[0] == account
    found, left = named(account, "--expires-in", "7 days")
    assert (found, left.days) == (account, 6)
    assert "TB060" in run("create", "pro", "--account", account, "--expires-in", "2 years", expect=1).err
    assert "no account" in run("create", "pro", "--account", "nobody@example.com", expect=1).err
    assert len(made(local)) == 1


def test_refusals_are_one_line_and_make_nothing(local: Local, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    for text, word in (("[]", "JSON object"), ("{", "no JSON"), ('{"line_items": []}', "TB061")):
        file.write_text(text)
        assert word in run("create", "pro", "--options", file, expect=1).err
    assert "TB042" in run("create", "nothing", expect=1).err
    assert "TB044" in run("create", "pro", "--after-completion", "https://evil.example", expect=1).err
    run("create", expect=2)
    run("create", "pro", "--pack", "pack", expect=2)
    run("create", "pro", "--custom-field", "vat", expect=2)
    run("create", "pro", "--custom-field", "v t=VAT", expect=2)
    run("create", "pro", "--expires-in", "1 day", expect=2)
    assert made(local) == []


@pytest.mark.parametrize("fault", ["429", "500"])
def test_when_stripe_fails_the_same_command_works_later(local: Local, run: Run, fault: str) -> None:
    local.world.faults.set({"api": {fault: 1}})
    failed = run("create", "pro", expect=1)
    assert "try again" in failed.err
    assert failed.err.count("\n") == 1
    local.world.faults.set({})
    assert run("create", "pro").out == f"{made(local)[0].url}\n"
    assert len(made(local)) == 1


def test_a_link_that_is_inactive_in_stripe_is_made_anew(
    conn: psycopg.Connection[Any], local: Local, run: Run
) -> None:
    first = run("create", "pro").out
    local.client.payment_links.update(made(local)[0].id, {"active": False})
    conn.execute("update billing.payment_links set confirmed_at = now() - interval '1 minute'")
    second = run("create", "pro").out
    assert second != first
    assert run("create", "pro").out == second
    assert sum(link.active for link in made(local)) == 1


def test_links_are_listed(local: Local, plan: str, run: Run) -> None:
    assert "till links create" in run("list").err
    run("create", "pro", "--automatic-tax")
    [link] = made(local)
    shown = run("list").out
    assert [word in shown for word in ("pro", link.id, link.url, "automatic_tax", "yes")] == [True] * 5
    [row] = json.loads(run("list", "--json").out)
    assert (row["stripe_payment_link_id"], row["stripe_price_id"], row["active"]) == (link.id, plan, True)
    run("deactivate", "pro", "--yes")
    assert json.loads(run("list", "--json").out) == []
    [row] = json.loads(run("list", "--all", "--json").out)
    assert (row["active"], row["retired_reason"], row["deactivated_at"] is not None) == (
        False,
        "caller",
        True,
    )
    assert "no (caller)" in run("list", "--all").out


@pytest.mark.parametrize("by", ["name", "id"])
def test_deactivating_shows_first_and_then_does_it(local: Local, run: Run, by: str) -> None:
    run("create", "pro")
    run("create", "pro", "--automatic-tax")
    ids = {link.id for link in made(local)}
    name = "pro" if by == "name" else min(ids)
    ended = ids if by == "name" else {name}
    dry = json.loads(run("deactivate", name, "--json").out)
    assert (dry["dry_run"], {link["stripe_payment_link_id"] for link in dry["links"]}) == (True, ended)
    assert "repeat it with --yes" in run("deactivate", name).err
    assert all(link.active for link in made(local))
    assert len(json.loads(run("list", "--json").out)) == 2
    run("deactivate", name, "--yes")
    assert {link.id for link in made(local) if not link.active} == ended
    assert "till links list" in run("deactivate", name, "--yes", expect=1).err
    assert "till links list" in run("deactivate", "nothing", "--yes", expect=1).err


def test_what_stripe_does_not_answer_is_left_to_the_worker(
    database: Database, local: Local, run: Run
) -> None:
    run("create", "pro")
    local.world.faults.set({"api": {"500": 1}})
    failed = run("deactivate", "pro", "--yes", expect=1)
    assert "the worker goes on" in failed.err
    assert json.loads(run("list", "--json").out) == [], "it is not handed out"
    with database.connect() as conn:
        assert len(begin_jobs(conn, "begin_retired_links", "payment_link")) == 1
