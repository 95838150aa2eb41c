-- What was paid for of each subscription item: stretches of time, and the time that Stripe credited back.
--
-- Invariant: a row is one line of a paid invoice, so the same invoices make the same rows in any order. A line adds the
-- time from period_start to period_end, or gives back that much of the line that it credits. What a row is worth is
-- worked out by _slots_of_lines and _worth, and by nothing else.
--
-- Only functions write; service_role reads. Clients read the credits, not these.

create table billing.credit_schedules (
    stripe_line_id text primary key,
    account_id uuid not null,
    stripe_subscription_id text not null,
    stripe_subscription_item_id text not null,
    stripe_invoice_id text not null,
    stripe_price_id text not null,
    gives_back boolean not null,
    credited_line_id text,
    is_change boolean not null,
    is_free boolean not null,
    is_unpaid boolean not null default false,
    is_plain boolean not null,
    has_returns boolean not null default false,
    quantity bigint not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    anchor timestamptz not null,
    terms_from timestamptz not null,
    paid_at timestamptz not null,
    ends_at timestamptz not null,
    next_slot_at timestamptz,
    disarmed_reason text,
    created_at timestamptz not null default now(),
    constraint period_ends_after_it_starts check (period_end > period_start),
    constraint quantity_is_not_negative check (quantity >= 0),
    constraint only_credits_name_a_line check (gives_back or credited_line_id is null),
    constraint disarmed_reason_is_known check (
        disarmed_reason in (
            'paused', 'collection_paused', 'unpaid', 'incomplete', 'customer_deleted', 'account_closed', 'disputed'
        )
    )
);

create index credit_schedules_due on billing.credit_schedules (next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_account on billing.credit_schedules (account_id, next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_subscription on billing.credit_schedules (stripe_subscription_id, period_end);
create index credit_schedules_next on billing.credit_schedules (stripe_subscription_id) where next_slot_at is not null;
create index credit_schedules_invoice on billing.credit_schedules (stripe_invoice_id);
create index credit_schedules_free on billing.credit_schedules (account_id, period_end) where is_free;

alter table billing.credit_schedules enable row level security;
revoke all on billing.credit_schedules from public, anon, authenticated, service_role;
grant select on billing.credit_schedules to service_role;

comment on table billing.credit_schedules is 'Time that was paid for of each subscription item, and time that Stripe credited back.';
comment on column billing.credit_schedules.gives_back is 'Whether the line credits time that an earlier line paid for.';
comment on column billing.credit_schedules.credited_line_id is 'The line whose time it gives back; null: no line that was paid.';
comment on column billing.credit_schedules.is_change is 'Whether Stripe made the line for a change within a period (a proration).';
comment on column billing.credit_schedules.is_free is 'Whether nothing was paid for it: its credits come once for each account, product and calendar month. Of a line that gives back: whether it takes nothing, because Stripe credits no money, or because what it credits was neither paid nor is to be paid.';
comment on column billing.credit_schedules.is_unpaid is 'Whether Stripe credits money for time that nobody paid for (still to be paid, or free by a coupon): it counts as a whole, at once, because the money is there at once.';
comment on column billing.credit_schedules.is_plain is 'Whether no other line shares its months, so that they can be granted in sets.';
comment on column billing.credit_schedules.has_returns is 'Whether money of its invoice was returned, or is disputed.';
comment on column billing.credit_schedules.quantity is 'Seats; 1 for a metered price, whose quantity is usage.';
comment on column billing.credit_schedules.anchor is 'Months are counted from it, in UTC.';
comment on column billing.credit_schedules.terms_from is 'No terms of the plan from before count: when the time was bought; -infinity: not known.';
comment on column billing.credit_schedules.ends_at is 'No month starts from here on: the period is over, or the subscription has ended.';
comment on column billing.credit_schedules.next_slot_at is 'Start of the next month to be granted; null: none is left.';
comment on column billing.credit_schedules.disarmed_reason is 'Why months that start later wait; null: they don''t.';
