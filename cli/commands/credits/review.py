"""`till credits review …`: initial, trial and free credits that wait for an administrator."""

from enum import StrEnum
from typing import Annotated, Literal

import typer

from cli.app import App
from cli.call import Actor, Reason, actor_or_user, perform, row_id
from cli.database import Row, connect, rows
from cli.output import AsJson, print_rows

app = App("review", panel="Correct", help="Approve or refuse initial, trial and free credits under review.")


class Status(StrEnum):
    """What became of credits under review."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


ReviewId = Annotated[
    int,
    typer.Argument(
        help="Id of the review, as `till credits review list` prints it.", metavar="ID", parser=row_id
    ),
]


@app.command("list")
def list_reviews(
    status: Annotated[
        Status, typer.Option(help="Those that are pending, or what was decided.")
    ] = Status.PENDING,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List initial, trial and free credits under review: the card was seen on another account. Newest first."""
    with connect() as conn:
        found = rows(
            conn,
            "select * from billing.admin_credit_reviews where status = %(status)s order by id desc limit %(limit)s",
            {"status": status, "limit": limit},
        )
    if not as_json:
        found = [_for_people(row) for row in found]
    print_rows(
        found, as_json=as_json, empty=f"no credits under review are {status}", numbers=("id", "amount")
    )


def _for_people(row: Row) -> Row:
    shown = {name: row[name] for name in ("id", "held_at", "kind", "amount", "description")}
    shown["account"] = row["email"] or row["account_id"]
    shown["card_seen_before_on"] = row["matched_email"] or row["matched_account_id"]
    if row["reviewed_at"] is not None:
        shown |= {name: row[name] for name in ("reviewed_by", "reason")}
    return shown


@app.command()
def approve(
    review_id: ReviewId,
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Grant credits under review, once. This card is not reviewed again for this account."""
    _review(review_id, "approve", reason, actor, as_json=as_json)


@app.command()
def refuse(
    review_id: ReviewId,
    *,
    reason: Reason,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Never grant credits under review."""
    _review(review_id, "refuse", reason, actor, as_json=as_json)


def _review(
    review_id: int, decision: Literal["approve", "refuse"], reason: str, actor: str | None, *, as_json: bool
) -> None:
    perform(
        "review_held_credits",
        as_json=as_json,
        id=review_id,
        decision=decision,
        reason=reason,
        actor=actor_or_user(actor),
    )
