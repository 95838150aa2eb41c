"""`till budgets …`: how much of an account's credits a member, an agent or an API key may use."""

from enum import StrEnum
from typing import Annotated, LiteralString

import typer

from cli.app import App
from cli.call import Account, Yes, print_record
from cli.database import account_id_of, call, connect, row, rows
from cli.output import AsJson, print_rows

app = App(
    "budgets", panel="Accounts and credits", help="Budgets of members, agents and API keys on one account."
)


class Period(StrEnum):
    """What a cap is counted over."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


Actor = Annotated[
    str, typer.Argument(help="Who spends, such as agent:writer; agent:* for all agents without a budget.")
]

# A budget comes before those below it.
_LIST: LiteralString = """
select shown.actor, shown.parent, shown.cap, shown.period, shown.spent, shown.held, shown.remaining, shown.resets_at
from public.budgets as shown
join billing.budgets as counted using (account_id, actor)
where shown.account_id = %(account_id)s
order by array(
    select name from unnest(counted.path) with ordinality as level (name, depth) order by depth desc
)
"""
_SHOW: LiteralString = """
select actor, parent, cap, period, spent, held, remaining, resets_at from public.budgets
where account_id = %(account_id)s and actor = %(actor)s
"""


@app.command("list")
def list_budgets(account: Account, as_json: AsJson = False) -> None:
    """List an account's budgets, and what is left of each."""
    with connect() as conn:
        found = rows(conn, _LIST, {"account_id": account_id_of(conn, account)})
    print_rows(
        found, as_json=as_json, empty="no budgets: set one with `till budgets set`",
        numbers=("cap", "spent", "held", "remaining"),
    )  # fmt: skip


@app.command("set")
def set_budget(
    account: Account,
    actor: Actor,
    cap: Annotated[
        int | None, typer.Option(help="Credits that may be spent in a period. Without it, only count.", min=0)
    ] = None,
    *,
    period: Annotated[Period, typer.Option(help="What the cap is counted over, in UTC.")],
    parent: Annotated[
        str | None, typer.Option(help="The budget above it, which counts the same credits too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set a budget, or change it. It counts its whole running period."""
    with connect() as conn, conn.transaction():
        wanted = {"account_id": account_id_of(conn, account), "actor": actor}
        call(conn, "billing.set_budget", **wanted, cap=cap, period=period.value, parent=parent)
        shown = row(conn, _SHOW, wanted)
    print_record(shown, as_json=as_json)


@app.command()
def remove(account: Account, actor: Actor, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a budget that has none below it. Its actor is limited by the account alone from then on."""
    with connect() as conn, conn.transaction(force_rollback=not yes):
        wanted = {"account_id": account_id_of(conn, account), "actor": actor}
        [removed] = call(conn, "billing.remove_budget", **wanted)
    shown = {name: removed[name] for name in ("actor", "parent", "cap", "period")}
    print_record(shown, as_json=as_json, yes=yes)
