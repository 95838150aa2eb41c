-- What signed-in users can read of their accounts: whether one is frozen or closed, and since when.
--
-- Invariant: row level security limits the rows. The view shows no fraud data: frozen_reason is a neutral sentence, and
-- the reason that an administrator or a fraud warning gave is not for clients.

create view public.billing_account with (security_invoker = on) as
select
    accounts.id as account_id, accounts.kind, accounts.name,
    case
        when accounts.owner_id = (select auth.uid()) then 'owner'
        else (
            select account_members.role from billing.account_members
            where account_members.account_id = accounts.id and account_members.user_id = (select auth.uid())
        )
    end as role,
    case
        when accounts.closed_at is not null then 'closed'
        when accounts.frozen_at is not null then 'frozen'
        else 'active'
    end as status,
    accounts.frozen_at,
    case
        when accounts.frozen_at is not null then 'Payments of this account are under review. Contact support.'
    end as frozen_reason,
    accounts.closed_at
from billing.accounts;

revoke all on public.billing_account from public, anon, authenticated, service_role;
grant select on public.billing_account to authenticated, service_role;

comment on view public.billing_account is 'My billing accounts: active, frozen (cannot spend; frozen_reason is a neutral text) or closed.';
comment on column public.billing_account.account_id is 'Id of the account, for every other view and function.';
comment on column public.billing_account.kind is 'personal or team.';
comment on column public.billing_account.name is 'The name of a team; null for a personal account.';
comment on column public.billing_account.role is 'My role: owner, admin or member; null for your server.';
comment on column public.billing_account.status is 'active, frozen or closed.';
comment on column public.billing_account.frozen_at is 'Since when nothing can be spent or bought; null if it is not frozen.';
comment on column public.billing_account.frozen_reason is 'A sentence for the user; null if it is not frozen.';
comment on column public.billing_account.closed_at is 'Since when it is closed; null if it is open.';
