"""`till credits revoke`, `reinstate`, `adjust`, `recalculate`: what an administrator answers for."""

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
    row_id,
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
    grant_id: Annotated[
        int, typer.Argument(help="Id of the credit grant, as `till credits grants` prints it.", parser=row_id)
    ],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    policy: Annotated[
        Policy,
        typer.Option(
            help="If part of it was spent: record that (the default), make it debt, or take it from the next grants."
        ),
    ] = Policy.CLAMP,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a credit grant back, all of it or part.

    A scheduled one is cancelled.
    """
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
    revocation_id: Annotated[
        int,
        typer.Argument(help="Id of the revocation, as `till credits revoke` prints it.", parser=row_id),
    ],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Undo a revocation, all of it or part."""
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


@app.command()
def adjust(
    account: Account,
    amount: Annotated[int, typer.Argument(help="Credits to add, such as 5, or to take, such as -5.")],
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Correct a balance by hand, up or down."""
    perform(
        "adjust_credits",
        as_json=as_json,
        yes=yes,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
    )


@app.command()
def recalculate(account: Account, yes: Yes = False, as_json: AsJson = False) -> None:
    """Calculate an account again, after rows were changed by hand.

    Balance and credits become what entries, grants and payments say. `till reconcile` names the accounts that need it.
    A sound account stays as it is.
    """
    perform("recalculate_account", as_json=as_json, yes=yes, account_id=account)
