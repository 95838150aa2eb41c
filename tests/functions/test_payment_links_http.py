"""A signed-in user's GET → one Payment Link, whose URL names the user's account; and whose a payment through it is."""

import hmac
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from stripe_local.errors import StripeError
from tests.functions.shop import KEY, SITE, Shop, User, link, only, open_shop
from tests.functions.support import Answer
from tests.functions.test_checkout_http import forged
from tests.support import Database
from tests.worker.conftest import drain_with_stripe, make_due
from tests.worker.events import Event, receive
from worker.events.fetch import StripeReader
from worker.sessions import connect
from worker.settings import Settings

DEADLINE_SECONDS = 20
FAULTS = [{"on_429": 1}, {"on_500": 1}, {"on_timeout": 1}]


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(database, tmp_path) as shop:
        yield shop


def get(shop: Shop, who: User | str | None, **query: str) -> Answer:
    return shop.ask("payment-links", who, **query)


def url_of(shop: Shop, who: User, **query: str) -> str:
    """The URL that a user is given, of the plan unless told."""
    answer = get(shop, who, **query or {"plan": "pro_monthly"})
    assert answer.status == 200, answer
    return answer.body["payment_link"]


def reference_of(url: str) -> str:
    [reference] = parse_qs(urlsplit(url).query)["client_reference_id"]
    return reference


def pay(shop: Shop, url: str, email: str = "ada@example.com") -> Any:
    """Follow a URL in a browser and pay on the page that it leads to → the session."""
    opened = httpx.get(url, follow_redirects=False)
    assert opened.status_code == 303, opened.text
    session_id = opened.headers["location"].rpartition("/")[2]
    paid = httpx.post(
        f"{shop.stripe_url}/_control/checkout_sessions/{session_id}/complete",
        json={"payment_method": "pm_card_visa", "email": email},
    )
    assert paid.status_code == 200, paid.text
    return paid.json()


def work(shop: Shop) -> None:
    """What Stripe has to tell arrives, and the worker drains it."""
    settings = Settings(shop.database.url)
    with shop.database.connect() as app, connect(settings) as worker:
        receive(
            app,
            *(
                Event(body["type"], body["data"]["object"], created=body["created"], id=body["id"])
                for body in shop.world.events.bodies()
            ),
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        # Two states of one second are settled by asking Stripe in the next one.
        while make_due(app):
            assert time.monotonic() < deadline
            if not drain_with_stripe(worker, StripeReader(KEY, shop.stripe_url)):
                time.sleep(0.05)


def owners(shop: Shop) -> dict[str, Any]:
    """Stripe customer → account."""
    return dict(shop.sql("select stripe_customer_id, account_id from billing.customers"))


def credits_of(shop: Shop, user: User) -> int:
    [(balance,)] = shop.sql(
        "select balance from billing.credit_balances where account_id = %s", user.account_id
    )
    return balance


def parked(shop: Shop) -> list[str]:
    """Why events wait for a person, as `till events list --status parked` says."""
    rows = shop.sql("select last_error from billing.stripe_events where status = 'parked'")
    return [reason for (reason,) in rows]


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body["error"]["code"]) == (status, code), answer


def test_a_link_is_made_once_and_each_user_s_url_names_the_user(shop: Shop) -> None:
    ada, bob = shop.sign_up(), shop.sign_up("bob@example.com")
    first, second = url_of(shop, ada), url_of(shop, bob)
    made = only(shop.links())
    assert first.partition("?")[0] == second.partition("?")[0] == made["url"]
    assert reference_of(first) != reference_of(second)
    assert (made["active"], made["allow_promotion_codes"]) == (True, True)
    assert made["metadata"].keys() == {"tillbase_link"}
    [item] = shop.client.payment_links.line_items.list(made["id"]).data
    assert (item.price.id, item.quantity) == (shop.plan, 1)
    assert url_of(shop, ada, plan=shop.plan).partition("?")[0] == made["url"]
    assert len(shop.links()) == 1


