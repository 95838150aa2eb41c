"""`till credits grant`, `spend`, `refund`, `transfer`: each is one call that moves credits."""

from datetime import datetime
from typing import Annotated, Any

import typer

from cli.app import App
from cli.call import (
    Account,
    Amount,
    Description,
    Feature,
    Key,
    Part,
    Reference,
    Spender,
    key_or_new,
    moment,
    perform,
    row_id,
)
from cli.output import AsJson

app = App(panel="Move")


@app.command()
def grant(
    account: Account,
    amount: Amount,
    key: Key = None,
    description: Description = None,
    source: Annotated[str, typer.Option(help="Where the credits come from.")] = "till.grant",
    reference: Reference = None,
    opens_at: Annotated[
        datetime | None,
        typer.Option(help="When they open (UTC); at once if left out.", parser=moment),
    ] = None,
    expires_at: Annotated[
        datetime | None,
        typer.Option(help="When unspent ones expire (UTC); never if left out.", parser=moment),
    ] = None,
    priority: Annotated[
        int, typer.Option(help="Grants of a lower number are spent first.", min=-1_000_000, max=1_000_000)
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Add credits to an account, now or at a later time."""
    opening: dict[str, Any] = {} if opens_at is None else {"effective_at": opens_at}
    perform(
        "grant_credits" if opens_at is None else "schedule_credits",
        as_json=as_json,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        description=description,
        source=source,
        reference_id=reference,
        expires_at=expires_at,
        priority=priority,
        **opening,
    )


@app.command()
def spend(
    account: Account,
    amount: Amount,
    key: Key = None,
    description: Description = None,
    feature: Feature = None,
    reference: Reference = None,
    up_to: Annotated[bool, typer.Option("--up-to", help="Take what is available, if that is less.")] = False,
    actor: Spender = None,
    as_json: AsJson = False,
) -> None:
    """Take credits for something that was used.

    Refused when too few are available and while the account is frozen.
    """
    perform(
        "spend_credits",
        as_json=as_json,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        description=description,
        feature=feature,
        reference_id=reference,
        up_to=up_to,
        actor=actor,
    )


@app.command()
def refund(
    entry_id: Annotated[
        int,
        typer.Argument(
            help="Id of the spend or capture, as `till credits history` prints it.", parser=row_id
        ),
    ],
    amount: Part = None,
    key: Key = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Undo a spend: its credits go back to the grants they came from."""
    perform(
        "refund_spend",
        as_json=as_json,
        entry_id=entry_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        description=description,
    )


@app.command()
def transfer(
    giver: Annotated[
        str, typer.Argument(metavar="FROM", help="The account that gives: id, e-mail or cus_… id.")
    ],
    taker: Annotated[
        str, typer.Argument(metavar="TO", help="The account that receives: id, e-mail or cus_… id.")
    ],
    amount: Amount,
    key: Key = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Move credits to another account; they keep their expiry."""
    perform(
        "transfer_credits",
        as_json=as_json,
        from_account_id=giver,
        to_account_id=taker,
        amount=amount,
        idempotency_key=key_or_new(key),
        description=description,
    )
