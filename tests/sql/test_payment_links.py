"""Payment Links in SQL: one for each price and options, references that only we can sign, links that end."""

import hashlib
import hmac
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import (
    JANUARY,
    SECOND,
    Connection,
    Row,
    answer,
    begin_jobs,
    call,
    fetch,
    fetch_one,
    link,
    make_jobs_due,
    refused,
    sync_checkout_session,
    sync_price,
    sync_product,
    sync_subscription,
    value,
)
from tests.sql.races import at_once, blocked
from tests.sql.steps import FAILURES, NOT_FOUND, body, bring, failure
from tests.support import Database, account_of, as_role, as_user, create_user

SITE = "https://app.example.com"
URL = "https://buy.stripe.com/1"
DAY = timedelta(days=1)
LATER = {"as_of": JANUARY + SECOND}


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
    """A site, two plans of two products, and a pack."""
    conn.execute("update billing.settings set site_url = %s", [SITE])
    sync_product(worker)
    sync_product(worker, stripe_product_id="prod_2", name="Team")
    sync_price(worker, lookup_key="pro")
    sync_price(worker, stripe_price_id="price_team", stripe_product_id="prod_2")
    pack = {"type": "one_time", "lookup_key": "pack_100", "metadata": {"pack_credits": "100"}}
    sync_price(worker, stripe_price_id="price_pack", **pack)


def prepare(function: Connection, user_id: UUID, **more: Any) -> Row:
    prepared = answer(
        function, "prepare_payment_links", user_id=user_id, **{"plan": None, "pack": None} | more
    )
    return prepared | {"links": [{"name": link["name"]} | told(link["step"]) for link in prepared["links"]]}


def told(step: Row) -> Row:
    """What a step is about: the URL to hand out, the link to ask about, or how it is made and looked for first."""
    if "calls" not in step:
        return {"step": step, **step["done"]}
    *lookup, call = step["calls"]
    if "check" in step["state"]:
        assert (call["method"], call["path"]) == ("get", f"/v1/payment_links/{step['state']['check']}")
        return {"step": step, "check": step["state"]["check"]}
    return {
        "step": step,
        "token": step["state"]["token"],
        "params": call["params"],
        "idempotency_key": call["idempotency_key"],
        "lookup": lookup[0]["params"] if lookup else None,
    }


def pro(function: Connection, user_id: UUID) -> Row:
    """What is to be done for the link of the plan pro."""
    [prepared] = prepare(function, user_id, plan="pro")["links"]
    return prepared


def go_on(function: Connection, step: Row, *answers: Row) -> Row:
    return bring(function, step, "continue_payment_link", *answers)


def note(function: Connection, claim: Row, stripe_id: str = "plink_1", url: str = URL) -> str | None:
    """Stripe made it → the URL to hand out."""
    step = go_on(function, claim["step"], body(id=stripe_id, url=url))
    assert "done" in step or step["refused"]["code"] == "TB064"
    return step["done"]["url"] if "done" in step else None


def replace(function: Connection) -> Row:
    """Stripe says that the link of pro is not active → what is to be done for another."""
    state = {"check": "plink_1", "name": "pro"}
    return told(go_on(function, {"state": state, "calls": [{}]}, body(active=False)))


def give_up(function: Connection, claim: Row) -> None:
    """Stripe fails, and will go on failing under that key."""
    step = go_on(function, claim["step"], failure(500, claim["idempotency_key"]))
    assert step["refused"]["code"] == "TB062"


def tell(worker: Connection, **more: Any) -> str:
    told: Row = {
        "stripe_payment_link_id": "plink_1", "livemode": False, "active": True, "url": URL, "token": None,
    }  # fmt: skip
    return answer(worker, "sync_payment_link", **told | more)


def links(conn: Connection) -> list[tuple[Any, ...]]:
    """(id in Stripe, active, why not, is to be deactivated, is deactivated), in the order of their making."""
    return conn.execute(
        "select stripe_payment_link_id, active, retired_reason, deactivate_at is not null, "
        "deactivated_at is not null from billing.payment_links order by created_at, active"
    ).fetchall()


def claim(conn: Connection, options: Any = None, **more: Any) -> Row:
    """As the owner of the database, with options."""
    arguments: Row = {"plan": "pro", "pack": None, "options": Jsonb({} if options is None else options)}
    return told(answer(conn, "claim_payment_link", **arguments | more))


def test_links_that_stripe_is_asked_for_are_few(conn: Connection, function: Connection, user: UUID) -> None:
    """Stripe fails, and each click has a key of its own."""
    for _ in range(30):
        give_up(function, pro(function, user))
    with refused("TB049"):
        pro(function, user)
    conn.execute("update billing.stripe_requests set requested_at = now() - interval '11 minutes'")
    for _ in range(40):
        made = pro(function, user)
    note(function, made)
    for _ in range(40):
        assert pro(function, user)["url"] == URL
    assert value(conn, "select count(*) from billing.stripe_requests") == 1


