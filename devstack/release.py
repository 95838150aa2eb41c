"""`supabase/schemas` → the migration of a release, which `supabase db push` runs: `make migration`."""

import re
from collections.abc import Iterator
from pathlib import Path

from devstack.paths import migrations_directory, schemas_directory

# Until 1.0 there is one release, generated from the current schemas. After that each release adds a migration.
RELEASE = "20261201000000_tillbase_0_1_0.sql"

_HEAD = """\
-- Tillbase 0.1.0. Generated from supabase/schemas by `make migration`: read and edit it there.

-- Before anything is made: what is there already under our names.
do $$
declare
    v_pgmq text := coalesce(
        (select extversion from pg_catalog.pg_extension where extname = 'pgmq'),
        (select default_version from pg_catalog.pg_available_extensions where name = 'pgmq')
    );
    v_taken text;
begin
    if v_pgmq is null then
        raise exception 'Tillbase needs the extension pgmq, which this Postgres does not have'
            using hint = 'Upgrade the project''s Postgres in the Supabase dashboard, then push again.';
    elsif pg_catalog.string_to_array(v_pgmq, '.')::int[] < array[1, 5, 0] then
        raise exception 'pgmq % is too old, 1.5.0 or newer is needed', v_pgmq
            using hint = 'Upgrade the project''s Postgres in the Supabase dashboard, then push again.';
    end if;
    select pg_catalog.string_agg(taken.name, ', ' order by taken.name) into v_taken
    from (
        select 'schema billing' as name from pg_catalog.pg_namespace where nspname = 'billing'
        union all
        select pg_catalog.format('queue %s', queue) from pg_catalog.unnest(array[{queues}]) as queue
        where pg_catalog.to_regclass('pgmq.q_' || queue) is not null
        union all
        select 'queue billing_jobs' where pg_catalog.to_regclass('pgmq.q_billing_jobs') is not null
        union all
        select pg_catalog.format('public.%s', relname) from pg_catalog.pg_class
        where relnamespace = 'public'::regnamespace
            and relname in ({views})
        union all
        select distinct pg_catalog.format('public.%s()', proname) from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace
            and proname in ({functions})
    ) as taken;
    if v_taken is not null then
        raise exception 'Tillbase would make what is there already: %', v_taken
            using hint = 'Rename or drop these, then push again. Nothing was changed.';
    end if;
end
$$;
"""
_VIEW = re.compile(r"^create view public\.(\w+)", re.MULTILINE)
_QUEUE = re.compile(r"pgmq\.create\('(\w+)'\)")
_FUNCTION = re.compile(r"^create function public\.(\w+)", re.MULTILINE)


def main() -> None:
    """Write the release's migration again."""
    path = migrations_directory() / RELEASE
    path.write_text(migration(schemas_directory()), encoding="utf-8")


def migration(schemas: Path) -> str:
    """The text of the release's migration: the check for clashes, then every file of the schemas in order."""
    texts = {path: path.read_text(encoding="utf-8") for path in schema_files(schemas)}
    whole = "\n".join(texts.values())
    head = (
        _HEAD.replace("{queues}", _quoted(_QUEUE, whole))
        .replace("{views}", _quoted(_VIEW, whole))
        .replace("{functions}", _quoted(_FUNCTION, whole))
    )
    return "\n".join([head, *_under_their_names(texts, schemas)])


def schema_files(schemas: Path) -> list[Path]:
    """The files of the schemas, in the order in which they are run."""
    return sorted(schemas.glob("*/*.sql"))


def _quoted(pattern: re.Pattern[str], text: str) -> str:
    """Names as a list of SQL, a few in a line."""
    names = [f"'{name}'" for name in sorted(set(pattern.findall(text)))]
    lines = [", ".join(names[start : start + 4]) for start in range(0, len(names), 4)]
    return ",\n                ".join(lines)


def _under_their_names(texts: dict[Path, str], schemas: Path) -> Iterator[str]:
    for path, text in texts.items():
        yield f"-- {path.relative_to(schemas)}\n\n{text}"


if __name__ == "__main__":
    main()
