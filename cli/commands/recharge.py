"""`till recharge …`: an account's auto-recharge, and the payments that it made."""

from typing import Annotated, Any
from uuid import UUID

import typer

from cli.app import App
from cli.call import Account, print_record
from cli.database import Connection, Row, account_id_of, call, connect, rows
from cli.output import AsJson, CliError, print_rows, time_text
from cli.plans.tables import price_text
from cli.tables import print_table

app = App(
    "recharge",
    panel="Accounts and credits",
    help="Auto-recharge: buy a pack when a balance is low.",
)

_AGREED = """
select recharge.account_id, recharge.threshold, recharge.stripe_price_id,
    coalesce(packs.lookup_key, packs.stripe_price_id) as pack, packs.pack_credits, packs.unit_amount, packs.currency,
    recharge.monthly_cap_count, recharge.monthly_cap_amount, recharge.return_url, recharge.is_paused,
    recharge.paused_reason, recharge.paused_at, recharge.check_again_at
from billing.recharge_settings as recharge
join billing.credit_packs as packs using (stripe_price_id)
where recharge.account_id = %(account_id)s
"""
_ATTEMPTS = """
select id, claimed_at, status, reason, credits, amount, currency, attempts, stripe_payment_intent_id, action_url,
    last_error, settled_at
from billing.recharges where account_id = %(account_id)s
order by claimed_at desc, id limit %(limit)s
"""


@app.command()
def show(account: Account, as_json: AsJson = False) -> None:
    """Show an account's auto-recharge, and whether it is paused and why."""
    with connect() as conn:
        agreed = _agreed(conn, account_id_of(conn, account))
    print_record(agreed if as_json else _for_people(agreed), as_json=as_json)


@app.command("set")
def set_recharge(
    account: Account,
    threshold: Annotated[
        int | None, typer.Option(help="Buy when fewer credits than this are available.", min=1)
    ] = None,
    pack: Annotated[
        str | None, typer.Option(help="Which pack: its lookup key or price id.", metavar="KEY")
    ] = None,
    monthly_count: Annotated[
        int | None, typer.Option(help="At most so many in a calendar month (UTC). Default: 10.", min=1)
    ] = None,
    monthly_amount: Annotated[
        int | None, typer.Option(help="At most so much in a month, in minor units (1900 is 19.00).", min=1)
    ] = None,
    no_caps: Annotated[bool, typer.Option("--no-caps", help="No limit a month.")] = False,
    return_url: Annotated[
        str | None,
        typer.Option(help="Where the customer comes back to from the bank's page.", metavar="URL"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set up or change auto-recharge. Ends a pause. What is left out stays as it is."""
    if no_caps and (monthly_count or monthly_amount):
        raise typer.BadParameter("it goes with no cap", param_hint="--no-caps")
    with connect() as conn:
        account_id = account_id_of(conn, account)
        held = _held(conn, account_id)
        if held is None and (threshold is None or pack is None):
            raise typer.BadParameter(
                "auto-recharge is not set up yet: give both", param_hint="--threshold, --pack"
            )
        given = {
            "threshold": threshold,
            "stripe_price_id": None if pack is None else _price_of(conn, pack),
            "monthly_cap_count": monthly_count,
            "monthly_cap_amount": monthly_amount,
            "return_url": return_url,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        if no_caps:
            wanted |= {"monthly_cap_count": None, "monthly_cap_amount": None}
        agreed = _agree(conn, account_id, (held or {}) | wanted, is_paused=False)
    print_record(agreed if as_json else _for_people(agreed), as_json=as_json)


@app.command()
def pause(account: Account, as_json: AsJson = False) -> None:
    """Pause auto-recharge until it is resumed."""
    _change(account, is_paused=True, as_json=as_json)


@app.command()
def resume(account: Account, as_json: AsJson = False) -> None:
    """End a pause, also one after a declined card. A balance below the threshold is recharged at once."""
    _change(account, is_paused=False, as_json=as_json)


@app.command()
def attempts(
    account: Account,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List recharges, newest first; each is at most one payment."""
    with connect() as conn:
        found = rows(conn, _ATTEMPTS, {"account_id": account_id_of(conn, account), "limit": limit})
    if as_json or not found:
        print_rows(found, as_json=as_json, empty="nothing was recharged yet")
        return
    print_table(
        ("claimed", "status", "reason", "credits", "amount", "tries", "payment", "to authenticate"),
        (("", _cells(attempt)) for attempt in found),
        wrapped=("reason",),
        numbers=("credits", "amount", "tries"),
    )


def _change(account: str, *, is_paused: bool, as_json: bool) -> None:
    with connect() as conn:
        account_id = account_id_of(conn, account)
        _agreed(conn, account_id)
        agreed = _agree(conn, account_id, _held(conn, account_id) or {}, is_paused=is_paused)
    print_record(agreed if as_json else _for_people(agreed), as_json=as_json)


def _agree(conn: Connection, account_id: UUID, wanted: Row, *, is_paused: bool) -> Row:
    call(conn, "billing.set_recharge", account_id=account_id, is_paused=is_paused, **wanted)
    return _agreed(conn, account_id)


def _held(conn: Connection, account_id: UUID) -> Row | None:
    """What was agreed to, as billing.set_recharge takes it."""
    found = rows(
        conn,
        "select threshold, stripe_price_id, monthly_cap_amount, monthly_cap_count, return_url "
        "from billing.recharge_settings where account_id = %(account_id)s",
        {"account_id": account_id},
    )
    return found[0] if found else None


def _agreed(conn: Connection, account_id: UUID) -> Row:
    found = rows(conn, _AGREED, {"account_id": account_id})
    if not found:
        raise CliError(
            f"account {account_id} has no auto-recharge: set it up with `till recharge set`, --threshold and --pack"
        )
    return found[0]


def _price_of(conn: Connection, pack: str) -> str:
    [found] = call(conn, "billing._price_on_sale", plan=None, pack=pack)
    return found["stripe_price_id"]


def _for_people(agreed: Row) -> dict[str, Any]:
    currency = agreed["currency"]
    cap = agreed["monthly_cap_amount"]
    price = price_text(agreed["unit_amount"], currency)
    return {
        "account_id": agreed["account_id"],
        "below": f"{agreed['threshold']:,} credits",
        "pack": f"{agreed['pack']}: {agreed['pack_credits']:,} credits for {price}",
        "monthly_count": agreed["monthly_cap_count"] or "no cap",
        "monthly_amount": "no cap" if cap is None else price_text(cap, currency),
        "return_url": agreed["return_url"],
        "paused": agreed["paused_reason"] or "no",
        "paused_at": agreed["paused_at"],
        "checked_again_at": agreed["check_again_at"],
    }


def _cells(attempt: Row) -> list[str | None]:
    return [
        time_text(attempt["claimed_at"]),
        attempt["status"],
        attempt["reason"] or attempt["last_error"],
        f"{attempt['credits']:,}",
        price_text(attempt["amount"], attempt["currency"]),
        str(attempt["attempts"]),
        attempt["stripe_payment_intent_id"],
        attempt["action_url"],
    ]
