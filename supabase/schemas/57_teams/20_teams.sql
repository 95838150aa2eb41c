-- Teams: accounts that several users share, each with a role.
--
-- Invariant: a team that has members has an owner among them, who is accounts.owner_id; the last owner can neither leave
-- nor become something else. Only a deleted user leaves a team without an owner: another owner of the team takes the
-- place at once, otherwise an administrator hands it over with transfer_ownership.
--
--     owner    everything, also other owners and the team itself
--     admin    admins, members and invitations; buys for the team
--     member   reads the team's credits
--
-- Callers: a signed-in user acts as what the verified token says; the app's own server (service_role, postgres) may do
-- everything. Every change locks the account's row, so what is checked holds until it is written.

-- The team, locked; and the rank of who acts: 3 owner or the app's own server, 2 admin, 1 member. Its owners and the user
-- are locked first: a deletion locks a user before what the user has.
create function billing._lock_team(account_id uuid, user_id uuid default null, out team billing.accounts, out rank integer)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from auth.users
    where users.id = _lock_team.user_id or users.id in (
        select account_members.user_id from billing.account_members
        where account_members.account_id = _lock_team.account_id and account_members.role = 'owner'
    )
    order by users.id for key share;
    select * into team from billing.accounts where accounts.id = _lock_team.account_id for no key update;
    rank := case
        when billing._sees_every_account() then 3
        when not billing._is_active_user(auth.uid()) then 0
        when team.owner_id = auth.uid() then 3
        else billing._rank((
            select account_members.role from billing.account_members
            where account_members.account_id = _lock_team.account_id and account_members.user_id = auth.uid()
        ))
    end;
    -- An erased team has nobody, for good.
    if team.kind is distinct from 'team' or rank = 0 or exists (
        select from billing.erasures where erasures.account_id = team.id
    ) then
        raise exception 'there is no such team: %', _lock_team.account_id
            using errcode = 'TB076', hint = 'Pass the id of a team that you belong to. create_team makes one.';
    end if;
end
$$;

