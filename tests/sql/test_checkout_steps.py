"""What Stripe answers to a step of a checkout or of the portal → the next step, judged in SQL."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.sql.calls import Connection, Row, answer, fetch, link, sync_price, sync_product, value
from tests.sql.steps import FAILURES, NOT_FOUND, body, bring, calls_of, failure
from tests.sql.test_checkout_requests import SITE, at_session, go_on, opened
from tests.support import Database, account_of, create_user

SESSIONS = "/v1/checkout/sessions"
EXPIRED = body(status="expired")
NOT_OPEN = failure(400, type="invalid_request_error", message="only open sessions can be expired")


@pytest.fixture
def function(database: Database) -> Iterator[Connection]:
    """The edge function's own connection: `billing_checkout`."""
    with database.connect("billing_checkout") as connection:
        yield connection


@pytest.fixture
def user(database: Database) -> UUID:
    return create_user(database, "ada@example.com")


@pytest.fixture(autouse=True)
def shop(conn: Connection, worker: Connection) -> None:
    conn.execute("update billing.settings set site_url = %s", [SITE])
    sync_product(worker)
    sync_price(worker, lookup_key="pro_monthly")


def begin(function: Connection, user_id: UUID, quantity: int = 1) -> Row:
    """Another quantity is another request, which supersedes the one before."""
    return answer(
        function, "prepare_checkout", user_id=user_id, plan="pro_monthly", pack=None, quantity=quantity,
        success_url=None, cancel_url=None,
    )  # fmt: skip


def expirations(*session_ids: str) -> list[tuple[str, str]]:
    return [("post", f"{SESSIONS}/{session_id}/expire") for session_id in session_ids]


def requests(conn: Connection) -> list[tuple[Any, ...]]:
    """(session, is given up, is superseded, is expired), in the order of the clicks."""
    return conn.execute(
        "select stripe_checkout_session_id, discarded_at is not null, superseded_at is not null, "
        "expired_at is not null from billing.checkout_requests order by created_at"
    ).fetchall()


@pytest.fixture
def superseding(function: Connection, user: UUID) -> Row:
    """The step of a third click, which excludes two open sessions: cs_1 and cs_2."""
    first = at_session(function, begin(function, user, 1))
    second = at_session(function, begin(function, user, 2))
    third = begin(function, user, 3)
    for step, session_id in ((first, "cs_1"), (second, "cs_2")):
        go_on(function, step, opened(session_id))
    assert calls_of(third) == [("post", SESSIONS)], "their ids were not known yet"
    return begin(function, user, 3)


def test_a_first_checkout_makes_a_customer_links_it_and_opens_the_session(
    conn: Connection, function: Connection, user: UUID
) -> None:
    step = begin(function, user)
    [make] = step["calls"]
    [key] = fetch(conn, "select idempotency_key from billing.customer_claims")
    assert (make["method"], make["path"], make["keep"]) == ("post", "/v1/customers", ["id"])
    assert make["idempotency_key"] == key["idempotency_key"]
    assert (step["livemode"], make["params"]["email"]) == (False, "ada@example.com")

    step = go_on(function, step, body(id="cus_1"))
    [make] = step["calls"]
    [request] = fetch(conn, "select params, idempotency_key from billing.checkout_requests")
    assert make == {
        "method": "post", "path": SESSIONS, "params": request["params"] | {"customer": "cus_1"},
        "idempotency_key": request["idempotency_key"], "find": None, "keep": ["id", "url", "expires_at"],
    }  # fmt: skip
    linked = value(conn, "select stripe_customer_id from billing.customers where account_id is not null")
    assert linked == "cus_1"

    assert go_on(function, step, opened("cs_1")) == {"done": opened("cs_1")["body"]}
    assert requests(conn) == [("cs_1", False, False, False)]


def test_a_step_that_is_brought_again_is_the_same_step(
    conn: Connection, function: Connection, user: UUID
) -> None:
    first = begin(function, user)
    seconds = [go_on(function, first, body(id="cus_1")) for _ in range(2)]
    assert seconds[0] == seconds[1]
    thirds = [go_on(function, seconds[0], opened("cs_1")) for _ in range(2)]
    assert thirds[0] == thirds[1] == {"done": opened("cs_1")["body"]}
    assert requests(conn) == [("cs_1", False, False, False)]


