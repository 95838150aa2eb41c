-- What money went back, and what that means for the credits that it had paid for.
--
-- Invariant: of each lot as much is gone as its share of what went back, rounded down: floor(credits * returned / paid).
-- The share is worked out anew from all facts (refunds, disputes, credit notes), so their order, and how often each is
-- told of, makes no difference. What open disputes contest is frozen, by a hold that no app can capture or release, until
-- they are won or lost. Slots that are yet to begin are granted less by the same share, or not at all.
--
-- Private: called by what records such facts, and by whatever grants credits for a payment. Both hold the lock of the
-- payment's or the invoice's arrival, so neither commits without having seen the other.

alter table billing.settings
add column shortfall_policy text not null default 'clamp_and_record',
add constraint shortfall_policy_is_known
check (shortfall_policy in ('clamp_and_record', 'allow_negative', 'block_future_grants'));

comment on column billing.settings.shortfall_policy is 'What becomes of credits that were spent before their price went back: clamp_and_record (written down), allow_negative (debt), block_future_grants (withheld from later grants).';

-- What went back of payments, and what open disputes contest, in minor units. A charge may tell of refunds that no event
-- of their own has told of yet. A dispute counts as such: inquiries move no money, nor does one that was prevented.
create function billing._went_back(stripe_payment_intent_ids text[], stripe_charge_ids text[])
returns table (returned numeric, contested numeric)
language sql
stable
set search_path = ''
as $$
    with charged as (
        select payments.stripe_charge_id, payments.amount_refunded from billing.payments
        where payments.stripe_payment_intent_id = any (_went_back.stripe_payment_intent_ids)
            or payments.stripe_charge_id = any (_went_back.stripe_charge_ids)
    ),
    charge_ids as (
        select _went_back.stripe_charge_ids || array(select charged.stripe_charge_id from charged) as list
    ),
    refunded as (
        select
            coalesce(sum(refunds.amount), 0) as told,
            coalesce(sum(refunds.amount) filter (where refunds.status not in ('failed', 'canceled')), 0) as standing
        from billing.refunds
        where refunds.stripe_payment_intent_id = any (_went_back.stripe_payment_intent_ids)
            or refunds.stripe_charge_id = any ((select charge_ids.list from charge_ids)::text[])
    ),
    disputed as (
        select
            coalesce(sum(disputes.amount) filter (where disputes.status = 'lost'), 0) as lost,
            coalesce(sum(disputes.amount) filter (where disputes.status in (
                'needs_response', 'under_review', 'appeal_needs_response', 'appeal_under_review'
            )), 0) as open
        from billing.disputes
        where disputes.stripe_payment_intent_id = any (_went_back.stripe_payment_intent_ids)
            or disputes.stripe_charge_id = any ((select charge_ids.list from charge_ids)::text[])
    )
    select
        refunded.standing + disputed.lost
            + greatest((select coalesce(sum(charged.amount_refunded), 0) from charged) - refunded.told, 0),
        disputed.open
    from refunded cross join disputed
$$;

-- The same of an invoice: of all that paid it, and what credit notes give back in other ways than by refunds.
create function billing._went_back_of_invoice(stripe_invoice_id text)
returns table (returned numeric, contested numeric)
language sql
stable
set search_path = ''
as $$
    select
        went_back.returned + coalesce((
            select sum(credit_notes.amount - credit_notes.amount_refunded) from billing.credit_notes
            where credit_notes.stripe_invoice_id = _went_back_of_invoice.stripe_invoice_id
                and credit_notes.status = 'issued'
        ), 0),
        went_back.contested
    from (
        select
            coalesce(array_agg(invoice_payments.stripe_payment_intent_id)
                filter (where invoice_payments.stripe_payment_intent_id is not null), '{}') as intent_ids,
            coalesce(array_agg(invoice_payments.stripe_charge_id)
                filter (where invoice_payments.stripe_charge_id is not null), '{}') as charge_ids
        from billing.invoice_payments
        where invoice_payments.stripe_invoice_id = _went_back_of_invoice.stripe_invoice_id
            and invoice_payments.status = 'paid'
    ) as paid_by
    cross join lateral billing._went_back(paid_by.intent_ids, paid_by.charge_ids) as went_back
$$;

-- How much of so many credits has gone, their price being gone in part.
create function billing._gone(credits numeric, returned numeric, paid numeric)
returns bigint
language sql
immutable
set search_path = ''
as $$
    select case when _gone.paid > 0 then floor(_gone.credits * least(_gone.returned / _gone.paid, 1))::bigint else 0 end
$$;

