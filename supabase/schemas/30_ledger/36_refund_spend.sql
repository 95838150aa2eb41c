-- Refunds a spend to the lots that it came from, by lineage, and never more than it took, over all calls.
--
-- refund_spend is callable by service_role; a reinstatement reverses its revocation in the same way.

-- When a movement from before a closing is refunded, the account owes again what the closing wrote off, up to that
-- amount: the refund pays it at once, as it would have without the closing. Returns the new balance.
create function billing._owe_again(original billing.credit_entries, kind text, amount bigint)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance((_owe_again.original).account_id);
    v_debt bigint := least(v_balance.written_off_debt, _owe_again.amount);
    -- A reinstatement itself ends what its own revocation withholds.
    v_withheld bigint := case _owe_again.kind
        when 'refund' then least(v_balance.written_off_withheld, _owe_again.amount - v_debt) else 0
    end;
begin
    v_balance.withheld := v_balance.withheld + v_withheld;
    v_balance.written_off_debt := v_balance.written_off_debt - v_debt;
    v_balance.written_off_withheld := v_balance.written_off_withheld - v_withheld;
    perform billing._post_entries(v_balance, case when v_debt > 0 then array[billing._entry(
        account_id => v_balance.account_id, kind => 'adjustment', amount => -v_debt, debt => v_debt,
        source => 'closing', description => 'Debt that was written off is owed again',
        reverses_entry_id => (_owe_again.original).id, key_space => 'system',
        idempotency_key => 'owed_again:' || billing._last_entry_id(v_balance.account_id),
        occurred_at => billing.current_time()
    )] else '{}' end);
    return billing._lock_balance(v_balance.account_id);
end
$$;

-- Returns part of what an entry took, in reverse order: debt, then lots from the end of their order. Debt that is
-- repaid by now returns as a new lot. Lots that are due then expire again.
create function billing._reverse_entry(
    original billing.credit_entries, kind text, amount bigint, key_space text, idempotency_key text, description text,
    metadata jsonb, actor text
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_original billing.credit_entries := _reverse_entry.original;
    v_balance billing.credit_balances := billing._lock_settled_balance(v_original.account_id);
    v_entry billing.credit_entries;
    v_to_lots bigint;
    v_debt bigint;
    v_new bigint;
    v_left bigint;
    v_takes billing.credit_consumptions[];
begin
    if v_balance.balance > 9223372036854775807 - _reverse_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_original.account_id
            using errcode = 'TB009', hint = 'Refund less.';
    elsif v_original.created_at < v_balance.written_off_at then
        v_balance := billing._owe_again(v_original, _reverse_entry.kind, _reverse_entry.amount);
    end if;

    -- What the entry took from lots and was not returned to them yet.
    select coalesce(sum(credit_consumptions.amount), 0) into v_to_lots
    from billing.credit_entries
    join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
    where credit_entries.id = v_original.id
        or credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement');
    v_left := -v_original.amount - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement')
    ), 0);
    -- The rest of what it took was debt, and comes first.
    v_new := least(_reverse_entry.amount, greatest(v_left - v_to_lots, 0));
    v_debt := least(v_new, v_balance.debt);
    v_to_lots := least(_reverse_entry.amount - v_new, v_to_lots);
    v_new := _reverse_entry.amount - v_debt - v_to_lots;

    v_entry := billing._entry(
        account_id => v_original.account_id, kind => _reverse_entry.kind, amount => _reverse_entry.amount,
        debt => -v_debt, source => v_original.source, reference_id => v_original.reference_id,
        description => _reverse_entry.description, feature => v_original.feature,
        metadata => _reverse_entry.metadata, actor => _reverse_entry.actor, reverses_entry_id => v_original.id,
        key_space => _reverse_entry.key_space, idempotency_key => _reverse_entry.idempotency_key,
        occurred_at => billing.current_time()
    );
    select
        array_agg(row(v_entry.id, given.id, -given.amount)::billing.credit_consumptions),
        least(v_balance.next_due_at, min(given.expires_at))
    into v_takes, v_balance.next_due_at
    from (
        select
            lots.*, least(lots.taken, v_to_lots - (sum(lots.taken) over (
                order by lots.priority desc, lots.expires_at desc, lots.id desc
            ) - lots.taken))::bigint as amount
        from (
            select
                credit_grants.id, credit_grants.priority, credit_grants.expires_at,
                sum(credit_consumptions.amount)::bigint as taken
            from billing.credit_entries
            join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
            join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
            where credit_entries.id = v_original.id
                or credit_entries.reverses_entry_id = v_original.id
                and credit_entries.kind in ('refund', 'reinstatement')
            group by credit_grants.id
            having sum(credit_consumptions.amount) > 0
        ) as lots
    ) as given
    where given.amount > 0;
    v_entry := billing._post_entry(
        v_balance, v_entry,
        case when v_new > 0 then array[billing._lot(
            account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_new,
            effective_at => v_entry.occurred_at, source => v_entry.source, reference_id => v_entry.reference_id,
            key_space => 'system', idempotency_key => 'returned:' || v_entry.id
        )] else '{}' end,
        coalesce(v_takes, '{}')
    );
    perform billing._repay_debt(v_original.account_id);
    perform billing._claim_returned_credits(v_original.account_id);
    return v_entry;
