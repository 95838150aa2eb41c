"""A signed event over HTTP → the inbox and the queue, on the real parts."""

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.functions.support import SECRET, deliver, event, post, queued, receiver, sign, stored
from tests.support import Database

MEBIBYTE = 1024 * 1024
HALF_OPEN = 300


@pytest.fixture
def url(database: Database, tmp_path: Path) -> Iterator[str]:
    with receiver(database.url, tmp_path) as url:
        yield url


def assert_nothing_is_stored(database: Database) -> None:
    with database.connect(admin=True) as connection:
        assert stored(connection) == []
        assert queued(connection) == []


def test_signed_event_is_stored_as_it_came_and_queued_once(database: Database, url: str) -> None:
    sent = event(type="customer.subscription.created")
    body = json.dumps(sent, indent=2)
    answer = deliver(url, body)
    assert (answer.status, answer.body) == (200, {"received": "queued"})
    with database.connect(admin=True) as connection:
        assert stored(connection) == [(sent["id"], "queued", body)]
        assert queued(connection) == [{"event_id": sent["id"]}]
        envelope = connection.execute(
            "select type, api_version, extract(epoch from created_at)::bigint, livemode "
            "from billing.stripe_events"
        ).fetchone()
    assert envelope == (sent["type"], sent["api_version"], sent["created"], False)


def test_replayed_event_is_a_duplicate_and_changes_nothing(database: Database, url: str) -> None:
    sent = event()
    answers = [deliver(url, sent) for _ in range(3)]
    assert [answer.body["received"] for answer in answers] == ["queued", "duplicate", "duplicate"]
    with database.connect(admin=True) as connection:
        assert len(stored(connection)) == len(queued(connection)) == 1


def test_fifty_deliveries_at_once_of_one_event_are_one_row_and_one_message(
    database: Database, url: str
) -> None:
    sent = event()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: deliver(url, sent), range(50)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.body["received"] for answer in answers) == ["duplicate"] * 49 + ["queued"]
    with database.connect(admin=True) as connection:
        assert len(stored(connection)) == len(queued(connection)) == 1


def test_event_of_the_other_mode_is_recorded_as_ignored(database: Database, url: str) -> None:
    answer = deliver(url, event(livemode=True))
    assert (answer.status, answer.body) == (200, {"received": "ignored"})
    with database.connect(admin=True) as connection:
        assert [status for _, status, _ in stored(connection)] == ["ignored"]
        assert queued(connection) == []


def test_escapes_that_postgres_cannot_cast_are_stored_byte_for_byte(database: Database, url: str) -> None:
    body = json.dumps(event()).replace("in_1", r"in_1 \u0000 \ud83d \udc00 \u00fc") + ' \n\t"'[:-1] + "\r\n"
    assert deliver(url, body).body == {"received": "queued"}
    raw = json.dumps(event()).replace("in_1", "ü 漢 😀 \u2028")
    assert deliver(url, raw).body == {"received": "queued"}
    with database.connect(admin=True) as connection:
        assert [payload for _, _, payload in stored(connection)] == [body, raw]


def test_event_without_api_version_is_stored_without(database: Database, url: str) -> None:
    assert deliver(url, event(api_version=None)).status == 200
    with database.connect(admin=True) as connection:
        assert connection.execute("select api_version from billing.stripe_events").fetchall() == [(None,)]


def test_refused_signatures_store_nothing(database: Database, url: str) -> None:
    body = json.dumps(event())
    for header in (None, "", "t=1,v1=abc", sign(body, "whsec_of_somebody_else"), sign(f"{body} ")):
        headers = {} if header is None else {"Stripe-Signature": header}
        answer = post(url, body.encode(), headers)
        assert answer.status == 400, header
        assert set(answer.body["error"]) == {"code", "message"}
    for age_seconds in (310, -310):
        assert deliver(url, body, age_seconds=age_seconds).status == 400
    assert_nothing_is_stored(database)


def test_refused_bodies_store_nothing(database: Database, url: str) -> None:
    bodies = ["not json", "null", "[]", "{}", json.dumps(event(id=None)), json.dumps(event(id="evt_\u0000"))]
    for body in bodies:
        answer = deliver(url, body)
        assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_event"), body
    not_utf8 = b'{"id": "\xff"}'
    answer = post(url, not_utf8, {"Stripe-Signature": sign("{}")})
    assert (answer.status, answer.body["error"]["code"]) == (400, "body_not_utf8")
    assert_nothing_is_stored(database)


