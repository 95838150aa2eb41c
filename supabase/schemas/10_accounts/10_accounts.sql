-- Accounts: what has a balance. Every user has a personal one; a team account has members.
--
-- Invariant: a sign-up never fails because of billing, and the account's ledger survives the user (owner_id becomes
-- null). Clients read their own accounts; only functions write.

create table billing.accounts (
    id uuid primary key default gen_random_uuid(),
    kind text not null default 'personal',
    name text,
    owner_id uuid references auth.users (id) on delete set null,
    frozen_at timestamptz,
    frozen_reason text,
    closed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint kind_is_known check (kind in ('personal', 'team')),
    constraint frozen_accounts_say_why check ((frozen_at is null) = (frozen_reason is null))
);

create unique index accounts_personal_owner on billing.accounts (owner_id) where kind = 'personal';
create index accounts_owner on billing.accounts (owner_id);
create index accounts_of_deleted_users on billing.accounts (id) where owner_id is null and kind = 'personal';
create index accounts_frozen on billing.accounts (frozen_at) where frozen_at is not null;
create index accounts_created on billing.accounts (created_at, id);

create table billing.account_members (
    account_id uuid not null references billing.accounts (id) on delete cascade,
    user_id uuid not null references auth.users (id) on delete cascade,
    role text not null default 'member',
    created_at timestamptz not null default now(),
    primary key (account_id, user_id),
    constraint role_is_known check (role in ('owner', 'admin', 'member'))
);

create index account_members_user on billing.account_members (user_id);

-- The only definition of a user's own accounts. Security definer, so that a policy on members need not read members. In
-- plpgsql, because its plan is kept: a function in SQL that cannot be inlined is planned at each query.
create function billing.my_account_ids()
returns setof uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 2
as $$
begin
    return query
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members where account_members.user_id = (select auth.uid());
end
$$;

-- Those that the user owns or administers. Other members of a team see its credits, but not its e-mail address,
-- invoices and payments.
create function billing.my_managed_account_ids()
returns setof uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 2
as $$
begin
    return query
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members
    where account_members.user_id = (select auth.uid()) and account_members.role in ('owner', 'admin');
end
$$;

-- Whether the caller bypasses row level security: the app's own server, not a signed-in user.
-- Uses the session's role: inside a security definer function current_user is the function's owner.
create function billing._sees_every_account()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_roles
        where pg_roles.rolname = coalesce(nullif(current_setting('role'), 'none'), session_user)
            and (pg_roles.rolbypassrls or pg_roles.rolsuper)
    )
$$;

-- Whether a user may still act: a token outlives its user, and a ban, by an hour.
create function billing._is_active_user(user_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from auth.users
        where users.id = _is_active_user.user_id and users.deleted_at is null
            and coalesce(users.banned_until, '-infinity') <= now()
    )
$$;

-- Whether an account still has a user: its owner or a member who was not deleted, softly or otherwise.
create function billing._has_user(account_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = _has_user.account_id and users.deleted_at is null
    ) or exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = _has_user.account_id and users.deleted_at is null
    )
$$;

alter table billing.accounts enable row level security;
alter table billing.account_members enable row level security;

revoke all on billing.accounts, billing.account_members from public, anon, authenticated, service_role;

create policy accounts_select_own on billing.accounts
for select to authenticated using (id = any (array(select billing.my_account_ids())));

create policy account_members_select_own on billing.account_members
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

grant select on billing.accounts, billing.account_members to service_role;
grant select on billing.account_members to authenticated;
-- Not frozen_reason, which only administrators may read.
grant select (id, kind, name, owner_id, frozen_at, closed_at, created_at, updated_at) on billing.accounts to authenticated;

create function billing.ensure_account(user_id uuid)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    if ensure_account.user_id is null then
        raise exception 'user_id is missing'
            using errcode = 'TB037', hint = 'Pass the id of a row in auth.users.';
    end if;
    insert into billing.accounts (kind, owner_id)
    select 'personal', users.id from auth.users where users.id = ensure_account.user_id
    on conflict (owner_id) where kind = 'personal' do nothing
    returning id into v_account_id;

    if v_account_id is null then
        select accounts.id into v_account_id from billing.accounts
        where accounts.owner_id = ensure_account.user_id and accounts.kind = 'personal';
        if not found then
            raise exception 'there is no such user: %', ensure_account.user_id
                using errcode = 'TB079', hint = 'Pass the id of a row in auth.users.';
        end if;
    end if;
    return v_account_id;
end
$$;

-- Runs as supabase_auth_admin inside the sign-up's transaction. On any error, including a long lock on accounts, the
-- sign-up succeeds without an account, and ensure_account creates it at the first purchase.
create function billing.tg_users__open_account()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing.ensure_account(new.id);
    return null;
exception when others then
    raise warning 'could not create a billing account for user %: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_users__open_account
after insert on auth.users
for each row execute function billing.tg_users__open_account();

revoke all on function
    billing.my_account_ids, billing.my_managed_account_ids, billing._sees_every_account, billing._is_active_user,
    billing._has_user, billing.ensure_account, billing.tg_users__open_account
from public, anon, authenticated, service_role;
grant execute on function billing.my_account_ids() to authenticated;
grant execute on function billing.my_managed_account_ids() to authenticated;
grant execute on function billing.ensure_account(uuid) to service_role;

comment on table billing.accounts is 'What has a balance: a person or a team.';
comment on column billing.accounts.frozen_at is 'Since when spending is refused (TB003); administrators read the reason in frozen_reason.';
comment on table billing.account_members is 'The members of team accounts.';
comment on function billing.my_account_ids() is 'The accounts of the signed-in user. Policies: account_id = any (array(select billing.my_account_ids())).';
comment on function billing.my_managed_account_ids() is 'The accounts that the signed-in user owns or administers: those whose invoices, payments and e-mail address they may read.';
comment on function billing.ensure_account(uuid) is 'The personal account of a user, created if it does not exist.';
