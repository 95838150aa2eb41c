"""The tables of Stripe's own sync engine in schema `stripe` → the ids of objects that seem to differ, found in SQL.

Its releases differ: tables are named in the plural or in the singular; a row has a column for each field of Stripe's
object, or the whole object as `_raw_data`. What a table does not have is not compared. A mirror may be behind, so each
difference counts only when Stripe, asked once, says the same (`compare.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

from psycopg import sql

from cli.database import Connection, rows
from cli.findings import Finding
from cli.output import CliError
from cli.reconcile.kinds import Kind

SCHEMA = "stripe"
# Where more of a kind seem to differ, the mirror is not filled yet, or far behind: Stripe's lists are read instead.
SUSPECTS_MAX = 500

_NAMES = {
    "customer": ("customers", "customer"),
    "subscription": ("subscriptions", "subscription"),
    "invoice": ("invoices", "invoice"),
    "invoice_payment": ("invoice_payments", "invoice_payment"),
    "charge": ("charges", "charge"),
    "refund": ("refunds", "refund"),
    "dispute": ("disputes", "dispute"),
    "credit_note": ("credit_notes", "credit_note"),
    "radar.early_fraud_warning": ("early_fraud_warnings", "early_fraud_warning", "radar_early_fraud_warnings"),
}  # fmt: skip


def _id(key: LiteralString) -> LiteralString:
    """A reference: an id, or the object where it was expanded."""
    return f"case jsonb_typeof(body -> '{key}') when 'object' then body -> '{key}' -> 'id' else body -> '{key}' end"


def _plain(*keys: LiteralString) -> dict[LiteralString, tuple[LiteralString, LiteralString]]:
    return {key: (key, f"body -> '{key}'") for key in keys}


# Facts as `billing.stripe_facts` names them → the field that must be there, and its value in Stripe's shape.
_FACTS: Mapping[str, Mapping[LiteralString, tuple[LiteralString, LiteralString]]] = {
    "customer": _plain("email", "name"),
    "subscription": {
        "stripe_customer_id": ("customer", _id("customer")),
        **_plain(
            "status", "billing_cycle_anchor", "cancel_at", "cancel_at_period_end", "canceled_at", "ended_at",
            "trial_start", "trial_end",
        ),
        "items": (
            "items",
            "(select coalesce(jsonb_object_agg(item ->> 'id', jsonb_build_object("
            "'price', item -> 'price' -> 'id', 'quantity', item -> 'quantity')), '{}') "
            "from jsonb_array_elements(body -> 'items' -> 'data') as item)",
        ),
    },
    "invoice": {
        **_plain("status", "total", "amount_paid"),
        "lines": (
            "lines",
            "(select coalesce(jsonb_object_agg(line ->> 'id', jsonb_build_object("
            "'amount', line -> 'amount', 'quantity', line -> 'quantity', 'start', line -> 'period' -> 'start', "
            "'end', line -> 'period' -> 'end')), '{}') "
            "from jsonb_array_elements(body -> 'lines' -> 'data') as line)",
        ),
    },
    "invoice_payment": {
        "stripe_invoice_id": ("invoice", _id("invoice")),
        **_plain("amount_paid"),
    },
    "charge": _plain("status", "amount", "amount_refunded", "currency"),
    "refund": {
        **_plain("status", "amount", "currency"),
        "stripe_charge_id": ("charge", _id("charge")),
        "stripe_payment_intent_id": ("payment_intent", _id("payment_intent")),
    },
    "dispute": {**_plain("status", "amount"), "stripe_charge_id": ("charge", _id("charge"))},
    "credit_note": {
        "stripe_invoice_id": ("invoice", _id("invoice")),
        **_plain("status", "amount"),
    },
    "radar.early_fraud_warning": {**_plain("actionable"), "stripe_charge_id": ("charge", _id("charge"))},
}  # fmt: skip

# Facts that are not all of a row's: as `billing.stripe_facts` has them.
_OTHERWISE: Mapping[str, LiteralString] = {
    "customer": """case when body -> 'deleted' = 'true' then jsonb_build_object('is_deleted', true)
        else jsonb_build_object('is_deleted', false) || facts end""",
    "invoice": """case when body ->> 'status' = 'paid' then facts
        else jsonb_build_object('status', replace(body ->> 'status', 'draft', 'open')) end""",
}
# Of others a missing row is no difference.
_NEEDED: Mapping[str, LiteralString] = {
    "customer": "body -> 'deleted' is distinct from 'true'",
    "invoice": "body ->> 'status' = 'paid'",
    "invoice_payment": "body ->> 'status' = 'paid'",
    "charge": "body ->> 'status' = 'succeeded'",
}

_COLUMNS: LiteralString = """
    select relname as name, array_agg(attname::text) as columns
    from pg_catalog.pg_class join pg_catalog.pg_attribute on attrelid = pg_class.oid
    where relnamespace = to_regnamespace(%(schema)s) and relkind in ('r', 'p', 'v', 'm', 'f')
        and attnum > 0 and not attisdropped
    group by relname