def test_without_a_plan_each_plan_has_its_link(shop: Shop) -> None:
    answer = get(shop, shop.sign_up())
    assert answer.status == 200
    assert answer.body["payment_links"].keys() == {"pro_monthly"}
    assert answer.body["payment_links"]["pro_monthly"].startswith(f"{only(shop.links())['url']}?")
    assert answer.headers["cache-control"] == "no-store"


def test_fifty_at_once_make_one_link(shop: Shop) -> None:
    users = [shop.sign_up(f"user{n}@example.com") for n in range(10)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: get(shop, users[n % 10], plan="pro_monthly"), range(50)))
    assert [answer.status for answer in answers] == [200] * 50, answers
    made = only(shop.links())
    assert {answer.body["payment_link"].partition("?")[0] for answer in answers} == {made["url"]}
    assert shop.sql("select stripe_payment_link_id, active from billing.payment_links") == [
        (made["id"], True)
    ]


@pytest.mark.parametrize("how", ["inactive", "gone"])
def test_a_link_that_does_not_stand_any_more_is_made_anew_once(shop: Shop, how: str) -> None:
    user = shop.sign_up()
    old = url_of(shop, user)
    made = only(shop.links())
    if how == "inactive":
        shop.client.payment_links.update(made["id"], {"active": False})
    else:
        shop.world.store.remove("payment_link", made["id"])
    shop.sql("update billing.payment_links set confirmed_at = now() - interval '1 minute'")
    with ThreadPoolExecutor(20) as pool:
        urls = set(pool.map(lambda _: url_of(shop, user).partition("?")[0], range(20)))
    active = [found for found in shop.links() if found["active"]]
    assert urls == {only(active)["url"]} != {old.partition("?")[0]}


def test_whoever_is_not_signed_in_gets_401_and_nothing_is_made(shop: Shop) -> None:
    user = shop.sign_up()
    for name, token in forged(shop, user).items():
        answer = get(shop, token, plan="pro_monthly")
        assert (answer.status, answer.body["error"]["code"]) == (401, "unauthorized"), name
        assert answer.headers["access-control-allow-origin"] == "*", name
    assert shop.links() == []
    assert shop.sql("select * from billing.payment_links") == []


def test_refusals_make_nothing_in_stripe(shop: Shop) -> None:
    user, eve = shop.sign_up(), shop.sign_up("eve@example.com")
    stranger = shop.client.prices.create(
        {
            "currency": "usd",
            "unit_amount": 1,
            "recurring": {"interval": "month"},
            "product_data": {"name": "x"},
        }
    )
    plan = {"plan": "pro_monthly"}
    assert_refused(get(shop, user, plan="nothing"), 404, "price_unknown")
    assert_refused(get(shop, user, plan=stranger.id), 404, "price_unknown")
    assert_refused(get(shop, user, plan="pack_100"), 404, "price_unknown")
    assert_refused(get(shop, user, plan="pro_monthly", pack="pack_100"), 400, "invalid_request")
    assert_refused(get(shop, user, plan=""), 400, "invalid_request")
    assert_refused(get(shop, user, account_id="1"), 400, "invalid_request")
    assert_refused(get(shop, eve, account_id=str(user.account_id)), 403, "account_forbidden")
    assert_refused(get(shop, eve, account_id=str(user.account_id), **plan), 403, "account_forbidden")
    shop.sql(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'Radar' where id = %s", eve.account_id
    )
    frozen = get(shop, eve, **plan)
    assert_refused(frozen, 403, "account_frozen")
    assert "Radar" not in frozen.body["error"]["message"]
    shop.sql("update billing.accounts set closed_at = now() where id = %s", user.account_id)
    assert_refused(get(shop, user, **plan), 403, "account_closed")
    assert shop.links() == []
    assert "level" not in shop.log.read_text(), "refusals are not logged"


