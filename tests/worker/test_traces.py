"""Spans around what takes time: there where OpenTelemetry is installed and has an endpoint, and no import elsewhere."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
import stripe
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.worker.conftest import Shop
from tests.worker.events import Event, paid, subscription
from tests.worker.stripe_stub import StripeStub
from worker import traces
from worker.events.drain import drain
from worker.events.lookups import Lookups
from worker.stripe_api import opened_client


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.use(provider)
    yield exporter
    traces.use(None)
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.name == name]


def test_the_application_of_events_is_a_span_that_names_them(shop: Shop, spans: InMemorySpanExporter) -> None:
    shop.link()
    event = paid()
    shop.outcome(event)
    assert {"tillbase.event_ids": (event.id,), "tillbase.types": ("invoice.paid",)} in named(
        spans, "apply events"
    )


def test_a_request_to_stripe_is_a_span_without_what_was_sent(
    stripe: StripeStub, spans: InMemorySpanExporter
) -> None:
    with opened_client("sk_test_s3cret", stripe.url, 5) as client:
        stripe.put("customers", {"object": "list", "data": [], "has_more": False})
        client.v1.customers.list({"email": "ada@example.com"})
        with pytest.raises(_not_found()):
            client.v1.customers.retrieve("cus_nobody")
    assert named(spans, "stripe GET") == [
        {"http.request.method": "GET", "url.path": "/v1/customers", "http.response.status_code": 200},
        {
            "http.request.method": "GET",
            "url.path": "/v1/customers/cus_nobody",
            "http.response.status_code": 404,
        },
    ]
    told = str([span.to_json() for span in spans.get_finished_spans()])
    assert "ada@example.com" not in told
    assert "s3cret" not in told


def _not_found() -> type[Exception]:
    return stripe.InvalidRequestError


def test_a_lookup_is_the_parent_of_its_requests(
    shop_with_stripe: Shop, stripe: StripeStub, spans: InMemorySpanExporter
) -> None:
    """Two states of one second: Stripe is asked which is newer."""
    shop = shop_with_stripe
    shop.link()
    tied = [Event("customer.subscription.updated", subscription()) for _ in range(2)]
    shop.receive(*tied)
    lookups = Lookups(shop.stripe)
    try:
        drain(shop.worker)
        shop.make_due()
        lookups.tick(shop.worker, 0.0)
        lookups.finish(shop.worker, time.monotonic() + 30)
    finally:
        lookups.close()
    by_id = {span.context.span_id: span.name for span in spans.get_finished_spans()}
    requests = [span for span in spans.get_finished_spans() if span.name == "stripe GET"]
    assert requests
    assert {by_id[span.parent.span_id] for span in requests if span.parent} == {"look up"}


def test_an_error_of_postgres_is_recorded_without_the_row_that_it_quotes(
    shop: Shop, spans: InMemorySpanExporter
) -> None:
    quoting = "insert into billing.account_members values (gen_random_uuid(), null, 'Ada Lovelace, ada@example.com')"
    with pytest.raises(psycopg.Error) as refused, traces.span("apply events"):
        shop.app.execute(quoting)
    assert "Ada Lovelace" in str(refused.value)
    [span] = [each for each in spans.get_finished_spans() if each.name == "apply events"]
    assert "Ada" not in span.to_json()
    assert not span.status.is_ok
    assert "NotNullViolation 23502" in span.to_json()


def test_an_error_is_recorded_and_raised(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="broken"), traces.span("work"):
        raise ValueError("broken")
    [span] = spans.get_finished_spans()
    assert not span.status.is_ok


def run_python(program: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environ, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


IMPORTED = "import sys, worker.run; print([name for name in sys.modules if name.startswith('opentelemetry')])"


def test_nothing_is_imported_without_an_endpoint() -> None:
    configured = IMPORTED.replace("; print", "; worker.run.traces.configure({}); print")
    assert run_python(configured) == "[]\n"


def test_an_endpoint_without_the_extra_is_one_line_in_the_log() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; from worker import traces; "
        "traces.configure({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'})\n"
        "with traces.span('work') as span: print(span)"
    )
    told = run_python(program)
    assert "traces_not_sent" in told
    assert "pip install 'tillbase[otel]'" in told
    assert told.endswith("None\n")


def test_spans_arrive_at_the_endpoint_that_the_environment_names() -> None:
    posts: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        run_python(
            "import os\nfrom worker import traces\ntraces.configure(os.environ)\n"
            "with traces.span('apply events'): pass",
            OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_COMPRESSION="none", NO_PROXY="127.0.0.1",
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert [path for path, _ in posts] == ["/v1/traces"]
    assert b"apply events" in posts[0][1]
    assert b"tillbase-worker" in posts[0][1]