# One link


def test_a_link_is_made_with_the_price_and_the_owner_s_settings(
    conn: Connection, function: Connection, user: UUID
) -> None:
    prepared = prepare(function, user, plan="pro")
    [made] = prepared["links"]
    assert made["params"] == {
        "line_items": [{"price": "price_1", "quantity": 1}],
        "allow_promotion_codes": True,
        "billing_address_collection": "auto",
        "metadata": {"tillbase_link": made["token"]},
    }
    assert (made["step"]["livemode"], made["name"], made["lookup"]) == (False, "pro", None)
    row = fetch_one(
        conn, "select stripe_price_id, livemode, options, params_hash, params from billing.payment_links"
    )
    assert (row["stripe_price_id"], row["livemode"]) == ("price_1", False)
    assert row["options"] == {"allow_promotion_codes": True, "billing_address_collection": "auto"}
    canonical = value(conn, "select params::text from billing.payment_links")
    assert bytes(row["params_hash"]) == hashlib.sha256(canonical.encode()).digest()


def test_a_pack_s_link_makes_a_customer_and_its_own_price(function: Connection, user: UUID) -> None:
    [made] = prepare(function, user, pack="pack_100")["links"]
    assert made["params"]["customer_creation"] == "always"
    assert made["params"]["line_items"] == [{"price": "price_pack", "quantity": 1}]


def test_whoever_asks_gets_the_same_link_until_it_is_noted_and_after(
    database: Database, conn: Connection, function: Connection, user: UUID
) -> None:
    other = create_user(database)
    first = pro(function, user)
    assert pro(function, other) == first
    assert note(function, first) == URL
    for who in (user, other):
        assert pro(function, who)["step"] == {"done": {"url": URL}}
    assert len(links(conn)) == 1
    conn.execute("update billing.payment_links set confirmed_at = now() - interval '11 seconds'")
    due = pro(function, user)
    assert due["check"] == "plink_1"
    for _ in range(2):
        assert go_on(function, due["step"], body(active=True)) == {"done": {"url": URL}}
    assert pro(function, user)["url"] == URL


def test_fifty_at_once_are_one_row_and_one_key(database: Database, conn: Connection, user: UUID) -> None:
    connections = [database.connect("billing_checkout") for _ in range(50)]
    single = at_once([lambda c=c: pro(c, user) for c in connections])
    everything = at_once([lambda c=c: prepare(c, user)["links"] for c in connections])
    for connection in connections:
        connection.close()
    assert all(answer == single[0] for answer in single)
    assert isinstance(single[0], dict)
    assert all(answer == everything[0] for answer in everything)
    assert value(conn, "select count(*) from billing.payment_links") == 2


def test_options_are_stripe_s_and_each_set_of_them_is_a_link(conn: Connection) -> None:
    field = {"key": "vat", "label": {"type": "custom", "custom": "VAT"}, "type": "text"}
    plain, taxed = claim(conn), claim(conn, {"automatic_tax": {"enabled": True}})
    asked = claim(conn, {"custom_fields": [field], "allow_promotion_codes": False})
    assert len({made["token"] for made in (plain, taxed, asked)}) == 3
    assert taxed["params"]["automatic_tax"] == {"enabled": True}
    assert (asked["params"]["custom_fields"], asked["params"]["allow_promotion_codes"]) == ([field], False)
    # The same said in another order, or said though it is the setting anyway, is the same link.
    assert claim(conn, {"allow_promotion_codes": False, "custom_fields": [field]}) == asked
    assert claim(conn, {"allow_promotion_codes": True}) == plain
    conn.execute(
        "update billing.settings set automatic_tax = true, collect_tax_ids = true, payment_link_options = %s",
        [Jsonb({"submit_type": "subscribe"})],
    )
    params = claim(conn)["params"]
    assert (params["automatic_tax"], params["tax_id_collection"]) == ({"enabled": True}, {"enabled": True})
    assert params["submit_type"] == "subscribe"
    assert "automatic_tax" in claim(conn, {"custom_fields": [field]})["params"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        "x",
        {"line_items": [{"price": "price_free", "quantity": 1}]},
        {"metadata": {"tillbase_link": "x"}},
        {"subscription_data": {"trial_period_days": 365}},
        {"branding_settings": {"display_name": "x"}},
        {"custom_fields": [], "price": "x"},
    ],
    ids=str,
)
def test_what_is_no_option_is_refused(conn: Connection, options: Any) -> None:
    with refused("TB061"):
        claim(conn, options)
    with refused("23514"):
        conn.execute("update billing.settings set payment_link_options = %s", [Jsonb(options)])
    assert links(conn) == []


