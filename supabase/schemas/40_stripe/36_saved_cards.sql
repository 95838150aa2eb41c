-- Cards that customers saved in Stripe, to notify their owners before a card expires.
--
-- Invariant: one row for each payment method, in its newest state. Of two states of the same second the detached one
-- wins, or else the later expiry, so the order of events makes no difference.
--
-- Called by billing_worker; service_role reads.

create table billing.saved_cards (
    stripe_payment_method_id text primary key,
    stripe_customer_id text,
    livemode boolean not null,
    brand text,
    last4 text,
    -- The first day on which the card is no longer valid.
    expires_on date,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index saved_cards_customer on billing.saved_cards (stripe_customer_id);
create index saved_cards_expiry on billing.saved_cards (expires_on) where stripe_customer_id is not null;

alter table billing.saved_cards enable row level security;

revoke all on billing.saved_cards from public, anon, authenticated, service_role;
grant select on billing.saved_cards to service_role;

-- stripe_customer_id is null for a detached card.
create function billing.record_saved_card(
    stripe_payment_method_id text, stripe_customer_id text, livemode boolean, card_brand text, card_last4 text,
    card_exp_month integer, card_exp_year integer, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.saved_cards as held (
        stripe_payment_method_id, stripe_customer_id, livemode, brand, last4, expires_on, as_of
    )
    values (
        record_saved_card.stripe_payment_method_id, record_saved_card.stripe_customer_id, record_saved_card.livemode,
        record_saved_card.card_brand, record_saved_card.card_last4,
        make_date(record_saved_card.card_exp_year, record_saved_card.card_exp_month, 1) + interval '1 month',
        record_saved_card.as_of
    )
    on conflict on constraint saved_cards_pkey do update
    set stripe_customer_id = excluded.stripe_customer_id,
        brand = excluded.brand,
        last4 = excluded.last4,
        expires_on = excluded.expires_on,
        as_of = excluded.as_of,
        updated_at = now()
    where (held.as_of, held.stripe_customer_id is null, coalesce(held.expires_on, '-infinity'))
        < (excluded.as_of, excluded.stripe_customer_id is null, coalesce(excluded.expires_on, '-infinity'));
    return case when found then 'applied' else 'stale' end;
end
$$;

revoke all on function billing.record_saved_card from public, anon, authenticated, service_role;
grant execute on function billing.record_saved_card(text, text, boolean, text, text, integer, integer, timestamptz)
to billing_worker;

comment on table billing.saved_cards is 'Cards saved in Stripe, in their newest state; without a customer once detached.';
comment on column billing.saved_cards.expires_on is 'The first day on which the card is no longer valid.';
comment on function billing.record_saved_card(text, text, boolean, text, text, integer, integer, timestamptz) is 'Records a saved, changed or detached card. Returns applied or stale.';
