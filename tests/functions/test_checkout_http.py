"""A click on "buy" over HTTP → one customer, one session; or a refusal, and nothing in Stripe."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.algorithms import ECAlgorithm

from devstack.tokens import SigningKeys
from stripe_local.errors import StripeError
from stripe_local.resources.checkout_completion import complete
from tests.functions.shop import ISSUER, KEY, SITE, Shop, User, link, only, open_shop, subscribe
from tests.sql.calls import JANUARY, SECOND, sync_checkout_session, sync_price
from tests.sql.test_checkout_requests import FOREIGN_URLS
from tests.support import Database


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(database, tmp_path) as shop:
        yield shop


def items_of(shop: Shop, session_id: str) -> list[tuple[str, int, int]]:
    """(price, quantity, amount) of each."""
    items = shop.client.checkout.sessions.line_items.list(session_id).data
    return [(item.price.id, item.quantity, item.amount_total) for item in items]


def test_first_click_opens_a_session_for_a_new_customer(shop: Shop) -> None:
    user = shop.sign_up()
    answer = shop.press("checkout", user, plan="pro_monthly", quantity=3)
    assert answer.status == 200, answer
    session, customer = only(shop.sessions()), only(shop.customers())
    assert answer.body == {"id": session["id"], "url": session["url"]}
    assert (session["mode"], session["customer"]) == ("subscription", customer["id"])
    assert items_of(shop, session["id"]) == [(shop.plan, 3, 6000)]
    assert session["success_url"] == f"{SITE}?session_id={{CHECKOUT_SESSION_ID}}"
    assert (session["allow_promotion_codes"], session.get("client_reference_id")) == (True, None)
    assert customer["email"] == "ada@example.com"
    assert shop.sql("select account_id, stripe_customer_id from billing.customers") == [
        (user.account_id, customer["id"])
    ]
    assert shop.sql("select stripe_checkout_session_id from billing.checkout_requests") == [(session["id"],)]


def test_a_pack_is_a_payment_of_the_same_customer_and_keeps_the_card_when_asked(shop: Shop) -> None:
    user = shop.sign_up()
    assert shop.press("checkout", user, plan=shop.plan).status == 200
    answer = shop.press("checkout", user, pack="pack_100", save_card=True, cancel_url=f"{SITE}/credits")
    session = shop.sessions()[-1]
    assert (answer.status, answer.body["id"]) == (200, session["id"])
    assert (session["mode"], session["customer"]) == ("payment", only(shop.customers())["id"])
    assert session["_intent_data"]["setup_future_usage"] == "off_session"
    assert session["cancel_url"] == f"{SITE}/credits"
    assert items_of(shop, session["id"]) == [(shop.pack, 1, 2000)]


def test_a_customer_that_the_app_linked_is_used(shop: Shop, database: Database) -> None:
    user = shop.sign_up()
    existing = shop.client.customers.create({"email": "ada@example.com"})
    with database.connect("service_role") as app:
        link(app, user, existing.id)
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    assert only(shop.sessions())["customer"] == only(shop.customers())["id"] == existing.id


def offer_trial(shop: Shop, **settings: Any) -> None:
    """The plan comes with two weeks of trial."""
    product = shop.client.prices.retrieve(shop.plan).product
    terms = {"trial_days": "14", "trial_credits": "25"}
    with shop.database.connect("billing_worker") as worker:
        sync_price(
            worker, stripe_price_id=shop.plan, stripe_product_id=product, lookup_key="pro_monthly", metadata=terms,
            as_of=JANUARY + SECOND,
        )  # fmt: skip
    for name, value in settings.items():
        shop.sql(f"update billing.settings set {name} = %s", value)


def test_a_trial_begins_at_checkout_without_a_card_and_comes_once(shop: Shop) -> None:
    user = shop.sign_up()
    offer_trial(shop, trial_without_card="cancel", one_subscription_per="none")
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    session = only(shop.sessions())
    assert (session["payment_method_collection"], session["amount_total"]) == ("if_required", 0)
    complete(shop.world, session, {})
    subscription = shop.client.subscriptions.retrieve(session["subscription"])
    assert (subscription.status, subscription.default_payment_method) == ("trialing", None)
    assert subscription.trial_end - subscription.trial_start == 14 * 86_400
    assert subscription.trial_settings.end_behavior.missing_payment_method == "cancel"
    assert subscription.metadata.account_id == str(user.account_id)

    with shop.database.connect("billing_worker") as worker:
        sync_checkout_session(
            worker, stripe_checkout_session_id=session["id"], stripe_customer_id=session["customer"],
            stripe_subscription_id=subscription.id,
        )  # fmt: skip
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    again = shop.sessions()[-1]
    assert (again["payment_method_collection"], again["amount_total"]) == ("always", 2000)


def test_a_trial_asks_for_a_card_unless_the_owner_says_otherwise(shop: Shop) -> None:
    offer_trial(shop)
    assert shop.press("checkout", shop.sign_up(), plan="pro_monthly").status == 200
    session = only(shop.sessions())
    assert (session["payment_method_collection"], session["amount_total"]) == ("always", 0)
    complete(shop.world, session, {"payment_method": "pm_card_visa"})
    subscription = shop.client.subscriptions.retrieve(session["subscription"])
    assert subscription.status == "trialing"
    assert subscription.default_payment_method is not None


@pytest.mark.parametrize("what", ["plan", "pack"])
def test_stripe_takes_every_setting_of_the_owner(shop: Shop, what: str) -> None:
    shop.sql(
        "update billing.settings set automatic_tax = true, collect_tax_ids = true, "
        "billing_address_collection = 'required', checkout_branding = %s",
        json.dumps({"display_name": "Acme", "button_color": "#112233", "border_style": "rounded"}),
    )
    keys = {"plan": "pro_monthly", "pack": "pack_100"}
    assert shop.press("checkout", shop.sign_up(), **{what: keys[what]}).status == 200
    session = only(shop.sessions())
    assert session["billing_address_collection"] == "required"
    assert session["tax_id_collection"]["enabled"] is True
    assert session["allow_promotion_codes"] is True


def test_fifty_first_clicks_at_once_make_one_customer_and_one_session(shop: Shop) -> None:
    user = shop.sign_up()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: shop.press("checkout", user, plan="pro_monthly"), range(50)))
    assert [answer.status for answer in answers] == [200] * 50, answers
    assert {answer.body["id"] for answer in answers} == {only(shop.sessions())["id"]}
    assert shop.sql("select stripe_customer_id from billing.customers where account_id is not null") == [
        (only(shop.customers())["id"],)
    ]


def test_different_first_clicks_at_once_make_one_customer_and_leave_one_session_open(shop: Shop) -> None:
    user = shop.sign_up()
    with ThreadPoolExecutor(20) as pool:
        press = lambda n: shop.press("checkout", user, plan="pro_monthly", quantity=n)  # noqa: E731
        answers = list(pool.map(press, range(1, 21)))
    assert {(answer.status, answer.body.get("error", {}).get("code")) for answer in answers} <= {
        (200, None),
        (409, "superseded"),
    }
    assert {session["customer"] for session in shop.sessions()} == {only(shop.customers())["id"]}
    open_ = only([session for session in shop.sessions() if session["status"] == "open"])
    assert open_["id"] in [answer.body.get("id") for answer in answers]


def test_of_two_plans_that_exclude_each_other_one_session_is_open(shop: Shop, database: Database) -> None:
    user = shop.sign_up()
    first = shop.press("checkout", user, plan="pro_monthly").body["id"]
    second = shop.press("checkout", user, plan="pro_monthly", quantity=2).body["id"]
    assert [session["status"] for session in shop.sessions()] == ["expired", "open"]
    again = shop.press("checkout", user, plan="pro_monthly").body["id"]
    assert again not in (first, second)
    assert shop.client.checkout.sessions.retrieve(second).status == "expired"


def test_a_session_that_was_paid_a_moment_ago_is_one_too_many(shop: Shop) -> None:
    user = shop.sign_up()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    complete(shop.world, only(shop.sessions()), {"payment_method": "pm_card_visa"})
    answer = shop.press("checkout", user, plan="pro_monthly", quantity=2)
    assert (answer.status, answer.body["error"]["code"]) == (409, "already_subscribed")
    assert len(shop.sessions()) == 1


def by_secret(claims: dict[str, Any], secret: str, kid: str) -> str:
    """HS256 with a text that everybody knows, which a verifier that trusts `alg` would take for the key."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret.encode(), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def forged(shop: Shop, user: User) -> dict[str, str | None]:
    """Tokens that must not open anything."""
    good = jwt.decode(user.token, options={"verify_signature": False})
    key = ECAlgorithm.from_jwk(shop.keys.jwk)
    kid = {"kid": shop.keys.jwk["kid"]}

    def signed(**changes: Any) -> str:
        claims = {name: value for name, value in (good | changes).items() if value is not None}
        return jwt.encode(claims, key, algorithm="ES256", headers=kid)  # type: ignore[arg-type]

    stranger = SigningKeys.load(shop.log.parent / "stranger")
    header, payload, signature = user.token.split(".")
    return {
        "none": None,
        "empty": "",
        "no token": "not.a.token",
        "alg none": jwt.encode(good, "", algorithm="none", headers=kid),
        "signed by the public key as a secret": by_secret(good, shop.keys.jwks(), kid["kid"]),
        "another key": stranger.access_token(user.id, "ada@example.com", issuer=ISSUER),
        "another payload": f"{header}.{payload[:-4]}AAAA.{signature}",
        "cut": user.token[:-2],
        "expired": signed(exp=int(time.time()) - 60),
        "for ever": signed(exp=None),
        "not yet valid": signed(nbf=int(time.time()) + 3600),
        "another audience": signed(aud="somebody-else"),
        "no audience": signed(aud=None),
        "another issuer": signed(iss="https://evil.example/auth/v1"),
        "no issuer": signed(iss=None),
        "anon": signed(role="anon", sub=None, aud=None),
        "anon with a user": signed(role="anon"),
        "service role": signed(role="service_role"),
        "anonymous user": signed(is_anonymous=True),
        "no user": signed(sub=None),
        "user of another kind": signed(sub="' or 1=1"),
        "unknown user": signed(sub="00000000-0000-4000-8000-000000000000"),
        "publishable key": "sb_publishable_x",
    }


