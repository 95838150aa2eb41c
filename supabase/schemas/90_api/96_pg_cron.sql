-- A clock inside Postgres, where pg_cron is enabled: months are granted and credits expire while no worker runs.
--
-- Optional, and beside the worker's own clock: a slot is granted once, whoever calls and however many at once. A fresh
-- Supabase project has pg_cron at hand but not enabled; then nothing happens here, and whoever enables it later calls
-- billing.use_pg_cron() once. docs/how-to/schedule.md says how, and how to stop it.
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
    -- Some 0.25 ms each, and locked until the job has done them all: half a second at most.
    v_accounts_max constant integer := 2000;
    -- As text: a linter would miss a function that need not be there.
    v_every_minute constant text := 'select cron.schedule($1, ''* * * * *'', $2)';
begin
    if not billing._has_pg_cron() then
        raise exception 'pg_cron is not enabled in this database, or not for %', current_user
            using errcode = 'feature_not_supported',
                hint = 'Enable it (Supabase: Integrations, Cron), then call this again as postgres.';
    end if;
    execute v_every_minute using
        'tillbase_allocate', format('select billing.allocate_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using
        'tillbase_expire', format('select billing.expire_due_credits(accounts_max => %s)', v_accounts_max);
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

comment on function billing.use_pg_cron() is 'Has pg_cron allocate and expire due credits once a minute: jobs tillbase_allocate and tillbase_expire. Safe to call again.';
