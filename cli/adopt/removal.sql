-- Takes Tillbase out of this database: schema billing, its views and functions in public, its queues, jobs and roles.
-- Written by `till init --uninstall`. The extension pgmq stays, as do the functions that were deployed:
-- {functions}

-- Before anything is dropped: what of yours needs it. A drop that cascades would take your policies with it.
do $$
declare
    v_needed text;
begin
    with public_views as (
        select pg_catalog.to_regclass(name) as oid from pg_catalog.unnest(array[
            {views}
        ]) as name
    ), public_functions as (
        select pg_catalog.to_regprocedure(signature) as oid from pg_catalog.unnest(array[
            {signatures}
        ]) as signature
    ), ours as (
        select 'pg_class'::regclass as classid, pg_class.oid from pg_catalog.pg_class
        where relnamespace = 'billing'::regnamespace or pg_class.oid in (select oid from public_views)
        union all
        select 'pg_proc'::regclass, pg_proc.oid from pg_catalog.pg_proc
        where pronamespace = 'billing'::regnamespace or pg_proc.oid in (select oid from public_functions)
        union all
        select 'pg_type'::regclass, pg_type.oid from pg_catalog.pg_type
        where typnamespace = 'billing'::regnamespace or typrelid in (select oid from public_views)
    ), parts as (
        select classid, oid from ours
        union all
        select 'pg_constraint'::regclass, pg_constraint.oid from pg_catalog.pg_constraint
        where conrelid in (select oid from ours) or contypid in (select oid from ours)
        union all
        select 'pg_attrdef'::regclass, pg_attrdef.oid from pg_catalog.pg_attrdef where adrelid in (select oid from ours)
        union all
        select 'pg_rewrite'::regclass, pg_rewrite.oid from pg_catalog.pg_rewrite where ev_class in (select oid from ours)
        union all
        select 'pg_policy'::regclass, pg_policy.oid from pg_catalog.pg_policy where polrelid in (select oid from ours)
        union all
        select 'pg_trigger'::regclass, pg_trigger.oid from pg_catalog.pg_trigger
        where tgrelid in (select oid from ours) or tgname in ({trigger_names})
        union all
        select 'pg_publication_rel'::regclass, pg_publication_rel.oid from pg_catalog.pg_publication_rel
        where prrelid in (select oid from ours)
    ), needs as (
        select pg_catalog.pg_describe_object(depends.classid, depends.objid, depends.objsubid) as name
        from pg_catalog.pg_depend as depends
        join parts on parts.classid = depends.refclassid and parts.oid = depends.refobjid
        where depends.deptype in ('n', 'a')
            and not exists (
                select from parts as inside where inside.classid = depends.classid and inside.oid = depends.objid
            )
        union
        -- A body of text has no recorded dependency.
        select pg_catalog.format('function %s', pg_proc.oid::regprocedure) from pg_catalog.pg_proc
        where prosrc ~ '\mbilling\.'
            and pronamespace not in (select pg_namespace.oid from pg_catalog.pg_namespace where nspname in ('pg_catalog', 'information_schema'))
            and pg_proc.oid not in (select oid from ours where classid = 'pg_proc'::regclass)
    )
    select pg_catalog.string_agg(needs.name, ', ' order by needs.name) into v_needed from needs;
    if v_needed is not null then
        raise exception 'Tillbase is still needed by: %', v_needed
            using hint = 'Change or drop these, then push again. Nothing was changed.';
    end if;
end
$$;

do $$
declare
    v_job text;
begin
    if pg_catalog.to_regclass('cron.job') is not null then
        for v_job in execute 'select jobname from cron.job where jobname like ''tillbase\_%''' loop
            execute 'select cron.unschedule($1)' using v_job;
        end loop;
    end if;
end
$$;

-- The triggers on auth.users go with their functions: postgres does not own that table and could not drop them.
{drops}

-- A role that another database of this server still uses stays.
do $$
declare
    v_role text;
begin
    foreach v_role in array array[{roles}] loop
        begin
            execute pg_catalog.format('drop owned by %I', v_role);
            execute pg_catalog.format('drop role %I', v_role);
        exception when dependent_objects_still_exist then
            raise notice 'role % is used by another database: it stays', v_role;
        end;
    end loop;
end
$$;
