-- What was paid for of each subscription item, and the monthly slots of credits in it.
--
-- Invariant: a row is a fact from a paid invoice line, so the same invoices make the same rows in any order. A paid
-- period opens one; a change within it (proration lines) opens another from the moment of the change, with quantity 0
-- where the item was taken away. The latest row that covers a slot's start is the one that it belongs to.
--
-- credit_schedules    a stretch of time that was paid for; slots start at anchor + k months, k = …, -1, 0, 1, …
-- credit_prorations   what the changes of plan on one invoice are worth in credits for the slot that was running
-- Only functions write; clients read the credits, not these.

create table billing.credit_schedules (
    stripe_subscription_item_id text not null,
    stripe_invoice_id text not null references billing.invoices (stripe_invoice_id),
    period_start timestamptz not null,
    period_end timestamptz not null,
    is_change boolean not null,
    account_id uuid not null references billing.accounts (id),
    stripe_subscription_id text not null,
    stripe_price_id text not null,
    quantity bigint not null,
    deducted bigint not null default 0,
    anchor timestamptz not null,
    ends_at timestamptz not null,
    slots_granted integer not null default 0,
    last_slot_at timestamptz,
    next_slot_at timestamptz,
    has_returns boolean not null default false,
    disarmed_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (stripe_subscription_item_id, stripe_invoice_id, period_start, is_change),
    constraint period_ends_after_it_starts check (period_end > period_start),
    constraint ends_within_the_period check (ends_at between period_start and period_end),
    constraint quantity_is_not_negative check (quantity >= 0),
    constraint next_slot_is_within_what_was_paid_for check (next_slot_at >= period_start and next_slot_at < ends_at),
    constraint disarmed_reason_is_known check (
        disarmed_reason in (
            'paused', 'collection_paused', 'unpaid', 'incomplete', 'item_removed', 'customer_deleted', 'account_closed',
            'refunded', 'disputed'
        )
    )
);

create index credit_schedules_due on billing.credit_schedules (next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_account on billing.credit_schedules (account_id, next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_subscription on billing.credit_schedules (stripe_subscription_id);
create index credit_schedules_invoice on billing.credit_schedules (stripe_invoice_id);

create table billing.credit_prorations (
    stripe_invoice_id text primary key references billing.invoices (stripe_invoice_id),
    account_id uuid not null references billing.accounts (id),
    stripe_subscription_id text not null,
    stripe_subscription_item_id text not null,
    stripe_price_id text not null,
    policy text not null,
    net bigint not null,
    granted bigint not null default 0,
    changed_at timestamptz not null,
    slot_end timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint policy_is_known check (policy in ('none', 'delta', 'full')),
    constraint granted_is_not_negative check (granted >= 0)
);

create index credit_prorations_account on billing.credit_prorations (account_id);
create index credit_prorations_subscription on billing.credit_prorations (stripe_subscription_id, changed_at);

alter table billing.credit_schedules enable row level security;
alter table billing.credit_prorations enable row level security;
revoke all on billing.credit_schedules, billing.credit_prorations from public, anon, authenticated, service_role;
grant select on billing.credit_schedules, billing.credit_prorations to service_role;

comment on table billing.credit_schedules is 'Stretches of time that were paid for, by subscription item, and the monthly slots granted of them.';
comment on column billing.credit_schedules.is_change is 'Whether a change within a paid period made it, not a period of its own.';
comment on column billing.credit_schedules.quantity is 'Seats; 0: the item was changed or taken away, and gives nothing from here on.';
comment on column billing.credit_schedules.deducted is 'Credits that its first slot gave less, because the slot that it cut short had given them.';
comment on column billing.credit_schedules.anchor is 'Slots start a whole number of months (UTC) from it.';
comment on column billing.credit_schedules.ends_at is 'No slot starts from here on: the period is over, another stretch goes on, or the subscription has ended.';
comment on column billing.credit_schedules.last_slot_at is 'Start of the last slot that was granted or found granted.';
comment on column billing.credit_schedules.next_slot_at is 'Start of the next slot; null: none is left, or the subscription is not known yet.';
comment on table billing.credit_prorations is 'What the changes of plan on one invoice are worth in credits for the slot that was running.';
comment on column billing.credit_prorations.net is 'Credits by the days left: of what was added less what was taken away. Below zero it counts against later changes.';
