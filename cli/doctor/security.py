"""`till doctor --security`: a database → what clients can do that the release does not grant, also by own SQL."""

from collections.abc import Callable, Iterator
from typing import LiteralString

from cli.database import Connection, rows
from cli.doctor.catalogue import compare, read_catalogue, shipped_catalogue
from cli.doctor.rights import beyond, read_rights, shipped_rights
from cli.doctor.trials import client_reads, client_writes
from cli.findings import Finding
from cli.output import counted

Check = Callable[[Connection], Iterator[Finding]]

NAMED_MAX = 20
# Roles that only the platform creates.
_PLATFORM = "^(pg_|supabase_|postgres$|service_role$|cli_login_|dashboard_user$|pgbouncer$|rds)"

_TABLES: LiteralString = """
    select format('%%I.%%I', nspname, relname) as name
    from pg_catalog.pg_class join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and not relrowsecurity
        and (nspname = 'billing' or nspname = 'pgmq' and relname ~ '^[qa]_(stripe_events|billing_jobs)$')
    order by 1
"""
# Also the app's views that read billing: with the rights of their owner they show the rows of all accounts.
_VIEWS: LiteralString = """
    select distinct format('%%I.%%I', of_view.nspname, view.relname) as name
    from pg_catalog.pg_class as view
    join pg_catalog.pg_namespace as of_view on of_view.oid = view.relnamespace
    join pg_catalog.pg_rewrite on ev_class = view.oid
    join pg_catalog.pg_depend on pg_depend.classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
        and refclassid = 'pg_class'::regclass and refobjid <> view.oid
    join pg_catalog.pg_class as read on read.oid = refobjid
    join pg_catalog.pg_namespace as of_read on of_read.oid = read.relnamespace and of_read.nspname = 'billing'
    where view.relkind in ('v', 'm')
        and not coalesce((
            select bool_or(split_part(option, '=', 2)::boolean) from unnest(view.reloptions) as option
            where option like 'security_invoker=%%'
        ), false)
        and (
            has_table_privilege('anon', view.oid, 'select')
            or has_table_privilege('authenticated', view.oid, 'select')
        )
    order by 1
"""
# Tillbase's own, and those of the app that a client may call and that name billing.
_DEFINERS: LiteralString = """
    select format('%%I.%%I(%%s)', nspname, proname, pg_catalog.oidvectortypes(proargtypes)) as name,
        nspname = 'billing' as is_ours,
        coalesce(array_to_string(proconfig, ' ') ~ 'search_path=', false) as is_pinned, array_remove(array[
            case when has_function_privilege('anon', pg_proc.oid, 'execute') then 'anon' end,
            case when has_function_privilege('authenticated', pg_proc.oid, 'execute') then 'authenticated' end
        ], null) as callers
    from pg_catalog.pg_proc join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
    where prosecdef and (
        nspname = 'billing'
        or nspname not in ('pg_catalog', 'information_schema') and prosrc ~ '\\mbilling\\.'
            and not exists (select from pg_catalog.pg_depend where objid = pg_proc.oid and deptype = 'e')
    )
    order by 1
"""
_ROLES: LiteralString = """
    select rolname as name, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolcanlogin, rolinherit,
        rolname ~ '^billing_' as is_ours
    from pg_catalog.pg_roles
    where rolname in ('billing_receiver', 'billing_worker', 'billing_checkout', 'anon', 'authenticated')
        or (rolsuper or rolbypassrls) and rolname !~ %(platform)s
    order by 1
"""
_MEMBERS: LiteralString = """
    select member.rolname as member, taken.rolname as taken
    from pg_catalog.pg_auth_members
    join pg_catalog.pg_roles as member on member.oid = pg_auth_members.member
    join pg_catalog.pg_roles as taken on taken.oid = pg_auth_members.roleid
    where member.rolname in ('anon', 'authenticated', 'billing_receiver', 'billing_worker', 'billing_checkout')
        or taken.rolname in ('billing_receiver', 'billing_worker', 'billing_checkout')
            and member.rolname <> 'postgres' and not member.rolsuper
    order by 1, 2
"""
_CREATORS: LiteralString = """
    select format('%%I', nspname) as schema,
        case given.grantee when 0 then 'public' else given.grantee::regrole::text end as role
    from pg_catalog.pg_namespace cross join lateral pg_catalog.aclexplode(nspacl) as given
    where nspname in ('public', 'billing', 'pgmq') and given.privilege_type = 'CREATE'
        and (given.grantee = 0 or given.grantee::regrole::text in ('anon', 'authenticated'))
    order by 1, 2
"""
_DEFAULTS: LiteralString = """
    select format('%%I', nspname) as schema, defaclrole::regrole::text as owner,
        case given.grantee when 0 then 'public' else given.grantee::regrole::text end as role,
        case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' else 'types' end
            as kind,
        string_agg(lower(given.privilege_type), ', ' order by given.privilege_type) as privileges
    from pg_catalog.pg_default_acl
    join pg_catalog.pg_namespace on pg_namespace.oid = defaclnamespace
    cross join lateral pg_catalog.aclexplode(defaclacl) as given
    where nspname in ('billing', 'pgmq')
        and (given.grantee = 0 or given.grantee::regrole::text in ('anon', 'authenticated', 'service_role'))
    group by nspname, defaclrole, given.grantee, defaclobjtype
    order by 1, 2, 3, 4
"""
_QUEUES: LiteralString = """
    select format('%%I', nspname) as schema, role.name as role
    from pg_catalog.pg_namespace cross join unnest(array['anon', 'authenticated']) as role (name)
    where nspname in ('pgmq', 'pgmq_public') and has_schema_privilege(role.name, pg_namespace.oid, 'usage')
    order by 1, 2
"""
_PUBLISHED: LiteralString = """
    select pubname as publication, format('%%I.%%I', schemaname, tablename) as name
    from pg_catalog.pg_publication_tables
    where pubname = 'supabase_realtime'
        and (schemaname = 'billing' and tablename <> 'credit_balances' or schemaname = 'pgmq')
    order by 1, 2
"""
# Keys of Stripe and Supabase, and JSON Web Tokens.
_PATTERN: LiteralString = (
    r"(sk|rk)_(live|test)_[A-Za-z0-9]{8}|whsec_[A-Za-z0-9+/]{8}|sb_secret_[A-Za-z0-9]{8}"
    r"|eyJ[A-Za-z0-9_-]{20,}\."
)
_SECRETS: LiteralString = """
    select 'the setting ' || key || ' of billing.settings' as place,
        format('update billing.settings set %%I = default', key) as mend
    from billing.settings cross join lateral jsonb_each_text(to_jsonb(settings)) where value ~ %(pattern)s
    union all
    select format('the setting %%s of %%s', split_part(setting, '=', 1),
            case when setdatabase = 0 then 'role ' || setrole::regrole else 'this database' end),
        format('alter %%s reset %%s', case when setdatabase = 0 then 'role ' || setrole::regrole
            when setrole = 0 then format('database %%I', current_database())
            else format('role %%s in database %%I', setrole::regrole, current_database()) end,
            split_part(setting, '=', 1))
    from pg_catalog.pg_db_role_setting cross join lateral unnest(setconfig) as setting
    where setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
        and setting ~ %(pattern)s
    union all
    select 'the metadata of ' || id, 'remove it from the metadata in Stripe'
    from (
        select stripe_price_id as id, metadata from billing.plans
        union all select stripe_price_id, metadata from billing.credit_packs
        union all select stripe_product_id, metadata from billing.products
    ) as declared
    where metadata::text ~ %(pattern)s
"""


