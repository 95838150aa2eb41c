"""`till accounts …`: what has a balance, and whether it may spend."""

from typing import Annotated, LiteralString

import typer

from cli.app import App
from cli.call import Account, Actor, Reason, Yes, actor_or_user, perform, print_record
from cli.commands import privacy
from cli.database import Row, account_id_of, call, connect, row, rows
from cli.output import AsJson, out, print_fields, print_json, print_rows

app = App(
    "accounts", panel="Accounts and credits", help="List accounts; freeze, close, export and erase them."
)

_LIST: LiteralString = """
select id, kind, name, email, status, balance, held, available, created_at from billing.admin_accounts
where (%(search)s::text is null or id in (select billing.find_accounts(%(search)s, %(limit)s)))
    and (not %(frozen)s or frozen_at is not null)
order by created_at desc, id desc limit %(limit)s
"""
_SHOW: LiteralString = "select * from billing.admin_accounts where id = %(id)s"
_MEMBERS: LiteralString = """
select users.email, members.role, members.user_id from billing.account_members as members
join auth.users on users.id = members.user_id where members.account_id = %(id)s order by members.created_at, users.email
"""
_CUSTOMERS: LiteralString = """
select stripe_customer_id, email, name, duplicate_of, deleted_at, livemode from billing.customers
where account_id = %(id)s and stripe_customer_id is not null order by duplicate_of nulls first, id
"""
_SUBSCRIPTIONS: LiteralString = """
select stripe_subscription_id, status, started_at, cancel_at_period_end, ended_at from billing.subscriptions
where account_id = %(id)s order by started_at desc, stripe_subscription_id
"""


@app.command("list")
def list_accounts(
    search: Annotated[
        str | None, typer.Option(help="An id of ours or of Stripe's, an e-mail address or a part of one.")
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="Only frozen accounts.")] = False,
    limit: Annotated[int, typer.Option(help="How many accounts.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List accounts, newest first."""
    with connect() as conn:
        found = rows(conn, _LIST, {"search": search, "frozen": frozen, "limit": limit})
    print_rows(found, as_json=as_json, empty="no such accounts", numbers=("balance", "held", "available"))


@app.command()
def show(account: Account, as_json: AsJson = False) -> None:
    """Show an account: its balance, whether it may spend, its members, customers and subscriptions."""
    with connect() as conn:
        wanted: Row = {"id": account_id_of(conn, account)}
        found = row(conn, _SHOW, wanted)
        parts = {
            "members": rows(conn, _MEMBERS, wanted),
            "customers": rows(conn, _CUSTOMERS, wanted),
            "subscriptions": rows(conn, _SUBSCRIPTIONS, wanted),
        }
    if as_json:
        print_json(found | parts)
        return
    print_fields(found)
    for title, listing in parts.items():
        if listing:
            out.print(f"\n[bold]{title}[/]")
            print_rows(listing, as_json=False, empty="")


@app.command()
def freeze(account: Account, *, reason: Reason, actor: Actor = None, as_json: AsJson = False) -> None:
    """Block spending and purchases of an account. Its owner reads the reason."""
    perform("freeze_account", as_json=as_json, account_id=account, reason=reason, actor=actor_or_user(actor))


@app.command()
def unfreeze(account: Account, *, reason: Reason, actor: Actor = None, as_json: AsJson = False) -> None:
    """Let a frozen account spend and buy again. Earlier fraud warnings don't freeze it again."""
    perform(
        "unfreeze_account", as_json=as_json, account_id=account, reason=reason, actor=actor_or_user(actor)
    )


@app.command()
def close(
    account: Account,
    *,
    reason: Reason,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Close an account: release holds, forfeit credits, write off debt."""
    with connect() as conn, conn.transaction(force_rollback=not yes):
        account_id = account_id_of(conn, account)
        call(conn, "billing.close_account", account_id=account_id, reason=reason, actor=actor_or_user(actor))
        # What this transaction has written, that is.
        closed = row(
            conn,
            "select accounts.id as account_id, accounts.closed_at, "
            "coalesce((select -sum(amount) from billing.credit_entries where account_id = accounts.id "
            "and source = 'closing' and created_at = now() and amount < 0), 0)::bigint as forfeited, "
            "coalesce((select sum(amount) from billing.credit_entries where account_id = accounts.id "
            "and source = 'closing' and created_at = now() and amount > 0), 0)::bigint as written_off, "
            "(select count(*) from billing.credit_holds where account_id = accounts.id "
            "and status = 'released' and xmin = pg_current_xact_id()::xid) as holds_released, "
            "(select count(*) from billing.credit_grants where account_id = accounts.id "
            "and entry_id is null and xmin = pg_current_xact_id()::xid) as grants_cancelled "
            "from billing.accounts where id = %(account_id)s",
            {"account_id": account_id},
        )
    print_record(closed, as_json=as_json, yes=yes)


@app.command()
def reopen(account: Account, as_json: AsJson = False) -> None:
    """Open a closed account again, with no credits."""
    perform("reopen_account", as_json=as_json, account_id=account)


app.add_typer(privacy.app)