def test_whose_answer_was_lost_asks_the_same_again(function: Connection, user: UUID) -> None:
    first = begin(function, user)
    assert begin(function, user) == first
    second = go_on(function, first, body(id="cus_1"))
    assert begin(function, user) == second


def test_a_customer_that_may_exist_is_looked_for_by_the_claim_s_token(
    function: Connection, user: UUID
) -> None:
    first = begin(function, user)
    go_on(function, first, failure(500, first["calls"][0]["idempotency_key"]))
    step = begin(function, user)
    assert calls_of(step) == [("get", "/v1/customers"), ("post", "/v1/customers")]
    look, make = step["calls"]
    assert look["params"] == {"email": "ada@example.com", "limit": 100}
    assert look["find"] == {"tillbase_claim": make["params"]["metadata"]["tillbase_claim"]}
    assert go_on(function, step, body(id="cus_ours"))["state"]["customer"] == "cus_ours"


def test_a_customer_that_is_not_found_is_made(function: Connection, user: UUID) -> None:
    first = begin(function, user)
    go_on(function, first, failure(500, first["calls"][0]["idempotency_key"]))
    step = go_on(function, begin(function, user), NOT_FOUND, body(id="cus_new"))
    assert step["state"]["customer"] == "cus_new"


@pytest.mark.parametrize("asked", ["customer", "session"])
@pytest.mark.parametrize(("error", "code", "is_kept"), FAILURES, ids=str)
def test_a_failure_is_told_apart_and_a_key_is_given_up_exactly_when_stripe_keeps_it(
    function: Connection, user: UUID, asked: str, error: Row, code: str, is_kept: bool
) -> None:
    step = begin(function, user)
    if asked == "session":
        step = at_session(function, step)
    key = step["calls"][-1]["idempotency_key"]
    refused = go_on(function, step, failure(key=key, message="as Stripe says", **error))["refused"]
    assert refused["code"] == code
    assert "as Stripe says" in refused["message"]
    assert refused["hint"]
    again = begin(function, user)
    assert again["state"]["asked"] == asked, "nothing was linked"
    assert (again["calls"][-1]["idempotency_key"] != key) == is_kept


def test_a_price_that_was_deleted_in_stripe_a_moment_ago_is_not_on_sale(
    function: Connection, user: UUID
) -> None:
    step = at_session(function, begin(function, user))
    missing = {"status": 400, "type": "invalid_request_error", "code": "resource_missing"}
    for param, code in (
        ("line_items[0][price]", "TB042"),
        ("customer", "TB063"),
        ("line_items[0][price_data]", "TB063"),
    ):
        assert go_on(function, step, failure(**missing, param=param))["refused"]["code"] == code


def test_sessions_that_are_excluded_are_expired_before_another_is_opened(
    conn: Connection, function: Connection, superseding: Row
) -> None:
    assert calls_of(superseding) == [*expirations("cs_1", "cs_2"), ("post", SESSIONS)]
    for _ in range(2):
        step = go_on(function, superseding, EXPIRED, EXPIRED, opened("cs_3"))
        assert step == {"done": opened("cs_3")["body"]}
    assert requests(conn) == [
        ("cs_1", True, True, True),
        ("cs_2", True, True, True),
        ("cs_3", False, False, False),
    ]


def test_what_was_expired_before_stripe_failed_is_not_expired_again(
    conn: Connection, function: Connection, user: UUID, superseding: Row
) -> None:
    away = failure(429)
    assert go_on(function, superseding, EXPIRED, away)["refused"]["code"] == "TB062"
    assert [expired for *_, expired in requests(conn)] == [True, False, False]
    step = begin(function, user, 3)
    assert calls_of(step) == [*expirations("cs_2"), ("post", SESSIONS)]
    assert step["calls"][-1] == superseding["calls"][-1]


def test_of_a_session_that_is_not_open_stripe_is_asked_how_it_ended(
    conn: Connection, function: Connection, superseding: Row
) -> None:
    step = go_on(function, superseding, EXPIRED, NOT_OPEN)
    assert calls_of(step) == [("get", f"{SESSIONS}/cs_2")]
    step = go_on(function, step, EXPIRED)
    assert calls_of(step) == [("post", SESSIONS)]
    assert step["calls"] == superseding["calls"][-1:]
    assert "done" in go_on(function, step, opened("cs_3"))
    assert [expired for *_, expired in requests(conn)] == [True, True, False]


