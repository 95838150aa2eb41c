"""`till customers …`: which account owns a Stripe customer, or that it belongs to another installation."""

from enum import StrEnum
from typing import Annotated, LiteralString

import typer

from cli.app import App
from cli.call import Actor, Yes, actor_or_user, print_record
from cli.database import Connection, account_id_of, connect, row, rows
from cli.output import AsJson, print_rows

app = App(
    "customers", panel="Accounts and credits", help="Link Stripe customers to accounts, or dismiss them."
)


class Status(StrEnum):
    """What a customer is to this installation."""

    UNLINKED = "unlinked"
    LINKED = "linked"
    DUPLICATE = "duplicate"
    DISMISSED = "dismissed"
    ALL = "all"


Customer = Annotated[str, typer.Argument(help="Stripe customer id (cus_…).")]

_LIST: LiteralString = """
select stripe_customer_id, status, email, name, events_waiting, account_id, duplicate_of, dismissed_reason, livemode,
    created_at
from billing.admin_customers where %(status)s::text is null or status = %(status)s
order by created_at desc, stripe_customer_id limit %(limit)s
"""
_LINKED: LiteralString = """
select customers.stripe_customer_id, customers.account_id, customers.duplicate_of, (
        select count(*) from billing.subscriptions
        where subscriptions.stripe_customer_id = customers.stripe_customer_id
    ) as subscriptions,
    balances.balance
from billing.customers join billing.credit_balances as balances on balances.account_id = customers.account_id
where customers.stripe_customer_id = %(customer)s
"""
_WAITING: LiteralString = """
select count(*) as events from billing.stripe_events
where waiting_for = %(customer)s and status in ('parked', 'dead', 'ignored')
"""


@app.command("list")
def list_customers(
    status: Annotated[
        Status, typer.Option(help="unlinked: no account owns them yet, and their events wait.")
    ] = Status.UNLINKED,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List Stripe customers, newest first; those of no account unless --status says otherwise."""
    with connect() as conn:
        wanted = None if status is Status.ALL else status
        found = rows(conn, _LIST, {"status": wanted, "limit": limit})
    empty = "no customers" if status is Status.ALL else f"no {status} customers"
    print_rows(found, as_json=as_json, empty=empty, numbers=("events_waiting",))


@app.command()
def link(
    customer: Customer,
    account: Annotated[
        str,
        typer.Argument(help="Which account owns it: account id, its owner's user id or e-mail."),
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Link a customer to an account, for good. Events that wait for it go on.

    The two may be given in either order.
    """
    if account.startswith("cus_") and not customer.startswith("cus_"):
        customer, account = account, customer
    with connect() as conn, conn.transaction(force_rollback=not yes):
        account_id = account_id_of(conn, account)
        waiting = _waiting(conn, customer)
        conn.execute(
            "select billing.link_customer(account_id => %(account_id)s, stripe_customer_id => %(customer)s)",
            {"account_id": account_id, "customer": customer},
        )
        linked = row(conn, _LINKED, {"customer": customer})
    print_record(linked | {"events_that_go_on": waiting}, as_json=as_json, yes=yes)


@app.command()
def merge(
    duplicate: Annotated[str, typer.Argument(help="The other customer of the same person (cus_…).")],
    kept: Annotated[str, typer.Argument(help="The customer that the account keeps (cus_…).")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Merge a second customer of the same person into the linked one, for good. Events that wait go on."""
    with connect() as conn, conn.transaction(force_rollback=not yes):
        waiting = _waiting(conn, duplicate)
        conn.execute(
            "select billing.merge_customer(stripe_customer_id => %(duplicate)s, duplicate_of => %(kept)s)",
            {"duplicate": duplicate, "kept": kept},
        )
        merged = row(conn, _LINKED, {"customer": duplicate})
    print_record(merged | {"events_that_go_on": waiting}, as_json=as_json, yes=yes)


@app.command()
def dismiss(
    customer: Customer,
    reason: Annotated[
        str, typer.Option(help="Why; it is kept with the customer and its events.")
    ] = "not ours",
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ignore a customer of another app or environment, and its events, now and later.

    Linking the customer after all sends its events to the queue again.
    """
    with connect() as conn, conn.transaction(force_rollback=not yes):
        ignored: int = row(
            conn,
            "select billing.dismiss_customer("
            "stripe_customer_id => %(customer)s, reason => %(reason)s, actor => %(actor)s) as ignored",
            {"customer": customer, "reason": reason, "actor": actor_or_user(actor)},
        )["ignored"]
    print_record({"stripe_customer_id": customer, "events_ignored": ignored}, as_json=as_json, yes=yes)


def _waiting(conn: Connection, customer: str) -> int:
    return row(conn, _WAITING, {"customer": customer})["events"]
