"""`till testdata`: what it says of a card is what comes of paying with it; numbers and pages are well formed."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import stripe

from cli.commands.testdata import BANKS, CARDS, Card, dashboard_url
from cli.main import main
from stripe_local.resources.cards import BY_NAME, BY_NUMBER
from tests.stripe_local.conftest import Local, _serve, until
from tests.support import Database

Run = Callable[..., Any]
# Cards of Stripe's that the local one does not play.
NOT_PLAYED = {"pm_card_createMultipleDisputes"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Run:
    """Run `till testdata` within this process, in a directory without a local stack."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TILL_STATE", str(tmp_path))
    for name in ("POSTGRES_URL", "STRIPE_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", "testdata", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured

    return run


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


def pay(local: Local, card: Card, **more: Any) -> Any:
    order = {
        "amount": 1500, "currency": "usd", "payment_method": card.payment_method, "confirm": True, "expand":
        ["latest_charge"], **more,
    }  # fmt: skip
    return local.client.payment_intents.create(order)


def attach(local: Local, card: Card) -> None:
    local.client.payment_methods.attach(card.payment_method, {"customer": local.customer(None).id})


@pytest.mark.parametrize(
    "card",
    [card for card in CARDS if card.payment_method not in NOT_PLAYED],
    ids=lambda card: card.payment_method,
)
def test_a_card_does_what_it_says(local: Local, card: Card) -> None:
    before = len(local.event_types())
    try:
        intent = pay(local, card)
        error = None
    except stripe.CardError as refused:
        error, intent = refused, refused.error.payment_intent
    events = list(local.world.events.bodies())[before:]

    def told(event_type: str) -> list[dict[str, Any]]:
        return [event["data"]["object"] for event in events if event["type"] == event_type]

    match card.outcome:
        case "success":
            assert intent.status == "succeeded"
        case "declined" | "declined later":
            assert error is not None
            assert card.code in (error.code, getattr(error.error, "decline_code", None))
            if card.outcome == "declined later":
                attach(local, card)
            else:
                with pytest.raises(stripe.CardError):
                    attach(local, card)
        case "3D Secure":
            assert intent.status == "requires_action"
        case "blocked":
            assert error is not None
            assert told("charge.failed")[0]["outcome"]["type"] == "blocked"
            assert told("charge.failed")[0]["outcome"]["risk_level"] == "highest"
        case "risk":
            charge = (told("charge.succeeded") or told("charge.failed"))[0]
            assert charge["outcome"]["risk_level"] == card.code
        case "fraud warning":
            assert until(lambda: local.events("radar.early_fraud_warning.created"))
        case "dispute":
            [dispute] = until(
                lambda: [
                    event["data"]["object"]
                    for event in list(local.world.events.bodies())[before:]
                    if event["type"] == "charge.dispute.created"
                ]
            )
            if card.code == "inquiry":
                assert dispute["status"] == "warning_needs_response"
            else:
                assert dispute["reason"] == card.code
        case "refund":
            refund = local.client.refunds.create({"payment_intent": intent.id})
            assert refund.status == {"pending": "pending", "failed": "succeeded"}[card.code or ""]
        case _:
            raise AssertionError(card.outcome)


def test_names_and_numbers_are_of_one_card() -> None:
    for card in CARDS:
        if card.payment_method not in NOT_PLAYED:
            assert BY_NAME[card.payment_method] is BY_NUMBER[card.number], card
    assert {card.payment_method for card in CARDS} - set(BY_NAME) == NOT_PLAYED


def luhn(number: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(number))]
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0


def test_digits_add_up() -> None:
    for card in CARDS:
        assert luhn(card.number), card
    for bank in BANKS:
        if bank.scheme == "sepa":
            turned = bank.account_number[4:] + bank.account_number[:4]
            assert int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1, bank
        else:
            routing = [int(digit) for digit in bank.routing_number or ""]
            assert sum(digit * weight for digit, weight in zip(routing, (3, 7, 1) * 3, strict=True)) % 10 == 0
            assert len(bank.account_number) == 12
    for numbers in ([card.number for card in CARDS], [bank.account_number for bank in BANKS]):
        assert len(set(numbers)) == len(numbers)


