-- Plans with a rollover cap: credits beyond the cap expire when a month starts.
--
-- Private: called by the functions that post a month.

-- When a month of an item starts, expires what its earlier months have left beyond the cap, the oldest first. Credits
-- that were paid after the month started do not count as earlier.
create function billing._expire_beyond_cap(
    account_id uuid, stripe_subscription_item_id text, cap bigint, slot_start timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance(_expire_beyond_cap.account_id);
    v_lot billing.credit_grants;
    v_excess bigint;
    v_expiring bigint;
    v_entry_id bigint;
begin
    select sum(credit_grants.remaining - credit_grants.held) - _expire_beyond_cap.cap into v_excess
    from billing.credit_grants
    where credit_grants.account_id = _expire_beyond_cap.account_id and credit_grants.closed_at is null
        and credit_grants.source in ('stripe.monthly_allocation', 'stripe.proration')
        and credit_grants.stripe_subscription_item_id = _expire_beyond_cap.stripe_subscription_item_id
        and credit_grants.effective_at < _expire_beyond_cap.slot_start
        and not exists (
            select from billing.invoices
            where invoices.stripe_invoice_id = credit_grants.stripe_invoice_id
                and invoices.paid_at > _expire_beyond_cap.slot_start
        );
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _expire_beyond_cap.account_id and credit_grants.closed_at is null
            and credit_grants.source in ('stripe.monthly_allocation', 'stripe.proration')
            and credit_grants.stripe_subscription_item_id = _expire_beyond_cap.stripe_subscription_item_id
            and credit_grants.effective_at < _expire_beyond_cap.slot_start
            and credit_grants.remaining > credit_grants.held
            and not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = credit_grants.stripe_invoice_id
                    and invoices.paid_at > _expire_beyond_cap.slot_start
            )
        order by credit_grants.effective_at, credit_grants.id
    loop
        exit when v_excess <= 0;
        v_expiring := least(v_excess, v_lot.remaining - v_lot.held);
        v_balance.balance := v_balance.balance - v_expiring;
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, description, key_space, idempotency_key,
            occurred_at
        )
        values (
            v_lot.account_id, 'expiry', -v_expiring, v_balance.balance, v_lot.source, v_lot.reference_id,
            pg_catalog.format('More than %s carried over', _expire_beyond_cap.cap), 'system',
            billing._expiry_key(v_lot), billing.current_time()
        )
        returning id into v_entry_id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry_id, v_lot.id, v_expiring);
        update billing.credit_grants
        set remaining = v_lot.remaining - v_expiring,
            lapsed = v_lot.lapsed + v_expiring,
            closed_at = case when v_lot.remaining = v_expiring then billing.current_time() end
        where credit_grants.id = v_lot.id;
        v_excess := v_excess - v_expiring;
    end loop;
    update billing.credit_balances set balance = v_balance.balance, updated_at = now()
    where credit_balances.account_id = _expire_beyond_cap.account_id;
end
$$;

revoke all on function billing._expire_beyond_cap from public, anon, authenticated, service_role;
