-- What a Supabase project has before its first migration, as far as migrations and policies can see it.
-- Run by the superuser supabase_admin in one transaction; harmless when run again.

-- Roles belong to the whole server: make the missing ones, then say what each must be.
do $$
declare
    v_role text;
begin
    foreach v_role in array array[
        'postgres', 'anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin'
    ] loop
        begin
            if to_regrole(v_role) is null then
                execute format('create role %I', v_role);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- another database is being set up at this moment
        end;
    end loop;
    -- Each statement writes a shared row: only where something is not yet as it should be.
    if not pg_has_role('authenticator', 'service_role', 'member') then
        alter role postgres login nosuperuser createdb createrole replication bypassrls;
        alter role anon nologin;
        alter role authenticated nologin;
        alter role service_role nologin bypassrls;
        alter role authenticator login noinherit;
        alter role supabase_auth_admin login noinherit;

        alter role postgres set search_path = "$user", public, extensions;
        alter role supabase_auth_admin set search_path = auth;
        alter role anon set statement_timeout = '3s';
        alter role authenticated set statement_timeout = '8s';
        alter role authenticator set statement_timeout = '8s';
        alter role authenticator set lock_timeout = '8s';

        -- Not supabase_auth_admin: what GoTrue owns is out of reach for migrations.
        grant anon, authenticated, service_role to postgres with admin option;
        grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
        grant anon, authenticated, service_role to authenticator;
    end if;
end
$$;

alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;

create schema if not exists extensions authorization postgres;
grant usage on schema extensions to anon, authenticated, service_role;

create schema if not exists auth authorization supabase_auth_admin;
grant usage on schema auth to postgres, anon, authenticated, service_role;

set local role supabase_auth_admin;

create table if not exists auth.users (
    instance_id uuid,
    id uuid not null primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    confirmation_token varchar(255),
    confirmation_sent_at timestamptz,
    recovery_token varchar(255),
    recovery_sent_at timestamptz,
    email_change_token_new varchar(255),
    email_change varchar(255),
    email_change_sent_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text unique default null,
    phone_confirmed_at timestamptz,
    banned_until timestamptz,
    is_sso_user boolean not null default false,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);
create unique index if not exists users_email_partial_key on auth.users (email) where is_sso_user = false;
alter table auth.users enable row level security;
grant all on auth.users to postgres;

-- Who is signed in: of the auth server's columns those that the local sign-in fills.
create table if not exists auth.sessions (
    id uuid not null primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    created_at timestamptz,
    updated_at timestamptz,
    not_after timestamptz
);
create table if not exists auth.refresh_tokens (
    id bigserial primary key,
    token varchar(255) unique,
    user_id varchar(255),
    revoked boolean,
    created_at timestamptz,
    updated_at timestamptz,
    parent varchar(255),
    session_id uuid references auth.sessions (id) on delete cascade
);
create index if not exists sessions_user_id_idx on auth.sessions (user_id);
create index if not exists refresh_tokens_parent_idx on auth.refresh_tokens (parent);
create index if not exists refresh_tokens_session_id_idx on auth.refresh_tokens (session_id);
alter table auth.sessions enable row level security;
alter table auth.refresh_tokens enable row level security;
grant all on auth.sessions, auth.refresh_tokens to postgres;

-- Who is asking: the claims of the token that the Data API has verified, null outside a request.
create or replace function auth.jwt() returns jsonb
language sql stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

create or replace function auth.uid() returns uuid
language sql stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;

create or replace function auth.role() returns text
language sql stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;

create or replace function auth.email() returns text
language sql stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;

reset role;

do $$
begin
    if not exists (select from pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
    end if;
    alter publication supabase_realtime owner to postgres;
end
$$;