def test_after_paying_nobody_is_sent_elsewhere(conn: Connection) -> None:
    def redirect(url: str) -> dict[str, Any]:
        return {"after_completion": {"type": "redirect", "redirect": {"url": url}}}

    with refused("TB044"):
        claim(conn, redirect("https://evil.example/"))
    conn.execute(
        "update billing.settings set payment_link_options = %s", [Jsonb(redirect("https://evil.example"))]
    )
    with refused("TB044"):
        claim(conn)
    assert claim(conn, redirect(f"{SITE}/thanks?s={{CHECKOUT_SESSION_ID}}"))
    assert claim(conn, {"after_completion": {"type": "hosted_confirmation"}})


def test_a_key_that_failed_or_is_old_is_another_one_and_looks_first(
    conn: Connection, function: Connection, user: UUID
) -> None:
    first = pro(function, user)
    for _ in range(2):  # many clicks that failed together give up one key
        give_up(function, first)
    second = pro(function, user)
    assert second["idempotency_key"] != first["idempotency_key"]
    assert (second["token"], second["lookup"]) == (first["token"], {"active": True, "limit": 100})
    assert pro(function, user) == second
    conn.execute("update billing.payment_links set keyed_at = now() - interval '1 day', may_exist = false")
    third = pro(function, user)
    assert third["idempotency_key"] != second["idempotency_key"]
    assert third["lookup"] is not None
    note(function, third)
    give_up(function, third)
    assert pro(function, user)["url"] == URL


def test_of_two_links_for_one_row_one_stands_and_the_other_is_deactivated(
    conn: Connection, function: Connection, user: UUID
) -> None:
    claimed = pro(function, user)
    assert note(function, claimed) == URL
    assert note(function, claimed) == URL
    for _ in range(2):
        assert note(function, claimed, "plink_2", "https://buy.stripe.com/2") == URL
    assert sorted(links(conn)) == [
        ("plink_1", True, None, False, False),
        ("plink_2", False, "duplicate", True, False),
    ]


def test_what_may_have_been_made_is_looked_for_by_the_row_s_id(
    conn: Connection, function: Connection, user: UUID
) -> None:
    give_up(function, pro(function, user))
    claimed = pro(function, user)
    look, make = claimed["step"]["calls"]
    assert (look["path"], look["find"]) == ("/v1/payment_links", {"tillbase_link": claimed["token"]})
    assert make["path"] == look["path"]
    assert look["keep"] == make["keep"] == ["id", "url"]
    for answers in ([body(id="plink_1", url=URL)], [NOT_FOUND, body(id="plink_1", url=URL)]):
        assert go_on(function, claimed["step"], *answers) == {"done": {"url": URL}}
    assert links(conn) == [("plink_1", True, None, False, False)]


@pytest.mark.parametrize(("error", "code", "is_kept"), FAILURES, ids=str)
def test_a_failure_is_told_apart_and_a_key_is_given_up_exactly_when_stripe_keeps_it(
    function: Connection, user: UUID, error: Row, code: str, is_kept: bool
) -> None:
    claimed = pro(function, user)
    key = claimed["idempotency_key"]
    refusal = go_on(function, claimed["step"], failure(key=key, message="as Stripe says", **error))["refused"]
    assert (refusal["code"], "as Stripe says" in refusal["message"]) == (code, True)
    assert (pro(function, user)["idempotency_key"] != key) == is_kept


@pytest.mark.parametrize(("error", "code", "_"), FAILURES, ids=str)
def test_a_link_is_kept_unless_stripe_says_that_it_is_gone(
    conn: Connection, function: Connection, user: UUID, error: Row, code: str, _: bool
) -> None:
    note(function, pro(function, user))
    conn.execute("update billing.payment_links set confirmed_at = now() - interval '11 seconds'")
    due = pro(function, user)
    step = go_on(function, due["step"], failure(**error))
    if error["status"] == 404:
        assert {"name": "pro"} | told(step) == pro(function, user)
        assert "token" in told(step)
    else:
        assert step["refused"]["code"] == code
        assert pro(function, user) == due


