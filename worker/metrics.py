"""What this worker did → metrics for Prometheus. What is in the database: database_metrics.py."""

from datetime import datetime
from decimal import Decimal

from prometheus_client import Counter, Gauge, Histogram

from worker.events.outcomes import Done, Outcome

EVENTS = Counter("till_events_total", "Attempts at Stripe events, by how they ended.", ["outcome"])
UNKNOWN_API_VERSIONS = Counter(
    "till_unknown_api_versions_total", "Events of an unknown API version.", ["api_version"]
)
BATCH_SECONDS = Histogram(
    "till_batch_seconds",
    "Time from reading a batch to its end.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
LAG_SECONDS = Histogram(
    "till_event_lag_seconds",
    "Time from the receipt of an event until its effects were committed.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400),
)
STRIPE_REQUESTS = Counter(
    "till_stripe_requests_total",
    "Requests to Stripe, by outcome: ok, refused, key_refused, rate_limited, failed.",
    ["outcome"],
)
EVENTS_MISSING = Gauge(
    "till_events_missing", "Events of the last day that Stripe has and that never arrived, as last compared."
)
WATCH_REFUSED = Counter(
    "till_watch_refused_total", "Times that Postgres refused the worker's sign of life or its watch."
)
RECONNECTS = Counter("till_reconnects_total", "Times that the connection to Postgres was lost.")
DUE = Counter("till_due_total", "Due holds and lots that the worker's clock processed, by outcome.", ["what"])
SLOTS_GRANTED = Counter("till_slots_granted_total", "Months of credits that the worker's clock granted.")
CREDITS_ALLOCATED = Counter(
    "till_credits_allocated_total", "Credits that the worker's clock granted for those months."
)
ALLOCATIONS_REFUSED = Counter(
    "till_allocations_refused_total", "Times that Postgres refused to grant due months."
)
CREDITS_EXPIRED = Counter("till_credits_expired_total", "Credits that the worker's clock expired.")
ACCOUNTS_PROVED = Counter(
    "till_accounts_proved_total",
    "Accounts whose ledger and credits the worker's clock checked.",
)
DISCREPANCIES = Counter(
    "till_discrepancies_total",
    "Rows of billing.ledger_discrepancies and billing.entitlement_discrepancies that the check found.",
)
PROOFS_REFUSED = Counter("till_proofs_refused_total", "Times that Postgres refused the check.")
SWEEPS_REFUSED = Counter("till_sweeps_refused_total", "Times that Postgres refused to expire what is due.")
RECHARGES = Counter(
    "till_recharges_total", "Attempts at automatic recharges, by the status that they ended in.", ["outcome"]
)
OVERAGES = Counter(
    "till_overages_total", "Steps of billing overages at Stripe, by how they ended.", ["outcome"]
)
OVERAGE_REFUSED = Counter("till_overage_refused_total", "Times that Postgres refused to claim overages.")
LINKS = Counter(
    "till_payment_links_total", "Attempts at deactivating payment links, by how they ended.", ["outcome"]
)
EMAIL_CHANGES = Counter(
    "till_email_changes_total",
    "Attempts at changing a customer's e-mail address in Stripe, by how they ended.",
    ["outcome"],
)
FRAUD_ACTIONS = Counter(
    "till_fraud_actions_total",
    "Attempts at refunds and cancellations because of fraud, by how they ended.",
    ["action", "outcome"],
)
NOTIFICATIONS = Counter(
    "till_notifications_total", "Notification attempts, by the status that they ended in.", ["outcome"]
)
REMINDERS_REFUSED = Counter(
    "till_reminders_refused_total", "Times that Postgres refused to enqueue or prune notifications."
)
MENDING_REFUSED = Counter(
    "till_mending_refused_total",
    "Times that Postgres refused to requeue events of a dead worker, or events without a message.",
)
CONNECTED = Gauge("till_connected", "1 while the worker is connected to Postgres.")


def count(outcome: Outcome) -> None:
    """Count an attempt by the kind of its outcome: done, ignored, parked, dead, retrylater, fetch, refetch."""
    EVENTS.labels(type(outcome).__name__.lower()).inc()


def time_lag(outcome: Outcome, received_at: datetime, now: datetime) -> None:
    """Measure how long an event took that is applied now; by two machines' clocks, so never below zero."""
    if isinstance(outcome, Done):
        LAG_SECONDS.observe(max((now - received_at).total_seconds(), 0))


def count_unknown_api_version(api_version: str | None) -> None:
    """Count an event whose API version is unknown, malformed, or "null"."""
    UNKNOWN_API_VERSIONS.labels(api_version or "null").inc()


def count_allocated(slots_granted: int, credits_granted: Decimal) -> None:
    """Count what the clock granted in one chunk; grants of paid invoices and changes are not included."""
    SLOTS_GRANTED.inc(slots_granted)
    CREDITS_ALLOCATED.inc(float(credits_granted))


def count_due(holds_expired: int, lots_opened: int, lots_expired: int, credits_expired: Decimal) -> None:
    """Count what the clock processed in one chunk; what movements process themselves is not included."""
    DUE.labels("hold_expired").inc(holds_expired)
    DUE.labels("lot_opened").inc(lots_opened)
    DUE.labels("lot_expired").inc(lots_expired)
    CREDITS_EXPIRED.inc(float(credits_expired))
