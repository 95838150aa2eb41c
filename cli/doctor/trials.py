"""Statements that clients must not run → findings: each is run as the client's role, then rolled back.

The roles are `anon` and `authenticated`, with the claims that the Data API sets. They try every write to every table
and every function that is not granted to them, with arguments that change nothing. Postgres must refuse each of them
with insufficient_privilege (42501); any other answer is a finding. All run in one statement, which saves round trips.
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
_ACCOUNT_OWNER: LiteralString = """
    select owner_id as user_id, array(
            select accounts.id from billing.accounts where accounts.owner_id = latest.owner_id
            union select account_id from billing.account_members where user_id = latest.owner_id
        ) as accounts
    from billing.accounts as latest where owner_id is not null and closed_at is null order by created_at desc limit 1
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
                null;  -- the view, or that column of it, cannot be written
            when others then
                v_found := v_found || jsonb_build_array(v_trial || jsonb_build_object('answer', sqlerrm));
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
    """One statement as a role. `counts`: it is a finding if rows are found, else if it is not refused."""

    role: str
    claims: str
    how: str
    name: str
    sql: str
    mend: str
    counts: bool = False


def client_writes(conn: Connection) -> Iterator[Finding]:
    """No client role can write to a table, call a function that is not granted to it, or use the queues."""
    if row(conn, "select current_setting('transaction_read_only') = 'on' as is_so", {})["is_so"]:
        yield Finding(
            "client_writes", "nothing can be tried on a read replica, or while the database is read-only",
            "use the connection string of the primary",
        )  # fmt: skip
        return
    owner = row(conn, _ACCOUNT_OWNER, {}) if rows(conn, _ACCOUNT_OWNER, {}) else {"user_id": uuid4()}
    for each in _tried(conn, list(_writes(conn, owner["user_id"]))):
        yield Finding(
            "client_writes",
            f"{each['role']} can {each['how']} {each['name']} ({each['answer']})",
            each["mend"],
        )


def client_reads(conn: Connection) -> Iterator[Finding]:
    """A user without an account can read no rows, and a user with one only those of their own accounts."""
    for each in _tried(conn, list(_reads(conn))):
        yield Finding(
            "client_reads", f"{each['how']} can read {each['answer']} of {each['name']}", each["mend"]
        )


def _writes(conn: Connection, user_id: UUID) -> Iterator[Trial]:
    shipped = shipped_rights()
    for role, claims in (
        ("anon", _claims("anon", None)),
        ("authenticated", _claims("authenticated", user_id)),
    ):
        for each in rows(conn, _CALLABLE, {}):
            granted = shipped.get(f"function {each['name']}")
            if granted is None and each["name"].startswith("public."):
                continue  # the app's own
            if role in (granted or {}) or "public" in (granted or {}):
                continue
            mend = f"revoke execute on function {each['name']} from public, {role};"
            yield Trial(role, claims, "call", each["name"], f"select {each['call']}", mend)
        for each in rows(conn, _WRITABLE, {}):
            name, column = each["name"], each["column"]
            if name.startswith("public.") and f"table {name}" not in shipped:
                continue
            for how, statement in (
                ("insert into", f"insert into {name} default values"),
                ("update", f"update {name} set {column} = {column} where false"),  # noqa: S608
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
                "call",
                each["name"],
                statement,
                f"revoke usage on schema {schema} from public, {role};",
            )


def _reads(conn: Connection) -> Iterator[Trial]:
    shipped = shipped_rights()
    known = rows(conn, _ACCOUNT_OWNER, {})
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
    """The statements that were not refused, with Postgres's answer."""
    given = {"trials": json.dumps([asdict(trial) for trial in trials])}
    with conn.transaction(force_rollback=True):
        conn.execute(
            "select set_config('till.trials', %(trials)s, true), set_config('lock_timeout', %(lock)s, true), "
            "set_config('statement_timeout', %(statement)s, true)",
            given | {"lock": LOCK_TIMEOUT, "statement": STATEMENT_TIMEOUT},
        )
        conn.execute(_TRY)
        return json.loads(row(conn, "select current_setting('till.found') as found", {})["found"])
