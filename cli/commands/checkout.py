"""`till checkout` and `till portal`: a user → the page of Stripe's where they buy, or change what they have."""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from cli.app import App
from cli.database import Connection, Row, account_id_of, connect, row, rows
from cli.output import AsJson, CliError, err, out, print_json

app = App(panel="Sell")

WAIT_SECONDS = 2.0

User = Annotated[
    str | None, typer.Option("--user", help="Who buys: a user's e-mail address or id.", metavar="EMAIL")
]
ForAccount = Annotated[
    str | None,
    typer.Option(
        "--account",
        help="For which account: its id, or a Stripe customer id. Its owner buys, unless --user says who.",
        metavar="ID",
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


class Flow(StrEnum):
    """A page deep inside the portal."""

    CANCEL = "cancel"
    UPDATE_PLAN = "update_plan"
    UPDATE_CARD = "update_card"


@app.command()
def checkout(
    user: User = None,
    account: ForAccount = None,
    plan: Annotated[str | None, typer.Option(help="Lookup key or price id of a plan.", metavar="KEY")] = None,
    pack: Annotated[str | None, typer.Option(help="Lookup key or price id of a pack.", metavar="KEY")] = None,
    quantity: Annotated[
        int | None, typer.Option(help="Seats, or packs. Default: the plan's minimum.", min=1)
    ] = None,
    save_card: Annotated[
        bool, typer.Option("--save-card", help="Keep the card of a pack for recharges.")
    ] = False,
    success_url: Annotated[
        str | None, typer.Option(help="Where the user returns to after paying.", metavar="URL")
    ] = None,
    cancel_url: Annotated[
        str | None, typer.Option(help="Where the user returns to without paying.", metavar="URL")
    ] = None,
    open_page: Open = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is paid; fails when it expires.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open a Checkout Session for a user and print its URL.

    The same rules as the edge function's: the same customer, the plans on sale, the owner's settings.
    """
    if (plan is None) == (pack is None):
        raise typer.BadParameter("name either a plan or a pack", param_hint="--plan, --pack")
    from cli.plans.catalogue import stripe_settings
    from cli.stripe_key import check_key, stripe_client
    from cli.stripe_steps import answer, carry_out

    settings = stripe_settings()
    with connect() as conn, stripe_client(settings) as client:
        check_key(conn, settings)
        buyer = _buyer(conn, user, account)
        order = {
            "plan": plan, "pack": pack, "quantity": quantity, "success_url": success_url, "cancel_url": cancel_url,
            "save_card": save_card,
        }  # fmt: skip
        step = answer(conn, "prepare_checkout", **buyer, **order)
        session = carry_out(conn, client, step, "continue_checkout")
        _show(session, open_page, as_json=as_json)
        if wait:
            _wait_until_paid(client, session["id"])


@app.command()
def portal(
    user: User = None,
    account: ForAccount = None,
    flow: Annotated[
        Flow | None, typer.Option(help="Open one page: cancel, change the plan, or change the card.")
    ] = None,
    return_url: Annotated[str | None, typer.Option(help="Where the user returns to.", metavar="URL")] = None,
    open_page: Open = False,
    as_json: AsJson = False,
) -> None:
    """Open a customer portal session for a user and print its URL.

    The URL is valid for minutes.
    """
    from cli.plans.catalogue import stripe_settings
    from cli.stripe_key import check_key, stripe_client
    from cli.stripe_steps import answer, carry_out

    settings = stripe_settings()
    with connect() as conn, stripe_client(settings) as client:
        check_key(conn, settings)
        buyer = _buyer(conn, user, account)
        step = answer(conn, "prepare_portal", **buyer, return_url=return_url, flow=flow)
        session = carry_out(conn, client, step, "continue_portal")
    _show(session, open_page, as_json=as_json)


def _buyer(conn: Connection, user: str | None, account: str | None) -> Row:
    """Who buys for which account, as the database's functions take them."""
    if user is None and account is None:
        raise typer.BadParameter("say who buys", param_hint="--user, --account")
    account_id = None if account is None else account_id_of(conn, account)
    if user is not None:
        found = rows(
            conn,
            "select id from auth.users where email = lower(%(it)s) or id::text = lower(%(it)s)",
            {"it": user},
        )
        if not found:
            raise CliError(f"no user {user!r}: give the e-mail address or the id of one who has signed up")
        return {"user_id": found[0]["id"], "account_id": account_id}
    owner = row(
        conn,
        "select coalesce(accounts.owner_id, ("
        "select user_id from billing.account_members where account_id = accounts.id and role = 'owner' "
        "order by user_id limit 1)) as id from billing.accounts where id = %(it)s",
        {"it": account_id},
    )
    if owner["id"] is None:
        raise CliError(f"account {account_id} has no owner: say with --user who buys")
    return {"user_id": owner["id"], "account_id": account_id}


def _show(session: dict[str, Any], open_page: bool, *, as_json: bool) -> None:
    if "expires_at" in session:
        session = session | {"expires_at": datetime.fromtimestamp(session["expires_at"], UTC)}
    if as_json:
        print_json(session)
    else:
        out.print(session["url"], markup=False, highlight=False)
    if open_page and typer.launch(session["url"]) != 0:
        err.print("no browser could be opened", style="dim")


def _wait_until_paid(client: Any, session_id: str) -> None:
    progress = Progress(
        SpinnerColumn(), "waiting for the payment", TimeElapsedColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    progress.add_task("", total=None)
    with progress:
        while (session := client.v1.checkout.sessions.retrieve(session_id)).status == "open":
            time.sleep(WAIT_SECONDS)
    if session.status != "complete":
        raise CliError(f"{session.id} is {session.status}, nothing was paid: run it again for another one")
    told = "paid by bank debit, which takes days to arrive" if session.payment_status == "unpaid" else "done"
    err.print(f"{session.id}: {told}", style="dim", highlight=False)
