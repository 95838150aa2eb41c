"""What became of events → figures for Prometheus."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from worker.outcomes import Outcome

EVENTS = Counter("till_events_total", "Attempts at Stripe events, by how they ended.", ["outcome"])
BATCH_SECONDS = Histogram(
    "till_batch_seconds",
    "Time from reading a batch to its end.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RECONNECTS = Counter("till_reconnects_total", "Times that the connection to Postgres was lost.")
CONNECTED = Gauge("till_connected", "1 while the worker is connected to Postgres.")


def serve(host: str, port: int) -> None:
    """Answer GET /metrics on host:port, in a thread of its own."""
    start_http_server(port, addr=host)


def count(outcomes: Iterable[Outcome]) -> None:
    """Count attempts by the kind of their outcome: done, ignored, parked, dead, retrylater, refetch."""
    for outcome in outcomes:
        EVENTS.labels(type(outcome).__name__.lower()).inc()
