-- The credit ledger's tables.
--
-- Invariant, at every commit and for every account:
--     balance = sum of entries = sum of what remains in open lots - debt
-- credit_balances       one permanent row for each account: every movement locks it, and it has all that a movement checks
-- credit_entries        append-only, for the owner too: amount, balance_after and the key that makes it unique (the texts
--                       of an erased account are emptied)
-- credit_grants         lots: what was granted, what remains, when it expires, what paid for it
-- credit_consumptions   which entry took how much from which lot (negative: returned)
-- credit_holds          credits set aside until captured, released or expired; credit_hold_lots: the lots that they reserve
-- Clients read their own rows; only functions write. Rules for rows: sound_rows.

create table billing.credit_balances (
    account_id uuid primary key references billing.accounts (id),
    balance bigint not null default 0,
    held bigint not null default 0,
    debt bigint not null default 0,
    withheld bigint not null default 0,
    carried bigint not null default 0,
    written_off_debt bigint not null default 0,
    written_off_withheld bigint not null default 0,
    written_off_at timestamptz,
    next_due_at timestamptz,
    may_spend boolean not null default true,
    has_budgets boolean not null default false,
    overdraft bigint not null default 0,
    overage_limit bigint not null default 0,
    spend_cap bigint,
    spend_cap_period text,
    spent_in_period bigint not null default 0,
    spend_period_start timestamptz,
    low_balance_threshold bigint,
    is_low boolean not null default false,
    recharge_below bigint,
    updated_at timestamptz not null default now(),
    epoch integer not null default 0
) with (fillfactor = 70);

-- While a session keeps an old snapshot (a dump, a forgotten transaction), Postgres keeps every version of a row, and a
-- look-up by key visits all of them: after 30,000 spends, a spend took fifteen times as long. So the rows that each
-- spend updates have an epoch, which one update in fifty increments, and look-ups start with the newest epoch. The
-- index has a hash of the account ("is not distinct from" uses no index), so that the planner cannot use the primary
-- key; enable_seqscan is off, because it would scan a small table, which is not small behind an old snapshot.
create index credit_balances_newest on billing.credit_balances (uuid_hash(account_id), epoch desc);
create index credit_balances_due on billing.credit_balances (next_due_at) where next_due_at is not null;

create table billing.credit_entries (
    id bigint generated always as identity primary key,
    account_id uuid not null,
    kind billing.entry_kind not null,
    amount bigint not null,
    balance_after bigint not null,
    debt bigint not null default 0,
    up_to billing.positive_credits,
    source text not null,
    reference_id text,
    description text,
    feature text,
    metadata billing.metadata not null default '{}',
    actor text,
    reverses_entry_id bigint references billing.credit_entries (id),
    hold_id uuid,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null default now()
);

create index credit_entries_history on billing.credit_entries (account_id, id desc);
create index credit_entries_time on billing.credit_entries (account_id, occurred_at);
create index credit_entries_actor on billing.credit_entries (account_id, actor, occurred_at) where actor is not null;
-- If statistics say that accounts have about one entry each, or if there are none yet, all three indexes cost the same
-- for a key look-up, and only this one does not read the account's history. The last created index wins a tie, and the
-- estimate of many entries for each account avoids the tie.
create unique index credit_entries_key on billing.credit_entries (account_id, key_space, idempotency_key);
alter table billing.credit_entries alter column account_id set (n_distinct = -0.01);

create table billing.credit_grants (
    id bigint generated always as identity primary key,
    account_id uuid not null,
    entry_id bigint,
    amount billing.positive_credits not null,
    remaining bigint not null,
    held bigint not null default 0,
    contested bigint not null default 0,
    cut bigint not null default 0,
    lapsed bigint not null default 0,
    priority integer not null default 100,
    effective_at timestamptz not null,
    expires_at timestamptz,
    closed_at timestamptz,
    source text not null,
    reference_id text,
    description text,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_payment_intent_id text,
    created_at timestamptz not null default now(),
    epoch integer not null default 0
) with (fillfactor = 80);