@pytest.mark.parametrize("function", ["checkout", "portal"])
def test_whoever_is_not_signed_in_gets_401_and_nothing_is_made(shop: Shop, function: str) -> None:
    user = shop.sign_up()
    shop.fail(on_500=1)  # whatever asks Stripe is a 503
    for name, token in forged(shop, user).items():
        answer = shop.press(function, token, plan="pro_monthly")
        assert (answer.status, answer.body["error"]["code"]) == (401, "unauthorized"), name
        assert answer.headers["access-control-allow-origin"] == "*", name
    assert (shop.customers(), shop.sessions(), shop.portals()) == ([], [], [])
    assert shop.sql("select * from billing.customer_claims") == []
    shop.fail()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200


def test_a_legacy_token_of_a_shared_secret_is_refused(shop: Shop) -> None:
    user = shop.sign_up()
    claims = jwt.decode(user.token, options={"verify_signature": False})
    legacy = jwt.encode(claims, "super-secret-jwt-token-with-at-least-32-characters-long", algorithm="HS256")
    assert shop.press("checkout", legacy, plan="pro_monthly").status == 401


def test_what_the_database_refuses_creates_nothing_in_stripe(shop: Shop) -> None:
    user, other = shop.sign_up(), shop.sign_up("eve@example.com")
    stranger = shop.client.prices.create({"currency": "usd", "unit_amount": 1, "product_data": {"name": "x"}})
    shop.sql(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'Radar said so' where id = %s",
        other.account_id,
    )
    product = shop.client.prices.retrieve(shop.plan).product
    with shop.database.connect("billing_worker") as worker:
        sync_price(
            worker, stripe_price_id="price_old", stripe_product_id=product, lookup_key="old", active=False
        )
    shop.fail(on_500=1)  # whatever asks Stripe is a 503
    plan = {"plan": "pro_monthly"}
    refusals: list[tuple[User, dict[str, Any], int, str]] = [
        (user, {}, 400, "invalid_request"),
        (user, plan | {"pack": "pack_100"}, 400, "invalid_request"),
        (user, {"plan": 1}, 400, "invalid_request"),
        (user, {"plan": {"price": shop.plan}}, 400, "invalid_request"),
        (user, {"plan": "\u0000"}, 400, "invalid_request"),
        (user, {"plan": "nothing"}, 404, "price_unknown"),
        (user, {"plan": stranger.id}, 404, "price_unknown"),
        (user, {"pack": stranger.id}, 404, "price_unknown"),
        (user, {"plan": "pack_100"}, 404, "price_unknown"),
        (user, {"plan": "old"}, 404, "price_unknown"),
        (user, {"plan": "price_old"}, 404, "price_unknown"),
        (user, plan | {"quantity": 0}, 422, "quantity_out_of_range"),
        (user, plan | {"quantity": 1.5}, 422, "quantity_out_of_range"),
        (user, plan | {"quantity": 1e300}, 422, "quantity_out_of_range"),
        (user, plan | {"quantity": "1"}, 400, "invalid_request"),
        *(
            (user, plan | {parameter: url}, 422, "url_not_allowed")
            for url in FOREIGN_URLS
            if url
            for parameter in ("success_url", "cancel_url")
        ),
        (user, plan | {"account_id": str(other.account_id)}, 403, "account_forbidden"),
        (user, plan | {"account_id": "1"}, 400, "invalid_request"),
        (other, plan, 403, "account_frozen"),
    ]
    for who, body, status, code in refusals:
        answer = shop.press("checkout", who, **body)
        assert (answer.status, answer.body["error"]["code"]) == (status, code), body
        assert answer.body["error"].keys() == {"code", "message"}
        assert "Radar" not in answer.body["error"]["message"]
    assert (shop.customers(), shop.sessions()) == ([], [])
    assert "level" not in shop.log.read_text(), "refusals are not logged"


