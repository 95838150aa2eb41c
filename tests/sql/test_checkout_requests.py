"""What a user wants to buy → what Stripe is sent: judged in SQL, and the same for every click."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.calls import (
    FEBRUARY,
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    call,
    fetch,
    fetch_one,
    fresh,
    item,
    link,
    move_clock,
    refused,
    sync_checkout_session,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once, blocked
from tests.sql.steps import body, bring, failure
from tests.support import Database, account_of, as_user, create_user

SITE = "https://app.example.com"


@pytest.fixture
def function(database: Database) -> Any:
    """The edge function's own connection: `billing_checkout`."""
    with database.connect("billing_checkout") as connection:
        yield connection


@pytest.fixture
def user(database: Database) -> UUID:
    return create_user(database, "ada@example.com")


@pytest.fixture(autouse=True)
def shop(conn: Connection, worker: Connection) -> None:
    """A site, a plan, its yearly twin, another product's plan and a pack."""
    conn.execute("update billing.settings set site_url = %s", [SITE])
    sync_product(worker)
    sync_product(worker, stripe_product_id="prod_2", name="Team")
    sync_price(worker, lookup_key="pro_monthly")
    sync_price(worker, stripe_price_id="price_year", recurring_interval="year")
    sync_price(worker, stripe_price_id="price_team", stripe_product_id="prod_2", lookup_key="team")
    pack = {"type": "one_time", "lookup_key": "pack_100", "metadata": {"pack_credits": "100"}}
    sync_price(worker, stripe_price_id="price_pack", **pack)


def prepare(function: Connection, user_id: UUID, **more: Any) -> Row:
    arguments: Row = {
        "plan": None if "pack" in more else "pro_monthly",
        "pack": None,
        "quantity": None,
        "success_url": None,
        "cancel_url": None,
    }
    step = answer(function, "prepare_checkout", user_id=user_id, **arguments | more)
    return {
        "livemode": step["livemode"],
        "step": step,
        "customer": customer_of(step),
        "session": request_of(function, step),
        "superseded": step["state"]["expire"],
    }


def customer_of(step: Row) -> Row:
    """The customer that the account has; or how it is made, and where it is looked for first."""
    *lookup, make = step["calls"]
    if step["state"]["asked"] != "customer":
        return {"id": make["params"]["customer"]}
    return {
        "account_id": make["params"]["metadata"]["account_id"],
        "token": step["state"]["token"],
        "params": make["params"],
        "idempotency_key": make["idempotency_key"],
        "lookup": lookup[0]["params"] if lookup else None,
    }


def request_of(function: Connection, step: Row) -> Row:
    """What the session will be made with, read as the owner of the database."""
    query = "select params, idempotency_key from billing.checkout_requests where idempotency_key = %s"
    with function.transaction():
        function.execute("set local role none")
        request = fetch_one(function, query, [step["state"]["key"]])
        function.execute("set local role billing_checkout")
    return request


def portal(function: Connection, user_id: UUID, **more: Any) -> Row:
    """The one call of Stripe that the portal takes."""
    step = answer(function, "prepare_portal", user_id=user_id, **{"return_url": None, "flow": None} | more)
    [call] = step["calls"]
    return call


def go_on(function: Connection, step: Row, *answers: Row) -> Row:
    return bring(function, step, "continue_checkout", *answers)


def link_claimed(function: Connection, checkout: Row, stripe_customer_id: str | None = "cus_1") -> str:
    """The customer that the session is made for."""
    return go_on(function, checkout["step"], body(id=stripe_customer_id))["state"]["customer"]


def at_session(function: Connection, step: Row) -> Row:
    """The step that opens the session, for a customer that was made if need be."""
    return go_on(function, step, body(id=fresh("cus"))) if step["state"]["asked"] == "customer" else step


def opened(session_id: str) -> Row:
    return body(id=session_id, url=f"https://checkout.stripe.com/c/{session_id}", expires_at=1)


def record(function: Connection, checkout: Row, session_id: str) -> bool:
    """Stripe does all that it is asked → whether the session stands."""
    step = at_session(function, checkout["step"])
    ended = [body(status="expired") for _ in step["state"]["expire"]]
    return "done" in go_on(function, step, *ended, opened(session_id))


