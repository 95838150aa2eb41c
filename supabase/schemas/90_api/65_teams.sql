-- Teams over the Data API: functions in `public` that call those in `billing`, and the open invitations.
--
-- Invariant: each function runs as its caller and adds no rules. Signed-in users manage the teams in which their role
-- allows it; only the app's own server (service_role) creates teams and adds users to them.

create function public.create_team(name text, owner_id uuid)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.create_team(create_team.name, create_team.owner_id)
$$;

create function public.add_member(account_id uuid, user_id uuid, role text default 'member')
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.add_member(add_member.account_id, add_member.user_id, add_member.role)
$$;

create function public.set_member_role(account_id uuid, user_id uuid, role text)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_member_role(set_member_role.account_id, set_member_role.user_id, set_member_role.role)
$$;

create function public.remove_member(account_id uuid, user_id uuid)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.remove_member(remove_member.account_id, remove_member.user_id)
$$;

create function public.transfer_ownership(account_id uuid, user_id uuid)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.transfer_ownership(transfer_ownership.account_id, transfer_ownership.user_id)
$$;

create function public.team_members(account_id uuid)
returns table (user_id uuid, email text, role text, created_at timestamptz)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.team_members(team_members.account_id)
$$;

create function public.invite_member(account_id uuid, email text, role text default 'member')
returns table (invitation_id bigint, token text, expires_at timestamptz)
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.invite_member(invite_member.account_id, invite_member.email, invite_member.role)
$$;

create function public.accept_invitation(token text, user_id uuid default null)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.accept_invitation(accept_invitation.token, accept_invitation.user_id)
$$;

create function public.revoke_invitation(account_id uuid, email text)
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.revoke_invitation(revoke_invitation.account_id, revoke_invitation.email)
$$;

create view public.team_invitations with (security_invoker = on) as
select
    team_invitations.account_id, team_invitations.email, team_invitations.role, team_invitations.expires_at,
    team_invitations.created_at
from billing.team_invitations
where team_invitations.closed_at is null and team_invitations.expires_at > billing.current_time();

revoke all on public.team_invitations from public, anon, authenticated, service_role;
grant select on public.team_invitations to authenticated, service_role;

revoke all on function
    public.create_team(text, uuid), public.add_member(uuid, uuid, text), public.set_member_role(uuid, uuid, text),
    public.remove_member(uuid, uuid), public.transfer_ownership(uuid, uuid), public.team_members(uuid),
    public.invite_member(uuid, text, text), public.accept_invitation(text, uuid), public.revoke_invitation(uuid, text)
from public, anon, authenticated, service_role;
grant execute on function public.create_team(text, uuid), public.add_member(uuid, uuid, text) to service_role;
grant execute on function
    public.set_member_role(uuid, uuid, text), public.remove_member(uuid, uuid),
    public.transfer_ownership(uuid, uuid), public.team_members(uuid), public.invite_member(uuid, text, text),
    public.accept_invitation(text, uuid), public.revoke_invitation(uuid, text)
to authenticated, service_role;

comment on view public.team_invitations is 'Open invitations of the teams that I own or administer.';
comment on column public.team_invitations.account_id is 'The team''s account.';
comment on column public.team_invitations.email is 'The invited address.';
comment on column public.team_invitations.role is 'The role of the new member: admin or member.';
comment on column public.team_invitations.expires_at is 'Until when it can be accepted.';
comment on column public.team_invitations.created_at is 'When it was made.';