def test_amounts_customers_and_parameters_of_stripe_are_not_taken_from_the_client(shop: Shop) -> None:
    user = shop.sign_up()
    rich = shop.client.customers.create({"email": "rich@example.com"})
    mine = {
        "amount": 1, "unit_amount": 1, "price_data": {"unit_amount": 1}, "customer": rich.id, "user_id": "x",
        "line_items": [{"price": shop.pack, "quantity": 9}], "discounts": [{"coupon": "FREE"}], "mode": "setup",
        "client_reference_id": "somebody-else", "trial_period_days": 365, "metadata": {"account_id": "x"},
        "__proto__": {"pack": "pack_100"},
    }  # fmt: skip
    answer = shop.press("checkout", user, plan="pro_monthly", **mine)
    assert answer.status == 200
    session = only(shop.sessions())
    assert session["customer"] != rich.id
    assert items_of(shop, session["id"]) == [(shop.plan, 1, 2000)]
    assert session["metadata"] == {"account_id": str(user.account_id)}
    assert (session["mode"], session.get("client_reference_id")) == ("subscription", None)


def test_subscribers_are_told_to_use_the_portal(shop: Shop, database: Database) -> None:
    user = shop.sign_up()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    subscribe(shop, database, user)
    answer = shop.press("checkout", user, plan="pro_monthly")
    assert (answer.status, answer.body["error"]["code"]) == (409, "already_subscribed")
    assert "portal" in answer.body["error"]["message"]
    assert len(shop.sessions()) == 1


