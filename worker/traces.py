"""What takes time → spans for OpenTelemetry, where `tillbase[otel]` is installed and an OTLP endpoint is set.

Otherwise nothing of OpenTelemetry is imported, and a span costs nothing.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

# The SDK reads these, and all other OTEL_… variables, itself.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer: Any = None

log = structlog.stdlib.get_logger()


def configure(environ: Mapping[str, str]) -> None:
    """Send spans by OTLP over HTTP, if the environment names an endpoint."""
    if not any(environ.get(name, "").strip() for name in _ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            "traces_not_sent", error="OpenTelemetry is not installed", hint="pip install 'tillbase[otel]'"
        )
        return
    name = environ.get("OTEL_SERVICE_NAME", "").strip() or "tillbase-worker"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: Any) -> None:
    """Send spans to a tracer provider; None: nowhere."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("tillbase")


@contextmanager
def span(name: str, **attributes: Any) -> Generator[Any]:
    """Time the block; an exception makes it an error. Yields the span, None where there are no traces."""
    if _tracer is None:
        yield None
        return
    # Of an exception only its kind is sent: its text may quote a row of Postgres, or an address.
    with _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            from opentelemetry.trace import Status, StatusCode

            kind = type(error).__name__
            sqlstate = getattr(error, "sqlstate", None)
            current.set_status(Status(StatusCode.ERROR, f"{kind} {sqlstate}" if sqlstate else kind))
            raise