def discard(function: Connection, checkout: Row, part: str) -> None:
    """Stripe fails to make it, and will go on failing under that key."""
    key = checkout[part]["idempotency_key"]
    refusal = go_on(function, checkout["step"], failure(500, key))
    assert refusal["refused"]["code"] == "TB062"


def test_a_plan_is_a_subscription_of_its_price_to_be_paid_on_stripes_page(
    conn: Connection, function: Connection, user: UUID
) -> None:
    checkout = prepare(function, user, quantity=3)
    account = str(account_of(conn, user))
    assert checkout["session"]["params"] == {
        "mode": "subscription",
        "line_items": [{"price": "price_1", "quantity": 3}],
        "success_url": f"{SITE}?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": SITE,
        "billing_address_collection": "auto",
        "allow_promotion_codes": True,
        "metadata": {"account_id": account},
        "subscription_data": {"metadata": {"account_id": account}},
    }
    assert checkout["customer"]["params"] == {
        "email": "ada@example.com",
        "metadata": {"account_id": account, "tillbase_claim": checkout["customer"]["token"]},
    }
    assert (checkout["livemode"], checkout["customer"]["lookup"]) == (False, None)


def test_a_pack_is_a_payment_and_keeps_the_card_only_when_asked(function: Connection, user: UUID) -> None:
    params = prepare(function, user, pack="pack_100")["session"]["params"]
    assert (params["mode"], params["line_items"]) == ("payment", [{"price": "price_pack", "quantity": 1}])
    assert "subscription_data" not in params
    assert "setup_future_usage" not in params["payment_intent_data"]
    kept = prepare(function, user, pack="price_pack", save_card=True)["session"]["params"]
    assert kept["payment_intent_data"]["setup_future_usage"] == "off_session"


def test_the_owner_s_settings_are_sent(conn: Connection, function: Connection, user: UUID) -> None:
    conn.execute(
        "update billing.settings set automatic_tax = true, allow_promotion_codes = false, "
        """checkout_branding = '{"display_name": "Acme"}'"""
    )
    params = prepare(function, user)["session"]["params"]
    assert params["automatic_tax"] == {"enabled": True}
    assert params["customer_update"] == {"address": "auto", "name": "auto"}
    assert params["branding_settings"] == {"display_name": "Acme"}
    assert "allow_promotion_codes" not in params


def test_only_what_is_on_sale_can_be_bought(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, stripe_price_id="price_old", lookup_key="old", active=False)
    sync_price(worker, stripe_price_id="price_live", lookup_key="live", livemode=True)
    sync_product(worker, stripe_product_id="prod_gone", active=False)
    sync_price(worker, stripe_price_id="price_gone", stripe_product_id="prod_gone")
    for plan in ("price_unknown", "", "price_old", "old", "price_live", "live", "price_gone", "pack_100"):
        with refused("TB042"):
            prepare(function, user, plan=plan)
    gift = {"type": "one_time", "metadata": {"pack_credits": "100"}, "unit_amount": 0}
    sync_price(worker, stripe_price_id="price_gift", **gift)
    for pack in ("pro_monthly", "price_1", "nothing", "price_gift"):
        with refused("TB042"):
            prepare(function, user, pack=pack)
    for plan, pack in ((None, None), ("pro_monthly", "pack_100")):
        with refused("TB048"):
            prepare(function, user, plan=plan, pack=pack)
    assert fetch(conn, "select * from billing.checkout_requests") == []


def test_quantities_are_whole_units_up_to_the_owner_s_limit(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, stripe_price_id="price_metered", stripe_product_id="prod_2", usage_type="metered")
    for quantity in (0, -1, "1.5", 101, "1e30", "NaN", "Infinity"):
        with refused("TB043"):
            prepare(function, user, quantity=quantity)
    with refused("TB043"):
        prepare(function, user, plan="price_metered", quantity=2)
    assert prepare(function, user, quantity=100)["session"]["params"]["line_items"][0]["quantity"] == 100
    metered = prepare(function, user, plan="price_metered")["session"]["params"]
    assert metered["line_items"] == [{"price": "price_metered"}]
    conn.execute("update billing.settings set max_checkout_quantity = 1")
    with refused("TB043"):
        prepare(function, user, quantity=2)