def test_the_others_are_expired_when_the_first_had_ended(function: Connection, superseding: Row) -> None:
    step = go_on(function, go_on(function, superseding, NOT_OPEN), EXPIRED)
    assert calls_of(step) == [*expirations("cs_2"), ("post", SESSIONS)]


def test_nothing_is_opened_beside_a_session_that_was_paid(
    conn: Connection, function: Connection, superseding: Row
) -> None:
    step = go_on(function, superseding, NOT_OPEN)
    assert go_on(function, step, body(status="complete"))["refused"]["code"] == "TB045"
    assert [expired for *_, expired in requests(conn)] == [False, False, False]


@pytest.mark.parametrize(
    ("error", "code"),
    [({"status": 503}, "TB062"), ({"status": 403, "type": "invalid_request_error"}, "TB063")],
)
def test_nothing_is_opened_while_stripe_does_not_say_how_a_session_ended(
    function: Connection, superseding: Row, error: Row, code: str
) -> None:
    step = go_on(function, superseding, NOT_OPEN)
    assert go_on(function, step, failure(**error))["refused"]["code"] == code


def test_a_session_that_was_superseded_while_it_was_opened_is_expired_and_not_told(
    conn: Connection, function: Connection, user: UUID
) -> None:
    step = at_session(function, begin(function, user, 1))
    begin(function, user, 2)
    closing = go_on(function, step, opened("cs_1"))
    assert calls_of(closing) == expirations("cs_1")
    for _ in range(2):
        assert go_on(function, closing, EXPIRED)["refused"]["code"] == "TB064"
    assert requests(conn)[0] == ("cs_1", True, True, True)
    assert calls_of(begin(function, user, 2)) == [("post", SESSIONS)]


def test_a_session_that_was_superseded_and_cannot_be_expired_is_left_to_the_next_click(
    function: Connection, user: UUID
) -> None:
    step = at_session(function, begin(function, user, 1))
    begin(function, user, 2)
    closing = go_on(function, step, opened("cs_1"))
    assert go_on(function, closing, failure(None))["refused"]["code"] == "TB062"
    assert calls_of(begin(function, user, 2)) == [*expirations("cs_1"), ("post", SESSIONS)]


@pytest.mark.parametrize(("status", "code"), [("complete", "TB045"), ("expired", "TB064")])
def test_a_session_that_was_superseded_and_has_ended_says_how(
    function: Connection, user: UUID, status: str, code: str
) -> None:
    step = at_session(function, begin(function, user, 1))
    begin(function, user, 2)
    asked = go_on(function, go_on(function, step, opened("cs_1")), NOT_OPEN)
    assert calls_of(asked) == [("get", f"{SESSIONS}/cs_1")]
    assert go_on(function, asked, body(status=status))["refused"]["code"] == code


def test_a_state_that_names_no_row_changes_nothing(
    conn: Connection, function: Connection, user: UUID
) -> None:
    step = at_session(function, begin(function, user))
    before = requests(conn)
    for state in ({}, step["state"] | {"key": str(uuid4())}):
        with pytest.raises(psycopg.errors.NoDataFound):
            answer(function, "continue_checkout", state=Jsonb(state), answers=Jsonb([opened("cs_9")]))
    assert requests(conn) == before


# The portal


def portal(function: Connection, user_id: UUID) -> Row:
    return answer(function, "prepare_portal", user_id=user_id, return_url=None, flow=None)


def test_the_portal_is_one_step(conn: Connection, function: Connection, user: UUID) -> None:
    link(conn, account_of(conn, user))
    step = portal(function, user)
    assert (step["livemode"], step["is_last"]) == (False, True)
    assert calls_of(step) == [("post", "/v1/billing_portal/sessions")]


@pytest.mark.parametrize(("error", "code", "_"), FAILURES, ids=str)
def test_a_failure_of_the_portal_is_told_apart(
    conn: Connection, function: Connection, user: UUID, error: Row, code: str, _: bool
) -> None:
    link(conn, account_of(conn, user))
    refused = bring(function, portal(function, user), "continue_portal", failure(**error))["refused"]
    assert refused["code"] == code