end
$$;

create function billing.refund_spend(
    entry_id bigint,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when refund_spend.amount is not null then billing._checked_amount(refund_spend.amount) end;
    v_spend billing.credit_entries;
    v_entry billing.credit_entries;
    v_left bigint;
begin
    perform billing._checked_key(refund_spend.idempotency_key, refund_spend.metadata);
    select * into v_spend from billing.credit_entries
    where credit_entries.id = refund_spend.entry_id and credit_entries.kind in ('spend', 'capture');
    if not found then
        raise exception 'entry % is not a spend', coalesce(refund_spend.entry_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that spend_credits or capture_hold returned.';
    end if;
    perform billing._lock_balance(v_spend.account_id);

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_spend.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = refund_spend.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.reverses_entry_id, v_entry.amount, v_entry.description, v_entry.metadata)
            is distinct from (
                'refund', v_spend.id, coalesce(v_amount, v_entry.amount), refund_spend.description, refund_spend.metadata
            ) then
            perform billing._raise_key_reused(refund_spend.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_open(v_spend.account_id);
    select -v_spend.amount - coalesce(sum(credit_entries.amount), 0) into v_left from billing.credit_entries
    where credit_entries.reverses_entry_id = v_spend.id and credit_entries.kind = 'refund';
    v_amount := coalesce(v_amount, v_left);
    if v_left = 0 or v_amount > v_left then
        raise exception 'only % credits of entry % can be refunded, not %', v_left, v_spend.id, v_amount
            using errcode = 'TB027', hint = 'Refund at most what is left of the spend.';
    end if;

    v_entry := billing._reverse_entry(
        v_spend, 'refund', v_amount, 'caller', refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata, v_spend.actor
    );
    -- It no longer counts towards the cap and the budgets of the period in which it was spent.
    update billing.credit_balances set spent_in_period = greatest(credit_balances.spent_in_period - v_amount, 0)
    where credit_balances.account_id = v_spend.account_id and credit_balances.spend_cap is not null
        and v_spend.occurred_at >= credit_balances.spend_period_start;
    if v_spend.actor is not null then
        perform billing._count_in_budgets(v_spend.account_id, v_spend.actor, -v_amount, 0, v_spend.occurred_at);
    end if;
    return v_entry;
end
$$;

revoke all on function billing._owe_again, billing._reverse_entry, billing.refund_spend from public, anon, authenticated, service_role;
grant execute on function billing.refund_spend(bigint, numeric, text, text, jsonb) to service_role;

comment on function billing.refund_spend(bigint, numeric, text, text, jsonb) is 'Refunds a spend or capture to the lots that it came from: all that is left of it (amount null) or a part. Once for each idempotency key.';