-- Brings every lot that an invoice paid for in line with what went back of it. The caller has locked the balance.
create function billing._settle_lots_of_invoice(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _settle_lots_of_invoice.invoice;
    v_lot billing.credit_grants;
begin
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.stripe_invoice_id = v_invoice.stripe_invoice_id
            and credit_grants.stripe_payment_intent_id is null
        order by credit_grants.id
    loop
        perform billing._settle_lot(
            v_lot, v_invoice.amount_paid, v_invoice.amount_returned, v_invoice.amount_contested
        );
    end loop;
end
$$;

-- Works out anew what went back of a paid invoice, and settles its credits when that has changed.
create function billing._settle_invoice(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices;
    v_returned numeric;
    v_contested numeric;
begin
    perform billing._lock_money(null, null, _settle_invoice.stripe_invoice_id);
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _settle_invoice.stripe_invoice_id and invoices.status = 'paid';
    if not found then
        return;  -- sync_invoice comes back to it
    end if;
    select * into v_returned, v_contested from billing._went_back_of_invoice(v_invoice.stripe_invoice_id);
    v_returned := least(v_returned, v_invoice.amount_paid);
    v_contested := least(v_contested, v_invoice.amount_paid - v_returned);
    if (v_returned, v_contested) = (v_invoice.amount_returned, v_invoice.amount_contested) then
        return;
    end if;
    update billing.invoices
    set amount_returned = v_returned, amount_contested = v_contested, updated_at = now()
    where invoices.stripe_invoice_id = v_invoice.stripe_invoice_id
    returning * into v_invoice;
    if v_invoice.account_id is not null then
        perform billing._settle_lots_of_invoice(v_invoice);
        perform billing._settle_subscription(v_invoice.stripe_subscription_id);
    end if;
end
$$;

-- The lots of a subscription that were granted since its invoices were settled. The caller has locked the balance.
create function billing._settle_returned_invoices(stripe_subscription_id text)
returns void
language sql
volatile
set search_path = ''
as $$
    select billing._settle_lots_of_invoice(invoices) from billing.invoices
    where invoices.stripe_subscription_id = _settle_returned_invoices.stripe_subscription_id
        and (invoices.amount_returned > 0 or invoices.amount_contested > 0)
    order by invoices.stripe_invoice_id
$$;

-- Packs and recharges, which a payment intent pays for without an invoice of a subscription.
create function billing._settle_packs(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_lot billing.credit_grants;
    v_paid numeric;
    v_returned numeric;
    v_contested numeric;
begin
    if _settle_packs.stripe_payment_intent_id is null then
        return;  -- nothing had to be paid
    end if;
    perform billing._lock_money(_settle_packs.stripe_payment_intent_id, null);
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.stripe_payment_intent_id = _settle_packs.stripe_payment_intent_id
        order by credit_grants.id
    loop
        if v_paid is null then
            select coalesce(
                (
                    select sum(payments.amount) from billing.payments
                    where payments.stripe_payment_intent_id = _settle_packs.stripe_payment_intent_id
                        and payments.status = 'succeeded'
                ),
                (
                    select checkout_sessions.amount_total from billing.checkout_sessions
                    where checkout_sessions.stripe_checkout_session_id = v_lot.stripe_checkout_session_id
                ),
                (
                    select recharges.amount from billing.recharges
                    where recharges.stripe_payment_intent_id = _settle_packs.stripe_payment_intent_id
                )
            ) into v_paid;
            select * into v_returned, v_contested
            from billing._went_back(array[_settle_packs.stripe_payment_intent_id], '{}');
            v_returned := least(v_returned, v_paid);
            v_contested := least(v_contested, v_paid - v_returned);
        end if;
        perform billing._settle_lot(v_lot, v_paid, v_returned, v_contested);
    end loop;
end
$$;

-- What a payment paid for, settled; whichever of its ids is known.
create function billing._settle_payment(stripe_payment_intent_id text, stripe_charge_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_intent_id text := coalesce(_settle_payment.stripe_payment_intent_id, (
        select payments.stripe_payment_intent_id from billing.payments
        where payments.stripe_charge_id = _settle_payment.stripe_charge_id
    ));
begin
    -- Whoever tells of the payment writes first, then takes these locks, then reads what others have told.
    perform billing._lock_money(v_intent_id, _settle_payment.stripe_charge_id);
    perform billing._settle_invoice(paid.stripe_invoice_id)
    from unnest(billing._invoices_of_payment(v_intent_id, _settle_payment.stripe_charge_id)) as paid (stripe_invoice_id);
    perform billing._settle_packs(v_intent_id);
end
$$;

revoke all on function
    billing._went_back, billing._went_back_of_invoice, billing._gone, billing._settle_lots_of_invoice,
    billing._settle_invoice, billing._settle_returned_invoices, billing._settle_packs, billing._settle_payment
from public, anon, authenticated, service_role;