@pytest.mark.parametrize("fault", [{"on_429": 1}, {"on_500": 1}, {"on_timeout": 1}], ids=str)
def test_when_stripe_fails_the_click_is_503_and_the_next_one_works(
    shop: Shop, fault: dict[str, float]
) -> None:
    user = shop.sign_up()
    shop.fail(**fault)
    answer = shop.press("checkout", user, plan="pro_monthly")
    assert (answer.status, answer.body["error"]["code"]) == (503, "stripe_unavailable"), answer
    assert answer.headers["retry-after"].isdigit()
    assert answer.seconds < 12
    assert shop.sql("select * from billing.customers") == []
    shop.fail()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    assert only(shop.sessions())["customer"] == only(shop.customers())["id"]


@pytest.mark.parametrize("fault", [{"on_429": 1}, {"on_500": 1}, {"on_timeout": 1}], ids=str)
def test_when_stripe_fails_after_the_customer_the_same_click_takes_up_there(
    shop: Shop, fault: dict[str, float]
) -> None:
    user = shop.sign_up()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    shop.fail(**fault)
    answer = shop.press("checkout", user, pack="pack_100")
    assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
    shop.fail()
    assert shop.press("checkout", user, pack="pack_100").status == 200
    assert [session["mode"] for session in shop.sessions()] == ["subscription", "payment"]
    assert len(shop.customers()) == 1


def test_clicks_through_a_flaky_stripe_end_in_one_customer(shop: Shop) -> None:
    user = shop.sign_up()
    shop.world.faults.set({"api": {"429": 0.3, "500": 0.3}, "seed": 7})
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: shop.press("checkout", user, plan="pro_monthly"), range(30)))
    assert {answer.status for answer in answers} <= {200, 503}
    shop.fail()
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    assert {session["customer"] for session in shop.sessions()} == {only(shop.customers())["id"]}


def break_link(database: Database) -> None:
    """From here on the database fails between Stripe's customer and our link."""
    with database.connect() as connection:
        connection.execute(
            "create function billing.tg_break() returns trigger language plpgsql as "
            "$$ begin raise exception 'cut' using errcode = '57014'; end $$"
        )
        connection.execute(
            "create trigger broken before insert or update on billing.customers execute function billing.tg_break()"
        )


