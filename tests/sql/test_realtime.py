"""Balances in Supabase Realtime: what its publication holds, what it sends, and projects that have none."""

from uuid import UUID

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from tests.sql.calls import Connection, Row, fetch, grant, spend, value
from tests.support import Database

PUBLICATION = "supabase_realtime"
SLOT = "listens_as_realtime_does"
CHANGES = """
    select chr(get_byte(data, 0)) as what from pg_logical_slot_get_binary_changes(
        %s, null, null, 'proto_version', '1', 'publication_names', %s
    )
"""


def published(conn: Connection) -> list[Row]:
    return fetch(
        conn, "select schemaname, tablename from pg_publication_tables where pubname = %s", [PUBLICATION]
    )


def test_balances_and_nothing_else_of_billing_are_published(conn: Connection) -> None:
    assert published(conn) == [{"schemaname": "billing", "tablename": "credit_balances"}]


def test_every_movement_is_one_published_change(conn: Connection, account: UUID) -> None:
    conn.execute("set synchronous_commit = on")  # the slot reads what is flushed
    # A temporary slot is its connection's own.
    fetch(conn, "select pg_create_logical_replication_slot(%s, 'pgoutput', true)", [SLOT])
    grant(conn, account, 100)
    spend(conn, account, 30)
    sent = [row["what"] for row in fetch(conn, CHANGES, [SLOT, PUBLICATION])]
    # Of each transaction: begin, update, commit; the relation is described before its first change.
    assert [what for what in sent if what != "R"] == ["B", "U", "C", "B", "U", "C"]
    # It would go with its connection, and a little later than that: a database with a slot can't be dropped.
    fetch(conn, "select pg_drop_replication_slot(%s)", [SLOT])


def test_migrations_apply_where_there_is_no_publication(empty_database: Database) -> None:
    with empty_database.connect() as conn:
        conn.execute("drop publication supabase_realtime")
        applied = migrate(empty_database.url, migrations_directory())
        assert applied == sorted(path.name for path in migrations_directory().glob("*.sql"))
        assert value(conn, "select count(*) from pg_publication") == 0


def test_migrations_apply_where_every_table_is_published_already(empty_database: Database) -> None:
    with empty_database.connect(admin=True) as conn:
        conn.execute("drop publication supabase_realtime")
        conn.execute("create publication supabase_realtime for all tables")
        conn.execute("alter publication supabase_realtime owner to postgres")
    migrate(empty_database.url, migrations_directory())
    with empty_database.connect() as conn:
        assert {"schemaname": "billing", "tablename": "credit_balances"} in published(conn)