def test_a_link_that_ended_while_stripe_was_asked_about_it_is_not_handed_out(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    note(function, pro(function, user))
    conn.execute("update billing.payment_links set confirmed_at = now() - interval '11 seconds'")
    due = pro(function, user)
    sync_price(worker, active=False, **LATER)
    assert go_on(function, due["step"], body(active=True))["refused"]["code"] == "TB064"


# Who gets links, and of what


def test_only_what_is_on_sale_has_a_link(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, stripe_price_id="price_old", lookup_key="old", active=False)
    sync_price(worker, stripe_price_id="price_live", lookup_key="live", livemode=True)
    sync_price(worker, stripe_price_id="price_metered", lookup_key="metered", usage_type="metered")
    for plan in ("nothing", "price_unknown", "old", "live", "pack_100", "metered", ""):
        with refused("TB042"):
            prepare(function, user, plan=plan)
    with refused("TB042"):
        prepare(function, user, pack="pro")
    with refused("TB048"):
        prepare(function, user, plan="pro", pack="pack_100")
    assert links(conn) == []


def test_a_free_plan_has_no_link(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, stripe_price_id="price_free", lookup_key="free", unit_amount=0)
    with refused("TB042"):
        prepare(function, user, plan="free")
    with refused("TB042"):
        claim(conn, plan="free")
    assert [made["name"] for made in prepare(function, user)["links"]] == ["price_team", "pro"]


def test_without_a_plan_all_plans_on_sale_have_one_by_their_names(
    function: Connection, worker: Connection, user: UUID
) -> None:
    sync_price(worker, stripe_price_id="price_old", active=False)
    sync_product(worker, stripe_product_id="prod_gone", active=False)
    sync_price(worker, stripe_price_id="price_gone", stripe_product_id="prod_gone")
    sync_price(worker, stripe_price_id="price_metered", usage_type="metered")
    # The key moved in Stripe, and the old price's event has not come yet.
    sync_price(worker, stripe_price_id="price_2", lookup_key="pro", unit_amount=2500, as_of=JANUARY + SECOND)
    prepared = prepare(function, user)["links"]
    assert [(made["name"], made["params"]["line_items"][0]["price"]) for made in prepared] == [
        ("price_team", "price_team"),
        ("pro", "price_2"),
    ]


def test_seats_are_as_few_as_the_plan_allows(conn: Connection, function: Connection, user: UUID) -> None:
    conn.execute("update billing.plans set seats_min = 3 where lookup_key = 'pro'")
    assert pro(function, user)["params"]["line_items"] == [{"price": "price_1", "quantity": 3}]


def test_subscribers_get_no_link_for_one_too_many(
    conn: Connection, function: Connection, app: Connection, worker: Connection, user: UUID
) -> None:
    link(app, account_of(conn, user))
    sync_subscription(worker)
    with refused("TB045"):
        prepare(function, user, plan="pro")
    assert [made["name"] for made in prepare(function, user)["links"]] == ["price_team"]
    assert prepare(function, user, pack="pack_100")["links"]


def test_frozen_and_closed_accounts_and_users_who_are_gone_get_none(
    conn: Connection, function: Connection, user: UUID
) -> None:
    with refused("TB040"):
        prepare(function, uuid4())
    conn.execute("update billing.accounts set frozen_at = now(), frozen_reason = 'fraud'")
    for wish in ({"plan": "pro"}, {"pack": "pack_100"}, {}):
        with refused("TB003"):
            prepare(function, user, **wish)
    conn.execute("update billing.accounts set frozen_at = null, frozen_reason = null, closed_at = now()")
    with refused("TB008"):
        prepare(function, user)
    assert links(conn) == []


def test_another_s_account_is_refused_and_one_s_team_is_named(
    database: Database, conn: Connection, function: Connection, user: UUID
) -> None:
    others = account_of(conn, create_user(database))
    with refused("TB041"):
        prepare(function, user, account_id=others)
    team = value(conn, "insert into billing.accounts (kind) values ('team') returning id")
    conn.execute("insert into billing.account_members values (%s, %s, 'admin')", [team, user])
    reference = prepare(function, user, account_id=team)["reference"]
    assert read(conn, reference) == (team, None)


# References


def sign(conn: Connection, account_id: UUID, **more: Any) -> str:
    return answer(conn, "payment_reference", account_id=account_id, **more)


def read(
    conn: Connection, reference: str | None, livemode: bool = False, used_at: Any = "now"
) -> tuple[Any, Any]:
    row = conn.execute(
        "select account_id, refusal from billing._read_reference(%s, %s, %s)", [reference, livemode, used_at]
    ).fetchone()
    assert row is not None
    return row[0] if row[1] is None else None, row[1]


def secret(conn: Connection) -> bytes:
    return bytes(value(conn, "select secret from billing.payment_reference_keys order by id desc limit 1"))


def test_hmac_is_that_of_everybody_else(conn: Connection) -> None:
    for key in (bytes(64), bytes(range(64)), b"\xff" * 64, secret(conn)):
        for message in ("", "a", "tb1_t_1", "x" * 1000, "ü"):
            mine = value(conn, "select billing._hmac_sha256(%s, %s)", [key, message])
            assert bytes(mine) == hmac.digest(key, message.encode(), "sha256")


def test_a_reference_is_what_stripe_takes_and_names_its_account(conn: Connection, account: UUID) -> None:
    reference = sign(conn, account)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,200}", reference)
    signed, _, mac = reference.rpartition("_")
    assert mac == hmac.new(secret(conn), signed.encode(), "sha256").hexdigest()
    assert read(conn, reference) == (account, None)