def rights(conn: Connection) -> Iterator[Finding]:
    """No role has a privilege that the release does not grant."""
    found = beyond(shipped_rights(), read_rights(conn))
    for right in found[:NAMED_MAX]:
        yield Finding("rights", f"{right.role} has {right.name} on {right.on}", right.revoke)
    if len(found) > NAMED_MAX:
        yield Finding(
            "rights",
            f"… and {counted(len(found) - NAMED_MAX, 'right')} more",
            "revoke these, then run the check again",
        )


def row_security(conn: Connection) -> Iterator[Finding]:
    """Every table has row level security with the policies of the release; views use their caller's privileges."""
    for each in rows(conn, _TABLES, {}):
        yield Finding(
            "row_security", f"{each['name']} has no row level security",
            f"alter table {each['name']} enable row level security;",
        )  # fmt: skip
    held, shipped = read_catalogue(conn), shipped_catalogue()
    found = compare(shipped, held)
    for name in [name for name in found.changed if name.startswith("policy ")]:
        yield Finding("row_security", f"{name} differs from the release", _recreate(name))
    for name in [name for name in found.missing if name.startswith("policy ")]:
        yield Finding("row_security", f"{name} is missing: clients read no rows", _recreate(name), "warning")
    for name in [name for name in found.extra if name.startswith("policy ")]:
        yield Finding("row_security", f"{name} is not part of the release", f"drop {name};")
    for each in rows(conn, _VIEWS, {}):
        yield Finding(
            "row_security",
            f"view {each['name']} reads billing with its owner's privileges and shows the rows of all accounts",
            f"alter view {each['name']} set (security_invoker = on);",
        )  # fmt: skip


