-- Invitations: a link that makes the person who opens it, signed in with the invited address, a member of a team, once.
--
-- Invariant: the token of a link is random, is returned once, and only its SHA-256 is stored. It expires, works for one
-- user, and only for a user whose confirmed e-mail address is the one that was invited. A new invitation of an address
-- replaces the open one, and none outlives the right of who sent it. Owners and admins of a team invite, revoke and read;
-- nobody can invite an owner.

create function billing.invite_member(account_id uuid, email text, role text default 'member')
returns table (invitation_id bigint, token text, expires_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(invite_member.account_id)).rank;
    v_email text := lower(btrim(invite_member.email));
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_rank(v_rank, invite_member.role);
    if invite_member.role = 'owner' then
        raise exception 'an owner cannot be invited'
            using errcode = 'TB077', hint = 'Invite an admin, then use transfer_ownership.';
    elsif (v_email ~ '^[^@[:space:]]+@[^@[:space:]]+$' and length(v_email) <= 255) is not true then
        raise exception 'the e-mail address cannot be invited'
            using errcode = 'TB085', hint = 'Pass one address, such as ada@example.com.';
    elsif exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = invite_member.account_id and lower(users.email) = v_email
    ) then
        raise exception 'this user is a member already'
            using errcode = 'TB083', hint = 'Change a role with set_member_role.';
    end if;
    perform billing._check_seats(invite_member.account_id, v_email);
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'replaced'
    where team_invitations.account_id = invite_member.account_id and team_invitations.email = v_email
        and team_invitations.closed_at is null;
    token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    insert into billing.team_invitations (account_id, email, role, token_hash, invited_by, expires_at, created_at)
    select
        invite_member.account_id, v_email, invite_member.role, billing._token_hash(token), auth.uid(),
        v_now + settings.invitation_lifetime, v_now
    from billing.settings
    returning team_invitations.id, team_invitations.expires_at into invitation_id, expires_at;
    return next;
end
$$;

-- Repeated by the same user it returns the same member. A signed-in user accepts for themselves; the app's own server
-- names the user.
create function billing.accept_invitation(token text, user_id uuid default null)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_user_id uuid := case when billing._sees_every_account() then accept_invitation.user_id else auth.uid() end;
    v_invitation billing.team_invitations;
    v_member billing.account_members;
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_user(v_user_id);
    -- The user is locked first, then the team, as everywhere.
    perform from auth.users where users.id = v_user_id for key share;
    select * into v_invitation from billing.team_invitations
    where team_invitations.token_hash = billing._token_hash(accept_invitation.token);
    perform from billing.accounts where accounts.id = v_invitation.account_id for no key update;
    select * into v_invitation from billing.team_invitations where team_invitations.id = v_invitation.id for update;
    select * into v_member from billing.account_members
    where account_members.account_id = v_invitation.account_id and account_members.user_id = v_user_id;
    if v_invitation.closed_as = 'accepted' and found then
        return v_member;
    elsif v_invitation.id is null or v_invitation.closed_at is not null or v_invitation.expires_at <= v_now then
        raise exception 'this invitation is no longer valid'
            using errcode = 'TB086', hint = 'It was used, revoked or has expired. Ask an owner or admin of the team for another.';
    elsif not exists (
        select from auth.users
        where users.id = v_user_id and lower(users.email) = v_invitation.email and users.email_confirmed_at is not null
    ) then
        raise exception 'this invitation is for another e-mail address'
            using errcode = 'TB087', hint = 'Sign in with the address that was invited, and confirm it.';
    end if;
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'accepted', accepted_by = v_user_id
    where team_invitations.id = v_invitation.id;
    if v_member.user_id is not null then
        return v_member;
    end if;
    perform billing._check_seats(v_invitation.account_id);
    insert into billing.account_members (account_id, user_id, role)
    values (v_invitation.account_id, v_user_id, v_invitation.role)
    returning * into v_member;
    return v_member;
end
$$;

create function billing.revoke_invitation(account_id uuid, email text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._check_rank((billing._lock_team(revoke_invitation.account_id)).rank, 'member');
    update billing.team_invitations
    set closed_at = billing.current_time(), closed_as = 'revoked'
    where team_invitations.account_id = revoke_invitation.account_id
        and team_invitations.email = lower(btrim(revoke_invitation.email)) and team_invitations.closed_at is null;
    return found;
end
$$;

revoke all on function billing.invite_member, billing.accept_invitation, billing.revoke_invitation
from public, anon, authenticated, service_role;
grant execute on function
    billing.invite_member(uuid, text, text), billing.accept_invitation(text, uuid), billing.revoke_invitation(uuid, text)
to authenticated, service_role;

comment on function billing.invite_member(uuid, text, text) is 'Invites an e-mail address to a team. Returns the token for the link that you send; it can''t be read again.';
comment on function billing.accept_invitation(text, uuid) is 'Makes the signed-in user a member of the team that invited their confirmed e-mail address. Your server names the user.';
comment on function billing.revoke_invitation(uuid, text) is 'Revokes the open invitation of an address. False if there is none.';