FOREIGN_URLS = [
    "https://evil.example",
    "https://app.example.com.evil.example/",
    "https://app.example.com@evil.example/",
    "https://app.example.com:443@evil.example/",
    "https://app.example.com\\@evil.example/",
    "https://evil.example\\.app.example.com/",
    "https://evil.example/https://app.example.com",
    "https://evil.example#https://app.example.com",
    "https://app.example.com:8443/",
    "https://app.example.com.",
    "https://sub.app.example.com/",
    "http://app.example.com/",
    "HTTPS://app.example.com/",
    "https:/app.example.com/",
    "https:app.example.com/",
    "//app.example.com/",
    "/billing",
    "javascript:alert(1)//https://app.example.com",
    "data:text/html,https://app.example.com",
    " https://app.example.com",
    "https://app.example.com/ ",
    "https://app.example.com\n.evil.example/",
    "https://app.example.com/\n",
    "https://app.example.com/\t",
    "https://app.exаmple.com/",
    "https://app.example.com/ü",
    "https://user:secret@app.example.com/",
    "https://app.example.com:0443/",
    "https://app.example.com:",
    "https://app.example.com/" + "x" * 2000,
    "",
]


@pytest.mark.parametrize("url", FOREIGN_URLS)
def test_users_are_never_sent_to_an_origin_that_the_owner_did_not_name(
    function: Connection, user: UUID, url: str
) -> None:
    for parameter in ("success_url", "cancel_url"):
        with refused("TB044"):
            prepare(function, user, **{parameter: url})
    with refused("TB044"):
        portal(function, user, return_url=url)


def test_origins_are_compared_as_browsers_compare_them(
    conn: Connection, function: Connection, user: UUID
) -> None:
    origins = ["http://localhost:5173", "https://b.example", "http://[::1]:3000"]
    conn.execute("update billing.settings set allowed_redirect_origins = %s", [origins])
    for url in (
        SITE,
        f"{SITE}:443/a",
        "https://APP.example.com/b?c=d@e#f",
        "http://localhost:5173/x",
        "https://b.example?q",
        "http://[::1]:3000/",
    ):
        assert prepare(function, user, cancel_url=url)["session"]["params"]["cancel_url"] == url


def test_settings_take_origins_only(conn: Connection) -> None:
    for origin in ("https://a.example/", "https://a.example/x", "a.example", "https://A.example", "*", ""):
        with refused("23514"):
            conn.execute("update billing.settings set allowed_redirect_origins = %s", [[origin]])
    with refused("23514"):
        conn.execute("update billing.settings set site_url = 'app.example.com'")


def test_without_settings_nobody_is_sent_anywhere(conn: Connection, function: Connection, user: UUID) -> None:
    conn.execute("update billing.settings set site_url = null")
    with refused("TB044"):
        prepare(function, user)
    with refused("TB044"):
        prepare(function, user, success_url=SITE, cancel_url=SITE)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("/", "/?session_id={CHECKOUT_SESSION_ID}"),
        ("/a?b=c#d?e", "/a?b=c&session_id={CHECKOUT_SESSION_ID}#d?e"),
        ("/a#d?e", "/a?session_id={CHECKOUT_SESSION_ID}#d?e"),
        ("/a?id={CHECKOUT_SESSION_ID}", "/a?id={CHECKOUT_SESSION_ID}"),
    ],
)
def test_success_url_learns_the_session(function: Connection, user: UUID, given: str, sent: str) -> None:
    params = prepare(function, user, success_url=f"{SITE}{given}")["session"]["params"]
    assert params["success_url"] == f"{SITE}{sent}"


def test_frozen_and_closed_accounts_buy_nothing(conn: Connection, function: Connection, user: UUID) -> None:
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'fraud'")
    with refused("TB003"):
        prepare(function, user)
    conn.execute("update billing.accounts set frozen_at = null, frozen_reason = null, closed_at = now()")
    with refused("TB008"):
        prepare(function, user)


def test_users_who_are_gone_or_banned_buy_nothing(
    database: Database, admin: Connection, function: Connection, user: UUID
) -> None:
    with refused("TB040"):
        prepare(function, uuid4())
    for change in ("deleted_at = now()", "deleted_at = null, banned_until = now() + interval '1 day'"):
        admin.execute(f"update auth.users set {change}".encode())
        with refused("TB040"):
            prepare(function, user)
    admin.execute("update auth.users set deleted_at = null, banned_until = now() - interval '1 day'")
    assert prepare(function, user)


