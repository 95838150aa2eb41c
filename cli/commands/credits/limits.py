"""`till credits limits`: how far and how fast an account may spend."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.app import App
from cli.call import Account, print_record
from cli.database import account_id_of, call, connect, row
from cli.output import AsJson

app = App(panel="Limits")


class Period(StrEnum):
    """What a cap is counted over."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@app.command()
def limits(
    account: Account,
    overdraft: Annotated[int | None, typer.Option(help="How far below zero spending may go.", min=0)] = None,
    cap: Annotated[
        int | None, typer.Option(help="Credits that may be spent in a --cap-period.", min=0)
    ] = None,
    cap_period: Annotated[Period | None, typer.Option(help="What the cap is counted over, in UTC.")] = None,
    no_cap: Annotated[bool, typer.Option("--no-cap", help="Lift the cap.")] = False,
    warn_below: Annotated[
        int | None,
        typer.Option(help="Notify the user when fewer credits than this are available; 0 for never.", min=0),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show or set overdraft, spend cap and low-balance warning."""
    given = {
        "overdraft": overdraft,
        "spend_cap": cap,
        "spend_cap_period": cap_period,
        "low_balance_threshold": warn_below,
    }
    if no_cap and (cap is not None or cap_period is not None):
        raise typer.BadParameter("give a cap or lift it: one of the two", param_hint="--no-cap")
    with connect() as conn, conn.transaction():
        account_id = account_id_of(conn, account)
        if no_cap or any(limit is not None for limit in given.values()):
            now = row(
                conn,
                "select overdraft, spend_cap, spend_cap_period, low_balance_threshold "
                "from billing.credit_balances where account_id = %(account_id)s for update",
                {"account_id": account_id},
            )
            wanted = now | {name: limit for name, limit in given.items() if limit is not None}
            if no_cap:
                wanted |= {"spend_cap": None, "spend_cap_period": None}
            call(conn, "billing.set_credit_limits", account_id=account_id, **wanted)
        shown = row(
            conn,
            "select account_id, overdraft, spend_cap, spend_cap_period, spent_in_period, spend_period_start, "
            "low_balance_threshold from billing.credit_balances where account_id = %(account_id)s",
            {"account_id": account_id},
        )
    print_record(shown, as_json=as_json)