def test_a_reference_is_good_until_it_expires_by_when_it_was_used(conn: Connection, account: UUID) -> None:
    now = value(conn, "select now()")
    reference = sign(conn, account, expires_in="1 hour")
    for used_at, refusal in (
        (now - DAY, None), (now + timedelta(minutes=59), None),
        (now + timedelta(minutes=61), "expired"), (None, "expired"),
    ):  # fmt: skip
        assert read(conn, reference, used_at=used_at)[1] == refusal
    conn.execute("update billing.settings set payment_reference_lifetime = '2 hours'")
    assert read(conn, sign(conn, account), used_at=now + timedelta(minutes=119))[1] is None
    assert read(conn, sign(conn, account), used_at=now + timedelta(minutes=121))[1] == "expired"
    for wrong in ("0", "59 seconds", "-1 day", "2 years"):
        with refused("TB060"):
            sign(conn, account, expires_in=wrong)
    with refused("TB004"):
        sign(conn, uuid4())


def test_nothing_but_what_we_signed_names_an_account(
    database: Database, conn: Connection, account: UUID
) -> None:
    good = sign(conn, account)
    other = account_of(conn, create_user(database))
    prefix, mode, key, _, expiry, mac = good.split("_")
    hexed = other.hex
    forged = {
        "missing": None,
        "an account": str(other),
        "empty": "",
        "another account": f"{prefix}_{mode}_{key}_{hexed}_{expiry}_{mac}",
        "a later expiry": f"{prefix}_{mode}_{key}_{account.hex}_{int(expiry) + 1}_{mac}",
        "another mode": f"{prefix}_l_{key}_{account.hex}_{expiry}_{mac}",
        "another key": f"{prefix}_{mode}_9_{account.hex}_{expiry}_{mac}",
        "a key of zeros": _with_mac(f"{prefix}_{mode}_{key}_{hexed}_{expiry}", bytes(64)),
        "no mac": f"{prefix}_{mode}_{key}_{account.hex}_{expiry}_",
        "half a mac": good[:-32],
        "upper case": good.upper(),
        "with a tail": f"{good}_x",
        "with a line": f"{good}\n",
        "nobody's account": _with_mac(f"{prefix}_{mode}_{key}_{uuid4().hex}_{expiry}", secret(conn)),
    }
    for name, reference in forged.items():
        assert read(conn, reference)[1] in {"missing", "unsigned", "forged"}, name
    assert read(conn, good, livemode=True) == (None, "other_mode")


def _with_mac(signed: str, key: bytes) -> str:
    return f"{signed}_{hmac.new(key, signed.encode(), 'sha256').hexdigest()}"


def test_a_new_key_signs_and_old_references_are_good_until_theirs_is_deleted(
    conn: Connection, account: UUID
) -> None:
    old = sign(conn, account)
    conn.execute("insert into billing.payment_reference_keys default values")
    new = sign(conn, account)
    assert (read(conn, old), read(conn, new)) == ((account, None), (account, None))
    assert value(conn, "select count(distinct secret) from billing.payment_reference_keys") == 2
    conn.execute(
        "delete from billing.payment_reference_keys where id = (select min(id) from billing.payment_reference_keys)"
    )
    assert (read(conn, old), read(conn, new)) == ((None, "forged"), (account, None))


@pytest.mark.parametrize(
    "role", ["anon", "authenticated", "service_role", "billing_checkout", "billing_worker"]
)
def test_no_role_reads_a_key_or_works_with_it(conn: Connection, user: UUID, role: str) -> None:
    for statement in (
        "select * from billing.payment_reference_keys",
        "select billing._hmac_sha256(''::bytea, '')",
        f"select billing._sign_reference('{uuid4()}', false, now())",
        "select billing._read_reference('x', false, now())",
    ):
        session = as_user(conn, user) if role == "authenticated" else as_role(conn, role)
        with refused("42501"), session:
            conn.execute(statement.encode())


# Attribution


def paid(worker: Connection, reference: str | None, **more: Any) -> str:
    told: Row = {
        "stripe_payment_link_id": "plink_1", "client_reference_id": reference,
        "opened_at": value(worker, "select now()"),
    }  # fmt: skip
    return sync_checkout_session(worker, **told | more)


def customers(conn: Connection) -> dict[str, tuple[Any, Any]]:
    rows = fetch(conn, "select stripe_customer_id, account_id, duplicate_of from billing.customers")
    return {row["stripe_customer_id"]: (row["account_id"], row["duplicate_of"]) for row in rows}