-- The order in which lots are spent: priority, soonest expiry, oldest. closed_at rather than remaining in the
-- predicate, so that taking from a lot changes no index. Of one lot the newest version comes first.
create index credit_grants_spending_order on billing.credit_grants (account_id, priority, expires_at, id, epoch desc)
where closed_at is null;
-- Scheduled lots.
create index credit_grants_scheduled on billing.credit_grants (account_id, effective_at)
where entry_id is null and closed_at is null;
create unique index credit_grants_key on billing.credit_grants (account_id, key_space, idempotency_key);
create unique index credit_grants_business_key on billing.credit_grants (idempotency_key) where key_space = 'stripe';
create index credit_grants_entry on billing.credit_grants (entry_id);
create index credit_grants_invoice on billing.credit_grants (stripe_invoice_id) where stripe_invoice_id is not null;
create index credit_grants_payment_intent on billing.credit_grants (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;
create index credit_grants_contested on billing.credit_grants (account_id) where contested > 0;

create table billing.credit_consumptions (
    entry_id bigint not null,
    grant_id bigint not null,
    amount billing.credit_change not null,
    primary key (entry_id, grant_id)
);

create index credit_consumptions_grant on billing.credit_consumptions (grant_id);
-- Credits that were returned to a lot; finds the latest at once.
create index credit_consumptions_given_back on billing.credit_consumptions (grant_id, entry_id) where amount < 0;

create table billing.credit_holds (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    amount billing.credits not null,
    captured billing.credits not null default 0,
    status text not null default 'held',
    description text,
    metadata billing.metadata not null default '{}',
    feature text,
    actor text,
    idempotency_key billing.idempotency_key not null,
    release_key billing.idempotency_key,
    frozen_grant_id bigint references billing.credit_grants (id),
    expires_in interval not null,
    expires_at timestamptz not null,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    constraint captured_is_within_the_amount check (captured <= amount),
    constraint status_is_known check (status in ('held', 'captured', 'released', 'expired')),
    constraint settled_holds_say_when check ((status = 'held') = (settled_at is null))
);

create unique index credit_holds_key on billing.credit_holds (account_id, idempotency_key);
create unique index credit_holds_release_key on billing.credit_holds (account_id, release_key) where release_key is not null;
create index credit_holds_frozen on billing.credit_holds (frozen_grant_id) where frozen_grant_id is not null;
create index credit_holds_of_disputes on billing.credit_holds (account_id)
where status = 'held' and frozen_grant_id is not null;
create index credit_holds_open on billing.credit_holds (account_id, expires_at) where status = 'held';

create table billing.credit_hold_lots (
    hold_id uuid not null references billing.credit_holds (id),
    grant_id bigint not null references billing.credit_grants (id),
    amount billing.credits not null,
    primary key (hold_id, grant_id)
);

create index credit_hold_lots_grant on billing.credit_hold_lots (grant_id);

alter table billing.credit_entries
add constraint credit_entries_hold_id_fkey foreign key (hold_id) references billing.credit_holds (id);
create index credit_entries_hold on billing.credit_entries (hold_id) where hold_id is not null;
create index credit_entries_reverses on billing.credit_entries (reverses_entry_id) where reverses_entry_id is not null;
-- Few entries change the debt: what an account owed at a time is added up from them.
create index credit_entries_debt on billing.credit_entries (account_id, occurred_at) where debt <> 0;
-- A few bytes for a hundred pages, so movements cost no more: entries are in the order of time anyway.
create index credit_entries_moment on billing.credit_entries using brin (occurred_at);

create function billing.tg_accounts__open_balance()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.credit_balances (account_id) values (new.id);
    return null;
end
$$;

create trigger tg_accounts__open_balance
after insert on billing.accounts
for each row execute function billing.tg_accounts__open_balance();

-- Functions that freeze or close an account lock its balance first, as every movement does.
create function billing.tg_accounts__may_spend()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_balances set may_spend = new.frozen_at is null and new.closed_at is null
    where credit_balances.account_id = new.id;
    return null;
end
$$;

create trigger tg_accounts__may_spend
after update of frozen_at, closed_at on billing.accounts
for each row execute function billing.tg_accounts__may_spend();

-- Accounts of users who signed up while the migrations were applied.
insert into billing.credit_balances (account_id) select accounts.id from billing.accounts on conflict do nothing;

create function billing.tg_ledger__append_only()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% refused: % is append-only', lower(tg_op), tg_table_name
        using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
end
$$;

create trigger tg_credit_entries__append_only
before delete or truncate or update of account_id, kind, amount, balance_after, debt, up_to, source, reference_id,
    feature, reverses_entry_id, hold_id, key_space, idempotency_key, occurred_at, created_at
on billing.credit_entries
for each statement execute function billing.tg_ledger__append_only();

-- The one change that an entry allows: the texts of an erased account become empty.
create function billing.tg_credit_entries__erased()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_erased billing.credit_entries := old;
begin
    v_erased.description := null;
    v_erased.metadata := '{}';
    if new.actor = 'erased' then
        v_erased.actor := 'erased';
    end if;
    if new is distinct from v_erased
        or not exists (select from billing.erasures where erasures.account_id = old.account_id) then
        raise exception 'update refused: credit_entries is append-only'
            using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
    end if;
    return new;
end
$$;

create trigger tg_credit_entries__erased
before update on billing.credit_entries
for each row execute function billing.tg_credit_entries__erased();

create trigger tg_credit_consumptions__append_only
before update or delete or truncate on billing.credit_consumptions
for each statement execute function billing.tg_ledger__append_only();

-- Rows that entries, lots and their lineage refer to are never deleted, so they need no foreign keys, which were a
-- third of the cost of a batch of spends and a sixth of a month's allocation. ledger_discrepancies lists broken
-- references.
create trigger tg_credit_balances__kept
before delete or truncate on billing.credit_balances
for each statement execute function billing.tg_ledger__append_only();

create trigger tg_credit_grants__kept
before delete or truncate on billing.credit_grants
for each statement execute function billing.tg_ledger__append_only();

alter table billing.credit_balances enable row level security;
alter table billing.credit_entries enable row level security;
alter table billing.credit_grants enable row level security;
alter table billing.credit_consumptions enable row level security;
alter table billing.credit_holds enable row level security;
alter table billing.credit_hold_lots enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_consumptions,
    billing.credit_holds, billing.credit_hold_lots
from public, anon, authenticated, service_role;

create policy credit_balances_select_own on billing.credit_balances
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_entries_select_own on billing.credit_entries
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_grants_select_own on billing.credit_grants
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_holds_select_own on billing.credit_holds
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

-- The holds are read first, under their own policy, and once for each statement.
create policy credit_hold_lots_select_own on billing.credit_hold_lots
for select to authenticated using (hold_id = any (array(select credit_holds.id from billing.credit_holds)));

revoke all on function
    billing.tg_accounts__open_balance, billing.tg_accounts__may_spend, billing.tg_ledger__append_only,
    billing.tg_credit_entries__erased
from public, anon, authenticated, service_role;
grant select on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_holds,
    billing.credit_hold_lots
to authenticated;
grant select on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_consumptions,
    billing.credit_holds, billing.credit_hold_lots
to service_role;

comment on table billing.credit_balances is 'The balance of each account: one row that every movement locks.';
comment on column billing.credit_balances.balance is 'Credits; sum of all entries. Below zero only by debt.';
comment on column billing.credit_balances.held is 'Credits set aside by open holds; part of balance.';
comment on column billing.credit_balances.debt is 'Credits owed, because spent credits were revoked or an overdraft was used; the next grant repays them.';
comment on column billing.credit_balances.withheld is 'Credits that the next grants give up, because spent credits were revoked.';
comment on column billing.credit_balances.carried is 'Credits by which the next credits that invoices pay for are reduced: spent credits of time that Stripe credited back.';
comment on column billing.credit_balances.written_off_debt is 'Debt that closing the account wrote off; refunds of older movements repay it first.';
comment on column billing.credit_balances.written_off_withheld is 'Withholding that closing the account ended; refunds of older movements cover it first.';
comment on column billing.credit_balances.written_off_at is 'When the account was last closed with debt or withholding, by the clock of created_at.';
comment on column billing.credit_balances.next_due_at is 'The earliest time at which a lot opens or expires or a hold expires; null: never.';
comment on column billing.credit_balances.may_spend is 'False while the account is frozen or closed; see accounts.';
comment on column billing.credit_balances.has_budgets is 'True if the account has rows in budgets.';
comment on column billing.credit_balances.overdraft is 'How far spending may go below zero.';
comment on column billing.credit_balances.overage_limit is 'How far below zero the account''s plan lets spending go; what is owed at the end of a period is billed (overages).';
comment on column billing.credit_balances.spend_cap is 'Credits that may be spent in a spend_cap_period (hour, day, week, month by UTC, or total); null: no cap.';
comment on column billing.credit_balances.spent_in_period is 'Credits spent since spend_period_start; kept while there is a cap. Open holds count towards the cap in addition.';
comment on column billing.credit_balances.epoch is 'Incremented by one update in fifty, so that look-ups skip old versions of the row.';
comment on column billing.credit_balances.low_balance_threshold is 'The customer is notified when the available credits fall below it, once for each fall.';
comment on column billing.credit_balances.recharge_below is 'A credit pack is bought when the available credits fall below it; null: no auto-recharge is waiting.';
comment on column billing.credit_balances.is_low is 'True if the available credits were below the threshold at the last check.';
comment on table billing.credit_entries is 'Every movement of credits, once; never changed or deleted.';
comment on column billing.credit_entries.balance_after is 'The account''s balance after this entry; ids of one account are in order of commit.';
comment on column billing.credit_entries.debt is 'By how much it increased the account''s debt; negative: repaid.';
comment on column billing.credit_entries.up_to is 'The requested amount of a spend with up_to; else null.';
comment on column billing.credit_entries.occurred_at is 'When it happened, in billing time; created_at is when it was written.';
comment on column billing.credit_entries.actor is 'Who spent, such as agent:writer, or the administrator who corrected something.';
comment on table billing.credit_grants is 'Lots of credits: what is left of each grant and what paid for it.';
comment on column billing.credit_grants.entry_id is 'The entry that opened the lot; null until a scheduled lot opens.';
comment on column billing.credit_grants.held is 'Part of remaining that open holds have reserved.';
comment on column billing.credit_grants.contested is 'Credits of an open dispute that could not be frozen, because they were spent or held; frozen when they return.';
comment on column billing.credit_grants.cut is 'Credits that were left out, because their payment had already been refunded.';
comment on column billing.credit_grants.lapsed is 'Credits that expired unspent, or that the closing of the account forfeited.';
comment on table billing.credit_consumptions is 'Which entry took how many credits from which lot; negative: returned.';
comment on table billing.credit_holds is 'Credits set aside until captured, released or expired.';
comment on column billing.credit_holds.actor is 'Who spends the held credits, such as agent:writer.';
comment on column billing.credit_holds.amount is 'Credits that it sets aside; 0 for priced work that is estimated to cost nothing.';
comment on column billing.credit_holds.frozen_grant_id is 'The lot that a dispute froze; null for the app''s own holds.';
comment on column billing.credit_holds.release_key is 'The idempotency key of its release.';
comment on table billing.credit_hold_lots is 'The lots of a hold, and how many credits of each it still reserves.';