create function billing._rank(role text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case _rank.role when 'owner' then 3 when 'admin' then 2 when 'member' then 1 else 0 end
$$;

-- Refuses who is not at least an admin, and who would touch somebody of a higher rank than their own.
create function billing._check_rank(rank integer, role text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_rank.role is null or billing._rank(_check_rank.role) = 0 then
        raise exception 'there is no role %', coalesce(_check_rank.role, 'null')
            using errcode = 'TB077', hint = 'Roles are owner, admin and member.';
    elsif _check_rank.rank < greatest(billing._rank(_check_rank.role), 2) then
        raise exception 'your role in this team does not allow this'
            using errcode = 'TB078', hint = 'Admins manage admins and members; owners manage everybody.';
    end if;
end
$$;

create function billing._check_user(user_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not billing._is_active_user(_check_user.user_id) then
        raise exception 'there is no such user: %', coalesce(_check_user.user_id::text, 'null')
            using errcode = 'TB079', hint = 'Pass the id of a row in auth.users that is neither deleted nor banned.';
    end if;
end
$$;

-- Refuses one more member than the team has seats, where the settings limit them. Open invitations count.
create function billing._check_seats(account_id uuid, leaving_out_email text default null)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seats bigint;
    v_taken bigint;
begin
    if not (select settings.limit_members_to_seats from billing.settings) then
        return;
    end if;
    select greatest(1, max(items.quantity)) into v_seats
    from billing.subscriptions
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    where subscriptions.account_id = _check_seats.account_id and subscriptions.livemode = billing.is_livemode()
        and subscriptions.status in ('trialing', 'active', 'past_due');
    select
        (
            select count(*) from billing.account_members
            where account_members.account_id = _check_seats.account_id
        ) + (
            select count(*) from billing.team_invitations
            where team_invitations.account_id = _check_seats.account_id and team_invitations.closed_at is null
                and team_invitations.expires_at > billing.current_time()
                and team_invitations.email is distinct from _check_seats.leaving_out_email
        )
    into v_taken;
    if v_taken >= v_seats then
        raise exception 'all % seats of this team are taken', v_seats
            using errcode = 'TB088', hint = 'Buy more seats (the quantity of the subscription), or remove a member or an invitation.';
    end if;
end
$$;

-- accounts.owner_id is always an owner among the members: it stays, or the owner of longest standing takes its place.
create function billing._appoint_owner(account_id uuid)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.accounts
    set owner_id = (
            select account_members.user_id from billing.account_members
            where account_members.account_id = accounts.id and account_members.role = 'owner'
            order by account_members.created_at, account_members.user_id
            limit 1
        ),
        updated_at = now()
    where accounts.id = _appoint_owner.account_id and accounts.kind = 'team'
        and not exists (
            select from billing.account_members
            where account_members.account_id = accounts.id and account_members.user_id = accounts.owner_id
                and account_members.role = 'owner'
        )
$$;

create function billing._check_owner_is_left(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from billing.account_members
        where account_members.account_id = _check_owner_is_left.account_id and account_members.role = 'owner'
    ) then
        raise exception 'a team needs an owner'
            using errcode = 'TB089', hint = 'Make somebody else an owner first: set_member_role or transfer_ownership.';
    end if;
end
$$;

-- The same owner and name return the same team, so a call whose answer was lost can be repeated.
create function billing.create_team(name text, owner_id uuid)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := btrim(create_team.name);
    v_team billing.accounts;
begin
    if coalesce(length(v_name), 0) not between 1 and 255 then
        raise exception 'the name of a team must have 1 to 255 characters'
            using errcode = 'TB090', hint = 'Pass a name for people to read.';
    end if;
    perform billing._check_user(create_team.owner_id);
    perform pg_advisory_xact_lock(hashtextextended('team:' || create_team.owner_id || ':' || v_name, 0));
    select * into v_team from billing.accounts
    where accounts.owner_id = create_team.owner_id and accounts.kind = 'team' and accounts.name = v_name
        and accounts.closed_at is null
    order by accounts.created_at
    limit 1;
    if not found then
        insert into billing.accounts (kind, name, owner_id) values ('team', v_name, create_team.owner_id)
        returning * into v_team;
        insert into billing.account_members (account_id, user_id, role)
        values (v_team.id, create_team.owner_id, 'owner');
    end if;
    return v_team;
end
$$;

-- A member is added once; another role for them is set_member_role's to give.
create function billing.add_member(account_id uuid, user_id uuid, role text default 'member')
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_member billing.account_members;
begin
    perform billing._lock_team(add_member.account_id, add_member.user_id);
    perform billing._check_rank(3, add_member.role);
    perform billing._check_user(add_member.user_id);
    select * into v_member from billing.account_members
    where account_members.account_id = add_member.account_id and account_members.user_id = add_member.user_id;
    if found and v_member.role <> add_member.role then
        raise exception 'this user is a member already, with the role %', v_member.role
            using errcode = 'TB083', hint = 'Change it with set_member_role.';
    elsif not found then
        perform billing._check_seats(add_member.account_id);
        insert into billing.account_members (account_id, user_id, role)
        values (add_member.account_id, add_member.user_id, add_member.role)
        returning * into v_member;
        perform billing._appoint_owner(add_member.account_id);
    end if;
    return v_member;
end
$$;

create function billing.set_member_role(account_id uuid, user_id uuid, role text)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(set_member_role.account_id, set_member_role.user_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(set_member_role.account_id, set_member_role.user_id);
    perform billing._check_rank(v_rank, set_member_role.role);
    perform billing._check_rank(v_rank, v_member.role);
    update billing.account_members
    set role = set_member_role.role
    where account_members.account_id = set_member_role.account_id
        and account_members.user_id = set_member_role.user_id
    returning * into v_member;
    if set_member_role.role = 'member' then
        perform billing._revoke_invitations_of(set_member_role.account_id, set_member_role.user_id);
    end if;
    perform billing._check_owner_is_left(set_member_role.account_id);
    perform billing._appoint_owner(set_member_role.account_id);
    return v_member;
end
$$;

create function billing._member(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_member billing.account_members;
begin
    select * into v_member from billing.account_members
    where account_members.account_id = _member.account_id and account_members.user_id = _member.user_id;
    if not found then
        raise exception 'this user is not a member of the team'
            using errcode = 'TB084', hint = 'team_members lists them.';
    end if;
    return v_member;
end
$$;

-- What somebody sent who may not invite any more: they may have sent it to another address of their own.
create function billing._revoke_invitations_of(account_id uuid, user_id uuid)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.team_invitations
    set closed_at = billing.current_time(), closed_as = 'revoked'
    where team_invitations.account_id = _revoke_invitations_of.account_id
        and team_invitations.invited_by = _revoke_invitations_of.user_id and team_invitations.closed_at is null
$$;

-- Everybody may leave; others are removed by who manages them.
create function billing.remove_member(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(remove_member.account_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(remove_member.account_id, remove_member.user_id);
    if v_member.user_id is distinct from (select auth.uid()) then
        perform billing._check_rank(v_rank, v_member.role);
    end if;
    delete from billing.account_members
    where account_members.account_id = remove_member.account_id
        and account_members.user_id = remove_member.user_id;
    perform billing._revoke_invitations_of(remove_member.account_id, remove_member.user_id);
    perform billing._check_owner_is_left(remove_member.account_id);
    return v_member;
end
$$;

-- An owner hands the team to a member; the app's own server hands it to any user, and also the account of a deleted
-- user, which becomes a team.
create function billing.transfer_ownership(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_server boolean := billing._sees_every_account();
    v_rank integer;
    v_owner billing.account_members;
begin
    perform from auth.users where users.id = transfer_ownership.user_id for key share;
    if v_is_server then
        update billing.accounts
        set kind = 'team', name = coalesce(accounts.name, 'Account ' || left(accounts.id::text, 8)), updated_at = now()
        where accounts.id = transfer_ownership.account_id and accounts.kind = 'personal' and accounts.owner_id is null;
    end if;
    v_rank := (billing._lock_team(transfer_ownership.account_id)).rank;
    perform billing._check_rank(v_rank, 'owner');
    perform billing._check_user(transfer_ownership.user_id);
    if not v_is_server then
        perform billing._member(transfer_ownership.account_id, transfer_ownership.user_id);
    end if;
    update billing.account_members
    set role = 'admin'
    from billing.accounts
    where accounts.id = transfer_ownership.account_id and account_members.account_id = accounts.id
        and account_members.user_id = accounts.owner_id and accounts.owner_id <> transfer_ownership.user_id;
    insert into billing.account_members as held (account_id, user_id, role)
    values (transfer_ownership.account_id, transfer_ownership.user_id, 'owner')
    on conflict on constraint account_members_pkey do update set role = 'owner'
    returning * into v_owner;
    update billing.accounts
    set owner_id = transfer_ownership.user_id, updated_at = now()
    where accounts.id = transfer_ownership.account_id;
    return v_owner;
end
$$;

-- Members of a team see each other. Security definer: clients can't read auth.users.
create function billing.team_members(account_id uuid)
returns table (user_id uuid, email text, role text, created_at timestamptz)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select account_members.user_id, users.email::text, account_members.role, account_members.created_at
    from billing.account_members
    join auth.users on users.id = account_members.user_id
    where account_members.account_id = team_members.account_id
        and (
            billing._sees_every_account()
            or account_members.account_id = any (array(select billing.my_account_ids()))
        )
    order by billing._rank(account_members.role) desc, account_members.created_at, users.email
$$;

-- An owner who was removed or deleted: another owner of the team takes their place. A deletion never fails because of it.
create function billing.tg_account_members__appoint_owner()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._appoint_owner(old.account_id);
    return null;
exception when others then
    raise warning 'could not appoint another owner of team %: %', old.account_id, sqlerrm;
    return null;
end
$$;

-- At the end of the transaction, when the owner and the members of one deletion are deleted.
create constraint trigger tg_account_members__appoint_owner
after delete on billing.account_members
deferrable initially deferred
for each row when (old.role = 'owner')
execute function billing.tg_account_members__appoint_owner();

revoke all on function
    billing._lock_team, billing._rank, billing._check_rank, billing._check_user, billing._check_seats,
    billing._appoint_owner, billing._check_owner_is_left, billing.create_team, billing.add_member,
    billing.set_member_role, billing._member, billing._revoke_invitations_of, billing.remove_member, billing.transfer_ownership, billing.team_members,
    billing.tg_account_members__appoint_owner
from public, anon, authenticated, service_role;
grant execute on function billing.create_team(text, uuid), billing.add_member(uuid, uuid, text) to service_role;
grant execute on function
    billing.set_member_role(uuid, uuid, text), billing.remove_member(uuid, uuid),
    billing.transfer_ownership(uuid, uuid), billing.team_members(uuid)
to authenticated, service_role;

comment on function billing.create_team(text, uuid) is 'Creates a team account with its owner. The same owner and name return the same team.';
comment on function billing.add_member(uuid, uuid, text) is 'Adds a user to a team as member, admin or owner. Repeated with the same role it changes nothing.';
comment on function billing.set_member_role(uuid, uuid, text) is 'Changes the role of a member. A team keeps at least one owner.';
comment on function billing.remove_member(uuid, uuid) is 'Removes a member, or lets the signed-in user leave. The last owner can''t leave.';
comment on function billing.transfer_ownership(uuid, uuid) is 'Makes a member the owner of a team, and the former owner an admin. Your server can also hand over the account of a deleted user, which becomes a team.';
comment on function billing.team_members(uuid) is 'The members of a team with their e-mail addresses, for its members and your server.';
