"""/healthz, /readyz and /metrics of a worker."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from worker import health
from worker.health import Pulse, serve


@pytest.fixture
def url() -> Iterator[str]:
    server = serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(url: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_that_goes_round_is_healthy_and_ready_once_it_is_connected(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PULSE", Pulse())
    assert ask(f"{url}/healthz") == (200, "ok\n")
    assert ask(f"{url}/readyz") == (503, "not connected to Postgres\n")
    health.PULSE.beat(connected=True)
    assert ask(f"{url}/readyz") == (200, "ok\n")
    health.PULSE.beat(connected=False)
    assert (ask(f"{url}/healthz")[0], ask(f"{url}/readyz")[0]) == (200, 503)


def test_a_loop_that_is_stuck_is_neither(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PULSE", Pulse())
    health.PULSE.beat(connected=True)
    monkeypatch.setattr(health, "STUCK_AFTER_SECONDS", 0.0)
    assert (ask(f"{url}/healthz")[0], ask(f"{url}/readyz")[0]) == (503, 503)


def test_metrics_are_prometheus_text_and_anything_else_is_not_found(url: str) -> None:
    status, text = ask(f"{url}/metrics")
    assert (status, "# TYPE till_events_total counter" in text) == (200, True)
    assert ask(f"{url}/")[0] == 404


def test_an_address_of_ipv6_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PULSE", Pulse())
    server = serve("::1", 0)
    try:
        assert ask(f"http://[::1]:{server.server_address[1]}/healthz") == (200, "ok\n")
    finally:
        server.shutdown()
        server.server_close()