def test_browsers_may_ask_from_anywhere_and_only_get(shop: Shop) -> None:
    asked = {"Origin": SITE, "Access-Control-Request-Method": "GET"}
    preflight = shop.send("payment-links", b"", asked, "OPTIONS")
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, OPTIONS"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for method in ("POST", "PUT", "DELETE"):
        assert_refused(shop.send("payment-links", b"", {}, method), 405, "method_not_allowed")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_when_stripe_fails_the_click_is_503_and_the_next_one_works(
    shop: Shop, fault: dict[str, float]
) -> None:
    user = shop.sign_up()
    shop.fail(**fault)
    for query in ({"plan": "pro_monthly"}, {}):
        answer = get(shop, user, **query)
        assert_refused(answer, 503, "stripe_unavailable")
        assert answer.headers["retry-after"].isdigit()
        assert answer.seconds < 12
    shop.fail()
    assert url_of(shop, user).startswith(only(shop.links())["url"])


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_when_stripe_cannot_say_whether_a_link_stands_it_is_kept(shop: Shop, fault: dict[str, float]) -> None:
    user = shop.sign_up()
    url = url_of(shop, user).partition("?")[0]
    shop.fail(**fault)
    assert url_of(shop, user).partition("?")[0] == url, "it was confirmed a moment ago"
    shop.sql("update billing.payment_links set confirmed_at = now() - interval '1 minute'")
    assert_refused(get(shop, user, plan="pro_monthly"), 503, "stripe_unavailable")
    shop.fail()
    assert url_of(shop, user).partition("?")[0] == url
    assert len(shop.links()) == 1


def test_a_failure_that_stripe_keeps_for_its_key_does_not_make_two_links(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = shop.sign_up()
    real = shop.world.emit

    def explode(event_type: str, *arguments: Any, **more: Any) -> Any:
        """The link is made; the answer is a 500, which Stripe keeps."""
        if event_type == "payment_link.created":
            raise StripeError(500, "An unknown error occurred.", kind="api_error")
        return real(event_type, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(shop.world, "emit", explode)
        assert_refused(get(shop, user, plan="pro_monthly"), 503, "stripe_unavailable")
    assert url_of(shop, user).startswith(only(shop.links())["url"])


def test_through_a_flaky_stripe_there_is_one_link(shop: Shop) -> None:
    user = shop.sign_up()
    shop.world.faults.set({"api": {"429": 0.3, "500": 0.3}, "seed": 7})
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: get(shop, user, plan="pro_monthly"), range(30)))
    assert {answer.status for answer in answers} <= {200, 503}
    shop.fail()
    assert url_of(shop, user).startswith(only(shop.links())["url"])


def test_an_answer_that_was_not_noted_is_found_by_the_next_click(shop: Shop) -> None:
    user = shop.sign_up()
    shop.sql("alter table billing.payment_links add constraint broken check (url is null)")
    assert get(shop, user, plan="pro_monthly").status == 500
    made = only(shop.links())
    shop.sql("alter table billing.payment_links drop constraint broken")
    shop.sql("update billing.payment_links set keyed_at = now() - interval '2 days'")
    assert url_of(shop, user).startswith(made["url"])
    assert len(shop.links()) == 1


def test_function_works_as_billing_checkout_only(shop: Shop) -> None:
    shop.sql("revoke execute on function billing.prepare_payment_links from billing_checkout")
    assert_refused(get(shop, shop.sign_up(), plan="pro_monthly"), 500, "internal_error")


# Whose a payment is


def test_a_plan_paid_through_the_url_is_the_user_s(shop: Shop) -> None:
    shop.sql("update billing.plans set initial_credits = 50, monthly_credits = 500")
    ada, bob = shop.sign_up(), shop.sign_up("bob@example.com")
    pay(shop, url_of(shop, ada), "boss@example.com")
    pay(shop, url_of(shop, bob))
    for _ in range(2):  # every event twice
        work(shop)
    assert (credits_of(shop, ada), credits_of(shop, bob)) == (550, 550)
    assert sorted(owners(shop).values()) == sorted([ada.account_id, bob.account_id])
    assert shop.sql("select * from billing.ledger_discrepancies") == []
    assert_refused(get(shop, ada, plan=shop.plan), 409, "already_subscribed")
    assert get(shop, ada).body == {"payment_links": {}}


