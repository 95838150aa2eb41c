"""`till credits revoke`, `reinstate`, `adjust`, `limits`, `close`, `reopen`: what an administrator answers for."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.commands.credits.call import (
    Account,
    Actor,
    Key,
    Part,
    Reason,
    Yes,
    actor_or_user,
    key_or_new,
    perform,
    print_record,
)
from cli.database import account_id_of, call, connect, row
from cli.output import AsJson


class Policy(StrEnum):
    """What becomes of credits to be revoked that were spent already."""

    CLAMP = "clamp_and_record"
    NEGATIVE = "allow_negative"
    BLOCK = "block_future_grants"


class Period(StrEnum):
    """What a cap is counted over."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def revoke(
    grant_id: Annotated[int, typer.Argument(help="Id of the lot, as `lots` prints it.")],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    policy: Annotated[
        Policy,
        typer.Option(
            help="What becomes of the part that was spent: nothing, debt, or the next grants make up for it."
        ),
    ] = Policy.CLAMP,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a lot back, all of it or part; a scheduled one is cancelled."""
    perform(
        "revoke_grant",
        as_json=as_json,
        yes=yes,
        grant_id=grant_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
        shortfall_policy=policy,
    )


def reinstate(
    revocation_id: Annotated[int, typer.Argument(help="Id of the revocation, as `revoke` prints it.")],
    amount: Part = None,
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give back what a revocation took, or no longer withhold it from the next grants."""
    perform(
        "reinstate_grant",
        as_json=as_json,
        yes=yes,
        revocation_id=revocation_id,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
    )


def adjust(
    account: Account,
    amount: Annotated[int, typer.Argument(help="Credits to add, or to take where it is below zero.")],
    *,
    reason: Reason,
    actor: Actor = None,
    key: Key = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take them. Without, only show what it would do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add or take credits by hand."""
    perform(
        "adjust_credits",
        as_json=as_json,
        yes=yes or amount >= 0,
        account_id=account,
        amount=amount,
        idempotency_key=key_or_new(key),
        reason=reason,
        actor=actor_or_user(actor),
    )


def limits(
    account: Account,
    overdraft: Annotated[int | None, typer.Option(help="How far below zero spending may go.", min=0)] = None,
    cap: Annotated[
        int | None, typer.Option(help="Credits that may be spent in a --cap-period.", min=0)
    ] = None,
    cap_period: Annotated[Period | None, typer.Option(help="What the cap is counted over, in UTC.")] = None,
    no_cap: Annotated[bool, typer.Option("--no-cap", help="Lift the cap.")] = False,
    warn_below: Annotated[
        int | None, typer.Option(help="Tell the user when less is available; 0 for never.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show an account's limits, or set those that are given."""
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


def close(
    account: Account,
    *,
    reason: Reason,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Close an account: holds are released, what is left is forfeited, what is owed is written off."""
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
            "and entry_id is null and xmin = pg_current_xact_id()::xid) as lots_cancelled "
            "from billing.accounts where id = %(account_id)s",
            {"account_id": account_id},
        )
    print_record(closed, as_json=as_json, is_dry_run=not yes)


def reopen(account: Account, as_json: AsJson = False) -> None:
    """Open a closed account again, with nothing in it."""
    perform("reopen_account", as_json=as_json, account_id=account)