def test_users_buy_for_accounts_that_they_own_or_administer(
    database: Database, conn: Connection, function: Connection, user: UUID
) -> None:
    team = value(conn, "insert into billing.accounts (kind) values ('team') returning id")
    others = account_of(conn, create_user(database))
    for account_id in (team, others, uuid4()):
        with refused("TB041"):
            prepare(function, user, account_id=account_id)
        with refused("TB041"):
            portal(function, user, account_id=account_id)
    conn.execute("insert into billing.account_members values (%s, %s, 'member')", [team, user])
    with refused("TB041"):
        prepare(function, user, account_id=team)
    conn.execute("update billing.account_members set role = 'admin'")
    assert prepare(function, user, account_id=team)["customer"]["account_id"] == str(team)
    conn.execute("update billing.accounts set owner_id = %s where id = %s", [user, team])
    conn.execute("delete from billing.account_members")
    assert prepare(function, user, account_id=team)["customer"]["account_id"] == str(team)


def test_a_user_without_an_account_gets_one(conn: Connection, function: Connection, user: UUID) -> None:
    # As when the trigger of the sign-up failed.
    conn.execute("update billing.accounts set owner_id = null")
    assert prepare(function, user)["customer"]["account_id"] == str(account_of(conn, user))


@pytest.mark.parametrize(
    ("policy", "on_sale"),
    [
        ("price", {"price_year", "price_team"}),
        ("product", {"price_team"}),
        ("account", set[str]()),
        ("none", {"price_1", "price_year", "price_team"}),
    ],
)
def test_subscribers_are_sent_to_the_portal_as_the_owner_says(
    conn: Connection,
    function: Connection,
    app: Connection,
    worker: Connection,
    user: UUID,
    policy: str,
    on_sale: set[str],
) -> None:
    conn.execute("update billing.settings set one_subscription_per = %s", [policy])
    link(app, account_of(conn, user))
    sync_subscription(worker)
    for plan in ("price_1", "price_year", "price_team"):
        if plan in on_sale:
            assert prepare(function, user, plan=plan)
        else:
            with refused("TB045"):
                prepare(function, user, plan=plan)
    assert prepare(function, user, pack="pack_100")


@pytest.mark.parametrize("status", ["trialing", "past_due", "unpaid", "paused", "canceled", "incomplete"])
def test_a_subscription_that_lives_is_one_too_many(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID, status: str
) -> None:
    link(app, account_of(conn, user))
    sync_subscription(worker, status=status)
    if status in {"canceled", "incomplete"}:
        assert prepare(function, user)
    else:
        with refused("TB045"):
            prepare(function, user)


