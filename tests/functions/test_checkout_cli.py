"""`till checkout`, `portal` and `recharge`: what the edge functions do, from a terminal, by the same rules."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import stripe

from cli.main import main
from stripe_local.resources.checkout_completion import complete
from tests.functions.shop import KEY, SITE, Shop, only, open_shop, subscribe
from tests.support import Database

Till = Callable[..., Any]


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(database, tmp_path) as shop:
        yield shop


@pytest.fixture
def till(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Till:
    """Run `till` within this process: its stdout and stderr."""
    monkeypatch.setenv("POSTGRES_URL", shop.database.url)
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    monkeypatch.setenv("STRIPE_API_BASE", shop.stripe_url)
    monkeypatch.setenv("COLUMNS", "250")

    def run(*arguments: object, expect: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["till", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        if expect == 1:
            assert (captured.out, captured.err.count("\n")) == ("", 1), captured
        return captured

    return run


def test_checkout_prints_the_url_of_the_session_that_a_click_would_open(shop: Shop, till: Till) -> None:
    user = shop.sign_up()
    shown = till("checkout", "--user", "Ada@example.com", "--plan", "pro_monthly", "--quantity", "3")
    session = only(shop.sessions())
    assert (shown.out, shown.err) == (f"{session['url']}\n", "")
    clicked = shop.press("checkout", user, plan="pro_monthly", quantity=3)
    assert clicked.body["id"] == only(shop.sessions())["id"]
    assert session["customer"] == only(shop.customers())["id"]
    assert session["metadata"] == {"account_id": str(user.account_id)}


def test_accounts_are_named_as_everywhere_and_their_owner_buys(shop: Shop, till: Till) -> None:
    user = shop.sign_up()
    opened = json.loads(till("checkout", "--account", user.account_id, "--pack", shop.pack, "--json").out)
    session = only(shop.sessions())
    assert datetime.fromisoformat(opened.pop("expires_at")).timestamp() == session["expires_at"]
    assert opened == {"id": session["id"], "url": session["url"]}
    assert session["mode"] == "payment"
    again = till(
        "checkout", "--account", only(shop.customers())["id"], "--user", user.id, "--pack", "pack_100"
    )
    assert again.out.strip() == session["url"]
    assert shop.sql("select user_id from billing.checkout_requests") == [(user.id,)]


def test_fifty_commands_and_clicks_at_once_make_one_customer(shop: Shop, till: Till) -> None:
    from cli.database import connect
    from cli.stripe_steps import answer, carry_out

    user = shop.sign_up()
    order = {
        "user_id": user.id, "account_id": None, "plan": "pro_monthly", "pack": None, "quantity": None,
        "success_url": None, "cancel_url": None, "save_card": False,
    }  # fmt: skip
    client = stripe.StripeClient(KEY, base_addresses={"api": shop.stripe_url})

    def press(number: int) -> str:
        if number % 2:
            return shop.press("checkout", user, plan="pro_monthly").body["id"]
        with connect() as conn:
            step = answer(conn, "prepare_checkout", **order)
            return carry_out(conn, client, step, "continue_checkout")["id"]

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(press, range(50)))
    assert ids == {only(shop.sessions())["id"]}
    assert only(shop.customers())


def test_refusals_are_one_line_and_create_nothing(shop: Shop, till: Till) -> None:
    user = shop.sign_up()
    eve = shop.sign_up("eve@example.com")
    buy = ("checkout", "--user", "ada@example.com")
    for arguments, told in (
        ((*buy, "--plan", "nothing"), "TB042"),
        ((*buy, "--plan", "pack_100"), "TB042"),
        ((*buy, "--plan", "pro_monthly", "--quantity", "101"), "TB043"),
        ((*buy, "--plan", "pro_monthly", "--success-url", "https://evil.example"), "TB044"),
        ((*buy, "--plan", "pro_monthly", "--account", eve.account_id), "TB041"),
        ((*buy, "--plan", "pro_monthly", "--account", uuid4()), "no account for"),
        (("checkout", "--user", "nobody@example.com", "--plan", "pro_monthly"), "no user"),
        (("portal", "--user", user.id), "TB046"),
        (("portal", "--user", user.id, "--return-url", "//evil.example"), "TB044"),
    ):
        assert told in till(*arguments, expect=1).err, arguments
    assert (shop.customers(), shop.sessions(), shop.portals()) == ([], [], [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("checkout", "--user", "ada@example.com"),
        ("checkout", "--user", "ada@example.com", "--plan", "a", "--pack", "b"),
        ("checkout", "--plan", "pro_monthly"),
        ("checkout", "--user", "x", "--plan", "a", "--quantity", "0"),
        ("portal",),
        ("portal", "--user", "x", "--flow", "subscription_cancel"),
        ("recharge", "set", "x", "--threshold", "0"),
        ("recharge", "set", "x", "--monthly-count", "2", "--no-caps"),
    ],
    ids=lambda words: "_".join(words),
)
def test_wrong_usage_exits_with_2(till: Till, arguments: tuple[str, ...]) -> None:
    assert till(*arguments, expect=2).out == ""


@pytest.mark.parametrize("fault", [{"on_429": 1}, {"on_500": 1}], ids=str)
def test_when_stripe_fails_the_same_command_goes_on_later(
    shop: Shop, till: Till, fault: dict[str, float]
) -> None:
    shop.sign_up()
    shop.fail(**fault)
    buy = ("checkout", "--user", "ada@example.com", "--plan", "pro_monthly")
    assert "try again" in till(*buy, expect=1).err
    assert shop.sql("select * from billing.customers") == []
    shop.fail()
    till(*buy)
    assert only(shop.sessions())["customer"] == only(shop.customers())["id"]


def test_a_subscriber_is_sent_to_the_portal(shop: Shop, database: Database, till: Till) -> None:
    user = shop.sign_up()
    buy = ("checkout", "--user", "ada@example.com", "--plan", "pro_monthly")
    till(*buy)
    complete(shop.world, only(shop.sessions()), {"payment_method": "pm_card_visa"})
    assert "till portal" in till("checkout", "--user", "ada@example.com", "--plan", "pro_monthly", "--quantity", 2,
                                 expect=1).err  # fmt: skip
    subscribe(shop, database, user)
    assert "TB045" in till(*buy, expect=1).err
    opened = json.loads(till("portal", "--user", "ada@example.com", "--flow", "cancel", "--json").out)
    portal = only(shop.portals())
    assert opened == {"id": portal["id"], "url": portal["url"]}
    assert (portal["flow"]["type"], portal["return_url"]) == ("subscription_cancel", SITE)
    assert till("portal", "--account", user.account_id).out == f"{shop.portals()[-1]['url']}\n"


@pytest.mark.parametrize("ends", ["complete", "expired"])
def test_waiting_ends_when_the_session_does(
    shop: Shop, till: Till, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    shop.sign_up()
    monkeypatch.setattr("cli.commands.checkout.WAIT_SECONDS", 0.01)
    finish = {
        "complete": lambda session: complete(shop.world, session, {"payment_method": "pm_card_visa"}),
        "expired": lambda session: shop.client.checkout.sessions.expire(session["id"]),
    }[ends]

    def pay() -> None:
        while not shop.sessions():
            pass
        finish(shop.sessions()[0])

    payer = threading.Thread(target=pay)
    payer.start()
    monkeypatch.setattr(
        sys, "argv", ["till", "checkout", "--user", "ada@example.com", "--pack", "pack_100", "--wait"]
    )
    with pytest.raises(SystemExit) as exited:
        main()
    payer.join()
    assert (exited.value.code or 0) == (0 if ends == "complete" else 1)


def test_a_key_of_another_account_or_mode_is_refused(
    shop: Shop, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sign_up()
    buy = ("checkout", "--user", "ada@example.com", "--plan", "pro_monthly")
    shop.sql("update billing.settings set stripe_account_id = 'acct_ours'")
    told = till(*buy, expect=1).err
    assert shop.world.account_id in told
    assert "acct_ours" in told
    assert "acct_ours" in till("plans", "sync", expect=1).err
    shop.sql("update billing.settings set stripe_account_id = %s, livemode = true", shop.world.account_id)
    assert "live mode" in till(*buy, expect=1).err
    shop.sql("update billing.settings set livemode = false")
    monkeypatch.setenv("STRIPE_API_KEY", "")
    assert "STRIPE_API_KEY is not set" in till(*buy, expect=1).err
    assert shop.sessions() == []


def test_recharges_are_agreed_to_changed_paused_and_resumed(shop: Shop, till: Till) -> None:
    user = shop.sign_up()
    ada = "ada@example.com"
    assert "has no auto-recharge" in till("recharge", "show", ada, expect=1).err
    assert "has no auto-recharge" in till("recharge", "pause", ada, expect=1).err
    till("recharge", "set", ada, "--threshold", "10", expect=2)
    both = ("--threshold", "10", "--pack", "pack_100")
    assert "TB051" in till("recharge", "set", ada, *both, expect=1).err
    till("checkout", "--user", ada, "--pack", "pack_100", "--save-card")
    shop.sql("select billing.grant_credits(%s, 50, 'gift')", user.account_id)
    shown = till("recharge", "set", ada, *both, "--monthly-amount", "5000").out
    for told in ("10 credits", "pack_100: 100 credits for 20.00 usd", "50.00 usd", "no"):
        assert told in shown

    changed = json.loads(till("recharge", "set", ada, "--threshold", "60", "--json").out)
    kept = {"pack": "pack_100", "monthly_cap_count": 10, "monthly_cap_amount": 5000, "is_paused": False}
    assert changed["threshold"] == 60
    assert kept.items() <= changed.items()
    [attempt] = json.loads(till("recharge", "attempts", ada, "--json").out)
    assert (attempt["status"], attempt["credits"], attempt["amount"]) == ("claimed", 100, 2000)

    shop.sql("update billing.credit_packs set active = false")
    assert json.loads(till("recharge", "pause", ada, "--json").out)["paused_reason"] == "paused"
    assert "TB050" in till("recharge", "resume", ada, expect=1).err
    shop.sql("update billing.credit_packs set active = true")
    assert json.loads(till("recharge", "resume", ada, "--json").out)["is_paused"] is False
    uncapped = json.loads(till("recharge", "set", ada, "--no-caps", "--json").out)
    assert (uncapped["monthly_cap_count"], uncapped["monthly_cap_amount"]) == (None, None)
    assert "TB042" in till("recharge", "set", ada, "--pack", "nothing", expect=1).err
    assert till("recharge", "show", ada).out.count("\n") >= 5
    assert "claimed" in till("recharge", "attempts", ada).out
