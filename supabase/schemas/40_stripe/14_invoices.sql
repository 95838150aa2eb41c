-- Invoices and their lines, Checkout Sessions, and which payment paid which invoice.
--
-- Invariant: an invoice only moves forward (draft, open, uncollectible, then paid or void). Credits are granted for
-- paid lines of subscription items. Clients read their own invoices; only functions write.

create table billing.invoices (
    stripe_invoice_id text primary key,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    stripe_subscription_id text,
    livemode boolean not null,
    status text not null,
    billing_reason text,
    collection_method text,
    currency text not null,
    subtotal bigint not null,
    total bigint not null,
    amount_due bigint not null,
    amount_paid bigint not null,
    amount_returned bigint not null default 0,
    amount_contested bigint not null default 0,
    attempt_count integer not null default 0,
    next_payment_attempt_at timestamptz,
    hosted_invoice_url text,
    invoiced_at timestamptz not null,
    paid_at timestamptz,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('draft', 'open', 'uncollectible', 'paid', 'void'))
);

create index invoices_account on billing.invoices (account_id);
create index invoices_customer on billing.invoices (stripe_customer_id);
create index invoices_subscription on billing.invoices (stripe_subscription_id);

create table billing.invoice_lines (
    stripe_line_id text primary key,
    stripe_invoice_id text not null references billing.invoices (stripe_invoice_id),
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    amount bigint not null,
    discount bigint,
    tax bigint,
    quantity bigint,
    is_proration boolean not null,
    credited_line_ids text[],
    credited_invoice_id text,
    period_start timestamptz not null,
    period_end timestamptz not null,
    is_waiting boolean not null default false
);

create index invoice_lines_invoice on billing.invoice_lines (stripe_invoice_id);
create index invoice_lines_item on billing.invoice_lines (stripe_subscription_item_id)
where stripe_subscription_item_id is not null;
create index invoice_lines_credited on billing.invoice_lines (credited_invoice_id) where credited_invoice_id is not null;
create index invoice_lines_waiting on billing.invoice_lines (stripe_subscription_id) where is_waiting;
create index invoice_lines_one_time on billing.invoice_lines (stripe_price_id) where stripe_subscription_item_id is null;
create index invoice_lines_waiting_for on billing.invoice_lines (stripe_price_id) where is_waiting;

create table billing.invoice_payments (
    stripe_invoice_payment_id text primary key,
    stripe_invoice_id text not null,
    stripe_payment_intent_id text,
    stripe_charge_id text,
    status text not null,
    amount_paid bigint,
    created_at timestamptz not null default now()
);

create index invoice_payments_invoice on billing.invoice_payments (stripe_invoice_id);
create index invoice_payments_payment_intent on billing.invoice_payments (stripe_payment_intent_id);
create index invoice_payments_charge on billing.invoice_payments (stripe_charge_id);

create table billing.checkout_sessions (
    stripe_checkout_session_id text primary key,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    mode text not null,
    status text not null,
    payment_status text not null,
    client_reference_id text,
    stripe_subscription_id text,
    stripe_invoice_id text,
    stripe_payment_intent_id text,
    stripe_payment_link_id text,
    currency text,
    amount_total bigint,
    opened_at timestamptz,
    completed_at timestamptz,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint mode_is_known check (mode in ('payment', 'setup', 'subscription')),
    constraint status_is_known check (status in ('open', 'complete', 'expired')),
    constraint payment_status_is_known check (payment_status in ('unpaid', 'paid', 'no_payment_required'))
);

create index checkout_sessions_account on billing.checkout_sessions (account_id);
create index checkout_sessions_customer on billing.checkout_sessions (stripe_customer_id);
create index checkout_sessions_payment_intent on billing.checkout_sessions (stripe_payment_intent_id);

alter table billing.invoices enable row level security;
alter table billing.invoice_lines enable row level security;
alter table billing.invoice_payments enable row level security;
alter table billing.checkout_sessions enable row level security;

revoke all on
    billing.invoices, billing.invoice_lines, billing.invoice_payments, billing.checkout_sessions
from public, anon, authenticated, service_role;

create policy invoices_select_managed on billing.invoices
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.invoices to authenticated;
grant select on
    billing.invoices, billing.invoice_lines, billing.invoice_payments, billing.checkout_sessions
to service_role;

comment on table billing.invoices is 'Stripe invoices; amounts in minor units of currency.';
comment on table billing.invoice_lines is 'Lines of paid invoices: what was paid, and for which period.';
comment on column billing.invoice_lines.is_waiting is 'True while the line is paid, but its subscription or price, which explains it, has not been synced.';
comment on column billing.invoice_lines.discount is 'Discounts on the line, in minor units; null: not reported by Stripe.';
comment on column billing.invoice_lines.tax is 'Tax added to the amount, in minor units; null: recorded before it was kept.';
comment on column billing.invoice_lines.credited_line_ids is 'The lines that a proration credits; null: none, or not reported by Stripe.';
comment on column billing.invoice_lines.credited_invoice_id is 'The invoice of the lines that a proration credits; null: none, or not reported by Stripe.';
comment on column billing.invoice_lines.quantity is 'Seats of a licensed price; usage of a metered one.';
comment on column billing.invoices.amount_returned is 'The returned part of total: refunds, lost disputes, credit notes after payment.';
comment on column billing.invoices.amount_contested is 'The part of the rest that open disputes contest.';
comment on table billing.invoice_payments is 'Which payment paid which invoice.';
comment on column billing.invoice_payments.stripe_invoice_payment_id is 'For API versions without invoice payments: the invoice''s own id.';
comment on table billing.checkout_sessions is 'Completed and expired Stripe Checkout Sessions.';
comment on column billing.checkout_sessions.client_reference_id is 'As received; the payer may have edited it, so it links nothing without a signature.';
