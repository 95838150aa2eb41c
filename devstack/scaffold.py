"""An empty database on a local server → one that looks like a fresh Supabase project; and copies of it."""

from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from devstack.postgres import OWNER_ROLE, Postgres

DefaultGrants = Literal["none", "all"]

# Owns auth.users: what Supabase Auth logs in as.
AUTH_ROLE = "supabase_auth_admin"

_SCAFFOLD = Path(__file__).with_name("scaffold.sql")
_MAINTENANCE_DATABASE = "postgres"
# What projects made before 2026-10-30 give away of everything that is made in `public`.
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

    `default_grants`: 'none' as in projects since 2026-10-30; 'all' as in older ones, where everything new in
    `public` is granted to the API roles.
    """
    with connection.transaction():
        connection.execute(_SCAFFOLD.read_bytes())
        if default_grants == "all":
            connection.execute(_GRANT_ALL_BY_DEFAULT)


def create_database(server: Postgres, name: str, *, default_grants: DefaultGrants = "none") -> None:
    """Make the database if it is missing, scaffold it, and let `postgres` own it; it and the auth server log in."""
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
    """Make `name` a copy of `template`, which nobody may be connected to; as superuser, from another database.

    By copying files: for a database as small as these, writing every page to the log first takes longer.
    """
    connection.execute(
        sql.SQL("create database {} template {} owner {} strategy file_copy").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER_ROLE)
        )
    )


def drop_database(connection: psycopg.Connection, name: str) -> None:
    """Remove the database, if there is one, and whoever is connected to it; as superuser, from another database."""
    connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
