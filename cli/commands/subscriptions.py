"""`till subscriptions …`: who pays for what, and until when."""

from enum import StrEnum
from typing import Annotated, LiteralString

import typer

from cli.app import App
from cli.database import Row, account_id_of, connect, rows
from cli.output import AsJson, CliError, out, print_fields, print_json, print_rows

app = App("subscriptions", panel="Accounts and credits", help="List subscriptions and what they consist of.")


class Status(StrEnum):
    """As Stripe names them."""

    ACTIVE = "active"
    TRIALING = "trialing"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    PAUSED = "paused"
    CANCELED = "canceled"
    INCOMPLETE = "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired"


_LIST: LiteralString = """
select * from billing.admin_subscriptions
where (%(account_id)s::uuid is null or account_id = %(account_id)s)
    and (%(status)s::text is null or status = %(status)s)
order by started_at desc, stripe_subscription_id limit %(limit)s
"""
_SHOW: LiteralString = """
select subscriptions.*, (
        select min(next_slot_at) from billing.credit_schedules as schedules
        where schedules.stripe_subscription_id = subscriptions.stripe_subscription_id
            and schedules.disarmed_reason is null
    ) as next_credits_at
from billing.admin_subscriptions as subscriptions where stripe_subscription_id = %(id)s
"""
_ITEMS: LiteralString = """
select items.stripe_subscription_item_id, plans.lookup_key, items.stripe_price_id, items.quantity,
    plans.monthly_credits, items.current_period_start, items.current_period_end
from billing.subscription_items as items
left join billing.plans on plans.stripe_price_id = items.stripe_price_id
where items.stripe_subscription_id = %(id)s order by items.stripe_subscription_item_id
"""


@app.command("list")
def list_subscriptions(
    account: Annotated[
        str | None,
        typer.Option(
            help="Only those of this account: its id, its owner's e-mail, a cus_… id.", metavar="ACCOUNT"
        ),
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List subscriptions, newest first."""
    with connect() as conn:
        account_id = None if account is None else account_id_of(conn, account)
        found = rows(conn, _LIST, {"account_id": account_id, "status": status, "limit": limit})
    shown = found if as_json else [_for_people(each) for each in found]
    print_rows(shown, as_json=as_json, empty="no such subscriptions")


@app.command()
def show(
    subscription_id: Annotated[str, typer.Argument(help="Stripe subscription id (sub_…).")],
    as_json: AsJson = False,
) -> None:
    """Show a subscription, its items, and when it grants credits next."""
    with connect() as conn:
        found = rows(conn, _SHOW, {"id": subscription_id})
        if not found:
            raise CliError(
                f"there is no subscription {subscription_id}: list them with `till subscriptions list`"
            )
        items = rows(conn, _ITEMS, {"id": subscription_id})
    if as_json:
        print_json(found[0] | {"items": items})
        return
    print_fields(found[0])
    out.print("\n[bold]items[/]")
    print_rows(items, as_json=False, empty="no items", numbers=("quantity", "monthly_credits"))


def _for_people(found: Row) -> Row:
    names = (
        "stripe_subscription_id",
        "status",
        "plans",
        "current_period_end",
        "cancel_at_period_end",
        "ended_at",
    )
    return {"account": found["email"] or found["account_id"] or "unlinked"} | {
        name: found[name] for name in names
    }
