"""A connection → what is wrong in the database: what it has and who may use it, the queue, the worker, the proofs."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg

from cli.database import Connection, connect, row, rows
from cli.doctor.catalogue import compare, read_catalogue, shipped_catalogue
from cli.findings import Finding
from cli.output import counted
from worker.sessions import is_transaction_pooler

POSTGRES_MIN = 15
# A message that a worker runs beside is read within a second.
QUEUE_AGE_MAX = timedelta(minutes=5)
# A worker reports every ten seconds.
SILENT_MAX = timedelta(minutes=2)
CLOCK_SKEW_MAX = timedelta(seconds=30)
NAMED_MAX = 5

_STATUSES: LiteralString = """
    select status, count(*) as events, min(received_at) as since from billing.stripe_events
    where status in ('dead', 'parked') group by status
"""
_WAITING: LiteralString = """
    select count(*) as events, min(events.last_error) as reason
    from billing.stripe_lookups join billing.stripe_events as events using (stripe_event_id)
    where stripe_lookups.attempts > 3
"""
_NOTIFICATIONS: LiteralString = "select dead_notifications as number from billing.admin_attention"
_WITHOUT_CREDITS: LiteralString = """
    select stripe_price_id, name, count(*) as subscriptions from billing.admin_plans_without_credits
    group by 1, 2 order by 3 desc, 1
"""
_UNKNOWN_PRICES: LiteralString = """
    select items.stripe_price_id, count(*) as subscriptions
    from billing.subscriptions join billing.subscription_items as items using (stripe_subscription_id)
    where subscriptions.status in ('active', 'trialing', 'past_due')
        and not exists (select from billing.plans where plans.stripe_price_id = items.stripe_price_id)
    group by 1 order by 2 desc, 1
"""
_WITHOUT_OVERAGE: LiteralString = """
    select plans.stripe_price_id, coalesce(plans.lookup_key, plans.stripe_price_id) as name, plans.overage_pack
    from billing.plans
    where plans.overage_limit > 0 and plans.active and (billing._overage_pack(plans)).stripe_price_id is null
    order by 1
"""
_FAILED_OVERAGES: LiteralString = """
    select count(*) as number, min(id::text) as id from billing.overages
    where status = 'failed' and reason not in ('account_closed', 'erased')
"""
_DISCREPANCIES: LiteralString = """
    select invariant, count(*) as number, min(account_id::text) as account_id from billing.found_discrepancies
    group by invariant order by invariant
"""
_PROOF: LiteralString = """
    select round_finished_at, round_started_at, (select count(*) from billing.accounts) as accounts
    from billing.account_proof
"""
# Not by the key of who runs the doctor, which may be another one.
_FAILING_KEYS: LiteralString = """
    select distinct stripe_key_error as reason from billing.workers
    where stripe_key_error is not null and last_seen_at > now() - interval '15 minutes' order by 1
"""
_WATCHED: LiteralString = """
    select livemode, alert_webhook_url is not null and billing._has_pg_net() as is_posted,
        to_regclass('cron.job') is not null as has_cron
    from billing.settings
"""
_WATCH_JOB: LiteralString = """
    select exists (select from cron.job where jobname = 'tillbase_watch') as is_scheduled
