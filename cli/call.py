"""What commands have in common: arguments, and one call of a function → its record."""

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import typer

from cli.database import Connection, account_id_of, call, connect, row
from cli.output import err, print_fields, print_json

_ROW_ID_MAX = 2**63 - 1


def moment(text: str) -> datetime:
    """A time as typed: ISO 8601, in UTC where it names no offset."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-11-30, 2026-11-30T07:15 or 2026-11-30T07:15:00+01:00"
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def row_id(text: str) -> int:
    """The id of a row, as listings print it."""
    if not text.isdecimal() or not 0 < int(text) <= _ROW_ID_MAX:
        raise typer.BadParameter(f"{text!r} is no id: write the number that the listing prints")
    return int(text)


Account = Annotated[
    str, typer.Argument(help="Account id, its owner's user id or e-mail, or a Stripe customer id (cus_…).")
]
Amount = Annotated[int, typer.Argument(help="Credits, a whole number.", min=1)]
Part = Annotated[
    int | None, typer.Argument(help="Credits, a whole number. Default: all that is left.", min=1)
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Idempotency key: the same call with the same key is done once. Default: a new one."
    ),
]
Description = Annotated[str | None, typer.Option(help="What it was for, as the user reads it.")]
Reference = Annotated[str | None, typer.Option(help="Your id of what they are for.")]
Feature = Annotated[str | None, typer.Option(help="Feature or meter the credits were used for.")]
Reason = Annotated[str, typer.Option(help="Why. It is recorded.")]
Actor = Annotated[str | None, typer.Option(help="Who does it. Default: your user name on this machine.")]
Spender = Annotated[str | None, typer.Option("--actor", help="Who spends, such as agent:writer.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what it would do.")]

# What a function writes under its key, where that is no entry.
_WRITES = {
    "schedule_credits": "credit grant",
    "hold_credits": "hold",
    "release_hold": "release of hold",
    "revoke_grant": "revocation",
    "reinstate_grant": "reinstatement",
}
_ACCOUNTS = ("account_id", "from_account_id", "to_account_id")
# What people have no use for, and what is not there once a dry run is over.
_HIDDEN = ("key_space", "release_key", "created_at", "dry_run", "replayed")
_ROLLED_BACK = ("id", "entry_id", "idempotency_key")


def perform(function: str, *, as_json: bool, yes: bool | None = None, **arguments: Any) -> None:
    """Call a function of `billing` and print what it returns. Accounts are named as people name them.

    `yes` is None for what needs no consent; where it is False, all is rolled back and shown as it would be.
    """
    with connect() as conn, conn.transaction(force_rollback=yes is False):
        accounts = {name: account_id_of(conn, arguments[name]) for name in _ACCOUNTS if name in arguments}
        [record] = call(conn, f"billing.{function}", **arguments | accounts)
        key = arguments.get("idempotency_key")
        if key is not None:
            record["replayed"] = _is_replayed(conn, function, record, key)
    print_record(record, as_json=as_json, yes=yes)
    if record.get("replayed") and not as_json:
        what = _WRITES.get(function, "entry")
        err.print(f"already done under this key: {what} {record['id']}", style="dim", highlight=False)


def print_record(record: Mapping[str, Any], *, as_json: bool, yes: bool | None = None) -> None:
    """Print one record. What is a dry run is marked as such, and has none of the ids that were rolled back."""
    if yes is False:
        record = {name: value for name, value in record.items() if name not in _ROLLED_BACK}
    if yes is not None:
        record = {"dry_run": not yes, **record}
    if as_json:
        print_json(record)
    else:
        print_fields({name: value for name, value in record.items() if name not in _HIDDEN and value != {}})
    if yes is False:
        say_nothing_was_done()


def say_nothing_was_done() -> None:
    """The end of every dry run."""
    err.print("nothing was done: repeat it with --yes", style="dim")


def key_or_new(key: str | None) -> str:
    """The idempotency key that was given, or one of this call's own."""
    return key or f"till:{uuid4()}"


def actor_or_user(actor: str | None) -> str:
    """Who does it: as given, else the user of this machine."""
    return actor or getpass.getuser()


def _is_replayed(conn: Connection, function: str, record: Mapping[str, Any], key: str) -> bool:
    """Whether an earlier transaction wrote the record; created_at is when the one that wrote it began."""
    if function != "release_hold":
        return row(conn, "select %(at)s <> now() as it", {"at": record["created_at"]})["it"]
    # A release has no row of its own: it is a new version of the hold's.
    query = "select xmin <> pg_current_xact_id()::xid as it from billing.credit_holds where id = %(id)s"
    return record["release_key"] == key and row(conn, query, {"id": record["id"]})["it"]
