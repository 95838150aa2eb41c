"""`till credits revoke`, `reinstate`, `adjust`: what an administrator answers for."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.app import App
from cli.call import (
    Account,
    Actor,
    Key,
    Part,
    Reason,
    Yes,
    actor_or_user,
    key_or_new,
    perform,
)
from cli.output import AsJson

app = App(panel="Correct")


class Policy(StrEnum):
    """What becomes of credits to be revoked that were spent already."""

    CLAMP = "clamp_and_record"
    NEGATIVE = "allow_negative"
    BLOCK = "block_future_grants"


@app.command()
def revoke(
    grant_id: Annotated[int, typer.Argument(help="Id of the lot, as `lots` prints it.")],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    policy: Annotated[
        Policy,
        typer.Option(
            help="What becomes of the part that was spent: nothing, debt, or the next grants make up for it."
        ),
    ] = Policy.CLAMP,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a lot back, all of it or part; a scheduled one is cancelled."""
    perform(
        "revoke_grant",
        as_json=as_json,
        yes=yes,
        grant_id=grant_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
        shortfall_policy=policy,
    )


@app.command()
def reinstate(
    revocation_id: Annotated[int, typer.Argument(help="Id of the revocation, as `revoke` prints it.")],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give back what a revocation took, or no longer withhold it from the next grants."""
    perform(
        "reinstate_grant",
        as_json=as_json,
        yes=yes,
        revocation_id=revocation_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
    )


# A negative amount is no option.
@app.command(context_settings={"ignore_unknown_options": True})
def adjust(
    account: Account,
    amount: Annotated[int, typer.Argument(help="Credits to add, or to take where it is below zero.")],
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take them. Without, only show what it would do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add or take credits by hand."""
    perform(
        "adjust_credits",
        as_json=as_json,
        yes=yes or amount >= 0,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
    )