"""
_OBJECTS: LiteralString = """
    select body ->> 'id' as id, to_timestamp((body ->> 'created')::bigint) as created, body, {facts} as facts
    from (select {body} as body, {account} as account from {table} as mirrored) as mirrored, billing.settings
    where coalesce((body ->> 'livemode')::boolean, settings.livemode) = settings.livemode
        and coalesce(account = settings.stripe_account_id, true)
        and body ->> 'status' is distinct from 'deleted'
"""
# jsonb contains: what only the database has, or only Stripe's full object, is no difference.
_SUSPECTS: LiteralString = """
    with theirs as materialized (
        select id, created, body, {otherwise} as facts from ({objects}) as objects
    ), ours as materialized (
        select stripe_id, facts, is_expected, livemode from billing.stripe_facts where object = %(object)s
    )
    select theirs.id from theirs left join ours on ours.stripe_id = theirs.id
    where case when ours.stripe_id is null then {needed} else not ours.facts @> theirs.facts end
        and coalesce(not ours.facts ? 'is_erased', true)
        and theirs.created >= coalesce(%(since)s::timestamptz, '-infinity')
    union all
    select ours.stripe_id from ours
    where %(is_whole)s and ours.is_expected and coalesce(ours.livemode = billing.is_livemode(), true)
        and not exists (select from theirs where theirs.id = ours.stripe_id)
    limit %(limit)s
"""
_KNOWN: LiteralString = "select id from ({objects}) as objects where id = any (%(ids)s)"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the mirror, and how its rows are read as Stripe's objects."""

    kind: Kind
    name: str
    columns: frozenset[str]

    @property
    def objects(self) -> sql.Composed:
        is_raw = "_raw_data" in self.columns
        known: dict[str, LiteralString] = {
            fact: value
            for fact, (field, value) in _FACTS[self.kind.name].items()
            if is_raw or field in self.columns
        }
        pairs = sql.SQL(", ").join(
            sql.SQL("{}, {}").format(sql.Literal(fact), sql.SQL(value)) for fact, value in known.items()
        )
        account = sql.SQL("mirrored._account_id" if "_account_id" in self.columns else "null::text")
        return sql.SQL(_OBJECTS).format(
            facts=sql.SQL("jsonb_build_object({})").format(pairs),
            body=sql.SQL("mirrored._raw_data" if is_raw else "to_jsonb(mirrored)"),
            account=account,
            table=sql.Identifier(SCHEMA, self.name),
        )


@dataclass(slots=True)
class Mirror:
    """Its tables by kind, and what was seen of it, as findings."""

    tables: Mapping[str, Table]
    findings: list[Finding] = field(default_factory=list[Finding])

    def tell(
        self, kind: Kind, what: str, mend: str = "see the sync engine's own log; here nothing is wrong"
    ) -> None:
        """A warning: reconcile's answer does not depend on it, but less was read from the mirror."""
        self.findings.append(Finding("mirror_behind", f"{kind.noun}s: {what}", mend, "warning"))


def open_mirror(conn: Connection, kinds: Sequence[Kind]) -> Mirror:
    """Raises CliError where there is none."""
    columns = {each["name"]: frozenset(each["columns"]) for each in rows(conn, _COLUMNS, {"schema": SCHEMA})}
    tables: dict[str, Table] = {}
    mirror = Mirror(tables)
    for kind in kinds:
        if kind.name not in _NAMES:
            continue
        name = next(
            (name for name in _NAMES[kind.name] if {"id", "_raw_data"} & columns.get(name, frozenset())), None
        )
        if name is None:
            mirror.tell(
                kind, f"schema {SCHEMA} has no table {_NAMES[kind.name][0]}, so they were read from Stripe",
                "let the sync engine sync them too",
            )  # fmt: skip
        else:
            tables[kind.name] = Table(kind, name, columns[name])
    if not tables:
        raise CliError(
            f"schema {SCHEMA} has no table of Stripe's sync engine: run till reconcile without --from-mirror"
        )
    return mirror


def known(conn: Connection, table: Table, stripe_ids: Sequence[str]) -> set[str]:
    """Those of the objects that the mirror has."""
    query = sql.SQL(_KNOWN).format(objects=table.objects)
    return {each["id"] for each in conn.execute(query, {"ids": list(stripe_ids)})}


def suspects(conn: Connection, table: Table, since: datetime | None, *, is_whole: bool) -> list[str]:
    """Ids of objects on which mirror and database seem to differ; one more than SUSPECTS_MAX where there are more."""
    kind = table.kind.name
    query = sql.SQL(_SUSPECTS).format(
        objects=table.objects,
        otherwise=sql.SQL(_OTHERWISE.get(kind, "facts")),
        needed=sql.SQL(_NEEDED.get(kind, "true")),
    )
    asked = {"object": kind, "since": since, "is_whole": is_whole, "limit": SUSPECTS_MAX + 1}
    found = conn.execute(query, asked)
    return [each["id"] for each in found]