def test_a_signed_payment_links_its_customer_once(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    reference = sign(conn, account)
    for _ in range(2):
        paid(worker, reference)
    assert customers(conn) == {"cus_1": (account, None)}
    assert value(conn, "select account_id from billing.checkout_sessions") == account


def test_another_payment_of_an_account_is_merged_with_its_customer(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    reference = sign(conn, account)
    paid(worker, reference)
    second = {"stripe_checkout_session_id": "cs_2", "stripe_customer_id": "cus_2"}
    for _ in range(2):
        paid(worker, reference, **second)
    assert customers(conn) == {"cus_1": (account, None), "cus_2": (account, "cus_1")}


@pytest.mark.parametrize("kind", ["missing", "unsigned", "forged", "other_mode", "expired"])
def test_what_names_no_account_links_nobody_and_waits_with_the_reason(
    conn: Connection, app: Connection, worker: Connection, account: UUID, kind: str
) -> None:
    good = sign(conn, account)
    other_mode = value(conn, "select billing._sign_reference(%s, true, now() + interval '1 day')", [account])
    reference = {
        "missing": None, "unsigned": str(account), "forged": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "other_mode": other_mode, "expired": good,
    }[kind]  # fmt: skip
    opened_at = value(worker, "select now()") + (2 * DAY if kind == "expired" else timedelta())
    with refused("TB011") as error:
        paid(worker, reference, opened_at=opened_at)
    assert (error.value.diag.message_detail, f"is unusable: {kind}" in str(error.value)) == ("cus_1", True)
    assert customers(conn) == {}
    link(app, account)
    assert paid(worker, reference, opened_at=opened_at) == "applied"
    assert value(conn, "select account_id from billing.checkout_sessions") == account


def test_a_customer_never_moves_to_the_account_of_a_reference(
    database: Database, conn: Connection, app: Connection, worker: Connection, account: UUID
) -> None:
    victim = account_of(conn, create_user(database, "victim@example.com"))
    link(app, victim, "cus_victim")
    paid(worker, sign(conn, account), stripe_customer_id="cus_victim")
    assert customers(conn) == {"cus_victim": (victim, None)}
    assert value(conn, "select account_id from billing.checkout_sessions") == victim


def test_an_invalid_reference_of_a_linked_customer_is_no_news(
    conn: Connection, app: Connection, worker: Connection, account: UUID
) -> None:
    link(app, account)
    paid(worker, "whatever")
    assert customers(conn) == {"cus_1": (account, None)}


def test_only_sessions_of_payment_links_that_are_complete_are_attributed(
    conn: Connection, worker: Connection, account: UUID
) -> None:
    reference = sign(conn, account)
    paid(worker, reference, stripe_payment_link_id=None)
    second = {"stripe_checkout_session_id": "cs_2", "stripe_customer_id": "cus_2"}
    paid(worker, reference, status="expired", payment_status="unpaid", **second)
    assert {account_id for account_id, _ in customers(conn).values()} == {None}


def test_an_e_mail_address_links_nobody(
    database: Database, conn: Connection, worker: Connection, user: UUID
) -> None:
    answer(
        worker, "sync_customer", stripe_customer_id="cus_1", livemode=False, email="ada@example.com", name="Ada",
        is_deleted=False, as_of=JANUARY,
    )  # fmt: skip
    with refused("TB011"):
        paid(worker, None)
    assert customers(conn) == {"cus_1": (None, None)}


# Ends


@pytest.fixture
def made(function: Connection, user: UUID) -> Row:
    """The link of pro, in Stripe."""
    claimed = pro(function, user)
    note(function, claimed)
    return claimed


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ({"active": False}, True),
        ({"lookup_key": None}, True),
        ({"lookup_key": "pro_2025"}, True),
        ({"unit_amount": 2500}, True),
        ({"currency": "eur"}, True),
        ({"nickname": "Pro!"}, False),
        ({"metadata": {"monthly_credits": "5"}}, False),
    ],
    ids=str,
)
def test_a_price_that_changes_ends_its_links(
    conn: Connection, worker: Connection, made: Row, change: Row, ends: bool
) -> None:
    sync_price(worker, **{"lookup_key": "pro"} | change, **LATER)
    assert links(conn) == [
        ("plink_1", False, "price", True, False) if ends else ("plink_1", True, None, False, False)
    ]


def test_a_product_taken_off_sale_ends_the_links_of_its_prices(
    conn: Connection, function: Connection, worker: Connection, user: UUID, made: Row
) -> None:
    [team] = prepare(function, user, plan="price_team")["links"]
    note(function, team, "plink_team", "https://buy.stripe.com/team")
    [pack] = prepare(function, user, pack="pack_100")["links"]
    note(function, pack, "plink_pack", "https://buy.stripe.com/pack")
    sync_product(worker, name="Renamed", **LATER)
    assert all(row[1] for row in links(conn))
    sync_product(worker, active=False, as_of=JANUARY + 2 * SECOND)
    assert {row[0] for row in links(conn) if not row[1]} == {"plink_1", "plink_pack"}


