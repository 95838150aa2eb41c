"""What a client must not do → really tried, as the role and with the claims that the Data API sets; then rolled back.

As `anon` and as a signed-in user: every write to every table, and every function that is not for them, with values that
nothing comes of. They must be refused for want of a right (42501), at the door: any other answer means that it is open.
All of them are one statement, so that a database far away is asked once.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, LiteralString
from uuid import UUID, uuid4

from cli.database import Connection, row, rows
from cli.doctor.rights import shipped_rights
from cli.findings import Finding

LOCK_TIMEOUT = "2s"
STATEMENT_TIMEOUT = "60s"
NAMED_MAX = 20

_CALLABLE: LiteralString = """
    select format('%%I.%%I(%%s)', nspname, proname, pg_catalog.oidvectortypes(proargtypes)) as name,
        format('%%I.%%I(%%s)', nspname, proname, (
            select string_agg(
                case when place = pronargs and provariadic <> 0 then 'variadic ' else '' end
                    || format('(select null)::%%s', format_type(type, null)),
                ', ' order by place
            ) from unnest(proargtypes::oid[]) with ordinality as argument (type, place)
        )) as call
    from pg_catalog.pg_proc join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
    where nspname in ('billing', 'public') and prokind = 'f' and prorettype <> 'trigger'::regtype
        and prorettype <> 'event_trigger'::regtype
        and not exists (
            select from unnest(proargtypes::oid[]) as argument (type) join pg_catalog.pg_type on pg_type.oid = type
            where typtype = 'p'
        )
    order by 1
"""
_WRITABLE: LiteralString = """
    select format('%%I.%%I', nspname, relname) as name, (
            select quote_ident(attname) from pg_catalog.pg_attribute
            where attrelid = pg_class.oid and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = ''
            order by attnum desc limit 1
        ) as column, exists (
            select from pg_catalog.pg_attribute
            where attrelid = pg_class.oid and attname = 'account_id' and not attisdropped
        ) as has_account
    from pg_catalog.pg_class join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v') and (
        nspname in ('billing', 'public') or nspname = 'pgmq' and relname ~ '^[qa]_(stripe_events|billing_jobs)$'
    )
    order by 1
"""
_SENDERS: LiteralString = """
    select distinct format('%%I.%%I', nspname, proname) as name
    from pg_catalog.pg_proc join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
    where nspname in ('pgmq', 'pgmq_public') and proname in ('send', 'read', 'pop') order by 1
"""
_SOMEBODY: LiteralString = """
    select owner_id as user_id, array(
            select accounts.id from billing.accounts where accounts.owner_id = somebody.owner_id
            union select account_id from billing.account_members where user_id = somebody.owner_id
        ) as accounts
    from billing.accounts as somebody where owner_id is not null and closed_at is null order by created_at desc limit 1
"""
_TRY: LiteralString = """
do $$
declare
    v_trial jsonb;
    v_found jsonb := '[]';
    v_count bigint;
begin
    for v_trial in select * from jsonb_array_elements(current_setting('till.trials')::jsonb) loop
        begin
            perform set_config('request.jwt.claims', v_trial ->> 'claims', true);
            execute format('set local role %I', v_trial ->> 'role');
            if (v_trial ->> 'counts')::boolean then
                execute v_trial ->> 'sql' into v_count;
                if v_count > 0 then
                    raise exception '% rows', v_count using errcode = 'TILL1';
                end if;
                raise insufficient_privilege;
            end if;
            execute v_trial ->> 'sql';
            raise exception 'it succeeds' using errcode = 'TILL1';
        exception
            when insufficient_privilege then
                null;
            when object_not_in_prerequisite_state or generated_always or feature_not_supported then
                null;  -- a view that nobody can write, or not that column
            when others then
                v_found := v_found || jsonb_build_array(v_trial || jsonb_build_object('told', sqlerrm));
        end;
    end loop;
    perform set_config('till.found', v_found::text, true);
end
$$
"""
# Tables of what is on sale, which every signed-in user may read.
_CATALOGUE = {"billing.credit_packs", "public.billing_packs", "public.credit_packs"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt as a role; `counts`: rows that it finds are too many, else that it is not refused."""

    role: str
    claims: str
    how: str
    name: str
    sql: str
    mend: str
    counts: bool = False


