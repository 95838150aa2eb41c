-- Paid time of each subscription item, and time that Stripe credited back.
--
-- Invariant: a row is one line of a paid invoice, so the same invoices give the same rows in any order. A line adds the
-- time from period_start to period_end, or gives back that part of the line that it credits. Only _slots_of_lines and
-- _worth calculate what a row is worth.
--
-- Only functions write; service_role reads. Clients read the credits, not these rows.

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
    counts_from timestamptz not null default '-infinity',
    offsets_only boolean not null default false,
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
    constraint only_credits_offset check (gives_back or not offsets_only),
    constraint only_credits_name_a_line check (gives_back or credited_line_id is null),
    constraint disarmed_reason_is_known check (
        disarmed_reason in (
            'paused', 'collection_paused', 'unpaid', 'incomplete', 'customer_deleted', 'account_closed', 'disputed'
        )
    )
);

create index credit_schedules_due on billing.credit_schedules (next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_account on billing.credit_schedules (account_id, next_slot_at);
create index credit_schedules_subscription on billing.credit_schedules (stripe_subscription_id, period_end);
create index credit_schedules_next on billing.credit_schedules (stripe_subscription_id) where next_slot_at is not null;
create index credit_schedules_invoice on billing.credit_schedules (stripe_invoice_id);
create index credit_schedules_free on billing.credit_schedules (account_id, period_end) where is_free;

alter table billing.credit_schedules enable row level security;
revoke all on billing.credit_schedules from public, anon, authenticated, service_role;
grant select on billing.credit_schedules to service_role;

comment on table billing.credit_schedules is 'Time that was paid for each subscription item, and time that Stripe credited back.';
comment on column billing.credit_schedules.gives_back is 'True if the line credits time that an earlier line paid for.';
comment on column billing.credit_schedules.credited_line_id is 'The line whose time it gives back; null if that line was not paid.';
comment on column billing.credit_schedules.is_change is 'True if Stripe created the line for a change within a period (a proration).';
comment on column billing.credit_schedules.is_free is 'True if nothing was paid for the line: its credits are granted once for each account, product and calendar month. For a line that gives back: true if it takes nothing, because Stripe credits no money, or because the credited line was not paid and never will be.';
comment on column billing.credit_schedules.is_unpaid is 'True if Stripe credits money for time that was not paid for (not paid yet, or free by a coupon): all of it counts at once, because the customer has the money at once.';
comment on column billing.credit_schedules.is_plain is 'True if no other line shares its months, so they can be granted in sets.';
comment on column billing.credit_schedules.has_returns is 'True if money of its invoice was returned or is disputed.';
comment on column billing.credit_schedules.counts_from is 'Its time before this gives no credits, because it was paid for before settings.credits_since; infinity: none of its time does.';
comment on column billing.credit_schedules.offsets_only is 'True if the credited line gave no credits here (counts_from): what it gives back reduces what the same change adds, and nothing else.';
comment on column billing.credit_schedules.quantity is 'Seats; 1 for a metered price, whose quantity is usage.';
comment on column billing.credit_schedules.anchor is 'The billing anchor: months are counted from it, in UTC.';
comment on column billing.credit_schedules.terms_from is 'Earlier terms of the plan do not apply: the time of the purchase; -infinity if it is not known.';
comment on column billing.credit_schedules.ends_at is 'No month starts at or after this time: the period is over, or the subscription has ended.';
comment on column billing.credit_schedules.next_slot_at is 'Start of the next month to grant; null if none is left.';
comment on column billing.credit_schedules.disarmed_reason is 'Why later months wait; null if they don''t.';
