"""`till credits balance`, `history`, `grants`, `statement`, `usage`: what an account has, had and did."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from cli.app import App
from cli.call import Account, moment, print_record, row_id
from cli.database import Connection, Row, account_id_of, call, connect, row, rows
from cli.output import AsJson, err, print_rows, time_text

app = App(panel="Read")

Since = Annotated[
    datetime | None,
    typer.Option("--from", help="First moment (UTC); this month's if left out.", parser=moment),
]
Until = Annotated[
    datetime | None, typer.Option("--to", help="Up to this moment (UTC); now if left out.", parser=moment)
]


@app.command()
def balance(
    account: Account,
    as_of: Annotated[
        datetime | None, typer.Option(help="The balance as of this moment instead (UTC).", parser=moment)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the balance, what is held of it, and what is available."""
    with connect() as conn:
        parameters = {"account_id": account_id_of(conn, account), "as_of": as_of}
        if as_of is not None:
            found = row(
                conn,
                "select %(account_id)s::uuid as account_id, %(as_of)s::timestamptz as as_of, "
                "public.credit_balance_as_of(account_id => %(account_id)s, moment => %(as_of)s) as balance",
                parameters,
            )
        else:
            found = row(
                conn,
                "select account_id, balance, held, available, updated_at "
                "from public.credit_balance where account_id = %(account_id)s",
                parameters,
            )
    print_record(found, as_json=as_json)


@app.command()
def history(
    account: Account,
    limit: Annotated[int, typer.Option(help="How many entries.", min=1, max=1000)] = 20,
    before: Annotated[
        int | None,
        typer.Option(help="Only entries older than this id: the next page.", metavar="ID", parser=row_id),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List entries, newest first."""
    with connect() as conn:
        found = rows(
            conn,
            "select id, occurred_at, kind, amount, balance_after, source, description, reference_id "
            "from public.credit_history where account_id = %(account_id)s "
            "and (%(before)s::bigint is null or id < %(before)s) "
            "order by id desc limit %(limit)s",
            {"account_id": account_id_of(conn, account), "before": before, "limit": limit},
        )
    print_rows(found, as_json=as_json, empty="no entries yet", numbers=("id", "amount", "balance_after"))


@app.command()
def grants(account: Account, as_json: AsJson = False) -> None:
    """List open credit grants in spending order, scheduled ones last."""
    with connect() as conn:
        found = rows(
            conn,
            "select id, source, amount, remaining, held, priority, expires_at, "
            "case when entry_id is null then effective_at end as opens_at, coalesce(stripe_invoice_id, "
            "stripe_checkout_session_id, stripe_payment_intent_id, reference_id) as paid_by "
            "from billing.credit_grants where account_id = %(account_id)s and closed_at is null "
            "order by entry_id is null, priority, expires_at, id",
            {"account_id": account_id_of(conn, account)},
        )
    numbers = ("id", "amount", "remaining", "held", "priority")
    print_rows(found, as_json=as_json, empty="no open credit grants", numbers=numbers)


@app.command()
def statement(account: Account, since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Show a period: opening balance, entries, closing balance."""
    with connect() as conn:
        found = call(conn, "public.credit_statement", **_period(conn, account, since, until))
    print_rows(found, as_json=as_json, empty="", numbers=("entries", "amount"))


@app.command()
def usage(
    account: Account,
    since: Since = None,
    until: Until = None,
    by_actor: Annotated[bool, typer.Option("--by-actor", help="By who spent, not by feature.")] = False,
    as_json: AsJson = False,
) -> None:
    """List credits spent, minus refunds, by day (UTC) and feature."""
    function = "public.credit_usage_by_actor" if by_actor else "public.credit_usage"
    with connect() as conn:
        found = call(conn, function, **_period(conn, account, since, until))
    print_rows(found, as_json=as_json, empty="nothing was spent", numbers=("spends", "credits"))


def _period(conn: Connection, account: str, since: datetime | None, until: datetime | None) -> Row:
    account_id: UUID = account_id_of(conn, account)
    period = row(
        conn,
        "select coalesce(%(since)s, date_trunc('month', billing.current_time(), 'UTC')) as period_start, "
        "coalesce(%(until)s, billing.current_time()) as period_end",
        {"since": since, "until": until},
    )
    if period["period_start"] > period["period_end"]:
        raise typer.BadParameter("it is after --to", param_hint="--from")
    told = f"from {time_text(period['period_start'])} to {time_text(period['period_end'])}"
    err.print(told, style="dim", highlight=False)
    return period | {"account_id": account_id}
