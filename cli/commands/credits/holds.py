"""`till credits hold`, `capture`, `release`, `extend`, `holds`: credits set aside for work in progress."""

import re
from typing import Annotated
from uuid import UUID

import typer

from cli.app import App
from cli.call import Account, Amount, Description, Feature, Key, Part, Spender, key_or_new, perform
from cli.database import account_id_of, connect, rows
from cli.output import AsJson, print_rows

app = App(panel="Hold for work in progress")

HoldId = Annotated[UUID, typer.Argument(help="Hold id, as `till credits hold` and `holds` print it.")]
_DURATION = re.compile(r"(\d+) ?(seconds?|minutes?|hours?|days?)?")


def _duration(text: str) -> str:
    """Minutes, or a number and its unit → an interval as Postgres reads it."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: write minutes, or such as '2 hours'")
    return f"{found[1]} {found[2] or 'minutes'}"


ExpiresIn = Annotated[
    str,
    typer.Option(
        help="How long they are set aside: minutes, or such as '2 hours'.",
        metavar="DURATION",
        parser=_duration,
    ),
]


@app.command()
def hold(
    account: Account,
    amount: Amount,
    key: Key = None,
    expires_in: ExpiresIn = "1 hour",
    description: Description = None,
    feature: Feature = None,
    actor: Spender = None,
    as_json: AsJson = False,
) -> None:
    """Set credits aside, until they are captured, released or expire."""
    perform(
        "hold_credits",
        as_json=as_json,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        expires_in=expires_in,
        description=description,
        feature=feature,
        actor=actor,
    )


@app.command()
def capture(
    hold_id: HoldId,
    amount: Part = None,
    key: Key = None,
    description: Description = None,
    release_rest: Annotated[
        bool, typer.Option("--release-rest", help="Release what is left of the hold.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Spend credits of a hold, all of them or part."""
    perform(
        "capture_hold",
        as_json=as_json,
        hold_id=hold_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        description=description,
        release_rest=release_rest,
    )


@app.command()
def release(hold_id: HoldId, key: Key = None, as_json: AsJson = False) -> None:
    """End a hold without spending: its credits are available again."""
    perform("release_hold", as_json=as_json, hold_id=hold_id, idempotency_key=key_or_new(key))


@app.command()
def extend(hold_id: HoldId, expires_in: ExpiresIn = "1 hour", as_json: AsJson = False) -> None:
    """Give a hold more time, counted from now. Never shortens it."""
    perform("extend_hold", as_json=as_json, hold_id=hold_id, expires_in=expires_in)


@app.command()
def holds(account: Account, as_json: AsJson = False) -> None:
    """List open holds, the first to expire first."""
    with connect() as conn:
        found = rows(
            conn,
            "select id, amount, captured, amount - captured as held, expires_at, feature, description "
            "from billing.credit_holds where account_id = %(account_id)s and status = 'held' "
            "order by expires_at, id",
            {"account_id": account_id_of(conn, account)},
        )
    print_rows(found, as_json=as_json, empty="no open holds", numbers=("amount", "captured", "held"))
