-- Rights that others than the owner have: on schema billing, on what is in it, on relations and functions in public, and
-- on the tables of our queues. One row for each object, role and right; `columns` where it is a right on columns only.
with relations as (
    select pg_class.oid, format('%I.%I', nspname, relname) as name, case relkind when 'S' then 'sequence' else 'table' end as kind,
        relacl, relowner
    from pg_catalog.pg_class join pg_catalog.pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        and (nspname in ('billing', 'public') or nspname = 'pgmq' and relname ~ '^[qa]_(stripe_events|billing_jobs)$')
), granted as (
    select kind || ' ' || name as object, relowner as owner, relacl as acl, null::text as column_name from relations
    union all
    select format('table %s', relations.name), relowner, attacl, quote_ident(attname)
    from pg_catalog.pg_attribute join relations on relations.oid = attrelid where attacl is not null
    union all
    -- Without a list of rights of its own a function is everybody's.
    select format('function %I.%I(%s)', nspname, proname, pg_catalog.oidvectortypes(proargtypes)), proowner,
        coalesce(proacl, pg_catalog.acldefault('f', proowner)), null
    from pg_catalog.pg_proc join pg_catalog.pg_namespace on pg_namespace.oid = pronamespace
    where nspname in ('billing', 'public')
        and not exists (select from pg_catalog.pg_depend where pg_depend.objid = pg_proc.oid and deptype = 'e')
    union all
    select format('schema %I', nspname), nspowner, nspacl, null from pg_catalog.pg_namespace where nspname = 'billing'
)
select object, role, privilege, string_agg(column_name, ', ' order by column_name) as columns
from (
    select object, case given.grantee when 0 then 'public' else given.grantee::regrole::text end as role,
        lower(given.privilege_type) as privilege, column_name
    from granted cross join lateral pg_catalog.aclexplode(granted.acl) as given
    where given.grantee <> granted.owner
        -- Roles that may do everything anyway, and those that Postgres and pgmq give something to.
        and given.grantee not in (
            select oid from pg_catalog.pg_roles where rolsuper or rolname = 'postgres' or rolname like 'pg\_%'
        )
) as given
group by object, role, privilege, column_name is null
order by object collate "C", role collate "C", privilege collate "C", column_name is null
