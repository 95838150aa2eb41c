-- What migrations and seeds of an existing project expect besides scaffold.sql: extensions that every hosted project
-- has, the columns of Supabase Auth that seeds fill, and the tables of Supabase Storage, whose API is not served here.
-- Run by the superuser supabase_admin in one transaction; harmless when run again.

do $$
begin
    if exists (select from pg_available_extensions where name = 'pgcrypto') then
        create extension if not exists pgcrypto with schema extensions;
    end if;
end
$$;

-- uuid-ossp, which this server may lack.
create or replace function extensions.uuid_generate_v4() returns uuid
language sql volatile
as 'select pg_catalog.gen_random_uuid()';

set local role supabase_auth_admin;

alter table auth.users
    add column if not exists email_change_sent_at timestamptz,
    add column if not exists email_change_token_current varchar(255) default '',
    add column if not exists email_change_confirm_status smallint default 0,
    add column if not exists phone_change text default '',
    add column if not exists phone_change_token varchar(255) default '',
    add column if not exists phone_change_sent_at timestamptz,
    add column if not exists reauthentication_token varchar(255) default '',
    add column if not exists reauthentication_sent_at timestamptz;

create table if not exists auth.identities (
    provider_id text not null,
    user_id uuid not null references auth.users (id) on delete cascade,
    identity_data jsonb not null,
    provider text not null,
    last_sign_in_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    email text generated always as (lower(identity_data ->> 'email')) stored,
    id uuid not null default gen_random_uuid() primary key,
    unique (provider_id, provider)
);
alter table auth.identities enable row level security;
grant all on auth.identities to postgres;

reset role;

do $$
begin
    if to_regrole('supabase_storage_admin') is null then
        create role supabase_storage_admin noinherit;
    end if;
end
$$;
-- As on Supabase: policies on storage.objects are made by postgres, which is a member of its owner there, too.
grant supabase_storage_admin to postgres;

create schema if not exists storage authorization supabase_storage_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role;

set local role supabase_storage_admin;

create table if not exists storage.buckets (
    id text primary key,
    name text not null unique,
    owner uuid,
    owner_id text,
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,
    allowed_mime_types text[],
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create table if not exists storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    owner_id text,
    metadata jsonb,
    user_metadata jsonb,
    version text,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now()
);
create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant all on storage.buckets, storage.objects to postgres, anon, authenticated, service_role;

create or replace function storage.foldername(name text) returns text[]
language sql immutable
as $$ select (string_to_array(foldername.name, '/'))[:cardinality(string_to_array(foldername.name, '/')) - 1] $$;

create or replace function storage.filename(name text) returns text
language sql immutable
as $$ select (string_to_array(filename.name, '/'))[cardinality(string_to_array(filename.name, '/'))] $$;

create or replace function storage.extension(name text) returns text
language sql immutable
as $$ select reverse(split_part(reverse(storage.filename(extension.name)), '.', 1)) $$;

reset role;
