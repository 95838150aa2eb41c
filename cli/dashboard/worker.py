"""The queue, the inbox and the worker's metrics → whether events are processed, and how fast."""

from dataclasses import dataclass
from typing import LiteralString
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response

from cli.dashboard import charts
from cli.dashboard.database import first
from cli.dashboard.render import database, number, page, waiting
from cli.database import row, rows

METRICS_TIMEOUT_SECONDS = 2
METRICS_BYTES_MAX = 1_000_000

_HOURS: LiteralString = """
    with counted as (
        select
            date_trunc('hour', received_at) as hour, count(*) as events,
            count(*) filter (where status in ('dead', 'parked')) as troubled
        from billing.stripe_events
        where received_at >= date_trunc('hour', now()) - interval '47 hours'
        group by 1
    )
    select hour, coalesce(counted.events, 0) as events, coalesce(counted.troubled, 0) as troubled
    from generate_series(
        date_trunc('hour', now()) - interval '47 hours', date_trunc('hour', now()), interval '1 hour'
    ) as hour
    left join counted using (hour)
    order by hour
"""
_DAY: LiteralString = """
    select status, count(*) as number, percentile_cont(0.5) within group (
        order by extract(epoch from settled_at - received_at)
    ) as median_seconds
    from billing.stripe_events where received_at >= now() - interval '1 day'
    group by status order by count(*) desc
"""
_LAST: LiteralString = """
    select stripe_event_id, type, received_at from billing.stripe_events order by received_at desc limit 1
"""
_DISCREPANCIES: LiteralString = """
    select account_id, invariant, detail, billing.owner_email(account_id) as email
    from billing.found_discrepancies order by id desc limit 100
"""


_PROOF: LiteralString = """
    select
        accounts_checked, round_finished_at, (select count(*) from billing.found_discrepancies) as discrepancies
    from billing.account_proof
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """The worker's metrics since it started; `trouble` says why there are none."""

    numbers: dict[str, float]
    trouble: str | None = None


def show(request: Request) -> Response:
    """The page."""
    with database(request).reading() as conn:
        common = waiting(conn)
        state = row(conn, "select * from billing.worker_state()", {})
        hours = rows(conn, _HOURS, {})
        outcomes = rows(conn, _DAY, {})
        last = first(conn, _LAST, {})
        clock = row(conn, "select now() as now", {})["now"]
        proof = row(conn, _PROOF, {})
        discrepancies = rows(conn, _DISCREPANCIES, {})
    return page(
        request,
        "worker.jinja",
        state=state,
        outcomes=outcomes,
        last=last,
        clock=clock,
        proof=proof,
        discrepancies=discrepancies,
        figures=_figures(request.app.state.environment.get("WORKER_METRICS_URL")),
        events=charts.bars(
            [charts.Figure(each["hour"], each["events"], each["troubled"]) for each in hours],
            write=number,
            names=("events", "set aside"),
        ),
        **common,
    )


def _figures(url: str | None) -> Figures:
    if url is None:
        return Figures({}, "Set WORKER_METRICS_URL to the worker's /metrics to show its metrics here.")
    try:
        # Without a proxy: one from the environment cannot reach loopback.
        with build_opener(ProxyHandler({})).open(url, timeout=METRICS_TIMEOUT_SECONDS) as answer:
            text = answer.read(METRICS_BYTES_MAX).decode("utf-8", "replace")
        samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except (URLError, OSError, ValueError):
        return Figures({}, f"The worker does not answer at {url}.")
    numbers: dict[str, float] = {}
    for name, labels, value in samples:
        if name.startswith("till_") and not name.endswith(("_created", "_bucket")):
            label = f"{name} {' '.join(labels.values())}".strip()
            numbers[label] = numbers.get(label, 0) + value
    return Figures(numbers)
