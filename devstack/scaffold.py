"""An empty database on a local server → one that looks like a new Supabase project; and copies of it."""

from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from devstack.postgres import OWNER_ROLE, Postgres

DefaultGrants = Literal["none", "all"]

# Owns auth.users: the role of Supabase Auth.
AUTH_ROLE = "supabase_auth_admin"

_PLATFORM = Path(__file__).with_name("platform.sql")
_SCAFFOLD = Path(__file__).with_name("scaffold.sql")
_MAINTENANCE_DATABASE = "postgres"
# Default privileges in `public` of projects that were created before 2026-10-30.
_GRANT_ALL_BY_DEFAULT = """
    alter default privileges for role postgres in schema public
        grant all on tables to anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
        grant all on functions to anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
        grant all on sequences to anon, authenticated, service_role;
"""


def scaffold(connection: psycopg.Connection, *, default_grants: DefaultGrants = "none") -> None:
    """Give the connected database Supabase's roles, schemas, `auth.users` and grants; as superuser.

    `default_grants`: 'none' as in projects since 2026-10-30; 'all' as in older ones, where every new object in
    `public` is granted to the API roles.
    """
    with connection.transaction():
        connection.execute(_SCAFFOLD.read_bytes())
        if default_grants == "all":
            connection.execute(_GRANT_ALL_BY_DEFAULT)


def add_platform(connection: psycopg.Connection) -> None:
    """Give a scaffolded database what migrations and seeds of an existing project expect besides; as superuser."""
    with connection.transaction():
        connection.execute("set local client_min_messages = warning")
        connection.execute(_PLATFORM.read_bytes())


def create_database(server: Postgres, name: str, *, default_grants: DefaultGrants = "none") -> None:
    """Create and scaffold the database if it is missing, owned by `postgres`; both `postgres` and the auth server can
    log in.
    """
    with psycopg.connect(server.admin_url(_MAINTENANCE_DATABASE), autocommit=True) as connection:
        if not connection.execute("select from pg_database where datname = %s", [name]).rowcount:
            connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    with psycopg.connect(server.admin_url(name), autocommit=True) as connection:
        scaffold(connection, default_grants=default_grants)
        owner, database = sql.Identifier(OWNER_ROLE), sql.Identifier(name)
        connection.execute(sql.SQL("alter database {} owner to {}").format(database, owner))
        for login in (OWNER_ROLE, AUTH_ROLE):
            role = sql.Identifier(login)
            connection.execute(
                sql.SQL("alter role {} password {}").format(role, sql.Literal(server.password))
            )


def clone_database(connection: psycopg.Connection, template: str, name: str) -> None:
    """Make `name` a copy of `template`, which must have no connections; as superuser, connected to another database.

    Copies files: for small databases this is faster than writing every page to the WAL.
    """
    connection.execute(
        sql.SQL("create database {} template {} owner {} strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER_ROLE)
        )
    )


def drop_database(connection: psycopg.Connection, name: str) -> None:
    """Remove the database if it exists, and end its connections; as superuser, connected to another database."""
    connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
