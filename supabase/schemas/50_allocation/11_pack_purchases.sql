-- Facts: purchased credit packs, one row for each purchase however it was paid. service_role reads them.

create table billing.pack_purchases (
    business_key text primary key,
    account_id uuid not null references billing.accounts (id),
    source text not null,
    reference_id text not null,
    description text,
    credits bigint not null,
    price bigint not null,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_invoice_id text,
    stripe_line_id text,
    stripe_payment_intent_id text,
    purchased_at timestamptz not null,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    constraint credits_are_not_negative check (credits >= 0),
    constraint price_is_not_negative check (price >= 0)
);

create index pack_purchases_account on billing.pack_purchases (account_id);
create index pack_purchases_session on billing.pack_purchases (stripe_checkout_session_id)
where stripe_checkout_session_id is not null;
create index pack_purchases_invoice on billing.pack_purchases (stripe_invoice_id) where stripe_invoice_id is not null;
create index pack_purchases_payment_intent on billing.pack_purchases (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;

alter table billing.pack_purchases enable row level security;
revoke all on billing.pack_purchases from public, anon, authenticated, service_role;
grant select on billing.pack_purchases to service_role;

comment on table billing.pack_purchases is 'Paid credit packs: the credits of each purchase, and its payment.';
comment on column billing.pack_purchases.credits is '0 if the paid amount is worth less than one credit.';
comment on column billing.pack_purchases.price is 'The paid amount after discounts, in minor units; 0: nothing was paid.';