def _recreate(name: str) -> str:
    return f"if it exists, `drop {name}`; then run `create {name}` of the release's migration"


def definers(conn: Connection) -> Iterator[Finding]:
    """Functions that are security definer set search_path, and clients can call none of the app's that use billing."""
    for each in rows(conn, _DEFINERS, {}):
        if not each["is_pinned"]:
            yield Finding(
                "search_path", f"{each['name']} is security definer and uses the search_path of its caller",
                f"alter function {each['name']} set search_path = pg_catalog, pg_temp;",
            )  # fmt: skip
        if each["callers"] and not each["is_ours"] and not _is_shipped(each["name"]):
            callers = " and ".join(each["callers"])
            yield Finding(
                "definers", f"{each['name']} of the app is security definer, uses billing, and {callers} can call it",
                f"revoke execute on function {each['name']} from public, {', '.join(each['callers'])}; "
                "or make sure that it takes the user from auth.uid() and moves no credits", "warning",
            )  # fmt: skip


def _is_shipped(name: str) -> bool:
    return f"function {name}" in shipped_rights()


def roles(conn: Connection) -> Iterator[Finding]:
    """Client roles and the roles of Tillbase's services have only the attributes and memberships of the release."""
    for each in rows(conn, _ROLES, {"platform": _PLATFORM}):
        name = each["name"]
        for attribute, word in (
            ("rolsuper", "superuser"), ("rolbypassrls", "bypassrls"), ("rolcreaterole", "createrole"),
            ("rolcreatedb", "createdb"), ("rolreplication", "replication"),
        ):  # fmt: skip
            if each[attribute]:
                is_theirs = not each["is_ours"] and name not in ("anon", "authenticated")
                yield Finding(
                    "roles", f"role {name} has {word}" + (" and can read every account" if is_theirs else ""),
                    f"alter role {name} no{word};", "warning" if is_theirs else "error",
                )  # fmt: skip
        if each["rolcanlogin"] and (each["is_ours"] or name in ("anon", "authenticated")):
            yield Finding("roles", f"role {name} can log in", f"alter role {name} nologin;")
    for each in rows(conn, _MEMBERS, {}):
        yield Finding(
            "roles", f"{each['member']} is a member of {each['taken']} and can use its privileges",
            f"revoke {each['taken']} from {each['member']};",
        )  # fmt: skip


def schemas(conn: Connection) -> Iterator[Finding]:
    """Clients cannot create objects, and new objects in billing and pgmq grant them nothing."""
    for each in rows(conn, _CREATORS, {}):
        yield Finding(
            "schemas", f"{each['role']} can create objects in schema {each['schema']}",
            f"revoke create on schema {each['schema']} from {each['role']};",
        )  # fmt: skip
    for each in rows(conn, _DEFAULTS, {}):
        yield Finding(
            "default_privileges",
            f"new {each['kind']} in schema {each['schema']} grant {each['privileges']} to {each['role']}",
            f"alter default privileges for role {each['owner']} in schema {each['schema']} "
            f"revoke {each['privileges']} on {each['kind']} from {each['role']};",
        )  # fmt: skip


def queues(conn: Connection) -> Iterator[Finding]:
    """Clients cannot use the queues, and of billing Realtime sends only balances."""
    for each in rows(conn, _QUEUES, {}):
        yield Finding(
            "queues", f"{each['role']} can use schema {each['schema']} and its queues of Stripe's events",
            f"revoke usage on schema {each['schema']} from {each['role']};",
        )  # fmt: skip
    for each in rows(conn, _PUBLISHED, {}):
        yield Finding(
            "realtime", f"Realtime sends the rows of {each['name']}",
            f"alter publication {each['publication']} drop table {each['name']};", "warning",
        )  # fmt: skip


def secrets(conn: Connection) -> Iterator[Finding]:
    """No secret key is stored in settings, in the settings of roles and the database, or in metadata."""
    for each in rows(conn, _SECRETS, {"pattern": _PATTERN}):
        yield Finding(
            "secrets",
            f"{each['place']} contains what looks like a secret key",
            f"roll the key, then: {each['mend']}",
        )


CHECKS: dict[str, Check] = {
    "privileges of every role": rights,
    "row level security": row_security,
    "security definer functions": definers,
    "attributes and members of roles": roles,
    "privileges to create objects": schemas,
    "queues and Realtime": queues,
    "secrets in the database": secrets,
}
TRIALS: dict[str, Check] = {
    "no client can add credits (tried and rolled back)": client_writes,
    "no client can read other accounts (tried and rolled back)": client_reads,
}
