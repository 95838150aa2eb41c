"""The migrated database → its schema and its access rules as text, held against `tests/snapshots`.

A change that is meant is written by `make snapshots` and read in the diff.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from devstack.migrate import migrate
from devstack.paths import migrations_directory
from tests.security.inventory import functions, relations
from tests.support import Database

Connection = psycopg.Connection[Any]

SNAPSHOTS = Path(__file__).parent / "snapshots"
# What pg_dump says of itself and of its session; the token after \restrict is another one each time.
_NOISE = re.compile(
    r"^(--.*|SET .*;|SELECT pg_catalog\.set_config\(.*;|\\(un)?restrict .*|CREATE SCHEMA public;"
    r"|COMMENT ON SCHEMA public .*;)$",
    re.MULTILINE,
)


@pytest.fixture
def database_of_generous_project(empty_database: Database) -> Database:
    """A project whose owner grants the API roles everything new, in every schema."""
    with empty_database.connect() as conn:
        for kind in ("tables", "functions", "sequences"):
            conn.execute(
                sql.SQL(
                    "alter default privileges grant all on {} to anon, authenticated, service_role"
                ).format(sql.SQL(kind))
            )
    migrate(empty_database.url, migrations_directory())
    return empty_database


@pytest.fixture(params=["database", "database_of_older_project", "database_of_generous_project"])
def project(request: pytest.FixtureRequest) -> Database:
    """A project of either age: what is ours must come out the same in both."""
    return request.getfixturevalue(request.param)


def compare(name: str, text: str, config: pytest.Config) -> None:
    """Hold text against a snapshot, or write it with `--update-snapshots`."""
    path = SNAPSHOTS / name
    if config.getoption("update_snapshots"):
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"there is no snapshot {name}: write it with `make snapshots`"
    assert text == path.read_text(encoding="utf-8"), f"{name} changed: if that is meant, `make snapshots`"


def test_schema_is_as_committed(project: Database, pytestconfig: pytest.Config) -> None:
    compare("schema.sql", schema_of(project), pytestconfig)


def test_access_rules_are_as_committed(project: Database, pytestconfig: pytest.Config) -> None:
    with project.connect() as conn:
        compare("access.txt", access_of(conn), pytestconfig)


def schema_of(database: Database) -> str:
    """What pg_dump makes of `billing` and of our objects in `public`; who may use them is in the access rules."""
    dump = subprocess.run(
        [
            database.server.bin("pg_dump"),
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--schema=billing",
            "--schema=public",
            f"--dbname={database.url}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert dump.returncode == 0, dump.stderr
    return re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", dump.stdout)).strip() + "\n"


def access_of(conn: Connection) -> str:
    """Every grant, policy and executor, sorted, one thing a line."""
    sections = {
        "Schemas": _schemas(conn),
        "Tables, views and sequences": _relations(conn),
        "Functions": _functions(conn),
        "Triggers of ours on tables of others": _foreign_triggers(conn),
        "Roles": _roles(conn),
    }
    return "\n".join(f"{title}\n{'=' * len(title)}\n{body}\n" for title, body in sections.items())


def _grants(conn: Connection, catalogue: str, acl: str, oid: int) -> list[str]:
    """`verb: role, role` of one object; the owner's own rights go without saying."""
    rows = conn.execute(
        f"""
        select lower(g.privilege_type) || case when g.is_grantable then ' (may pass it on)' else '' end,
               string_agg(coalesce(r.rolname, 'public'), ', ' order by coalesce(r.rolname, 'public'))
        from {catalogue} as o, aclexplode(o.{acl}) as g
        left join pg_roles as r on r.oid = g.grantee
        where o.oid = %s and g.grantee <> g.grantor
        group by 1 order by 1
        """.encode(),
        [oid],
    ).fetchall()
    return [f"    {verb}: {roles}" for verb, roles in rows]


def _schemas(conn: Connection) -> str:
    rows = conn.execute(
        "select nspname, oid::int8 from pg_namespace where nspname in ('billing', 'pgmq') order by 1"
    ).fetchall()
    return "\n".join("\n".join([name, *_grants(conn, "pg_namespace", "nspacl", oid)]) for name, oid in rows)


