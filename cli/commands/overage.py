"""`till overage …`: credits that were spent beyond those of a plan, and their bills."""

from typing import Annotated
from uuid import UUID

import typer

from cli.app import App
from cli.call import print_record
from cli.database import Row, account_id_of, call, connect, rows
from cli.output import AsJson, print_rows, time_text
from cli.plans.tables import price_text
from cli.tables import print_table

app = App(
    "overage",
    panel="Accounts and credits",
    help="Overage: credits spent beyond a plan's, billed afterwards.",
)

_OVERAGES = """
select shown.id, shown.account_id, shown.stripe_subscription_id, shown.period_start, shown.period_end, shown.credits,
    shown.quantity, shown.amount, shown.currency, shown.status, coalesce(shown.reason, overages.last_error) as reason,
    shown.stripe_invoice_id, overages.stripe_invoice_item_id, shown.claimed_at
from public.billing_overages as shown
join billing.overages on overages.id = shown.id
where %(account_id)s::uuid is null or shown.account_id = %(account_id)s
order by shown.claimed_at desc, shown.id limit %(limit)s
"""


@app.command("list")
def list_overages(
    account: Annotated[
        str | None,
        typer.Argument(help="One account's: its id, its owner's or an e-mail.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was owed at the end of periods, newest first, with its invoices."""
    with connect() as conn:
        account_id = None if account is None else account_id_of(conn, account)
        found = rows(conn, _OVERAGES, {"account_id": account_id, "limit": limit})
    if as_json or not found:
        print_rows(found, as_json=as_json, empty="no overage was claimed yet")
        return
    print_table(
        ("id", "claimed", "account", "until", "credits", "amount", "status", "invoice", "reason"),
        (("", _cells(overage)) for overage in found),
        wrapped=("reason",),
        numbers=("credits", "amount"),
    )


@app.command()
def retry(
    overage: Annotated[
        UUID, typer.Argument(help="Its id, as `till overage list` shows it.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Bill an overage again that Stripe refused, after the cause was removed."""
    with connect() as conn:
        [found] = call(conn, "billing.retry_overage", overage_id=overage)
    print_record(
        {
            name: found[name]
            for name in ("id", "account_id", "status", "credits", "quantity", "amount", "currency")
        },
        as_json=as_json,
    )


def _cells(overage: Row) -> list[str | None]:
    return [
        str(overage["id"]),
        time_text(overage["claimed_at"]),
        str(overage["account_id"]),
        time_text(overage["period_end"]),
        f"{overage['credits']:,}",
        price_text(overage["amount"], overage["currency"]),
        overage["status"],
        overage["stripe_invoice_id"],
        overage["reason"],
    ]
