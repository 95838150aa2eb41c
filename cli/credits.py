"""`till credits …`: balances and movements of an account."""

from datetime import datetime
from typing import Annotated
from uuid import uuid4

import typer

from cli.database import account_id_of, connect, row, rows
from cli.output import AsJson, print_fields, print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Read and move an account's credits.")

Account = Annotated[
    str, typer.Argument(help="Account id, its owner's user id or e-mail, or a Stripe customer id (cus_…).")
]
Amount = Annotated[int, typer.Argument(help="Credits, a whole number.", min=1)]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Idempotency key: the same call again changes nothing. One is made if left out."
    ),
]
Description = Annotated[str | None, typer.Option(help="What it was for, as the user reads it.")]


@app.command()
def balance(account: Account, as_json: AsJson = False) -> None:
    """Show balance, held and available credits."""
    with connect() as conn:
        found = row(
            conn,
            "select account_id, balance, held, available, updated_at from public.credit_balance "
            "where account_id = %(account_id)s",
            {"account_id": account_id_of(conn, account)},
        )
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@app.command()
def history(
    account: Account,
    limit: Annotated[int, typer.Option(help="How many entries.", min=1, max=1000)] = 20,
    before: Annotated[
        int | None, typer.Option(help="Only entries older than this id: the next page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List movements, newest first."""
    with connect() as conn:
        found = rows(
            conn,
            "select id, occurred_at, kind, amount, balance_after, source, description, reference_id "
            "from public.credit_history where account_id = %(account_id)s "
            "and (%(before)s::bigint is null or id < %(before)s) "
            "order by id desc limit %(limit)s",
            {"account_id": account_id_of(conn, account), "before": before, "limit": limit},
        )
    print_rows(found, as_json=as_json, empty="no movements yet", numbers=("id", "amount", "balance_after"))


@app.command()
def grant(
    account: Account,
    amount: Amount,
    key: Key = None,
    description: Description = None,
    source: Annotated[str, typer.Option(help="Where the credits come from.")] = "till.grant",
    reference: Annotated[str | None, typer.Option(help="Id of what they are for.")] = None,
    expires_at: Annotated[
        datetime | None, typer.Option(help="When what is left of them expires (UTC).")
    ] = None,
    priority: Annotated[int, typer.Option(help="Lots of a lower number are spent first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Grant credits to an account."""
    with connect() as conn:
        entry = row(
            conn,
            "select (billing.grant_credits(account_id => %(account_id)s, amount => %(amount)s, "
            "idempotency_key => %(key)s, description => %(description)s, source => %(source)s, "
            "reference_id => %(reference)s, expires_at => %(expires_at)s::timestamp at time zone 'utc', "
            "priority => %(priority)s)).*",
            {
                "account_id": account_id_of(conn, account),
                "amount": amount,
                "key": key or f"till:{uuid4()}",
                "description": description,
                "source": source,
                "reference": reference,
                "expires_at": expires_at,
                "priority": priority,
            },
        )
    _print_entry(entry, as_json)


@app.command()
def spend(
    account: Account,
    amount: Amount,
    key: Key = None,
    description: Description = None,
    feature: Annotated[str | None, typer.Option(help="Feature or meter the credits were used for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Spend credits of an account; refused below zero and while the account is frozen."""
    with connect() as conn:
        entry = row(
            conn,
            "select (billing.spend_credits(account_id => %(account_id)s, amount => %(amount)s, "
            "idempotency_key => %(key)s, description => %(description)s, feature => %(feature)s)).*",
            {
                "account_id": account_id_of(conn, account),
                "amount": amount,
                "key": key or f"till:{uuid4()}",
                "description": description,
                "feature": feature,
            },
        )
    _print_entry(entry, as_json)


def _print_entry(entry: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(entry)
    else:
        shown = (
            "id",
            "kind",
            "amount",
            "balance_after",
            "source",
            "description",
            "idempotency_key",
            "occurred_at",
        )
        print_fields({name: entry[name] for name in shown})
