-- Schema `billing` and the three roles that work in it.
--
-- Invariant: nobody has a privilege in `billing` unless a migration grants it by name. Postgres grants EXECUTE on every
-- new function to PUBLIC, and a project's default privileges may grant more. So each object first loses all privileges,
-- by name, and then gets its grants. The project's own default privileges are never changed.
--
-- billing_receiver   may call receive_stripe_event and nothing else (the edge function)
-- billing_worker     may execute the functions that the worker calls and nothing else
-- billing_checkout   may execute what the edge functions for users call and nothing else
-- Roles outlive a database, so they are created only where they don't exist.

create schema billing;

comment on schema billing is 'Stripe billing and the credit ledger. Not exposed to the Data API: clients use the views in public.';

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_receiver') then
        create role billing_receiver nologin noinherit;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_worker') then
        create role billing_worker nologin noinherit;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_checkout') then
        create role billing_checkout nologin noinherit;
    end if;
end
$$;

-- `postgres` logs in and takes these roles with the start-up option `-c role=…`.
grant billing_receiver, billing_worker, billing_checkout to postgres;

revoke all on schema billing from public, anon, authenticated, service_role;
grant usage on schema billing to anon, authenticated, service_role, billing_receiver, billing_worker, billing_checkout;
