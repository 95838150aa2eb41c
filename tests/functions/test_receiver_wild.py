"""Deliveries that Stripe never makes: each is stored as it came or refused, and the receiver goes on."""

import hmac
import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functions.support import SECRET, deliver, event, post, receiver, sign, stored
from tests.support import Database
from tests.worker.mutations import mutated

WILD = settings(
    max_examples=80, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture
def url(database: Database, tmp_path: Path) -> Iterator[str]:
    with receiver(database.url, tmp_path) as url:
        yield url


def signed(body: bytes) -> str:
    now = int(time.time())
    return f"t={now},v1={hmac.new(SECRET.encode(), f'{now}.'.encode() + body, sha256).hexdigest()}"


@WILD
@given(data=st.data())
def test_a_signed_body_is_stored_byte_for_byte_or_refused(
    database: Database, url: str, data: st.DataObject
) -> None:
    wild: dict[str, Any] = data.draw(mutated(event()))
    body = json.dumps(wild, ensure_ascii=data.draw(st.booleans()))
    answer = deliver(url, body)
    with database.connect(admin=True) as connection:
        kept = {payload for _, _, payload in stored(connection)}
    if answer.status == 200:
        assert body in kept or answer.body == {"received": "duplicate"}
    else:
        assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_event")
        assert body not in kept


@WILD
@given(body=st.binary(max_size=200))
def test_signed_bytes_that_are_no_event_are_refused(database: Database, url: str, body: bytes) -> None:
    answer = post(url, body, {"Stripe-Signature": signed(body)})
    assert answer.status == 400
    with database.connect(admin=True) as connection:
        assert stored(connection) == []


@WILD
@given(data=st.data())
def test_one_changed_character_of_a_signature_is_refused(
    database: Database, url: str, data: st.DataObject
) -> None:
    body = json.dumps(event())
    header = sign(body)
    at = data.draw(
        st.sampled_from([index for index, letter in enumerate(header) if letter in "0123456789abcdef"])
    )
    other = data.draw(st.sampled_from([letter for letter in "0123456789abcdef" if letter != header[at]]))
    answer = post(url, body.encode(), {"Stripe-Signature": header[:at] + other + header[at + 1 :]})
    assert answer.status == 400
    assert answer.body["error"]["code"] in ("invalid_signature", "timestamp_out_of_tolerance")
    with database.connect(admin=True) as connection:
        assert stored(connection) == []


@pytest.mark.parametrize(
    "body",
    [
        "[" * 200_000,
        '{"id":' * 100_000,
        "1" * 100_000,
        '{"id": "evt_1", "created": ' + "9" * 400 + "}",
        '"\\ud800"',
    ],
    ids=["deep-list", "deep-object", "long-number", "huge-time", "half-a-pair"],
)
def test_a_body_that_is_hard_to_read_is_refused_at_once(url: str, body: str) -> None:
    answer = deliver(url, body)
    assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_event")
    assert deliver(url, event()).status == 200
