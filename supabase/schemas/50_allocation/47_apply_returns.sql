-- Returned money → the credits that it had paid for: revoked, restored, or frozen while a dispute is open.
--
-- Invariant: calculated from all facts each time, for everything that one invoice or one payment paid for, so the order
-- of events makes no difference. Credits of open disputes are frozen by holds that no app can capture or release; spent
-- ones are frozen when they return.
--
-- Private: called by the functions that record such facts, and by those that grant credits for a payment. Both hold the
-- lock of the payment's or the invoice's arrival, so neither commits without having seen the other.

-- Posts the returned money of an invoice to the credits that it paid for. The caller has locked the balance.
create function billing._post_returned_credits(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_from timestamptz;
    v_until timestamptz;
    v_subscription_ids text[];
    v_frozen bigint;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _post_returned_credits.stripe_invoice_id;
    if v_invoice.account_id is null or exists (
        select from billing.accounts where accounts.id = v_invoice.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    update billing.credit_schedules
    set has_returns = true,
        disarmed_reason = case
            when v_invoice.amount_contested > 0 then coalesce(credit_schedules.disarmed_reason, 'disputed')
            else nullif(credit_schedules.disarmed_reason, 'disputed')
        end
    where credit_schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    v_frozen := billing._contested_credits(v_invoice.stripe_invoice_id);
    perform billing._thaw_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    select min(schedules.period_start), max(schedules.period_end), array_agg(distinct schedules.stripe_subscription_id)
    into v_from, v_until, v_subscription_ids
    from billing.credit_schedules as schedules where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    if v_subscription_ids is not null then
        perform billing._allocate_slots(v_subscription_ids, v_from, least(
            v_until, billing._time_of_account(v_invoice.account_id)
        ));
    end if;
    perform billing._post_returned_initial(v_invoice);
    perform billing._post_purchase(pack_purchases.business_key) from billing.pack_purchases
    where pack_purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and pack_purchases.stripe_line_id is not null;

    perform billing._freeze_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    perform billing._repay_debt(v_invoice.account_id);
end
$$;

-- Adds up the returned money of a paid invoice, and posts its effect on the credits.
create function billing._apply_returns_of_invoice(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_returned numeric;
    v_contested numeric;
begin
    perform billing._lock_money(null, null, _apply_returns_of_invoice.stripe_invoice_id);
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id and invoices.status = 'paid';
    if not found then
        return;  -- sync_invoice comes back to it
    end if;
    select
        coalesce(sum(returns.amount) filter (where not returns.is_contested), 0),
        coalesce(sum(returns.amount) filter (where returns.is_contested), 0)
    into v_returned, v_contested
    from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns;
    if v_returned + v_contested = 0 and v_invoice.amount_returned + v_invoice.amount_contested = 0 then
        return;
    end if;
    v_price := greatest(billing._price_of_invoice(v_invoice), 0);
    v_returned := least(v_returned, v_price);
    update billing.invoices
    set amount_returned = v_returned, amount_contested = least(v_contested, v_price - v_returned), updated_at = now()
    where invoices.stripe_invoice_id = v_invoice.stripe_invoice_id;
    perform billing._post_returned_credits(v_invoice.stripe_invoice_id);
end
$$;

-- Packs and recharges that a payment intent paid without an invoice.
create function billing._apply_returns_of_purchases(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases;
    v_frozen bigint;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _apply_returns_of_purchases.stripe_payment_intent_id
            and pack_purchases.stripe_line_id is null
        order by pack_purchases.business_key
    loop
        continue when exists (
            select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
        );
        v_frozen := billing._returned_of_purchase(v_purchase, true) - billing._returned_of_purchase(v_purchase);
        perform billing._thaw_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._post_purchase(v_purchase.business_key);
        perform billing._freeze_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._repay_debt(v_purchase.account_id);
    end loop;
end
$$;

-- Everything that a payment paid for, by either of its ids.
create function billing._apply_returns_of_payment(stripe_payment_intent_id text, stripe_charge_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_id text;
begin
    -- Every function that records a fact about the payment writes first, then takes these locks, then reads the others'
    -- rows.
    perform billing._lock_money(
        _apply_returns_of_payment.stripe_payment_intent_id, _apply_returns_of_payment.stripe_charge_id
    );
    v_intent_id := coalesce(_apply_returns_of_payment.stripe_payment_intent_id, (
        select payments.stripe_payment_intent_id from billing.payments
        where payments.stripe_charge_id = _apply_returns_of_payment.stripe_charge_id
    ));
    if v_intent_id is not null and _apply_returns_of_payment.stripe_payment_intent_id is null then
        perform billing._lock_money(v_intent_id, _apply_returns_of_payment.stripe_charge_id);
    end if;
    perform billing._apply_returns_of_invoice(paid.stripe_invoice_id)
    from unnest(billing._invoices_of_payment(v_intent_id, _apply_returns_of_payment.stripe_charge_id)) as paid (stripe_invoice_id);
    perform billing._apply_returns_of_purchases(v_intent_id) where v_intent_id is not null;
end
$$;

-- A refund or a dispute may name only its charge, and only the charge's own row has the payment intent. When either
-- commits, it looks for the other once more, under a lock that is held only briefly: of two that commit at the same
-- time, one sees the other.
create function billing.tg_money__meet()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_id text;
begin
    perform billing._lock_arrival('charge:' || new.stripe_charge_id);
    select payments.stripe_payment_intent_id into v_intent_id from billing.payments
    where payments.stripe_charge_id = new.stripe_charge_id;
    if tg_table_name = 'payments' then
        perform billing._date_purchases(new.stripe_payment_intent_id);
    end if;
    if v_intent_id is not null and (
        exists (
            select from billing.refunds
            where refunds.stripe_charge_id = new.stripe_charge_id and refunds.stripe_payment_intent_id is null
        ) or exists (
            select from billing.disputes
            where disputes.stripe_charge_id = new.stripe_charge_id and disputes.stripe_payment_intent_id is null
        )
    ) then
        perform billing._apply_returns_of_payment(v_intent_id, new.stripe_charge_id);
    end if;
    return null;
end
$$;

create constraint trigger tg_refunds__meet
after insert or update of status on billing.refunds
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is null and new.stripe_charge_id is not null)
execute function billing.tg_money__meet();

create constraint trigger tg_disputes__meet
after insert or update of status on billing.disputes
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is null)
execute function billing.tg_money__meet();

create constraint trigger tg_payments__meet
after insert on billing.payments
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is not null)
execute function billing.tg_money__meet();

revoke all on function
    billing.tg_money__meet, billing._post_returned_credits, billing._apply_returns_of_invoice,
    billing._apply_returns_of_purchases, billing._apply_returns_of_payment
from public, anon, authenticated, service_role;
