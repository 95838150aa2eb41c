"""`till accounts export` and `erase`: what the database has about one person, and its removal."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, LiteralString
from uuid import UUID

import typer

from cli.app import App
from cli.call import Actor, Reason, actor_or_user, print_record
from cli.database import Connection, account_id_of, call, connect, row, rows
from cli.output import AsJson, CliError, counted, err, print_json

app = App()

Person = Annotated[
    str,
    typer.Argument(
        help="Account id, its owner's user id or e-mail, or a Stripe customer id (cus_…), also of a guest.",
        metavar="ACCOUNT",
    ),
]

_UNOWNED: LiteralString = """
select stripe_customer_id from billing.customers where stripe_customer_id = %(it)s and account_id is null
"""
_COUNTS: LiteralString = """
select
    (select count(*) from billing.customers where account_id = %(id)s) as customers,
    (select count(*) from billing.credit_entries where account_id = %(id)s) as entries_kept,
    (select balance from billing.credit_balances where account_id = %(id)s) as credits_forfeited,
    billing.owner_email(%(id)s) as email
"""
# Customers with the same address: another person can have typed it, so a person decides.
_SAME_EMAIL: LiteralString = """
select stripe_customer_id, account_id from billing.customers
where lower(email) = any (%(emails)s) and account_id is distinct from %(id)s and stripe_customer_id is not null
order by id limit 20
"""
_EMAILS: LiteralString = """
select array_agg(distinct lower(email)) as emails from (
    select email from billing.customers where account_id = %(id)s
    union all select billing.owner_email(%(id)s)
) as found where email is not null
"""


@app.command()
def export(
    person: Person,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Write to this file. Default: print.", dir_okay=False),
    ] = None,
) -> None:
    """Print everything that the database has about a person, as JSON."""
    with connect() as conn:
        account_id, customer = _find(conn, person)
        if customer is None:
            found = call(conn, "billing.export_account", account_id=account_id)
        else:
            found = call(conn, "billing.export_customer", stripe_customer_id=customer)
    sections: dict[str, list[Any]] = {}
    for each in found:
        sections.setdefault(each["section"], []).append(each["data"])
    if file is None:
        print_json(sections)
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CliError(f"{file} can't be written ({error.strerror}): choose another name") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump(sections, out, ensure_ascii=False, indent=2)
    err.print(f"{counted(len(found), 'row', 'are')} in {file}", style="dim", highlight=False)


@app.command()
def erase(
    person: Person,
    *,
    reason: Reason,
    actor: Actor = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without a question.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person's data and close the account. The ledger stays. This cannot be undone.

    In a terminal it asks first.
    """
    if yes and dry_run:
        raise typer.BadParameter("give --yes or --dry-run, not both")
    who = actor_or_user(actor)
    with connect() as conn:
        account_id, customer = _find(conn, person)
        record = _erase(conn, account_id, customer, reason, who, is_dry=not yes)
        is_replayed = record.pop("replayed")
        may_ask = not (yes or dry_run or as_json or is_replayed) and sys.stdin.isatty()
        if may_ask:
            print_record(record, as_json=False)
            if not typer.confirm("Erase this person's data for good?", err=True):
                raise typer.Exit(1)
            record = _erase(conn, account_id, customer, reason, who, is_dry=False)
            record.pop("replayed")
            yes = True
    if is_replayed:
        print_record(record | {"replayed": True}, as_json=as_json)
        if not as_json:
            err.print("already erased: nothing was changed", style="dim")
        return
    print_record(record | ({"replayed": False} if as_json else {}), as_json=as_json, yes=yes)
    if yes and not as_json:
        err.print("next: delete the user in Supabase Auth and the customer in Stripe", style="dim")


def _find(conn: Connection, person: str) -> tuple[UUID | None, str | None]:
    """An account, or a customer that no account owns."""
    if person.startswith("cus_"):
        unowned = rows(conn, _UNOWNED, {"it": person})
        if unowned:
            return None, person
    return account_id_of(conn, person), None


def _erase(
    conn: Connection, account_id: UUID | None, customer: str | None, reason: str, actor: str, *, is_dry: bool
) -> dict[str, Any]:
    """Erase, or try it and roll back; what it did."""
    with conn.transaction(force_rollback=is_dry):
        wanted = {"id": account_id}
        before: dict[str, Any] = {"customers": 1}
        named: list[str] = []
        if account_id is not None:
            before = row(conn, _COUNTS, wanted)
            emails = row(conn, _EMAILS, wanted)["emails"]
            named = [
                each["stripe_customer_id"] for each in rows(conn, _SAME_EMAIL, wanted | {"emails": emails})
            ]
            [erasure] = call(conn, "billing.erase_account", account_id=account_id, reason=reason, actor=actor)
        else:
            arguments = {"stripe_customer_id": customer, "reason": reason, "actor": actor}
            [erasure] = call(conn, "billing.erase_customer", **arguments)
        replayed = row(conn, "select %(at)s <> now() as it", {"at": erasure["erased_at"]})["it"]
    of = {"account_id": account_id} if customer is None else {"stripe_customer_id": customer}
    done = {"erased_at": erasure["erased_at"], "events_emptied": erasure["events_emptied"]}
    if replayed:
        return of | done | {"replayed": True}
    # Of a dry run nobody needs the time.
    counts = {name: value for name, value in before.items() if value is not None}
    same = {"same_email": ", ".join(named)} if named else {}
    return (
        of
        | counts
        | (done if not is_dry else {"events_emptied": done["events_emptied"]})
        | same
        | {"replayed": False}
    )
