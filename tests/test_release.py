"""The release's migration: made of the schemas, whole or not at all, and how the next one is made."""

import shutil
from pathlib import Path

import psycopg
import pytest

from devstack.errors import MigrationError
from devstack.migrate import migrate
from devstack.paths import migrations_directory, schemas_directory
from devstack.release import schema_files
from tests.support import Database
from tests.test_snapshots import access_of, schema_of

# What a release after 0.1.0 might change: a column with its grant, and a view that shows it.
CHANGE = """
alter table billing.credit_packs add column sold_out_at timestamptz;
create view public.billing_sold_out with (security_invoker = on) as
select credit_packs.stripe_price_id from billing.credit_packs where credit_packs.sold_out_at is not null;
revoke all on public.billing_sold_out from public, anon, authenticated, service_role;
grant select on public.billing_sold_out to authenticated;
"""


def make(database: Database, schemas: Path) -> None:
    """A database of the schemas themselves, file by file."""
    with database.connect() as conn:
        for path in schema_files(schemas):
            conn.execute(path.read_bytes())


def catalogue(database: Database) -> str:
    with database.connect() as conn:
        return schema_of(database) + access_of(conn)


def test_all_migrations_make_what_all_schemas_say(database: Database, empty_database: Database) -> None:
    make(empty_database, schemas_directory())
    assert catalogue(empty_database) == catalogue(database)


def test_the_release_after_it_is_a_change_of_the_schemas_and_a_migration_that_says_it(
    database: Database, empty_database: Database, tmp_path: Path
) -> None:
    schemas = shutil.copytree(schemas_directory(), tmp_path / "schemas")
    (schemas / "90_api" / "99_sold_out.sql").write_text(CHANGE)
    make(empty_database, schemas)
    assert catalogue(empty_database) != catalogue(database)

    migrations = shutil.copytree(migrations_directory(), tmp_path / "migrations")
    (migrations / "20270101000000_tillbase_0_1_1.sql").write_text(CHANGE)
    assert migrate(database.url, migrations) == ["20270101000000_tillbase_0_1_1.sql"]
    assert catalogue(empty_database) == catalogue(database)


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        ("create schema billing", "schema billing"),
        ("create view public.billing_plans as select 1 as id", "public.billing_plans"),
        ("create table public.credit_balance (id integer)", "public.credit_balance"),
        (
            "create function public.spend_credits(id uuid) returns void language sql as ''",
            "public.spend_credits()",
        ),
        ("create extension pgmq; select pgmq.create('stripe_events')", "queue stripe_events"),
        ("create extension pgmq; select pgmq.create('billing_jobs')", "queue billing_jobs"),
    ],
)
def test_what_clashes_is_named_before_anything_is_made(
    empty_database: Database, theirs: str, named: str
) -> None:
    with empty_database.connect() as conn:
        conn.execute(theirs.encode())
        before = objects(conn)
        with pytest.raises(MigrationError, match="would make what is there already") as refused:
            migrate(empty_database.url, migrations_directory())
        assert f": {named}" in str(refused.value)
        assert objects(conn) == before


def test_all_that_clashes_is_named_at_once(empty_database: Database) -> None:
    with empty_database.connect() as conn:
        conn.execute("create schema billing; create view public.billing_packs as select 1 as id")
    with pytest.raises(MigrationError, match=r"already: public\.billing_packs, schema billing"):
        migrate(empty_database.url, migrations_directory())


def test_too_old_a_queue_is_refused_before_anything_is_made(
    empty_database: Database,
) -> None:
    with empty_database.connect(admin=True) as admin:
        admin.execute("create extension pgmq")
        admin.execute("update pg_extension set extversion = '1.4.4' where extname = 'pgmq'")
        with pytest.raises(MigrationError, match=r"pgmq 1\.4\.4 is too old, 1\.5\.0 or newer is needed"):
            migrate(empty_database.url, migrations_directory())
        assert admin.execute("select to_regnamespace('billing')").fetchone() == (None,)


def objects(conn: psycopg.Connection) -> list[tuple[str, int]]:
    """How many objects there are of each kind, but for the history of migrations."""
    return conn.execute(
        """
        select 'schemas', count(*) from pg_namespace where nspname <> 'supabase_migrations'
        union all
        select 'functions', count(*) from pg_proc
        union all
        select 'relations', count(*) from pg_class
        where relkind in ('r', 'v', 'S') and relnamespace is distinct from to_regnamespace('supabase_migrations')
        order by 1
        """
    ).fetchall()