def mint_proof(conn: Connection) -> Iterator[Finding]:
    """Neither a visitor nor a user writes a table, calls what is not for them, or reaches the queues."""
    if row(conn, "select current_setting('transaction_read_only') = 'on' as is_so", {})["is_so"]:
        yield Finding(
            "mint_proof", "nothing can be tried on a read replica, or while the database is read-only",
            "use the connection string of the primary",
        )  # fmt: skip
        return
    somebody = row(conn, _SOMEBODY, {}) if rows(conn, _SOMEBODY, {}) else {"user_id": uuid4()}
    for each in _tried(conn, list(_writes(conn, somebody["user_id"]))):
        yield Finding(
            "mint_proof",
            f"{each['role']} gets through with {each['how']} {each['name']} ({each['told']})",
            each["mend"],
        )


def others_rows(conn: Connection) -> Iterator[Finding]:
    """A user without an account sees no row of anybody, and a user with one only their own."""
    for each in _tried(conn, list(_reads(conn))):
        yield Finding("others_rows", f"{each['how']} sees {each['told']} of {each['name']}", each["mend"])


def _writes(conn: Connection, user_id: UUID) -> Iterator[Trial]:
    shipped = shipped_rights()
    for role, claims in (
        ("anon", _claims("anon", None)),
        ("authenticated", _claims("authenticated", user_id)),
    ):
        for each in rows(conn, _CALLABLE, {}):
            granted = shipped.get(f"function {each['name']}")
            if granted is None and each["name"].startswith("public."):
                continue  # theirs
            if role in (granted or {}) or "public" in (granted or {}):
                continue
            mend = f"revoke execute on function {each['name']} from public, {role};"
            yield Trial(role, claims, "a call of", each["name"], f"select {each['call']}", mend)
        for each in rows(conn, _WRITABLE, {}):
            name, column = each["name"], each["column"]
            if name.startswith("public.") and f"table {name}" not in shipped:
                continue
            for how, statement in (
                ("insert into", f"insert into {name} default values"),
                ("update of", f"update {name} set {column} = {column} where false"),  # noqa: S608
                ("delete from", f"delete from {name} where false"),  # noqa: S608
            ):
                yield Trial(
                    role,
                    claims,
                    how,
                    name,
                    statement,
                    f"revoke {how.split()[0]} on table {name} from public, {role};",
                )
        for each in rows(conn, _SENDERS, {}):
            arguments = {
                "send": "'stripe_events', '{}'",
                "read": "'stripe_events', 1, 1",
                "pop": "'stripe_events'",
            }
            statement = f"select {each['name']}({arguments[each['name'].split('.')[1]]})"
            schema = each["name"].split(".")[0]
            yield Trial(
                role,
                claims,
                "a call of",
                each["name"],
                statement,
                f"revoke usage on schema {schema} from public, {role};",
            )


def _reads(conn: Connection) -> Iterator[Trial]:
    shipped = shipped_rights()
    known = rows(conn, _SOMEBODY, {})
    for each in rows(conn, _WRITABLE, {}):
        name, readers = each["name"], shipped.get(f"table {each['name']}", {})
        if "anon" in readers or name in _CATALOGUE or (name.startswith("public.") and not readers):
            continue
        mend = f"make row level security of {name} as in the release's migration"
        stranger = _claims("authenticated", uuid4())
        count = f"select count(*) from {name}"  # noqa: S608  a name of the catalogue
        yield Trial("anon", _claims("anon", None), "a visitor", name, count, mend, counts=True)
        yield Trial("authenticated", stranger, "a user without an account", name, count, mend, counts=True)
        if known and each["has_account"]:
            own = ", ".join(f"'{account}'" for account in known[0]["accounts"])
            others = f"{count} where account_id not in ({own})"
            claims = _claims("authenticated", known[0]["user_id"])
            yield Trial("authenticated", claims, "a user", name, others, mend, counts=True)


def _claims(role: str, user_id: UUID | None) -> str:
    return json.dumps({"role": role} | ({"sub": str(user_id), "aud": "authenticated"} if user_id else {}))


def _tried(conn: Connection, trials: list[Trial]) -> list[dict[str, Any]]:
    """What got through, and its error."""
    given = {"trials": json.dumps([asdict(trial) for trial in trials])}
    with conn.transaction(force_rollback=True):
        conn.execute(
            "select set_config('till.trials', %(trials)s, true), set_config('lock_timeout', %(lock)s, true), "
            "set_config('statement_timeout', %(statement)s, true)",
            given | {"lock": LOCK_TIMEOUT, "statement": STATEMENT_TIMEOUT},
        )
        conn.execute(_TRY)
        return json.loads(row(conn, "select current_setting('till.found') as found", {})["found"])