def test_a_pack_of_somebody_with_a_customer_is_granted_once_and_merged(
    shop: Shop, database: Database
) -> None:
    ada = shop.sign_up()
    assert shop.press("checkout", ada, plan="pro_monthly").status == 200
    first = only(shop.customers())["id"]
    url = url_of(shop, ada, pack="pack_100")
    for expected in (100, 200):
        session = pay(shop, url)
        work(shop)
        work(shop)
        assert credits_of(shop, ada) == expected
        kept = shop.sql(
            "select duplicate_of from billing.customers where stripe_customer_id = %s", session["customer"]
        )
        assert kept == [(first,)]


def tampered(url: str, victim: User, secret_guess: bytes = b"guess" + bytes(59)) -> dict[str, str]:
    """References that must not make a payment the victim's."""
    reference = reference_of(url)
    prefix, mode, key, _, expiry, mac = reference.split("_")
    signed = f"{prefix}_{mode}_{key}_{victim.account_id.hex}_{expiry}"
    return {
        "the account's id": str(victim.account_id),
        "the user's id": str(victim.id),
        "one's own mac on another account": f"{signed}_{mac}",
        "a mac with a key of one's own": f"{signed}_{hmac.new(secret_guess, signed.encode(), 'sha256').hexdigest()}",
        "half of it": reference[:-1],
        "the e-mail": "victim",
        "none": "",
    }


def test_a_forged_or_transplanted_reference_links_nobody(shop: Shop) -> None:
    eve, victim = shop.sign_up("eve@example.com"), shop.sign_up("victim@example.com")
    url = url_of(shop, eve, pack="pack_100")
    made = only(shop.links())
    for name, reference in tampered(url, victim).items():
        paid = httpx.post(
            f"{shop.stripe_url}/_control/payment_links/{made['id']}/complete",
            json={"client_reference_id": reference, "email": "victim@example.com"},
        )
        assert paid.status_code == 200, name
    work(shop)
    assert set(owners(shop).values()) == {None}
    assert (credits_of(shop, eve), credits_of(shop, victim)) == (0, 0)
    assert len(parked(shop)) == 7
    # A person looks, and says whose it is.
    customer = shop.customers()[0]["id"]
    with shop.database.connect("service_role") as app:
        link(app, eve, customer)
    work(shop)
    assert credits_of(shop, eve) == 100


def test_an_expired_reference_links_nobody(shop: Shop) -> None:
    user = shop.sign_up()
    shop.sql("update billing.settings set payment_reference_lifetime = '1 minute'")
    url = url_of(shop, user, pack="pack_100")
    session = pay(shop, url)
    opened = shop.world.store.get("checkout.session", session["id"])
    opened["created"] += 3600
    for body in shop.world.events.bodies():
        if body["type"] == "checkout.session.completed":
            body["data"]["object"]["created"] += 3600
    work(shop)
    assert set(owners(shop).values()) == {None}
    [reason] = parked(shop)
    assert "is unusable: expired" in reason


def test_whoever_pays_with_another_s_url_pays_for_the_other(shop: Shop) -> None:
    ada, eve = shop.sign_up(), shop.sign_up("eve@example.com")
    pay(shop, url_of(shop, ada, pack="pack_100"), "eve@example.com")
    work(shop)
    assert (credits_of(shop, ada), credits_of(shop, eve)) == (100, 0)


def test_an_archived_price_has_no_link_and_its_old_one_is_noted(shop: Shop) -> None:
    user = shop.sign_up()
    url_of(shop, user)
    shop.client.prices.update(shop.plan, {"active": False})
    work(shop)
    assert_refused(get(shop, user, plan=shop.plan), 404, "price_unknown")
    [(active, due)] = shop.sql("select active, deactivate_at is not null from billing.payment_links")
    assert (active, due) == (False, True)
