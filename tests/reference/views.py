"""Views for clients → docs/reference/views.md."""

import re

from tests.reference.catalogue import CALLERS, Connection, columns, comment_of
from tests.reference.markdown import block, code, page, sentence, table

_INTRODUCTION = """
What clients read with supabase-js or any other client of the Data API. Row level security applies: users get
the rows of their own accounts and of their teams, visitors only the plans on sale. Nothing here can be written;
your server moves credits with the [functions](sql-functions.md).
"""
_WHO = {
    "anon": "visitors",
    "authenticated": "signed-in users",
    "service_role": "your server, which sees every row",
}


def views(conn: Connection) -> str:
    """The page."""
    names = [
        name
        for (name,) in conn.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v' "
            "and relowner = 'postgres'::regrole order by relname"
        )
    ]
    return page("Views for clients", _INTRODUCTION, [*(_view(conn, name) for name in names), _realtime(conn)])


def _view(conn: Connection, name: str) -> str:
    relation = f"public.{name}"
    readers = [
        role
        for (role,) in conn.execute(
            "select role from unnest(%s::text[]) as role where has_table_privilege(role, %s, 'select')",
            [[*reversed(CALLERS)], relation],
        )
    ]
    rows = [
        [code(one.name), code(_bare(one.type)), sentence(one.comment or "")]
        for one in columns(conn, relation)
    ]
    return "\n\n".join(
        [
            f"## {name}",
            sentence(comment_of(conn, relation) or ""),
            f"Read by {', '.join(_WHO[role] for role in readers)}.",
            block("js", f'const {{ data }} = await supabase.from("{name}").select();'),
            table(["column", "type", "meaning"], rows),
        ]
    )


def _bare(kind: str) -> str:
    """A domain of ours as what it is over the Data API."""
    return {"billing.entry_kind": "text", "billing.metadata": "jsonb"}.get(
        kind, re.sub(r"^billing\.", "", kind)
    )


def _realtime(conn: Connection) -> str:
    tables = [
        code(f"billing.{name}")
        for (name,) in conn.execute(
            "select tablename from pg_publication_tables where schemaname = 'billing' "
            "and pubname = 'supabase_realtime' order by 1"
        )
    ]
    return (
        f"## Realtime\n\n{', '.join(tables)} is in the publication `supabase_realtime`: a client receives each change "
        "of its own rows. It is the one table of `billing` that clients read; subscribe with\n\n"
        + block(
            "js",
            'const changes = { event: "*", schema: "billing", table: "credit_balances" };\n'
            'supabase.channel("credits").on("postgres_changes", changes, ({ new: row }) => …).subscribe();',
        )
    )