def _relations(conn: Connection) -> str:
    blocks: list[str] = []
    for name, kind in relations(conn).items():
        row = conn.execute(
            "select oid::int8, relrowsecurity, reloptions @> '{security_invoker=on}' from pg_class "
            "where oid = %s::regclass",
            [name],
        ).fetchone()
        assert row is not None
        oid, has_rls, is_invoker = row
        traits = [kind]
        traits += ["row level security"] if has_rls else []
        traits += ["security invoker"] if is_invoker else []
        lines = [f"{name} ({', '.join(traits)})", *_grants(conn, "pg_class", "relacl", oid)]
        lines += _column_grants(conn, oid) + _policies(conn, oid)
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _column_grants(conn: Connection, oid: int) -> list[str]:
    rows = conn.execute(
        """
        select lower(g.privilege_type), coalesce(r.rolname, 'public'), string_agg(a.attname, ', ' order by a.attnum)
        from pg_attribute as a, aclexplode(a.attacl) as g
        left join pg_roles as r on r.oid = g.grantee
        where a.attrelid = %s
        group by 1, 2 order by 1, 2
        """,
        [oid],
    ).fetchall()
    return [f"    {verb} ({columns}): {role}" for verb, role, columns in rows]


def _policies(conn: Connection, oid: int) -> list[str]:
    rows = conn.execute(
        """
        select p.polname, case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                   when 'd' then 'delete' else 'all' end,
               case when p.polpermissive then '' else ' restrictive' end,
               (select string_agg(case role when 0 then 'public' else role::regrole::text end, ', ' order by 1)
                from unnest(p.polroles) as role),
               pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        from pg_policy as p where p.polrelid = %s order by 1
        """,
        [oid],
    ).fetchall()
    lines: list[str] = []
    for name, verb, restrictive, roles, using, check in rows:
        conditions = f" using {_flat(using)}" if using else ""
        conditions += f" with check {_flat(check)}" if check else ""
        lines.append(f"    policy {name}{restrictive}: {verb} to {roles}{conditions}")
    return lines


def _flat(expression: str) -> str:
    return " ".join(expression.split())


def _functions(conn: Connection) -> str:
    blocks: list[str] = []
    for oid, name in functions(conn).items():
        row = conn.execute(
            "select oidvectortypes(p.proargtypes), p.prosecdef, p.proconfig, "
            "case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end "
            "from pg_proc as p where p.oid = %s",
            [oid],
        ).fetchone()
        assert row is not None
        arguments, is_definer, config, volatility = row
        traits = [volatility, *(["security definer"] if is_definer else []), *(config or [])]
        granted = _grants(conn, "pg_proc", "proacl", oid)
        blocks.append("\n".join([f"{name}({arguments}) ({', '.join(traits)})", *(granted or ["    nobody"])]))
    return "\n".join(sorted(blocks))


def _foreign_triggers(conn: Connection) -> str:
    rows = conn.execute(
        """
        select pg_get_triggerdef(t.oid)
        from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        join pg_class as c on c.oid = t.tgrelid
        where p.pronamespace = 'billing'::regnamespace and c.relnamespace <> 'billing'::regnamespace
        order by 1
        """
    ).fetchall()
    return "\n".join(definition for (definition,) in rows)


def _roles(conn: Connection) -> str:
    rows = conn.execute(
        """
        select r.rolname, r.rolcanlogin, r.rolinherit, r.rolsuper, r.rolbypassrls,
               array(select m.roleid::regrole::text from pg_auth_members as m where m.member = r.oid order by 1),
               array(select m.member::regrole::text from pg_auth_members as m where m.roleid = r.oid order by 1)
        from pg_roles as r where r.rolname like 'billing\\_%' order by 1
        """
    ).fetchall()
    lines: list[str] = []
    for name, can_login, inherits, is_super, bypasses, member_of, members in rows:
        lines.append(
            f"{name}: login {can_login}, inherit {inherits}, superuser {is_super}, bypassrls {bypasses}, "
            f"member of {', '.join(member_of) or 'nothing'}, members {', '.join(sorted(set(members)))}"
        )
    return "\n".join(lines)