def test_a_pack_that_is_archived_ends_its_links(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    [pack] = prepare(function, user, pack="pack_100")["links"]
    note(function, pack)
    told = {"type": "one_time", "lookup_key": "pack_100", "metadata": {"pack_credits": "100"}}
    sync_price(worker, stripe_price_id="price_pack", active=False, **told, **LATER)
    assert links(conn) == [("plink_1", False, "price", True, False)]


def test_a_new_price_of_the_name_has_a_link_of_its_own(
    conn: Connection, function: Connection, worker: Connection, user: UUID, made: Row
) -> None:
    sync_price(worker, lookup_key=None, active=False, **LATER)
    sync_price(worker, stripe_price_id="price_2", lookup_key="pro", unit_amount=2500)
    new = pro(function, user)
    assert new["token"] != made["token"]
    assert new["params"]["line_items"][0]["price"] == "price_2"


def test_a_link_in_the_making_whose_price_ended_is_not_handed_out(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    claimed = pro(function, user)
    sync_price(worker, active=False, **LATER)
    assert links(conn) == [(None, False, "price", False, False)]
    assert note(function, claimed) is None
    assert links(conn) == [("plink_1", False, "price", True, False)]


def test_a_link_that_is_gone_is_replaced_by_one(
    database: Database, conn: Connection, function: Connection, user: UUID, made: Row
) -> None:
    connections = [database.connect("billing_checkout") for _ in range(10)]
    news = at_once([lambda c=c: replace(c) for c in connections])
    for connection in connections:
        connection.close()
    assert all(new == news[0] for new in news)
    assert isinstance(news[0], dict)
    assert {"name": "pro"} | news[0] == pro(function, user)
    assert news[0]["params"]["line_items"] == made["params"]["line_items"]
    assert links(conn) == [("plink_1", False, "stripe", False, False), (None, True, None, False, False)]


def test_a_plan_that_ends_while_all_are_asked_for_is_left_out(
    database: Database, conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    prepare(function, user)
    with database.connect(autocommit=False) as other:
        other.execute("select from billing.payment_links where stripe_price_id = 'price_team' for update")
        with blocked(function, conn, lambda: prepare(function, user)) as asked:
            sync_price(worker, lookup_key="pro", active=False, **LATER)
            other.commit()
            assert [prepared["name"] for prepared in asked.result()["links"]] == ["price_team"]


def test_a_price_that_ended_before_its_link_was_claimed_has_none(
    database: Database, conn: Connection, function: Connection, user: UUID
) -> None:
    with database.connect(autocommit=False) as owner:
        owner.execute("update billing.plans set active = false")
        with blocked(function, conn, lambda: pro(function, user)) as asked:
            owner.commit()
            with refused("TB042"):
                asked.result()
    assert links(conn) == []


@pytest.mark.parametrize("ends", ["plan", "product", "pack"])
def test_a_price_that_ends_while_its_link_is_claimed_ends_that_too(
    database: Database, conn: Connection, user: UUID, ends: str
) -> None:
    table = {"plan": "plans", "product": "products", "pack": "credit_packs"}[ends]
    end = f"update billing.{table} set active = false".encode()
    with database.connect("billing_checkout", autocommit=False) as first, database.connect() as owner:
        wanted = {"pack": "pack_100"} if ends == "pack" else {"plan": "pro"}
        [claimed] = prepare(first, user, **wanted)["links"]
        with blocked(owner, conn, lambda: owner.execute(end)) as ending:
            first.commit()
            ending.result()
    assert links(conn) == [(None, False, "price", False, False)]
    with database.connect("billing_checkout") as function:
        assert note(function, claimed) is None


def test_a_link_that_is_gone_because_its_price_ended_is_not_made_again(
    conn: Connection, function: Connection, worker: Connection, user: UUID, made: Row
) -> None:
    sync_price(worker, stripe_price_id="price_new", lookup_key="pro", unit_amount=9900, as_of=JANUARY + DAY)
    sync_price(worker, **LATER)
    assert replace(function)["params"]["line_items"][0]["price"] == "price_new"
    sync_price(worker, stripe_price_id="price_new", lookup_key="pro", active=False, as_of=JANUARY + 2 * DAY)
    with refused("TB042"):
        replace(function)
    assert [row for row in links(conn) if row[1]] == []


@pytest.mark.parametrize("how", ["replaced", "retired"])
def test_whoever_waited_for_a_link_that_ended_meanwhile_gets_another(
    database: Database, conn: Connection, function: Connection, user: UUID, made: Row, how: str
) -> None:
    with database.connect(autocommit=False) as first:
        first.execute("select from billing.payment_links for update")
        with blocked(function, conn, lambda: pro(function, user)) as second:
            if how == "replaced":
                replace(first)
            else:
                fetch(first, "select * from billing.retire_payment_links('pro')")
            first.commit()
            assert second.result()["token"] != made["token"]
    assert pro(function, user) == second.result()


def test_stripe_tells_that_a_link_is_inactive_in_any_order(
    conn: Connection, function: Connection, worker: Connection, user: UUID, made: Row
) -> None:
    tell(worker)
    assert links(conn) == [("plink_1", True, None, False, False)]
    for active in (False, True, False):
        assert tell(worker, active=active, token=made["token"]) == "applied"
    assert links(conn) == [("plink_1", False, "stripe", False, True)]
    assert pro(function, user)["token"] != made["token"]


def test_stripe_s_events_bring_an_answer_that_was_lost(
    conn: Connection, function: Connection, worker: Connection, user: UUID
) -> None:
    claimed = pro(function, user)
    tell(worker, token=claimed["token"])
    assert pro(function, user)["url"] == URL
    tell(worker, stripe_payment_link_id="plink_2", url="https://buy.stripe.com/2", token=claimed["token"])
    assert sorted(links(conn))[1] == ("plink_2", False, "duplicate", True, False)


def test_links_of_others_are_left_alone(conn: Connection, worker: Connection, made: Row) -> None:
    for token in (None, uuid4()):
        for active in (True, False):
            tell(worker, stripe_payment_link_id="plink_9", active=active, token=token)
    tell(worker, stripe_payment_link_id="plink_9", livemode=True, token=made["token"])
    assert links(conn) == [("plink_1", True, None, False, False)]


def take(worker: Connection) -> list[Row]:
    return begin_jobs(worker, "begin_retired_links", "payment_link")


def attempts(conn: Connection) -> list[tuple[str, int]]:
    rows = fetch(conn, "select kind, attempts from billing.queued_jobs()")
    return [(row["kind"], row["attempts"]) for row in rows]


def record(worker: Connection, link: Row, retry_in_seconds: int | None, reason: str | None) -> None:
    told = {"msg_id": link["msg_id"], "link_id": link["id"], "retry_in_seconds": retry_in_seconds}
    call(worker, "record_retired_link", **told, reason=reason)


def test_a_retired_link_is_taken_by_one_worker_until_it_is_settled(
    database: Database, conn: Connection, worker: Connection, made: Row
) -> None:
    assert take(worker) == []
    sync_price(worker, active=False, **LATER)
    connections = [database.connect("billing_worker") for _ in range(5)]
    taken = at_once([lambda c=c: (c, take(c)) for c in connections])
    assert sorted(len(links) for _, links in taken) == [0, 0, 0, 0, 1]
    assert take(worker) == []
    [(holder, [link])] = [(c, links) for c, links in taken if links]
    record(worker, link, 0, "it is not in this worker's hands")
    assert value(conn, "select last_error from billing.payment_links") is None
    record(holder, link, 0, "Stripe is away")
    assert value(conn, "select last_error from billing.payment_links") == "Stripe is away"
    for connection in connections:
        connection.close()
    [link] = take(worker)
    assert (link["stripe_payment_link_id"], attempts(conn)) == ("plink_1", [("payment_link", 2)])
    record(worker, link, None, None)
    assert links(conn) == [("plink_1", False, "price", False, True)]
    record(worker, link, 0, "late")
    assert (take(worker), attempts(conn)) == ([], [])


def test_a_worker_that_died_leaves_its_links_to_others(
    conn: Connection, worker: Connection, made: Row
) -> None:
    sync_price(worker, active=False, **LATER)
    assert len(take(worker)) == 1
    make_jobs_due(conn)
    assert len(take(worker)) == 1
    assert attempts(conn) == [("payment_link", 2)]


def test_a_link_that_stripe_reported_as_inactive_meanwhile_is_no_job_any_more(
    conn: Connection, worker: Connection, made: Row
) -> None:
    sync_price(worker, active=False, **LATER)
    tell(worker, active=False)
    assert attempts(conn) == [("payment_link", 0)]
    assert (take(worker), attempts(conn)) == ([], [])


@pytest.mark.parametrize("name", ["plink_1", "price_1", "pro"])
def test_the_owner_retires_links_by_any_name(conn: Connection, made: Row, name: str) -> None:
    assert fetch(conn, "select * from billing.retire_payment_links('nothing')") == []
    rows = fetch(conn, "select * from billing.retire_payment_links(%s)", [name])
    assert [row["stripe_payment_link_id"] for row in rows] == ["plink_1"]
    assert links(conn) == [("plink_1", False, "caller", True, False)]
    assert fetch(conn, "select * from billing.retire_payment_links(%s)", [name]) == []