def test_refused_methods_store_nothing(database: Database, url: str) -> None:
    body = json.dumps(event())
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = post(url, body.encode(), {"Stripe-Signature": sign(body)}, method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert_nothing_is_stored(database)


def test_body_over_one_mebibyte_is_refused_and_stores_nothing(database: Database, url: str) -> None:
    body = json.dumps(event()).ljust(MEBIBYTE + 1)
    assert deliver(url, body).status == 413

    chunks = [body[start : start + 65_536].encode() for start in range(0, len(body), 65_536)]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    headers = {"Stripe-Signature": sign(body)}
    connection.request("POST", urlsplit(url).path, iter(chunks), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()

    assert_nothing_is_stored(database)
    assert deliver(url, json.dumps(event()).ljust(MEBIBYTE)).status == 200


def test_body_declared_too_large_is_refused_before_it_arrives(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.putrequest("POST", urlsplit(url).path)
    connection.putheader("Stripe-Signature", sign(""))
    connection.putheader("Content-Length", "1000000000")
    connection.endheaders(b"{")
    assert connection.getresponse().status == 413
    connection.close()


def test_memory_is_for_what_came_and_not_for_what_was_declared(url: str) -> None:
    """Whoever has no signature can open connections, and declare a body on each of them."""
    address = urlsplit(url)
    port = address.port
    [server] = [
        psutil.Process(at.pid)
        for at in psutil.net_connections("tcp")
        if at.status == psutil.CONN_LISTEN and at.laddr.port == port
    ]
    head = f"POST {address.path} HTTP/1.1\r\nHost: x\r\nStripe-Signature: t=1,v1=0\r\nContent-Length: {MEBIBYTE - 1}"
    assert deliver(url, event()).status == 200
    before = server.memory_info().rss
    with ExitStack() as open_connections:
        for _ in range(HALF_OPEN):
            connection = open_connections.enter_context(socket.create_connection((address.hostname, port)))
            connection.sendall(f"{head}\r\n\r\n".encode() + b"a" * 10)
        # Answered after them, so they have been read as far as they came.
        for _ in range(20):
            assert deliver(url, event()).status == 200
        grown = server.memory_info().rss - before
    assert grown < HALF_OPEN * MEBIBYTE // 4


def test_both_secrets_are_good_while_one_is_rotated_out(database: Database, tmp_path: Path) -> None:
    with receiver(database.url, tmp_path, f" whsec_old,\n{SECRET}\n") as url:
        assert deliver(url, event(), "whsec_old").status == 200
        assert deliver(url, event(), SECRET).status == 200
        assert deliver(url, event(), "whsec_older").status == 400
    with receiver(database.url, tmp_path, "whsec_old", STRIPE_WEBHOOK_SECRET_NEXT=SECRET) as url:
        assert deliver(url, event(), "whsec_old").status == 200
        assert deliver(url, event(), SECRET).status == 200
        assert deliver(url, event(), "whsec_older").status == 400


def test_without_a_secret_nothing_is_received(database: Database, tmp_path: Path) -> None:
    with receiver(database.url, tmp_path, " ") as url:
        answer = deliver(url, event(), " ")
    assert (answer.status, answer.body["error"]["code"]) == (503, "webhook_secret_missing")
    assert "STRIPE_WEBHOOK_SECRET" in answer.body["error"]["message"]
    assert_nothing_is_stored(database)


def test_receiver_works_as_billing_receiver_only(database: Database, url: str) -> None:
    assert deliver(url, event()).status == 200
    with database.connect(admin=True) as connection:
        # `postgres`, which the receiver logs in as, owns the function and could still call it.
        connection.execute("revoke execute on function billing.receive_stripe_event from billing_receiver")
    answer = deliver(url, event())
    assert (answer.status, answer.body["error"]["code"]) == (500, "internal_error")


def test_failures_are_logged_without_the_secret_the_signature_or_the_body(
    database: Database, tmp_path: Path
) -> None:
    with database.connect(admin=True) as connection:
        connection.execute("revoke execute on function billing.receive_stripe_event from billing_receiver")
    sent = event()
    with receiver(database.url, tmp_path) as url:
        deliver(url, "refused, not logged")
        deliver(url, sent)
        log = (tmp_path / "functions.log").read_text(encoding="utf-8")
    (failure,) = [json.loads(line) for line in log.splitlines() if '"level"' in line]
    assert failure["function"] == "stripe-webhook"
    assert "42501" in failure["reason"]
    password = urlsplit(database.url).password or ""
    for private in (SECRET, "v1=", sent["id"], "refused", password):
        assert private not in log
