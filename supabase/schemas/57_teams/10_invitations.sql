-- Invitations to teams: one open invitation for each team and address.
--
-- Invariant: of a token only its SHA-256 is stored. Owners and admins of a team read its invitations; only functions write.

create table billing.team_invitations (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id) on delete cascade,
    email text not null,
    role text not null,
    token_hash bytea not null unique,
    invited_by uuid references auth.users (id) on delete cascade,
    accepted_by uuid references auth.users (id) on delete set null,
    closed_as text,
    closed_at timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    constraint role_can_be_invited check (role in ('admin', 'member')),
    constraint closed_as_is_known check (closed_as in ('accepted', 'revoked', 'replaced')),
    constraint closed_invitations_say_how check ((closed_at is null) = (closed_as is null))
);

create unique index team_invitations_open on billing.team_invitations (account_id, email) where closed_at is null;
create index team_invitations_inviter on billing.team_invitations (invited_by);
create index team_invitations_accepter on billing.team_invitations (accepted_by);

create function billing._token_hash(token text)
returns bytea
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(_token_hash.token, 'UTF8'))
$$;

alter table billing.team_invitations enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.team_invitations from public, anon, authenticated, service_role;
revoke all on function billing._token_hash from public, anon, authenticated, service_role;

create policy team_invitations_select_managed on billing.team_invitations
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select (id, account_id, email, role, invited_by, accepted_by, closed_as, closed_at, expires_at, created_at)
on billing.team_invitations to authenticated, service_role;

comment on table billing.team_invitations is 'Invitations to teams, open and closed.';
comment on column billing.team_invitations.invited_by is 'The owner or admin who sent it, whose right it ends with; null: your server.';
comment on column billing.team_invitations.token_hash is 'SHA-256 of the token in the link.';
comment on column billing.team_invitations.closed_as is 'accepted, revoked, or replaced by a newer invitation of the same address; null while it is open.';