def test_a_free_plan_begins_again_when_its_last_period_is_over(
    conn: Connection, admin: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(
        worker, stripe_price_id="price_free", stripe_product_id="prod_2", lookup_key="free", unit_amount=0
    )
    link(app, account_of(conn, user))
    now: datetime = value(conn, "select date_trunc('second', now())")
    free = {"stripe_price_id": "price_free", "stripe_product_id": "prod_2", "current_period_start": now}
    items = [item(**free, current_period_end=now + timedelta(days=30))]
    sync_subscription(worker, status="canceled", ended_at=now, items=items, as_of=now)
    with refused("TB045"):
        prepare(function, user, plan="free")
    assert prepare(function, user), "another plan"
    move_clock(admin, timedelta(days=31))
    assert prepare(function, user, plan="free")


def test_a_plan_that_is_paid_for_can_be_bought_again_at_once(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    link(app, account_of(conn, user))
    now: datetime = value(conn, "select date_trunc('second', now())")
    items = [item(current_period_start=now, current_period_end=now + timedelta(days=30))]
    sync_subscription(worker, status="canceled", ended_at=now, items=items, as_of=now)
    assert prepare(function, user)


def test_the_same_click_is_the_same_request_until_its_session_ends(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    link_claimed(function, prepare(function, user, pack="pack_100"))
    first = prepare(function, user, pack="pack_100")
    assert prepare(function, user, pack="pack_100") == first
    key = first["session"]["idempotency_key"]
    record(function, first, "cs_1")
    assert prepare(function, user, pack="pack_100") == first
    two = prepare(function, user, pack="pack_100", quantity=2)
    assert (two["session"]["idempotency_key"] != key, two["superseded"]) == (True, [])
    sync_checkout_session(worker, mode="payment", stripe_subscription_id=None)
    later = prepare(function, user, pack="pack_100")
    assert later["session"]["idempotency_key"] != key
    conn.execute("update billing.checkout_requests set created_at = now() - interval '11 minutes'")
    assert prepare(function, user, pack="pack_100") not in (first, later)


def test_another_plan_supersedes_what_is_open_until_it_was_expired(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    monthly = prepare(function, user)
    record(function, monthly, "cs_monthly")
    record(function, prepare(function, user, plan="team"), "cs_team")
    yearly = prepare(function, user, plan="price_year")
    assert yearly["superseded"] == ["cs_monthly"], "another product is no matter"
    assert prepare(function, user, plan="price_year") == yearly, "as long as it was not done"
    record(function, yearly, "cs_yearly")
    assert prepare(function, user, plan="price_year")["superseded"] == []
    again = prepare(function, user)
    assert again["session"]["idempotency_key"] != monthly["session"]["idempotency_key"]
    assert again["superseded"] == ["cs_yearly"]
    sync_checkout_session(
        worker, stripe_checkout_session_id="cs_yearly", status="expired", payment_status="unpaid"
    )
    assert prepare(function, user)["superseded"] == []
    conn.execute("update billing.settings set one_subscription_per = 'none'")
    record(function, again, "cs_again")
    assert prepare(function, user, plan="price_year")["superseded"] == []


def test_a_session_that_was_superseded_while_it_was_opened_does_not_stand(
    function: Connection, user: UUID
) -> None:
    monthly = prepare(function, user)
    yearly = prepare(function, user, plan="price_year")
    assert yearly["superseded"] == [], "nobody knows its id"
    assert record(function, yearly, "cs_yearly") is True
    assert record(function, monthly, "cs_monthly") is False
    discard(function, yearly, "session")
    assert record(function, yearly, "cs_yearly") is True, "its key was given up, not its session"
    assert prepare(function, user, plan="price_year")["superseded"] == ["cs_monthly", "cs_yearly"]


def test_a_session_that_was_paid_counts_before_its_subscription_is_told_of(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    checkout = prepare(function, user)
    link_claimed(function, checkout)
    record(function, checkout, "cs_1")
    sync_checkout_session(worker)
    with refused("TB045"):
        prepare(function, user, plan="price_year")
    sync_subscription(worker, status="incomplete")
    with refused("TB045"):
        prepare(function, user)
    assert prepare(function, user, plan="team")
    sync_subscription(worker, status="canceled", as_of=JANUARY + SECOND)
    assert prepare(function, user)


def test_a_session_that_is_paid_while_another_click_waits_counts(
    database: Database, conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    checkout = prepare(function, user)
    link_claimed(function, checkout)
    record(function, checkout, "cs_1")
    with database.connect(autocommit=False) as other:
        other.execute("select from billing.customer_claims for update")
        with blocked(function, conn, lambda: prepare(function, user, plan="price_year")) as second:
            sync_checkout_session(worker)
            other.commit()
            with refused("TB045"):
                second.result()


def test_fifty_clicks_at_once_are_one_request_and_one_claim(
    database: Database, conn: Connection, user: UUID
) -> None:
    connections = [database.connect("billing_checkout") for _ in range(50)]
    answers = at_once([lambda c=c: prepare(c, user) for c in connections])
    packs = at_once([lambda c=c: prepare(c, user, pack="pack_100") for c in connections])
    for connection in connections:
        connection.close()
    assert all(answer == answers[0] for answer in answers)
    assert all(answer == packs[0] for answer in packs)
    assert isinstance(packs[0], dict)
    assert value(conn, "select count(*) from billing.customer_claims") == 1
    assert value(conn, "select count(*) from billing.checkout_requests") == 2


def test_a_click_waits_for_the_one_before_it_and_is_the_same_request(
    database: Database, conn: Connection, function: Connection, user: UUID
) -> None:
    link_claimed(function, prepare(function, user))
    with database.connect("billing_checkout", autocommit=False) as first:
        opened = prepare(first, user, pack="pack_100")
        with blocked(function, conn, lambda: prepare(function, user, pack="pack_100")) as second:
            first.commit()
            assert second.result() == opened


def test_few_checkouts_are_begun_for_one_account(conn: Connection, function: Connection, user: UUID) -> None:
    for quantity in range(1, 31):
        prepare(function, user, quantity=quantity)
    with refused("TB049"):
        prepare(function, user, quantity=31)
    assert prepare(function, user, quantity=30), "one that is open already"
    conn.execute("update billing.stripe_requests set requested_at = now() - interval '11 minutes'")
    assert prepare(function, user, quantity=31)
    assert value(conn, "select count(*) from billing.stripe_requests") == 1


def test_the_portal_is_opened_as_seldom(conn: Connection, function: Connection, user: UUID) -> None:
    link(conn, account_of(conn, user), "cus_1")
    for _ in range(30):
        portal(function, user)
    for attempt in (lambda: portal(function, user), lambda: prepare(function, user)):
        with refused("TB049"):
            attempt()
    conn.execute("update billing.stripe_requests set requested_at = now() - interval '11 minutes'")
    assert portal(function, user)


def test_a_claim_is_linked_once_and_then_is_the_account_s_customer(
    conn: Connection, function: Connection, user: UUID
) -> None:
    checkout = prepare(function, user)
    assert link_claimed(function, checkout) == "cus_1"
    assert link_claimed(function, checkout) == "cus_1"
    assert link_claimed(function, checkout, "cus_2") == "cus_1"
    assert prepare(function, user)["customer"] == {"id": "cus_1"}
    linked = fetch_one(conn, "select account_id, stripe_customer_id from billing.customers")
    assert linked == {"account_id": account_of(conn, user), "stripe_customer_id": "cus_1"}


def test_a_customer_linked_by_the_app_in_the_meantime_stands(
    conn: Connection, function: Connection, app: Connection, user: UUID
) -> None:
    checkout = prepare(function, user)
    link(app, account_of(conn, user), "cus_of_the_app")
    assert link_claimed(function, checkout, "cus_1") == "cus_of_the_app"
    assert prepare(function, user)["customer"] == {"id": "cus_of_the_app"}


def test_nobody_links_without_the_claim_s_token_or_takes_another_s_customer(
    database: Database, conn: Connection, function: Connection, app: Connection, user: UUID
) -> None:
    checkout = prepare(function, user)
    other = prepare(function, create_user(database))
    link(app, UUID(other["customer"]["account_id"]), "cus_other")
    for token in (uuid4(), other["customer"]["token"]):
        state = checkout["step"]["state"] | {"token": str(token)}
        with refused("TB018"):
            link_claimed(function, {"step": checkout["step"] | {"state": state}})
    for customer in ("cus_other", "acct_1", None):
        with refused("TB018"):
            link_claimed(function, checkout, customer)
    assert (
        value(conn, "select count(*) from billing.customers where account_id = %s", [account_of(conn, user)])
        == 0
    )


def test_a_key_that_failed_is_given_up_once_and_the_customer_is_looked_for(
    function: Connection, user: UUID
) -> None:
    first = prepare(function, user)
    discard(function, first, "customer")
    second = prepare(function, user)
    discard(function, first, "customer")
    assert prepare(function, user) == second
    assert second["session"] == first["session"]
    assert second["customer"]["idempotency_key"] != first["customer"]["idempotency_key"]
    assert second["customer"]["token"] == first["customer"]["token"]
    assert second["customer"]["lookup"] == {"email": "ada@example.com", "limit": 100}
    discard(function, second, "session")
    assert prepare(function, user)["session"]["idempotency_key"] != first["session"]["idempotency_key"]


def test_a_key_that_stripe_forgets_is_replaced_and_the_customer_is_looked_for(
    conn: Connection, admin: Connection, function: Connection, user: UUID
) -> None:
    admin.execute("update auth.users set email = null")
    first = prepare(function, user)
    assert "email" not in first["customer"]["params"]
    conn.execute("update billing.customer_claims set keyed_at = now() - interval '24 hours'")
    second = prepare(function, user)
    assert second["customer"]["idempotency_key"] != first["customer"]["idempotency_key"]
    assert second["customer"]["lookup"].keys() == {"created[gte]", "limit"}
    assert prepare(function, user) == second


def test_an_account_whose_customer_was_deleted_in_stripe_gets_another(
    conn: Connection, function: Connection, user: UUID
) -> None:
    first = prepare(function, user)
    link_claimed(function, first)
    conn.execute("update billing.customers set deleted_at = now()")
    second = prepare(function, user)
    assert second["customer"]["token"] != first["customer"]["token"]
    assert second["customer"]["lookup"] is None
    assert link_claimed(function, second, "cus_2") == "cus_2"


def test_portal_is_that_of_the_account_s_own_customer(
    conn: Connection, function: Connection, app: Connection, user: UUID
) -> None:
    with refused("TB046"):
        portal(function, user)
    link(app, account_of(conn, user))
    assert portal(function, user) == {
        "method": "post", "path": "/v1/billing_portal/sessions", "idempotency_key": None, "find": None,
        "keep": ["id", "url"], "params": {"customer": "cus_1", "return_url": SITE},
    }  # fmt: skip
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'fraud'")
    assert portal(function, user, return_url=f"{SITE}/billing")["params"]["return_url"] == f"{SITE}/billing"
    conn.execute("update billing.settings set site_url = null")
    assert portal(function, user)["params"] == {"customer": "cus_1"}


def test_portal_flows_lead_to_the_customer_s_own_living_subscription(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    link(app, account_of(conn, user))
    done = {"type": "redirect", "redirect": {"return_url": SITE}}
    for flow in ("cancel", "update_plan"):
        with refused("TB047"):
            portal(function, user, flow=flow)
    with refused("TB048"):
        portal(function, user, flow="give_me_money")
    card = portal(function, user, flow="update_card")["params"]["flow_data"]
    assert card == {"type": "payment_method_update", "after_completion": done}

    sync_subscription(worker, stripe_subscription_id="sub_of_another", stripe_customer_id="cus_2")
    with refused("TB047"):
        portal(function, user, flow="cancel")
    sync_subscription(worker)
    assert portal(function, user, flow="cancel")["params"]["flow_data"] == {
        "type": "subscription_cancel",
        "subscription_cancel": {"subscription": "sub_1"},
        "after_completion": done,
    }
    conn.execute("update billing.subscriptions set cancel_at_period_end = true")
    with refused("TB047"):
        portal(function, user, flow="cancel")
    update = portal(function, user, flow="update_plan")["params"]["flow_data"]
    assert update["subscription_update"] == {"subscription": "sub_1"}


def test_whoever_bought_through_a_payment_link_can_cancel_it(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    link(app, account_of(conn, user))
    sync_subscription(worker, stripe_subscription_id="sub_link", stripe_customer_id="cus_link")
    call(app, "merge_customer", stripe_customer_id="cus_link", duplicate_of="cus_1")
    with refused("TB045"):
        prepare(function, user)
    for flow, type_ in (("cancel", "subscription_cancel"), ("update_plan", "subscription_update")):
        params = portal(function, user, flow=flow)["params"]
        assert (params["customer"], params["flow_data"][type_]) == ("cus_link", {"subscription": "sub_link"})
    for page in (None, "update_card"):
        assert portal(function, user, flow=page)["params"]["customer"] == "cus_link"

    # A second one, of the account's own customer: its pages come first, and each can be cancelled.
    items = [item(stripe_price_id="price_team")]
    sync_subscription(worker, stripe_subscription_id="sub_own", started_at=JANUARY - SECOND, items=items)
    assert portal(function, user)["params"]["customer"] == "cus_1"
    assert portal(function, user, flow="cancel")["params"]["customer"] == "cus_link"
    conn.execute(
        "update billing.subscriptions set cancel_at_period_end = true where stripe_subscription_id = 'sub_link'"
    )
    params = portal(function, user, flow="cancel")["params"]
    assert (params["customer"], params["flow_data"]["subscription_cancel"]) == (
        "cus_1",
        {"subscription": "sub_own"},
    )
    conn.execute("update billing.subscriptions set status = 'canceled'")
    assert portal(function, user)["params"]["customer"] == "cus_1"


@pytest.fixture
def left_behind(
    database: Database, conn: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    """A user who was deleted while their subscription goes on, came back, bought nothing and was deleted again."""
    sync_subscription(worker)
    for user_id, customer_id in ((user, "cus_1"), (None, "cus_3")):
        again = user_id or create_user(database, "ada@example.com")
        link(app, account_of(conn, again), customer_id)
        call(
            worker,
            "sync_customer",
            stripe_customer_id=customer_id,
            livemode=False,
            email="Ada@Example.com",
            name=None,
            is_deleted=False,
            as_of=FEBRUARY,
        )
        conn.execute("delete from auth.users where id = %s", [again])


@pytest.mark.usefixtures("left_behind")
def test_whoever_was_deleted_and_signs_up_again_can_cancel_what_they_left_behind(
    database: Database, conn: Connection, function: Connection, app: Connection
) -> None:
    stranger = create_user(database, "eve@example.com")
    with refused("TB046"):
        portal(function, stranger)
    again = create_user(database, "ada@example.com")
    assert portal(function, again)["params"]["customer"] == "cus_1"
    params = portal(function, again, flow="cancel")["params"]
    assert params["flow_data"]["subscription_cancel"] == {"subscription": "sub_1"}

    # A customer of their own changes nothing of that, until the subscription has ended.
    link(app, account_of(conn, again), "cus_2")
    assert portal(function, again)["params"]["customer"] == "cus_1"
    conn.execute("update billing.subscriptions set status = 'canceled'")
    assert portal(function, again)["params"]["customer"] == "cus_2"


@pytest.mark.usefixtures("left_behind")
@pytest.mark.parametrize(
    "unconfirmed", ["email_confirmed_at = null", "confirmation_sent_at = null", "email = 'eve@example.com'"]
)
def test_an_address_that_no_message_confirmed_opens_nobody_s_portal(
    database: Database, admin: Connection, function: Connection, unconfirmed: str
) -> None:
    again = create_user(database, "ada@example.com")
    admin.execute(f"update auth.users set {unconfirmed} where id = %s".encode(), [again])
    with refused("TB046"):
        portal(function, again)


@pytest.mark.usefixtures("left_behind")
def test_a_stranger_who_paid_for_an_account_that_was_left_behind_gets_no_portal_of_its_customer(
    database: Database, conn: Connection, function: Connection, app: Connection
) -> None:
    call(app, "merge_customer", stripe_customer_id="cus_link", duplicate_of="cus_1")
    conn.execute(
        "update billing.customers set email = 'eve@example.com' where stripe_customer_id = 'cus_link'"
    )
    with refused("TB046"):
        portal(function, create_user(database, "eve@example.com"))


def test_nobody_gets_the_portal_of_an_account_that_has_a_user(
    database: Database,
    conn: Connection,
    function: Connection,
    app: Connection,
    worker: Connection,
    user: UUID,
) -> None:
    link(app, account_of(conn, user))
    sync_subscription(worker)
    # An address that Stripe was told is no proof against its owner.
    conn.execute("update billing.customers set email = 'eve@example.com'")
    with refused("TB046"):
        portal(function, create_user(database, "eve@example.com"))


@pytest.mark.parametrize("role", ["service_role", "billing_worker", "billing_receiver"])
def test_only_the_function_prepares(database: Database, conn: Connection, user: UUID, role: str) -> None:
    with database.connect(role) as connection:
        for call in (prepare, portal):
            with refused("42501"):
                call(connection, user)


def test_users_prepare_nothing_for_others_and_read_no_claims(conn: Connection, user: UUID) -> None:
    with refused("42501"), as_user(conn, user):
        prepare(conn, user)
    for table in ("customer_claims", "checkout_requests"):
        with refused("42501"), as_user(conn, user):
            conn.execute(f"select * from billing.{table}".encode())


def test_the_function_reads_and_writes_no_table(function: Connection) -> None:
    for table in ("settings", "accounts", "customers", "plans", "customer_claims", "checkout_requests"):
        with refused("42501"):
            function.execute(f"select * from billing.{table}".encode())
    with refused("42501"):
        link(function, uuid4())


def test_item_of_a_price_that_is_no_plan_counts_by_its_product(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    link(app, account_of(conn, user))
    sync_subscription(worker, items=[item(stripe_price_id="price_grandfathered")])
    with refused("TB045"):
        prepare(function, user)
