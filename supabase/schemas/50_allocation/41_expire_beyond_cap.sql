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
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with lots as (
        select
            credit_grants.*, credit_grants.remaining - credit_grants.held as free,
            sum(credit_grants.remaining - credit_grants.held) over () - _expire_beyond_cap.cap as excess,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.effective_at, credit_grants.id
            ) as upper
        from billing.credit_grants
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
    ),
    due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            least(lots.free, lots.excess - (lots.upper - lots.free))::bigint as expiring
        from lots where lots.upper - lots.free < lots.excess
        order by lots.upper
    )
    select
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            source => due.source, reference_id => due.reference_id,
            description => pg_catalog.format('More than %s carried over', _expire_beyond_cap.cap),
            key_space => 'system',
            idempotency_key => pg_catalog.format('expiry:%s:%s', due.id, billing._last_entry_id(due.account_id)),
            occurred_at => billing.current_time()
        ) order by due.expiry_id),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions)
    into v_entries, v_takes
    from due;
    if cardinality(v_entries) > 0 then
        perform billing._post_entries(v_balance, v_entries, takes => v_takes);
    end if;
end
$$;

revoke all on function billing._expire_beyond_cap from public, anon, authenticated, service_role;
