"""Customers and events of other apps and environments on the same Stripe account: ignored once somebody says so."""

import json
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cli.main import main
from tests.support import Database, account_of, as_role, create_user
from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import INITIAL_CREDITS, MONTHLY_CREDITS, Event, paid
from worker.events.outcomes import Dead, Done, Parked

FIRST_MONTH = INITIAL_CREDITS + MONTHLY_CREDITS


def dismiss(shop: Shop, n: int = 7, reason: str = "staging's") -> int:
    return shop.value("select billing.dismiss_customer(%s, %s, 'ada')", f"cus_{n}", reason)


def link(shop: Shop, n: int = 7) -> Any:
    return shop.link(n)


def of_unknown_price(n: int = 7) -> Event:
    """Dead: it pays for a plan of another environment."""
    line = events.invoice_line(
        n, pricing={"type": "price_details", "price_details": {"price": "price_x", "product": "p"}}
    )
    return paid(n, lines={"has_more": False, "data": [line]})


def test_what_waits_for_a_dismissed_customer_is_ignored_with_the_reason(shop: Shop) -> None:
    mine, other = paid(7), paid(8)
    assert set(map(type, shop.outcomes(mine, other).values())) == {Parked}
    assert dismiss(shop) == 1
    assert (shop.status(mine), shop.status(other)) == ("ignored", "parked")
    assert shop.last_error(mine) == "customer cus_7 was dismissed by ada: staging's"
    shop.assert_sound()


@pytest.mark.parametrize("make", [paid, of_unknown_price], ids=["parked", "dead"])
def test_what_comes_later_is_ignored_too(shop: Shop, make: Callable[[int], Event]) -> None:
    dismiss(shop)
    event = make(7)
    assert isinstance(shop.outcome(event), Parked | Dead)
    assert (shop.status(event), shop.last_error(event)) == (
        "ignored",
        "customer cus_7 was dismissed by ada: staging's",
    )
    assert shop.value("select count(*) from billing.notifications") == 0
    shop.app.execute("update billing.stripe_events set settled_at = now() - interval '1 day'")
    shop.app.execute("select billing.enqueue_reminders()")
    assert shop.value("select count(*) from billing.notifications") == 0


def test_dead_letters_of_the_customer_are_ignored_with_it(shop: Shop) -> None:
    dead, other = of_unknown_price(7), of_unknown_price(8)
    assert set(map(type, shop.outcomes(dead, other).values())) == {Dead}
    assert dismiss(shop) == 1
    assert (shop.status(dead), shop.status(other)) == ("ignored", "dead")


def test_a_customer_that_stripe_has_not_told_of_can_be_dismissed(shop: Shop) -> None:
    assert (dismiss(shop), dismiss(shop, reason="a colleague's")) == (0, 0)
    event = paid(7)
    shop.outcome(event)
    assert shop.last_error(event) == "customer cus_7 was dismissed by ada: a colleague's"


def test_a_link_after_all_brings_its_events_back(shop: Shop) -> None:
    before, after = paid(7), paid(7, 1)
    shop.outcome(before)
    dismiss(shop)
    shop.outcome(after)
    account = shop.link(7)
    assert {item.outcome for item in shop.drain()} == {Done()}
    assert shop.balance(account) == FIRST_MONTH + MONTHLY_CREDITS
    assert shop.value("select dismissed_at from billing.customers where stripe_customer_id = 'cus_7'") is None
    shop.assert_sound()


def test_a_merge_after_all_does_so_too(shop: Shop) -> None:
    account = shop.link(1)
    event = paid(7)
    shop.outcome(event)
    dismiss(shop)
    shop.app.execute("select billing.merge_customer('cus_7', 'cus_1')")
    assert {item.outcome for item in shop.drain()} == {Done()}
    assert shop.balance(account) == FIRST_MONTH


def test_what_is_retried_is_ignored_again(shop: Shop) -> None:
    event = paid(7)
    shop.outcome(event)
    dismiss(shop)
    shop.app.execute("select billing.retry_stripe_event(%s)", [event.id])
    shop.drain()
    assert shop.status(event) == "ignored"


def test_a_customer_with_an_account_is_not_dismissed(shop: Shop) -> None:
    account = shop.link(7)
    with pytest.raises(psycopg.Error, match="is linked to account") as refused:
        dismiss(shop)
    assert refused.value.sqlstate == "TB018"
    event = paid(7)
    assert shop.outcome(event) == Done()
    assert shop.balance(account) == FIRST_MONTH


