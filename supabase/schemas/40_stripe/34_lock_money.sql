-- The locks for changes of a payment: the balances that it paid for, then the arrivals of its ids.
--
-- Invariant: balances before arrivals, in the same order as for objects that name a customer, so that transactions
-- never deadlock. Under the locks the set of balances cannot change. A refund names no customer, and its payment may
-- arrive at the same time: the arrivals are then released, and locking starts again.
--
-- Private.

create function billing._accounts_of_money(
    stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_ids text[]
)
returns uuid[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct concerned.account_id order by concerned.account_id), '{}') from (
        select payments.account_id from billing.payments
        where payments.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
            or payments.stripe_charge_id = _accounts_of_money.stripe_charge_id
        union all
        select invoices.account_id from billing.invoices
        where invoices.stripe_invoice_id = any (_accounts_of_money.stripe_invoice_ids)
        union all
        select checkout_sessions.account_id from billing.checkout_sessions
        where checkout_sessions.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
        union all
        select credit_grants.account_id from billing.credit_grants
        where credit_grants.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
    ) as concerned
    where concerned.account_id is not null
$$;

create function billing._invoices_of_payment(stripe_payment_intent_id text, stripe_charge_id text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct invoice_payments.stripe_invoice_id order by invoice_payments.stripe_invoice_id), '{}')
    from billing.invoice_payments
    where invoice_payments.status = 'paid' and (
        invoice_payments.stripe_payment_intent_id = _invoices_of_payment.stripe_payment_intent_id
        or invoice_payments.stripe_charge_id = _invoices_of_payment.stripe_charge_id
    )
$$;

-- For a payment (either id), or for an invoice alone.
create function billing._lock_money(
    stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_id text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice_ids text[];
    v_locked uuid[] := '{}';
    v_concerned uuid[];
begin
    -- An invoice never changes its account, so one pass is enough.
    if coalesce(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id) is null then
        perform from billing.credit_balances
        where credit_balances.account_id = (
            select invoices.account_id from billing.invoices
            where invoices.stripe_invoice_id = _lock_money.stripe_invoice_id
        )
        for update;
        if found then
            perform billing._lock_arrival(_lock_money.stripe_invoice_id);
            return;
        end if;
    end if;
    loop
        v_invoice_ids := array_remove(
            billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                || _lock_money.stripe_invoice_id, null
        );
        v_concerned := billing._accounts_of_money(
            _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
        );
        perform billing._lock_balance(concerned.account_id) from unnest(v_concerned) as concerned (account_id);
        v_locked := v_locked || v_concerned;
        begin
            perform billing._lock_arrival(arrival.stripe_id)
            from unnest(
                array_remove(array[_lock_money.stripe_charge_id, _lock_money.stripe_payment_intent_id], null)
                    || v_invoice_ids
            ) with ordinality as arrival (stripe_id, place)
            order by arrival.place;
            if billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                    <@ v_invoice_ids
                and billing._accounts_of_money(
                    _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
                ) <@ v_locked then
                return;
            end if;
            raise sqlstate 'TB999';
        exception when sqlstate 'TB999' then
            null;  -- the rollback released the arrivals
        end;
    end loop;
end
$$;

revoke all on function billing._accounts_of_money, billing._invoices_of_payment, billing._lock_money
from public, anon, authenticated, service_role;
