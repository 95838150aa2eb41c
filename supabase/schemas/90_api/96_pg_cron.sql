-- A clock inside Postgres, if pg_cron is enabled: even while no worker runs, months are granted, credits expire, and
-- administrators are notified that it is missing.
--
-- Optional, in addition to the worker's own clock: a month is granted once, however many callers run at the same time.
-- New Supabase projects include pg_cron but don't enable it; this file then does nothing, and billing.use_pg_cron()
-- must be called once after enabling it. docs/how-to/schedule.md explains how, and how to stop it.
--
-- Callable by postgres only: a job runs as the role that scheduled it.

create function billing._has_pg_cron()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(has_function_privilege(to_regprocedure('cron.schedule(text, text, text)'), 'execute'), false)
$$;

create function billing.use_pg_cron()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- About 0.25 ms for each account, and the accounts stay locked until the job commits: half a second at most.
    v_accounts_max constant integer := 2000;
    -- Dynamic SQL: a linter would report a function that may not exist.
    v_every_minute constant text := 'select cron.schedule($1, ''* * * * *'', $2)';
begin
    if not billing._has_pg_cron() then
        raise exception 'pg_cron is not enabled in this database, or not for %', current_user
            using errcode = 'feature_not_supported',
                hint = 'Enable it (Supabase: Integrations, Cron), then call this function again as postgres.';
    end if;
    execute v_every_minute using
        'tillbase_allocate', format('select billing.allocate_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using
        'tillbase_expire', format('select billing.expire_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using 'tillbase_watch', 'select billing.watch()';
end
$$;

revoke all on function billing._has_pg_cron, billing.use_pg_cron from public, anon, authenticated, service_role;

do $$
begin
    if billing._has_pg_cron() then
        perform billing.use_pg_cron();
    end if;
end
$$;

comment on function billing.use_pg_cron() is 'Schedules pg_cron jobs that run once a minute: tillbase_allocate and tillbase_expire for due credits, tillbase_watch for alerts. Safe to call again.';
