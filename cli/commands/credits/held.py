"""`till credits held`, `approve`, `refuse`: initial and trial credits that wait for an administrator."""

from enum import StrEnum
from typing import Annotated, Literal

import typer

from cli.commands.credits.call import Actor, Reason, actor_or_user, perform
from cli.database import Row, connect, rows
from cli.output import AsJson, print_rows


class Status(StrEnum):
    """What became of credits that were held."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


HeldId = Annotated[int, typer.Argument(help="Id of what is held, as `held` prints it.")]


def held(
    status: Annotated[
        Status, typer.Option(help="Those that wait, or those that were approved or refused.")
    ] = Status.PENDING,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List initial and trial credits of accounts whose card was seen on another account before, newest first."""
    with connect() as conn:
        found = rows(
            conn,
            "select held.*, users.email, others.email as matched_email "
            "from billing.held_credits as held "
            "join billing.accounts on accounts.id = held.account_id "
            "left join auth.users on users.id = accounts.owner_id "
            "join billing.accounts as matched on matched.id = held.matched_account_id "
            "left join auth.users as others on others.id = matched.owner_id "
            "where held.status = %(status)s order by held.id desc limit %(limit)s",
            {"status": status, "limit": limit},
        )
    if not as_json:
        found = [_for_people(row) for row in found]
    print_rows(found, as_json=as_json, empty=f"no credits are {status}", numbers=("id", "amount"))


def _for_people(row: Row) -> Row:
    shown = {name: row[name] for name in ("id", "held_at", "kind", "amount", "description")}
    shown["account"] = row["email"] or row["account_id"]
    shown["card_seen_before_on"] = row["matched_email"] or row["matched_account_id"]
    if row["reviewed_at"] is not None:
        shown |= {name: row[name] for name in ("reviewed_by", "reason")}
    return shown


def approve(
    held_id: HeldId,
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Give credits that are held, once; the account is not held for that card again."""
    _review(held_id, "approve", reason, actor, as_json=as_json)


def refuse(
    held_id: HeldId,
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Keep back credits that are held, for good."""
    _review(held_id, "refuse", reason, actor, as_json=as_json)


def _review(
    held_id: int, decision: Literal["approve", "refuse"], reason: str, actor: str | None, *, as_json: bool
) -> None:
    perform(
        "review_held_credits",
        as_json=as_json,
        id=held_id,
        decision=decision,
        reason=reason,
        actor=actor_or_user(actor),
    )
