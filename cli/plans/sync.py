"""Stripe's catalogue → products, plans and packs of the database, with the functions that the worker calls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg

from cli.database import Connection, Row, rows
from cli.output import CliError
from cli.plans.catalogue import Catalogue, ObjectKind, Read, StripeAccount
from worker.errors import UnknownShape
from worker.events.commands import DeletePrice, DeleteProduct, parameters_of, sql_of
from worker.events.decide import sync
from worker.events.normalise import normalise_object
from worker.events.shapes import Node

TIES_MAX = 5
TIE_SECONDS = 1.0  # a Date has whole seconds

_BAD_METADATA = "TB017"
# Errors of a single object (a CHECK or a type); any other error of Postgres stops the sync.
_FAULTS_OF_THE_OBJECT = ("22", "23")

_HELD: LiteralString = """
select stripe_product_id as stripe_id, 'product' as kind, null as lookup_key, to_jsonb(products) as facts
from billing.products
union all
select stripe_price_id, 'plan', lookup_key, to_jsonb(plans) from billing.plans
union all
select stripe_price_id, 'pack', lookup_key, to_jsonb(credit_packs) from billing.credit_packs
"""
_DELETED: LiteralString = "select kind, stripe_id from billing.deleted_prices"
_NO_FACTS = ("metadata", "as_of", "created_at", "updated_at", "livemode")


@dataclass(frozen=True, slots=True)
class Synced:
    """The result: a row for each product, plan and pack that is new or changed, and for each error.

    `deleted`: deleted in Stripe and now off sale. `missing`: not in this Stripe account; another account may have
    it.
    """

    changes: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    read: int
    deleted: list[str]
    missing: list[str]


def check_mode(conn: Connection, *, livemode: bool) -> None:
    """Refuse to mix Stripe's modes: a database has the plans of one mode."""
    expected: bool = rows(conn, "select billing.is_livemode() as livemode", {})[0]["livemode"]
    if livemode != expected:
        raise CliError(
            f"Stripe is in {_mode(livemode)} mode and this database in {_mode(expected)} mode: use the API key of "
            "the other mode, or set billing.settings.livemode"
        )


def sync_catalogue(
    conn: Connection,
    stripe: StripeAccount,
    catalogue: Catalogue,
    on_object: Callable[[], None],
    *,
    is_our_key: bool = False,
) -> Synced:
    """Sync every object; errors are recorded with their reason, and the others continue.

    Objects that Stripe does not have are taken off sale permanently, if the key is known to be of our account.
    """
    for livemode in {bool(read.body.get("livemode")) for read in catalogue}:
        check_mode(conn, livemode=livemode)
    before = _held(conn)
    refused: list[dict[str, Any]] = []
    for read in catalogue:
        reason = _bring(conn, stripe, read)
        if reason is not None:
            stripe_id = read.body["id"]
            lookup_key = read.body.get("lookup_key")
            refused.append({"stripe_id": stripe_id, "lookup_key": lookup_key, "reason": reason})
        on_object()
    missing = _missing(conn, catalogue)
    deleted = [found for found in missing if is_our_key and _delete_if_gone(conn, stripe, *found)]
    after = _held(conn)
    return Synced(
        changes=[
            change
            for stripe_id, row in after.items()
            if (change := _change(row, before.get(stripe_id))) is not None
        ],
        refused=refused,
        read=len(catalogue),
        deleted=sorted(stripe_id for _, stripe_id in deleted),
        missing=sorted(stripe_id for kind, stripe_id in missing if (kind, stripe_id) not in deleted),
    )


def _missing(conn: Connection, catalogue: Catalogue) -> list[tuple[ObjectKind, str]]:
    """Stored objects that are not in the catalogue and were not deleted before."""
    in_stripe = {("product", stripe_id) for stripe_id in catalogue.products}
    in_stripe |= {("price", stripe_id) for stripe_id in catalogue.prices}
    before = {(found["kind"], found["stripe_id"]) for found in rows(conn, _DELETED, {})}
    held: list[tuple[ObjectKind, str]] = [
        ("product" if found["kind"] == "product" else "price", found["stripe_id"])
        for found in rows(conn, _HELD, {})
    ]
    return [found for found in held if found not in in_stripe and found not in before]


def _delete_if_gone(conn: Connection, stripe: StripeAccount, kind: ObjectKind, stripe_id: str) -> bool:
    """Take an object off sale that Stripe, read once more, does not have; returns whether it was deleted."""
    if stripe.read(kind, stripe_id) is not None:
        return False  # created while the catalogue was read
    now = datetime.now(UTC)
    command = DeleteProduct(stripe_id, now) if kind == "product" else DeletePrice(stripe_id, now)
    conn.execute(sql_of(type(command)), parameters_of(command))
    return True


def _bring(conn: Connection, stripe: StripeAccount, read: Read) -> str | None:
    """Sync one object; returns the reason if it was refused."""
    try:
        for _ in range(TIES_MAX):
            if _apply(conn, read) != "refetch":
                return None
            # The stored state has the same second: only a later answer tells which is newer.
            later = stripe.read(read.kind, read.body["id"])
            if later is not None and later.as_of == read.as_of:
                time.sleep(TIE_SECONDS)
                later = stripe.read(read.kind, read.body["id"])
            if later is None:
                return None
            read = later
    except UnknownShape as error:
        return str(error)
    except psycopg.Error as error:
        if error.sqlstate != _BAD_METADATA and (error.sqlstate or "")[:2] not in _FAULTS_OF_THE_OBJECT:
            raise
        return f"{error.diag.message_primary} ({error.sqlstate})"
    return "Stripe's answers are not newer than the database: run the command again"


def _apply(conn: Connection, read: Read) -> str:
    found = normalise_object(Node(read.body, read.body["id"]))
    if found is None:
        raise UnknownShape(f"{read.body['id']} is not a {read.kind}")
    command = sync(found, read.as_of, is_fetched=True)
    answer = conn.execute(sql_of(type(command)), parameters_of(command)).fetchone()
    assert answer is not None
    (outcome,) = answer.values()
    return outcome


def _held(conn: Connection) -> dict[str, Row]:
    return {found["stripe_id"]: found for found in rows(conn, _HELD, {})}


def _change(row: Row, before: Row | None) -> dict[str, Any] | None:
    told = {"kind": row["kind"], "stripe_id": row["stripe_id"], "lookup_key": row["lookup_key"]}
    facts = _facts(row["facts"])
    if before is None:
        return {**told, "change": "new", "differences": {}, "now": facts}
    old = _facts(before["facts"])
    differences = {name: [old.get(name), value] for name, value in facts.items() if old.get(name) != value}
    return {**told, "change": "changed", "differences": differences, "now": facts} if differences else None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _NO_FACTS}


def _mode(livemode: bool) -> str:
    return "live" if livemode else "test"
