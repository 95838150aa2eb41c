"""The fresh Supabase project: who may do what before the first migration, and how a test sees it."""

from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from devstack.scaffold import DefaultGrants, clone_database, create_database, drop_database, scaffold
from tests.databases import Databases
from tests.support import Database, as_anon, as_role, as_user, create_user

API_ROLES = ["anon", "authenticated", "service_role"]


def test_roles_have_supabases_attributes(empty_database: Database) -> None:
    with empty_database.connect() as connection:
        rows = connection.execute(
            """
            select rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
                   rolinherit
            from pg_roles where rolname in
                ('postgres', 'anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin')
            """
        ).fetchall()
    names = ["login", "superuser", "createdb", "createrole", "replication", "bypassrls", "inherit"]
    attributes = {row[0]: {name for name, has in zip(names, row[1:], strict=True) if has} for row in rows}
    assert attributes == {
        "postgres": {"login", "createdb", "createrole", "replication", "bypassrls", "inherit"},
        "anon": {"inherit"},
        "authenticated": {"inherit"},
        "service_role": {"bypassrls", "inherit"},
        "authenticator": {"login"},
        "supabase_auth_admin": {"login"},
    }


def test_postgres_owns_the_database_and_public_and_has_supabases_search_path(
    empty_database: Database,
) -> None:
    with empty_database.connect() as connection:
        owners = connection.execute(
            """
            select (select datdba::regrole::text from pg_database where datname = current_database()),
                   (select nspowner::regrole::text from pg_namespace where nspname = 'public'),
                   (select pubowner::regrole::text from pg_publication where pubname = 'supabase_realtime')
            """
        ).fetchone()
        path = connection.execute("show search_path").fetchone()
    assert owners == ("postgres", "postgres", "postgres")
    assert path == ('"$user", public, extensions',)


@pytest.mark.parametrize(
    "statement",
    [
        "create table auth.mine (n int)",
        "alter table auth.users add column mine int",
        "set role supabase_auth_admin",
        "set role supabase_admin",
        "alter system set work_mem = '1GB'",
        "copy (select 1) to program 'true'",
    ],
)
def test_postgres_is_refused_what_supabase_refuses(empty_database: Database, statement: str) -> None:
    with empty_database.connect() as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "create table profiles (id uuid references auth.users (id))",
        "create function f() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger t after insert on auth.users for each row execute function f()",
        "create role app_worker nologin; grant app_worker to postgres; set role app_worker; reset role;"
        "drop role app_worker",
        "create table t (n int); alter publication supabase_realtime add table t",
        "set role service_role",
    ],
)
def test_postgres_may_do_what_migrations_need(empty_database: Database, statement: str) -> None:
    with empty_database.connect() as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize(("default_grants", "granted"), [("none", set[str]()), ("all", set(API_ROLES))])
def test_new_objects_in_public_are_granted_as_the_age_of_the_project_has_it(
    databases: Databases, default_grants: DefaultGrants, granted: set[str]
) -> None:
    with databases.fresh(default_grants) as database, database.connect() as connection:
        connection.execute("create table things (n int); create sequence numbers")
        connection.execute("create function secret() returns int language sql as 'select 1'")
        connection.execute("revoke execute on function secret from public")
        rows = connection.execute(
            """
                select role,
                       has_table_privilege(role, 'things', 'insert'),
                       has_sequence_privilege(role, 'numbers', 'usage'),
                       has_function_privilege(role, 'secret()', 'execute')
                from unnest(%s::text[]) as role
                """,
            [API_ROLES],
        ).fetchall()
    assert {role: rights for role, *rights in rows} == {role: [role in granted] * 3 for role in API_ROLES}


def test_scaffold_and_create_database_may_be_repeated_and_keep_what_is_there(
    empty_database: Database,
) -> None:
    user_id = create_user(empty_database, "ada@example.com")
    create_database(empty_database.server, empty_database.name)
    with empty_database.connect(admin=True) as connection:
        scaffold(connection)
        assert connection.execute("select id, email from auth.users").fetchall() == [
            (user_id, "ada@example.com")
        ]


def test_clone_has_the_templates_rows_and_a_drop_disconnects_whoever_is_there(
    empty_database: Database,
) -> None:
    server = empty_database.server
    with empty_database.connect() as connection:
        connection.execute("create table kept as select 1 as n")
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.admin_url(), autocommit=True) as admin:
        clone_database(admin, empty_database.name, name)
        with psycopg.connect(server.url(name)) as connection:
            assert connection.execute("select n from kept").fetchone() == (1,)
            drop_database(admin, name)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        drop_database(admin, name)  # there is none any more, which is as wanted


def test_policies_see_the_signed_in_user_as_through_the_data_api(empty_database: Database) -> None:
    ada, bob = create_user(empty_database), create_user(empty_database)
    with empty_database.connect() as connection:
        connection.execute("create table notes (owner uuid, body text)")
        connection.execute("alter table notes enable row level security")
        connection.execute(
            "create policy own on notes for select to authenticated using (owner = auth.uid())"
        )
        connection.execute("grant select on notes to authenticated, service_role")
        connection.execute("insert into notes values (%s, 'a'), (%s, 'b')", [ada, bob])
        with as_user(connection, ada) as session:
            assert session.execute("select body from notes").fetchall() == [("a",)]
            seen = session.execute(
                "select current_user, auth.uid(), auth.role(), auth.jwt() ->> 'aud'"
            ).fetchone()
            assert seen == ("authenticated", ada, "authenticated", "authenticated")
        with pytest.raises(errors.InsufficientPrivilege), as_user(connection, ada) as session:
            session.execute("delete from notes")
        with pytest.raises(errors.InsufficientPrivilege), as_anon(connection) as session:
            session.execute("select body from notes")
        with as_role(connection, "service_role") as session:
            assert session.execute("select count(*), auth.role() from notes").fetchone() == (
                2,
                "service_role",
            )
        # And nothing of it lasts.
        assert connection.execute("select current_user, auth.uid()").fetchone() == ("postgres", None)


def test_api_roles_cannot_read_the_users(empty_database: Database) -> None:
    user_id = create_user(empty_database)
    with empty_database.connect() as connection:
        for role in API_ROLES:
            with pytest.raises(errors.InsufficientPrivilege), as_role(connection, role) as session:
                session.execute("select from auth.users where id = %s", [user_id])


def test_role_taken_at_start_up_needs_no_login_of_its_own(empty_database: Database) -> None:
    with empty_database.connect(role="authenticated") as connection:
        assert connection.execute("select current_user, session_user").fetchone() == (
            "authenticated",
            "postgres",
        )
