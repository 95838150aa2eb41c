"""`till accounts …`: what has a balance, and whether it may spend."""

from cli.app import App
from cli.call import Account, Actor, Reason, Yes, actor_or_user, perform, print_record
from cli.database import account_id_of, call, connect, row
from cli.output import AsJson

app = App("accounts", panel="Accounts and credits", help="List accounts; freeze and close them.")


@app.command()
def freeze(account: Account, *, reason: Reason, actor: Actor = None, as_json: AsJson = False) -> None:
    """Refuse what takes credits out of an account, and what it would buy. The user reads the reason."""
    perform("freeze_account", as_json=as_json, account_id=account, reason=reason, actor=actor_or_user(actor))


@app.command()
def unfreeze(account: Account, *, reason: Reason, actor: Actor = None, as_json: AsJson = False) -> None:
    """Let a frozen account spend and buy again; warnings of before don't freeze it any more."""
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


@app.command()
def reopen(account: Account, as_json: AsJson = False) -> None:
    """Open a closed account again, with nothing in it."""
    perform("reopen_account", as_json=as_json, account_id=account)