def mend_link(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("drop trigger broken on billing.customers")


@pytest.mark.parametrize("forgets", [False, True], ids=["soon", "after_a_day"])
def test_a_customer_made_but_not_linked_is_found_by_the_same_click(
    shop: Shop, database: Database, forgets: bool
) -> None:
    user = shop.sign_up()
    shop.client.customers.create({"email": "ada@example.com", "metadata": {"tillbase_claim": "guessed"}})
    break_link(database)
    answer = shop.press("checkout", user, plan="pro_monthly")
    assert (answer.status, answer.body["error"]["code"]) == (503, "database_unavailable")
    made = shop.customers()[-1]["id"]
    assert (len(shop.customers()), shop.sessions()) == (2, [])
    mend_link(database)
    if forgets:
        shop.sql("update billing.customer_claims set keyed_at = now() - interval '2 days'")
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    assert only(shop.sessions())["customer"] == made
    assert len(shop.customers()) == 2


def test_a_failure_that_stripe_keeps_for_its_key_does_not_lock_the_user_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = shop.sign_up()
    real = shop.world.emit

    def explode(event_type: str, *arguments: Any, **more: Any) -> Any:
        """The customer is made; the answer is a 500, which Stripe keeps."""
        if event_type == "customer.created":
            raise StripeError(500, "An unknown error occurred.", kind="api_error")
        return real(event_type, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(shop.world, "emit", explode)
        assert shop.press("checkout", user, plan="pro_monthly").status == 503
    made = only(shop.customers())["id"]
    assert shop.press("checkout", user, plan="pro_monthly").status == 200
    assert only(shop.sessions())["customer"] == only(shop.customers())["id"] == made


def test_what_stripe_refuses_is_a_502_that_tells_no_secret(shop: Shop) -> None:
    user = shop.sign_up()
    shop.client.prices.update(shop.plan, {"active": False})
    answer = shop.press("checkout", user, plan="pro_monthly")
    assert (answer.status, answer.body["error"]["code"]) == (502, "stripe_refused")
    log = shop.log.read_text()
    assert "inactive" in log or "active" in log
    for private in (KEY, user.token, "ada@example.com"):
        assert private not in log + json.dumps(answer.body)


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ({"STRIPE_API_KEY": ""}, "stripe_key_unusable"),
        ({"STRIPE_API_KEY": "rk_live_x"}, "stripe_key_unusable"),
        ({"SUPABASE_JWKS": "{"}, "auth_not_configured"),
        ({"SUPABASE_JWKS": ""}, "auth_not_configured"),
        ({"SUPABASE_JWKS": '{"keys": []}'}, "auth_not_configured"),
        ({"SUPABASE_DB_URL": "postgresql://nobody@127.0.0.1:1/none"}, "database_unavailable"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "stripe_unavailable"),
    ],
    ids=str,
)
def test_what_is_not_set_up_or_away_is_a_503(
    database: Database, tmp_path: Path, setting: dict[str, str], code: str
) -> None:
    with open_shop(database, tmp_path, **setting) as shop:
        answer = shop.press("checkout", shop.sign_up(), plan="pro_monthly")
        assert (answer.status, answer.body["error"]["code"]) == (503, code), answer
        assert (shop.customers(), shop.sessions()) == ([], [])


def test_browsers_may_ask_from_anywhere_and_only_post(shop: Shop) -> None:
    preflight = shop.send(
        "checkout", b"", {"Origin": SITE, "Access-Control-Request-Method": "POST"}, "OPTIONS"
    )
    assert preflight.status == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for method in ("GET", "PUT", "DELETE"):
        answer = shop.send("checkout", b"", {}, method)
        assert (answer.status, answer.body["error"]["code"]) == (405, "method_not_allowed")
    user = shop.sign_up()
    bearer = {"Authorization": f"Bearer {user.token}"}
    for body, status in ((b"[]", 400), (b"{", 400), (b"null", 400), (b"\xff", 400), (b" " * 20_000, 413)):
        answer = shop.send("checkout", body, bearer)
        assert answer.status == status, body
        assert answer.headers["access-control-allow-origin"] == "*"


def test_function_works_as_billing_checkout_only(shop: Shop) -> None:
    shop.sql("revoke execute on function billing.prepare_checkout from billing_checkout")
    answer = shop.press("checkout", shop.sign_up(), plan="pro_monthly")
    assert (answer.status, answer.body["error"]["code"]) == (500, "internal_error")
