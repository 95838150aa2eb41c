"""pgmq 1.5.1, as hosted projects have it, made of the newer one that is installed: `TILLBASE_PGMQ=1.5`.

No package ships 1.5.1. What it lacks is taken out: the column `last_read_at` and every function that came later. What
it has is put in: a queue's tables belong to the extension, so a dump leaves them out.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import LiteralString

import psycopg

from devstack.postgres import Postgres
from devstack.postgres_install import package_directory

VARIABLE = "TILLBASE_PGMQ"
VERSION = "1.5.1"

_DIRECTORY: LiteralString = "select setting from pg_config where name = 'SHAREDIR'"
_CREATE: LiteralString = "create extension pgmq version '1.5.1'"
_MEMBERS = """
  IF NOT pgmq._belongs_to_pgmq(qtable) THEN
    EXECUTE FORMAT('ALTER EXTENSION pgmq ADD TABLE pgmq.%I', qtable);
    EXECUTE FORMAT('ALTER EXTENSION pgmq ADD SEQUENCE pgmq.%I', qtable_seq);
    EXECUTE FORMAT('ALTER EXTENSION pgmq ADD TABLE pgmq.%I', atable);
  END IF;

"""
_NO_MEMBERS = """
    EXECUTE FORMAT('ALTER EXTENSION pgmq DROP SEQUENCE pgmq.%I', qtable_seq);
    EXECUTE FORMAT('ALTER EXTENSION pgmq DROP TABLE pgmq.%I', qtable);
    EXECUTE FORMAT('ALTER EXTENSION pgmq DROP TABLE pgmq.%I', atable);

"""
_LATER_FUNCTIONS = r"""
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select oid::regprocedure from pg_proc
        where pronamespace = 'pgmq'::regnamespace
            and (proname ~ '(grouped|fifo|topic|notify|routing)' or proname = 'pop'
                or proname = 'set_vt' and proargtypes::text like '%' || 'bigint[]'::regtype::oid || '%')
    loop
        execute format('drop function %s', v_function);
    end loop;
end
$$;
"""


def is_wanted() -> bool:
    """Whether the tests run on the older pgmq."""
    wanted = os.environ.get(VARIABLE, "").strip()
    if wanted not in ("", "1.5"):
        raise ValueError(f"{VARIABLE} is {wanted!r}: leave it out, or set it to 1.5")
    return wanted == "1.5"


def create(server: Postgres, database: str) -> None:
    """Create the older one as an extension of this database, as `postgres`; `if not exists` then finds it."""
    with psycopg.connect(server.admin_url(database)) as connection:
        row = connection.execute(_DIRECTORY).fetchone()
        assert row is not None
    _write(Path(row[0]) / "extension" / f"pgmq--{VERSION}.sql")
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute(_CREATE)


def sql() -> str:
    """The extension's script."""
    text = (package_directory("pgmq") / "sql" / "pgmq.sql").read_text(encoding="utf-8")
    for pattern in (
        r"^ *last_read_at TIMESTAMP WITH TIME ZONE,\n",
        r",\s*\n\s*last_read_at = clock_timestamp\(\)(?=\s*\n\s*FROM)",
        r"^ *last_read_at = clock_timestamp\(\),\n",
        r"(?:\bm\.)?\blast_read_at, ",
    ):
        text = re.sub(pattern, "", text, flags=re.MULTILINE)
    assert "last_read_at" not in text
    index = "  EXECUTE FORMAT(\n    $QUERY$\n    CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (vt ASC);"
    assert text.count(index) == 2  # logged and unlogged
    text = text.replace(index, _MEMBERS + index)
    drop = "    EXECUTE FORMAT(\n        $QUERY$\n        DROP TABLE IF EXISTS pgmq.%I\n"
    assert text.count(drop) == 2
    text = text.replace(drop, _NO_MEMBERS + drop, 1)
    return text + _LATER_FUNCTIONS


def _write(path: Path) -> None:
    content = sql()
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        # Renamed into place, because another process may be reading or writing it.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="pgmq-", delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
