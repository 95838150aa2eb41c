"""`till customers …`: Stripe customers that are none of this installation's."""

from typing import Annotated

import typer

from cli.app import App
from cli.call import Actor, Yes, actor_or_user, print_record
from cli.database import connect, row
from cli.output import AsJson

app = App(
    "customers",
    panel="Accounts and credits",
    help="Say which Stripe customers are none of this installation's.",
)


@app.command()
def dismiss(
    customer: Annotated[str, typer.Argument(help="Stripe customer id (cus_…).")],
    reason: Annotated[
        str, typer.Option(help="Why; it is kept with the customer and its events.")
    ] = "not ours",
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ignore what waits for a customer to be linked, now and later: it belongs to another app or environment.

    Linking the customer after all sends its events to the queue again.
    """
    with connect() as conn, conn.transaction(force_rollback=not yes):
        ignored: int = row(
            conn,
            "select billing.dismiss_customer("
            "stripe_customer_id => %(customer)s, reason => %(reason)s, actor => %(actor)s) as ignored",
            {"customer": customer, "reason": reason, "actor": actor_or_user(actor)},
        )["ignored"]
    print_record(
        {"stripe_customer_id": customer, "events_ignored": ignored}, as_json=as_json, is_dry_run=not yes
    )