@pytest.mark.parametrize(
    "arguments", [("nobody", "why", "ada"), ("cus_7", "", "ada"), ("cus_7", "why", None)]
)
def test_a_dismissal_names_a_customer_a_reason_and_an_actor(
    shop: Shop, arguments: tuple[str | None, ...]
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        shop.app.execute("select billing.dismiss_customer(%s, %s, %s)", arguments)
    assert refused.value.sqlstate in ("TB018", "TB028")


def test_one_event_is_dismissed_and_may_be_retried(shop: Shop) -> None:
    event, dead, applied = (
        paid(7),
        of_unknown_price(8),
        Event("customer.created", events.customer(id="cus_9")),
    )
    shop.outcomes(event, dead, applied)
    query = "select billing.dismiss_stripe_event(%s, 'not ours', 'ada')"
    assert [shop.value(query, one.id) for one in (event, dead, applied)] == ["ignored", "ignored", "applied"]
    assert shop.last_error(event) == "dismissed by ada: not ours"
    # No longer waits: nothing brings it back but a person.
    shop.link(7)
    assert shop.drain() == []
    shop.app.execute("select billing.retry_stripe_event(%s)", [event.id])
    assert [item.outcome for item in shop.drain()] == [Done()]
    with pytest.raises(psycopg.Error) as refused:
        shop.value(query, "evt_nobody")
    assert refused.value.sqlstate == "TB014"


def test_the_app_s_server_dismisses_over_the_data_api(shop: Shop) -> None:
    event, other = paid(7), paid(8)
    shop.outcomes(event, other)
    with as_role(shop.app, "service_role"):
        assert shop.value("select public.dismiss_customer('cus_7', 'not ours', 'app')") == 1
        assert shop.value("select public.dismiss_stripe_event(%s, 'not ours', 'app')", other.id) == "ignored"
    assert (shop.status(event), shop.status(other)) == ("ignored", "ignored")


# till


@pytest.fixture
def run(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run `till` within this process: its answer, by --json."""
    monkeypatch.setenv("POSTGRES_URL", database.url)

    def run(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", *arguments, "--json"])
        capsys.readouterr()  # the worker's log
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == 0, captured
        return json.loads(captured.out)

    return run


def test_till_dismisses_a_customer_with_yes(shop: Shop, run: Callable[..., Any]) -> None:
    event = paid(7)
    shop.outcome(event)
    dismissed = {"stripe_customer_id": "cus_7", "events_ignored": 1}
    assert run("customers", "dismiss", "cus_7") == {"dry_run": True} | dismissed
    assert shop.status(event) == "parked"
    assert (
        run("customers", "dismiss", "cus_7", "--reason", "staging's", "--actor", "ada", "--yes")
        == {"dry_run": False} | dismissed
    )
    assert shop.last_error(event) == "customer cus_7 was dismissed by ada: staging's"


def test_till_dismisses_events_with_yes(shop: Shop, run: Callable[..., Any]) -> None:
    told = [paid(7), paid(8)]
    shop.outcomes(*told)
    ids = [event.id for event in told]
    ignored = [{"stripe_event_id": event_id, "status": "ignored"} for event_id in ids]
    assert run("events", "dismiss", *ids) == [{"dry_run": True} | each for each in ignored]
    assert [shop.status(event) for event in told] == ["parked", "parked"]
    assert run("events", "dismiss", *ids, "--yes") == [{"dry_run": False} | each for each in ignored]
    assert [shop.status(event) for event in told] == ["ignored", "ignored"]


def test_a_dismissal_and_a_set_aside_event_at_once_leave_nothing_waiting(
    shop: Shop, database: Database
) -> None:
    """The dismissal is under way while the worker sets the event aside."""
    account_of(shop.app, create_user(database))
    event = paid(7)
    with database.connect() as other:
        with other.transaction():
            other.execute("select billing.dismiss_customer('cus_7', 'not ours', 'ada')")
            shop.receive(event)
            assert [type(item.outcome).__name__ for item in shop.drain()] == ["RetryLater"]
        shop.make_due()
        shop.drain()
    assert shop.status(event) == "ignored"
