-- Payments (Stripe charges), refunds, disputes, credit notes, early fraud warnings and reviews.
--
-- Invariant: one row for each Stripe object, never moved to an older state. Clients read their own payments, but no
-- fraud data; only functions write.

create table billing.payments (
    stripe_charge_id text primary key,
    stripe_payment_intent_id text,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    amount_refunded bigint not null default 0,
    is_disputed boolean not null default false,
    risk_level text,
    risk_score integer,
    is_liability_shifted boolean not null default false,
    card_fingerprint text,
    failure_code text,
    receipt_url text,
    charged_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('succeeded', 'pending', 'failed')),
    constraint amount_refunded_is_within_the_amount check (amount_refunded between 0 and amount)
);

create index payments_account on billing.payments (account_id);
create index payments_customer on billing.payments (stripe_customer_id);
create index payments_payment_intent on billing.payments (stripe_payment_intent_id);
create index payments_card_fingerprint on billing.payments (card_fingerprint);
create index payments_charged on billing.payments (charged_at);

-- The amounts that payment intents received. A Checkout Session may arrive after its payment, or with an older state.
create table billing.payment_intents (
    stripe_payment_intent_id text primary key,
    amount_received bigint not null,
    created_at timestamptz not null default now(),
    constraint amount_received_is_positive check (amount_received > 0)
);

create table billing.refunds (
    stripe_refund_id text primary key,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    status text not null,
    currency text not null,
    amount bigint not null,
    reason text,
    failure_reason text,
    refunded_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('pending', 'requires_action', 'succeeded', 'failed', 'canceled'))
);

create index refunds_charge on billing.refunds (stripe_charge_id);
create index refunds_payment_intent on billing.refunds (stripe_payment_intent_id);
create index refunds_refunded on billing.refunds (refunded_at);

create table billing.disputes (
    stripe_dispute_id text primary key,
    stripe_charge_id text not null,
    stripe_payment_intent_id text,
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    reason text,
    evidence_due_at timestamptz,
    disputed_at timestamptz not null,
    is_open boolean not null generated always as (status not in ('won', 'lost', 'warning_closed', 'prevented')) stored,
    needs_response boolean not null generated always as (
        status in ('needs_response', 'appeal_needs_response', 'warning_needs_response')
    ) stored,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index disputes_charge on billing.disputes (stripe_charge_id);

create index disputes_payment_intent on billing.disputes (stripe_payment_intent_id);
create index disputes_to_answer on billing.disputes (disputed_at, stripe_dispute_id) where needs_response;
create index disputes_disputed on billing.disputes (disputed_at, stripe_dispute_id);

create table billing.credit_notes (
    stripe_credit_note_id text primary key,
    stripe_invoice_id text not null,
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    amount_refunded bigint not null,
    pre_payment_amount bigint not null default 0,
    stripe_refund_ids text[] not null default '{}',
    reason text,
    noted_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('issued', 'void')),
    constraint amount_refunded_is_within_the_amount check (amount_refunded between 0 and amount)
);

-- The lines of its invoice that a credit note credits.
create table billing.credit_note_lines (
    stripe_credit_note_id text not null references billing.credit_notes (stripe_credit_note_id),
    number integer not null,
    stripe_line_id text,
    amount bigint not null,
    primary key (stripe_credit_note_id, number)
);

create index credit_notes_refunds on billing.credit_notes using gin (stripe_refund_ids);
create index credit_notes_invoice on billing.credit_notes (stripe_invoice_id);

create table billing.fraud_warnings (
    stripe_early_fraud_warning_id text primary key,
    stripe_charge_id text not null,
    stripe_payment_intent_id text,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    fraud_type text not null,
    actionable boolean not null,
    risk_level text,
    risk_score integer,
    status text not null default 'open',
    processed_at timestamptz,
    notes text,
    warned_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('open', 'resolved', 'dismissed'))
);

create index fraud_warnings_account on billing.fraud_warnings (account_id);
create index fraud_warnings_customer on billing.fraud_warnings (stripe_customer_id);
create index fraud_warnings_charge on billing.fraud_warnings (stripe_charge_id);
create index fraud_warnings_payment_intent on billing.fraud_warnings (stripe_payment_intent_id);
create index fraud_warnings_open on billing.fraud_warnings (warned_at) where status = 'open';
create index fraud_warnings_warned on billing.fraud_warnings (warned_at, stripe_early_fraud_warning_id);

create table billing.reviews (
    stripe_review_id text primary key,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    is_open boolean not null,
    reason text not null,
    closed_reason text,
    opened_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index reviews_opened on billing.reviews (is_open, opened_at);
create index reviews_account on billing.reviews (account_id);
create index reviews_charge on billing.reviews (stripe_charge_id);

alter table billing.payments enable row level security;
alter table billing.payment_intents enable row level security;
alter table billing.refunds enable row level security;
alter table billing.disputes enable row level security;
alter table billing.credit_notes enable row level security;
alter table billing.credit_note_lines enable row level security;
alter table billing.fraud_warnings enable row level security;
alter table billing.reviews enable row level security;

revoke all on
    billing.payments, billing.payment_intents, billing.refunds, billing.disputes, billing.credit_notes,
    billing.credit_note_lines, billing.fraud_warnings, billing.reviews
from public, anon, authenticated, service_role;

create policy payments_select_managed on billing.payments
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select (
    stripe_charge_id, account_id, livemode, status, currency, amount, amount_refunded, receipt_url, charged_at
) on billing.payments to authenticated;
grant select on
    billing.payments, billing.payment_intents, billing.refunds, billing.disputes, billing.credit_notes,
    billing.credit_note_lines, billing.fraud_warnings, billing.reviews
to service_role;

comment on table billing.payments is 'Stripe charges; amounts in minor units of currency.';
comment on table billing.payment_intents is 'Succeeded Stripe payment intents and the amount that each received, in minor units.';
comment on column billing.payments.risk_level is 'The charge''s outcome.risk_level: normal, elevated, highest, not_assessed or unknown.';
comment on column billing.payments.is_liability_shifted is 'True if the cardholder was authenticated (3-D Secure), so the issuer is liable for fraud.';
comment on table billing.refunds is 'Stripe refunds.';
comment on table billing.credit_notes is 'Stripe credit notes on paid invoices.';
comment on column billing.credit_notes.amount is 'The amount returned after payment, in any form. A credit note before payment only reduces the invoice.';
comment on table billing.credit_note_lines is 'Lines of credit notes: the credited line of the invoice and the amount.';
comment on column billing.credit_note_lines.stripe_line_id is 'The invoice''s line; null for a line of the credit note''s own.';
comment on column billing.credit_notes.pre_payment_amount is 'The amount by which it reduced the invoice before payment.';
comment on column billing.credit_notes.stripe_refund_ids is 'Refunds of this credit note: they return the same money, which counts once.';
comment on column billing.credit_notes.amount_refunded is 'The part of amount returned by refunds, which have their own rows.';
comment on table billing.disputes is 'Stripe disputes, including inquiries.';
comment on column billing.disputes.is_open is 'Not decided yet.';
comment on column billing.disputes.needs_response is 'Stripe waits for an answer to a dispute, an appeal or an inquiry.';
comment on table billing.fraud_warnings is 'Early fraud warnings, with the risk level of their charge.';
comment on table billing.reviews is 'Radar reviews.';
