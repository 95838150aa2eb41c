-- What the database has in schemas billing and public: a name and a digest for each object, and for the rights on it.
--
-- Only what every supported version of Postgres writes alike: the text of a view's query and NOT NULL as a constraint are
-- not, so a view stands here by its columns and options, and a column has its own NOT NULL.
with schemas as (
    select pg_namespace.oid, nspname from pg_catalog.pg_namespace where nspname in ('billing', 'public')
), relations as (
    select format('%s.%s', nspname, relname) as name, pg_class.*
    from pg_catalog.pg_class join schemas on schemas.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm')
), functions as (
    select format('%s.%s(%s)', nspname, proname, pg_catalog.oidvectortypes(proargtypes)) as name, pg_proc.*
    from pg_catalog.pg_proc join schemas on schemas.oid = pronamespace
    where not exists (select from pg_catalog.pg_depend where pg_depend.objid = pg_proc.oid and deptype = 'e')
), objects as (
    select format('%s %s', case when relkind in ('v', 'm') then 'view' else 'table' end, relations.name) as name,
        pg_catalog.concat_ws(' ', relrowsecurity, relforcerowsecurity, (
            select pg_catalog.string_agg(option, ',' order by option) from pg_catalog.unnest(reloptions) as option
        ), (
            select pg_catalog.string_agg(pg_catalog.concat_ws(' ',
                attname, pg_catalog.format_type(atttypid, atttypmod), attnotnull, attgenerated, attidentity,
                pg_catalog.pg_get_expr(adbin, adrelid)), ', ' order by attnum)
            from pg_catalog.pg_attribute
            left join pg_catalog.pg_attrdef on adrelid = attrelid and adnum = attnum
            where attrelid = relations.oid and attnum > 0 and not attisdropped
        )) as detail
    from relations
    union all
    select format('function %s', functions.name), pg_catalog.concat_ws(' ',
        pg_catalog.pg_get_function_result(functions.oid), pg_catalog.pg_get_function_arguments(functions.oid),
        prosrc, provolatile, prosecdef, proisstrict, proparallel, (
            select pg_catalog.string_agg(option, ',' order by option) from pg_catalog.unnest(proconfig) as option
        ))
    from functions
    union all
    select format('constraint %s of %s', conname, relations.name), pg_catalog.concat_ws(' ',
        pg_catalog.pg_get_constraintdef(pg_constraint.oid), convalidated)
    from pg_catalog.pg_constraint join relations on relations.oid = conrelid where contype <> 'n'
    union all
    select format('index %s of %s', indexes.relname, relations.name), pg_catalog.concat_ws(' ',
        pg_catalog.pg_get_indexdef(indexrelid), indisvalid)
    from pg_catalog.pg_index
    join relations on relations.oid = indrelid
    join pg_catalog.pg_class as indexes on indexes.oid = indexrelid
    union all
    select format('trigger %s on %s', tgname, tgrelid::regclass), pg_catalog.concat_ws(' ',
        pg_catalog.pg_get_triggerdef(pg_trigger.oid), tgenabled)
    from pg_catalog.pg_trigger join functions on functions.oid = tgfoid
    where not tgisinternal
    union all
    select format('policy %s on %s', polname, relations.name), pg_catalog.concat_ws(' ',
        polcmd, polpermissive, (
            select pg_catalog.string_agg(case role when 0 then 'public' else role::regrole::text end, ',' order by role::regrole::text)
            from pg_catalog.unnest(polroles) as role
        ), pg_catalog.pg_get_expr(polqual, polrelid), pg_catalog.pg_get_expr(polwithcheck, polrelid))
    from pg_catalog.pg_policy join relations on relations.oid = polrelid
    union all
    select format('rights on %s', grantable.name), coalesce((
        select pg_catalog.string_agg(pg_catalog.concat_ws(' ',
            case grantee when 0 then 'public' else grantee::regrole::text end, privilege_type, is_grantable, grantable.columns),
            ', ' order by grantee::regrole::text, privilege_type)
        from pg_catalog.aclexplode(grantable.acl) where grantee <> grantable.owner
    ), '')
    from (
        select name, relacl as acl, relowner as owner, null as columns from relations
        union all
        -- Without a list of rights of its own a function is everybody's.
        select name, coalesce(proacl, pg_catalog.acldefault('f', proowner)), proowner, null from functions
        union all
        select format('%s.%s', relations.name, attname), attacl, relowner, attname
        from pg_catalog.pg_attribute join relations on relations.oid = attrelid where attacl is not null
        union all
        select 'schema ' || pg_namespace.nspname, nspacl, nspowner, null
        from pg_catalog.pg_namespace where nspname = 'billing'
    ) as grantable
)
select name, pg_catalog.left(pg_catalog.md5(detail), 12) as digest from objects order by name collate "C"
