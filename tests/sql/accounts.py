"""What an administrator does to an account, and what the account is told."""

from uuid import UUID

from tests.sql.calls import Connection, Row, call, fetch


def freeze(conn: Connection, account: UUID) -> None:
    conn.execute(
        "update billing.accounts set frozen_at = now(), frozen_reason = 'under review' where id = %s",
        [account],
    )


def close(conn: Connection, account: UUID) -> Row:
    return call(conn, "close_account", account_id=account, reason="asked for", actor="ada@example.com")


def reopen(conn: Connection, account: UUID) -> Row:
    return call(conn, "reopen_account", account_id=account)


def low_balance_notices(conn: Connection, account: UUID) -> list[Row]:
    return fetch(
        conn,
        "select audience, payload from billing.notifications where kind = 'low_balance' and account_id = %s "
        "order by id",
        [account],
    )
