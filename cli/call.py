"""What commands have in common: arguments, and one call of a function → its record."""

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import typer

from cli.database import account_id_of, call, connect
from cli.output import err, print_fields, print_json

Account = Annotated[
    str, typer.Argument(help="Account id, its owner's user id or e-mail, or a Stripe customer id (cus_…).")
]
Amount = Annotated[int, typer.Argument(help="Credits, a whole number.", min=1)]
Part = Annotated[
    int | None, typer.Argument(help="Credits, a whole number; all that is left if left out.", min=1)
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Idempotency key: the same call again changes nothing. One is made if left out."
    ),
]
Description = Annotated[str | None, typer.Option(help="What it was for, as the user reads it.")]
Reference = Annotated[str | None, typer.Option(help="Id of what they are for.")]
Feature = Annotated[str | None, typer.Option(help="Feature or meter the credits were used for.")]
Reason = Annotated[str, typer.Option(help="Why; written beside the entry for ever.")]
Actor = Annotated[str | None, typer.Option(help="Who does it; your user name on this machine if left out.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without, only show what it would do.")]

_ACCOUNTS = ("account_id", "from_account_id", "to_account_id")
# What people have no use for, and what is not there once a dry run is over.
_HIDDEN = ("key_space", "release_key", "created_at")
_ROLLED_BACK = ("id", "entry_id", "idempotency_key")


def perform(function: str, *, as_json: bool, yes: bool = True, **arguments: Any) -> None:
    """Call a function of `billing` and print what it returns; without `yes`, as it would be, and nothing is done.

    Accounts are named as people name them.
    """
    with connect() as conn, conn.transaction(force_rollback=not yes):
        accounts = {name: account_id_of(conn, arguments[name]) for name in _ACCOUNTS if name in arguments}
        [record] = call(conn, f"billing.{function}", **arguments | accounts)
    print_record(record, as_json=as_json, is_dry_run=not yes)


def print_record(record: Mapping[str, Any], *, as_json: bool, is_dry_run: bool = False) -> None:
    """Print one record; that of a dry run is marked as such and has none of the ids that were rolled back."""
    if is_dry_run:
        kept = {name: value for name, value in record.items() if name not in _ROLLED_BACK}
        record = {"dry_run": True} | kept
    if as_json:
        print_json(record)
    else:
        print_fields({name: value for name, value in record.items() if name not in _HIDDEN and value != {}})
    if is_dry_run:
        err.print("nothing was done: repeat it with --yes", style="dim")


def key_or_new(key: str | None) -> str:
    """The idempotency key that was given, or one of this call's own."""
    return key or f"till:{uuid4()}"


def actor_or_user(actor: str | None) -> str:
    """Who does it: as given, else the user of this machine."""
    return actor or getpass.getuser()


def utc(moment: datetime | None) -> datetime | None:
    """A moment as typed, which is in UTC."""
    return moment and moment.replace(tzinfo=UTC)
