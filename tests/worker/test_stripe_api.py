"""What Stripe or the transport raises → one value for every caller, and one line for a log or a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
import stripe

from tests.stripe_local.conftest import KEY, Local, _serve
from worker.stripe_api import (
    KeyRefused,
    KeyUnknown,
    NoStripeKey,
    NotFound,
    Refused,
    Retry,
    StripeAccess,
    Trouble,
    is_replayed,
    key_of_step,
    trouble_of,
)

CASES: list[tuple[Exception, Trouble]] = [
    (NoStripeKey(), KeyRefused("NoStripeKey", str(NoStripeKey()))),
    (stripe.AuthenticationError("no such key"), KeyRefused("AuthenticationError", "no such key")),
    (stripe.PermissionError("may not"), KeyRefused("PermissionError", "may not", is_known=True)),
    (stripe.RateLimitError("slow down"), Retry("RateLimitError", "slow down")),
    (stripe.IdempotencyError("other\nparameters"), Retry("IdempotencyError", "other parameters")),
    (
        stripe.InvalidRequestError("no such thing", None, "resource_missing", http_status=404),
        NotFound("InvalidRequestError", "no such thing", "resource_missing"),
    ),
    (
        stripe.InvalidRequestError("no such customer", "customer", "resource_missing", http_status=400),
        NotFound("InvalidRequestError", "no such customer", "resource_missing"),
    ),
    (
        stripe.InvalidRequestError("too small", "amount", "amount_too_small", http_status=400),
        Refused("InvalidRequestError", "too small", "amount_too_small"),
    ),
    (stripe.APIError("oops"), Retry("APIError", "oops", is_in_doubt=True)),
    (stripe.APIConnectionError("gone"), Retry("APIConnectionError", "gone", is_in_doubt=True)),
    (ValueError("<html>"), Retry("ValueError", "<html>", is_in_doubt=True)),
]


@pytest.mark.parametrize(("error", "expected"), CASES, ids=lambda it: type(it).__name__)
def test_each_error_is_one_value(error: Exception, expected: Trouble) -> None:
    found = trouble_of(error, is_our_key=True)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(("error", "expected"), CASES, ids=lambda it: type(it).__name__)
def test_what_is_missing_is_not_believed_to_a_key_that_may_be_of_another_account(
    error: Exception, expected: Trouble
) -> None:
    found = trouble_of(error, is_our_key=False)
    if isinstance(expected, NotFound):
        assert found == KeyUnknown(expected.error, expected.text, expected.code)
    else:
        assert found == expected
    assert not isinstance(found, NotFound)


def test_every_trouble_is_one_line_that_says_what_to_do() -> None:
    assert str(KeyRefused("PermissionError", "may not")) == (
        "PermissionError: may not (check STRIPE_API_KEY and its permissions)"
    )
    assert str(KeyUnknown("InvalidRequestError", "no such thing")) == (
        "InvalidRequestError: no such thing (the Stripe account of STRIPE_API_KEY is not known yet)"
    )
    assert str(Retry("APIError", "oops")) == "APIError: oops"
    assert "\n" not in str(trouble_of(stripe.APIError("one\ntwo"), is_our_key=True))


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


def found(stripe_access: StripeAccess) -> Trouble | None:
    try:
        stripe_access.v1.customers.retrieve("cus_gone")
    except Exception as error:
        return stripe_access.trouble_of(error)
    return None


def test_what_the_local_stripe_answers_is_classified(local: Local) -> None:
    is_ours = False
    access = StripeAccess(KEY, local.url, lambda: is_ours)
    assert isinstance(found(access), KeyUnknown)
    is_ours = True
    assert isinstance(found(access), NotFound)
    assert isinstance(found(StripeAccess("nonsense", local.url)), KeyRefused)
    assert isinstance(found(StripeAccess(None, local.url)), KeyRefused)
    nobody = found(StripeAccess(KEY, "http://127.0.0.1:1", timeout_seconds=0.3))
    assert isinstance(nobody, Retry)
    assert nobody.is_in_doubt
    local.world.faults.set({"api": {"429": 1}})
    busy = found(access)
    assert isinstance(busy, Retry)
    assert not busy.is_in_doubt


def test_a_kept_answer_is_known_whatever_the_case_of_its_header() -> None:
    assert is_replayed({"Idempotent-Replayed": "true"})
    assert is_replayed({"idempotent-replayed": "True"})
    assert not is_replayed({"idempotent-replayed": "false"})
    assert not is_replayed(None)


def test_a_step_has_the_same_key_each_time_and_another_step_another() -> None:
    key = UUID(int=1)
    assert key_of_step(key, "a") == key_of_step(key, "a") != key_of_step(key, "b")
