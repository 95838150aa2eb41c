"""Signed events → one HTTP request after another on each of a few connections → requests a second.

Raw sockets and requests made beforehand: on two cores the driver must not be what is measured.
"""

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from stripe import WebhookSignature

from bench.stream import Event

CONNECTIONS = 8
ANSWER_BYTES = 65_536
TIMEOUT_SECONDS = 20


def requests(url: str, secret: str, events: Iterable[Event]) -> list[bytes]:
    """Each event as Stripe posts it to `url`, signed now."""
    address = urlsplit(url)
    signed_at = int(time.time())
    made: list[bytes] = []
    for event in events:
        signature = WebhookSignature.generate_signature_header(event.body, secret, signed_at)
        body = event.body.encode()
        head = (
            f"POST {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            f"Stripe-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def send(url: str, prepared: Sequence[bytes]) -> float:
    """Send all of it, CONNECTIONS at a time, and return requests a second. Every answer must be a 200."""
    address = urlsplit(url)
    left = deque(prepared)
    with selectors.DefaultSelector() as selector:
        sockets = [socket.create_connection((address.hostname, address.port)) for _ in range(CONNECTIONS)]
        clock = time.perf_counter()
        for connection in sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ, bytearray())
            connection.sendall(left.popleft())
        answered = 0
        while answered < len(prepared):
            ready = selector.select(TIMEOUT_SECONDS)
            assert ready, f"no answer within {TIMEOUT_SECONDS} s"
            for key, _ in ready:
                if _read_answer(key.fileobj, key.data):
                    answered += 1
                    if left:
                        key.fileobj.sendall(left.popleft())
        seconds = time.perf_counter() - clock
        for connection in sockets:
            connection.close()
    return len(prepared) / seconds


def _read_answer(connection: socket.socket, received: bytearray) -> bool:
    """Take what has come; True once that is a whole answer."""
    received += connection.recv(ANSWER_BYTES)
    head, end_of_head, body = received.partition(b"\r\n\r\n")
    if not end_of_head:
        assert received, "the server hung up"
        return False
    assert head.startswith(b"HTTP/1.1 200"), bytes(received)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    if len(body) < int(length.partition(b":")[2]):
        return False
    received.clear()
    return True