def test_cards_and_banks_are_listed(run: Run) -> None:
    listed = json.loads(run("cards", "--json").out)
    assert listed[0] == {
        "outcome": "success", "code": None, "number": "4242424242424242", "payment_method": "pm_card_visa",
        "meaning": "Visa",
    }  # fmt: skip
    lines = run("cards").out.splitlines()
    assert lines[0].split() == ["outcome", "code", "number", "payment", "method", "meaning"]
    assert len(lines) == len(listed) + 1
    banks = json.loads(run("banks", "--json").out)
    assert next(bank["account_number"] for bank in banks if bank["outcome"] == "success") == "000123456789"
    assert "SM11AA" in run("banks", "--help").out


@pytest.mark.parametrize(
    ("stripe_id", "page"),
    [
        ("cus_1", "customers/cus_1"), ("sub_1", "subscriptions/sub_1"), ("in_1", "invoices/in_1"),
        ("pi_1", "payments/pi_1"), ("ch_1", "payments/ch_1"), ("py_1", "payments/py_1"),
        ("prod_1", "products/prod_1"), ("prod_my_own", "products/prod_my_own"), ("price_1", "prices/price_1"),
        ("plink_1", "payment-links/plink_1"), ("evt_1", "events/evt_1"), ("du_1", "disputes/du_1"),
        ("sub_sched_1", "subscription_schedules/sub_sched_1"), ("si_1", "search?query=si_1"),
        ("issfr_1", "search?query=issfr_1"), ("inpay_1", "search?query=inpay_1"),
    ],
)  # fmt: skip
def test_every_object_has_a_page(stripe_id: str, page: str) -> None:
    assert dashboard_url(stripe_id, livemode=True) == f"https://dashboard.stripe.com/{page}"
    assert dashboard_url(stripe_id, livemode=False) == f"https://dashboard.stripe.com/test/{page}"
    assert (
        dashboard_url(stripe_id, livemode=False, account="acct_9")
        == f"https://dashboard.stripe.com/acct_9/test/{page}"
    )


def test_the_mode_is_the_databases(
    run: Run, database: Database, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", database.url)
    monkeypatch.setenv("STRIPE_API_KEY", "sk_live_1")
    assert run("urls", "cus_1", "in_2").out.splitlines() == [
        "https://dashboard.stripe.com/test/customers/cus_1",
        "https://dashboard.stripe.com/test/invoices/in_2",
    ]
    conn.execute("update billing.settings set livemode = true")
    assert run("urls", "cus_1").out == "https://dashboard.stripe.com/customers/cus_1\n"
    assert run("urls", "cus_1", "--test").out == "https://dashboard.stripe.com/test/customers/cus_1\n"


def test_the_mode_without_a_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("urls", "cus_1", expect=1)
    assert refused.err.startswith("error: test mode or live mode? Say --test or --live")
    assert run("urls", "cs_test_a1").out == "https://dashboard.stripe.com/test/search?query=cs_test_a1\n"
    assert run("urls", "cs_live_a1").out == "https://dashboard.stripe.com/search?query=cs_live_a1\n"
    for key, mode in (("rk_test_1", "test/"), ("sk_live_1", "")):
        monkeypatch.setenv("STRIPE_API_KEY", key)
        assert run("urls", "cus_1").out == f"https://dashboard.stripe.com/{mode}customers/cus_1\n"


def test_urls_as_json(run: Run) -> None:
    assert json.loads(run("urls", "ch_1", "cs_live_1", "--test", "--json").out) == [
        {"stripe_id": "ch_1", "livemode": False, "url": "https://dashboard.stripe.com/test/payments/ch_1"},
        {"stripe_id": "cs_live_1", "livemode": True, "url": "https://dashboard.stripe.com/search?query=cs_live_1"},
    ]  # fmt: skip


def test_what_is_no_id_is_wrong_usage(run: Run) -> None:
    assert "no id of Stripe" in run("urls", "hello", "--test", expect=2).err
    assert "acct_" in run("urls", "cus_1", "--test", "--account", "me", expect=2).err


def test_nothing_is_cut_where_the_screen_is_narrow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for is_terminal in (False, True):
        monkeypatch.setattr("cli.output.out._force_terminal", is_terminal)
        shown = run("cards").out
        assert "…" not in shown
        assert all(card.number in shown and card.payment_method in shown for card in CARDS)
        if not is_terminal:
            assert all(card.meaning in shown for card in CARDS)