"""
_MENDS = {
    "dead": "till events list --status dead says why; then till events retry --status dead",
    "parked": "till events list --status parked says for which customer: till customers link or dismiss",
}
_RECALCULATE = "till credits recalculate {} --yes"
_LEDGER_PROOF: LiteralString = (
    "select account_id, invariant, detail from billing.ledger_discrepancies limit 20"
)
_ENTITLEMENT_PROOF: LiteralString = (
    "select account_id, invariant, detail from billing.entitlement_discrepancies limit 20"
)

Check = Callable[[Connection], Iterator[Finding]]


def server(conn: Connection) -> Iterator[Finding]:
    """Version, role, clock."""
    version = conn.info.server_version // 10000
    if version < POSTGRES_MIN:
        yield Finding(
            "postgres",
            f"the server is PostgreSQL {version}",
            f"upgrade the project to PostgreSQL {POSTGRES_MIN} or newer",
        )
    found = row(
        conn, "select clock_timestamp() as now, current_user as name, pg_is_in_recovery() as is_replica", {}
    )
    if found["is_replica"]:
        yield Finding(
            "postgres", "POSTGRES_URL leads to a read replica", "use the connection string of the primary"
        )
    if found["name"] != "postgres":
        yield Finding(
            "role",
            f"till is connected as {found['name']}",
            "connect as postgres, which owns the schema",
            "warning",
        )
    skew = abs(datetime.now(UTC) - found["now"])
    if skew > CLOCK_SKEW_MAX:
        yield Finding(
            "clock", f"this machine and the database differ by {skew.total_seconds():.0f} seconds",
            "synchronise this machine's clock: signatures and due times depend on it", "warning",
        )  # fmt: skip


def objects(conn: Connection) -> Iterator[Finding]:
    """Tables, functions, policies and rights as shipped."""
    differences = compare(shipped_catalogue(), read_catalogue(conn))
    for names, word in ((differences.missing, "is missing"), (differences.changed, "is not as shipped")):
        for name in names[:NAMED_MAX]:
            yield Finding("schema", f"{name} {word}", _mend(name))
        if len(names) > NAMED_MAX:
            yield Finding("schema", f"… and {len(names) - NAMED_MAX} more {word}", _mend(names[NAMED_MAX]))
    for name in differences.extra[:NAMED_MAX]:
        yield Finding(
            "schema", f"{name} is not of Tillbase", "keep your own objects in a schema of your own", "warning"
        )


def _mend(name: str) -> str:
    if name.startswith("rights on "):
        of = name.removeprefix("rights on ")
        return f"run the grants of {of} in the release's migration again; where a role has more than those, revoke it"
    return "till init --upgrade and supabase db push --remote, or run its definition in the release's migration again"


def pooler(conn: Connection) -> Iterator[Finding]:
    """Whether POSTGRES_URL leads to a transaction pooler. Not to be asked in a transaction, which shares no session."""
    if is_transaction_pooler(conn, connect):
        yield Finding(
            "pooler", "POSTGRES_URL leads to a transaction pooler, which the worker refuses",
            "use the direct connection string, or the pooler in session mode (port 5432)",
        )  # fmt: skip


def queue(conn: Connection) -> Iterator[Finding]:
    """Events that wait, and whether a worker is there for them and gives a sign of life."""
    state = row(conn, "select * from billing.worker_state()", {})
    seen = state["last_seen_at"]
    was_seen = "" if seen is None else f"; the last sign of life is of {seen:%Y-%m-%d %H:%M} UTC"
    if not state["workers"]:
        yield Finding("worker", f"no worker is connected{was_seen}", "till worker run")
    elif seen is not None and datetime.now(UTC) - seen > SILENT_MAX:
        yield Finding(
            "worker", f"a worker is connected, and hangs{was_seen}", "restart the worker; its log says why"
        )
    for each in rows(conn, _FAILING_KEYS, {}):
        yield Finding(
            "worker_key", f"a worker can't use its Stripe key: {each['reason']}",
            "set STRIPE_API_KEY of the worker to a key of this installation, then restart it",
        )  # fmt: skip
    oldest = state["oldest_message_at"]
    if oldest is not None and datetime.now(UTC) - oldest > QUEUE_AGE_MAX:
        yield Finding(
            "queue", f"{counted(state['queue_length'], 'event', 'wait')}, the oldest since {oldest:%Y-%m-%d %H:%M} UTC",
            "till worker run; its log says what it waits for",
        )  # fmt: skip


def events(conn: Connection) -> Iterator[Finding]:
    """Events and notifications that need a person."""
    for each in rows(conn, _STATUSES, {}):
        what = f"{counted(each['events'], str(each['status']) + ' event')} since {each['since']:%Y-%m-%d}"
        yield Finding(f"{each['status']}_events", what, _MENDS[each["status"]])
    waiting = row(conn, _WAITING, {})
    if waiting["events"]:
        yield Finding(
            "waiting_events", f"{counted(waiting['events'], 'event', 'wait')} for Stripe ({waiting['reason']})",
            "check STRIPE_API_KEY of the worker and status.stripe.com",
        )  # fmt: skip
    dead = row(conn, _NOTIFICATIONS, {})["number"]
    if dead:
        yield Finding(
            "notifications",
            f"{counted(dead, 'notification')} could not be delivered",
            "till notifications list --status dead says why; then till notifications retry --status dead",
            "warning",
        )


def plans(conn: Connection) -> Iterator[Finding]:
    """Plans that are paid for and give nothing."""
    for each in rows(conn, _WITHOUT_CREDITS, {}):
        yield Finding(
            "plan_without_credits",
            f"{counted(each['subscriptions'], 'subscription')} to {each['name']} ({each['stripe_price_id']}) "
            f"{'gives' if each['subscriptions'] == 1 else 'give'} no credits",
            "declare monthly_credits or features in the price's metadata, or till plans push",
        )
    for each in rows(conn, _UNKNOWN_PRICES, {}):
        yield Finding(
            "unknown_price",
            f"{counted(each['subscriptions'], 'subscription', 'use')} {each['stripe_price_id']}, "
            "which is not in billing.plans",
            "till plans sync",
        )
    for each in rows(conn, _WITHOUT_OVERAGE, {}):
        yield Finding(
            "overage_pack",
            f"{each['name']} has no overage: no pack {each['overage_pack']} with a price in its currency is on sale",
            f"set overage_pack on {each['stripe_price_id']} in Stripe, or till plans push",
        )
    failed = row(conn, _FAILED_OVERAGES, {})
    if failed["number"]:
        yield Finding(
            "overages",
            f"Stripe refused to bill {counted(failed['number'], 'overage')}, such as {failed['id']}",
            f"till overage list; after the cause is corrected: till overage retry {failed['id']}",
        )


def ledger(conn: Connection) -> Iterator[Finding]:
    """What the running proof found, and whether it runs."""
    for each in rows(conn, _DISCREPANCIES, {}):
        yield Finding(
            "discrepancies",
            f"{counted(each['number'], 'account', 'break')} {each['invariant']}, such as {each['account_id']}",
            _RECALCULATE.format(each["account_id"]),
        )  # fmt: skip
    proof = row(conn, _PROOF, {})
    finished = proof["round_finished_at"]
    if proof["accounts"] and (finished is None or datetime.now(UTC) - finished > timedelta(days=1)):
        since = "yet" if finished is None else f"since {finished:%Y-%m-%d %H:%M} UTC"
        yield Finding(
            "proof", f"not every account was proved {since}", "till worker run, which proves them", "warning"
        )


def alerts(conn: Connection) -> Iterator[Finding]:
    """In live mode, whether a missing worker would be noticed."""
    watched = row(conn, _WATCHED, {})
    if not watched["livemode"]:
        return
    lacks = [] if watched["is_posted"] else ["pg_net or settings.alert_webhook_url"]
    if not watched["has_cron"] or not row(conn, _WATCH_JOB, {})["is_scheduled"]:
        lacks.append("the job of pg_cron (select billing.use_pg_cron())")
    if lacks:
        yield Finding(
            "watch", f"nobody is notified while no worker runs: {' and '.join(lacks)} missing",
            "see docs/how-to/monitor.md", "warning",
        )  # fmt: skip


def proofs(conn: Connection) -> Iterator[Finding]:
    """Both proofs of every account, now: takes as long as the ledger is large."""
    for query in (_LEDGER_PROOF, _ENTITLEMENT_PROOF):
        for each in rows(conn, query, {}):
            mend = (
                "till worker run, which queues it again"
                if each["account_id"] is None
                else _RECALCULATE.format(each["account_id"])
            )
            yield Finding("discrepancies", f"{each['invariant']}: {each['detail']}", mend)


CHECKS: dict[str, Check] = {
    "server": server,
    "objects and rights": objects,
    "queue and worker": queue,
    "events and notifications": events,
    "plans": plans,
    "ledger": ledger,
    "alerts": alerts,
}


def run(conn: Connection, check: Check, *, read_only: bool = True) -> list[Finding]:
    """The findings of a check; one that Postgres refuses is a finding itself."""
    try:
        with conn.transaction(force_rollback=True):
            if read_only:
                conn.execute("set transaction read only")
            return list(check(conn))
    except psycopg.errors.InsufficientPrivilege as error:
        return [_refused(error, "connect as postgres, which owns the schema")]
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InvalidSchemaName,
    ) as error:
        return [_refused(error, "supabase db push --remote")]
    except psycopg.Error as error:
        return [_refused(error, "run this again")]


def _refused(error: psycopg.Error, mend: str) -> Finding:
    return Finding("database", str(error.diag.message_primary), mend)
