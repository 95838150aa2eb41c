-- The posting kernel: writes balances, entries, lots and lineage. Every movement of credits uses it; only a plain spend
-- writes the same rows by a shorter path (spend_credits).
--
-- Invariant: an entry changes its account's balance by its amount and its debt by its debt; it takes from lots what it
-- opened - amount - debt. The lots that it names pay first, open lots in the order of spending pay the rest.
--
-- A movement locks the balance, checks, creates its entry with _entry and calls _post_entry, or _post_entries for
-- several. Private.

-- A new entry, not posted yet, with its id, so that lots and lineage can refer to it.
create function billing._entry(
    account_id uuid, kind text, amount bigint, source text, key_space text, idempotency_key text,
    occurred_at timestamptz, debt bigint default 0, reference_id text default null, description text default null,
    metadata jsonb default '{}', actor text default null, feature text default null, up_to bigint default null,
    reverses_entry_id bigint default null, hold_id uuid default null, balance_after bigint default null,
    id bigint default nextval('billing.credit_entries_id_seq')
)
returns billing.credit_entries
language sql
stable
as $$
    select row(
        _entry.id, _entry.account_id, _entry.kind, _entry.amount, _entry.balance_after, _entry.debt, _entry.up_to,
        _entry.source, _entry.reference_id, _entry.description, _entry.feature, _entry.metadata, _entry.actor,
        _entry.reverses_entry_id, _entry.hold_id, _entry.key_space, _entry.idempotency_key, _entry.occurred_at, now()
    )::billing.credit_entries
$$;

-- A new lot that an entry opens, or (without entry_id) a scheduled lot that opens when it takes effect.
create function billing._lot(
    account_id uuid, entry_id bigint, amount bigint, effective_at timestamptz, source text, reference_id text,
    key_space text, idempotency_key text, description text default null, priority integer default 100,
    expires_at timestamptz default null, stripe_invoice_id text default null,
    stripe_subscription_item_id text default null, stripe_price_id text default null,
    stripe_checkout_session_id text default null, stripe_payment_intent_id text default null,
    id bigint default nextval('billing.credit_grants_id_seq')
)
returns billing.credit_grants
language sql
immutable
as $$
    select row(
        _lot.id, _lot.account_id, _lot.entry_id, _lot.amount,
        case when _lot.entry_id is null then 0 else _lot.amount end, 0, 0, 0, 0, _lot.priority, _lot.effective_at,
        _lot.expires_at, null, _lot.source, _lot.reference_id, _lot.description, _lot.key_space, _lot.idempotency_key,
        _lot.stripe_invoice_id, _lot.stripe_subscription_item_id, _lot.stripe_price_id,
        _lot.stripe_checkout_session_id, _lot.stripe_payment_intent_id, null, 0
    )::billing.credit_grants
$$;

-- A balance changed by an amount, with a lot that falls due at a time.
create function billing._moved(balance billing.credit_balances, amount bigint, due_at timestamptz default null)
returns billing.credit_balances
language sql
immutable
as $$
    select row(
        (_moved.balance).account_id, (_moved.balance).balance + _moved.amount, (_moved.balance).held,
        (_moved.balance).debt, (_moved.balance).withheld, (_moved.balance).carried, (_moved.balance).written_off_debt,
        (_moved.balance).written_off_withheld, (_moved.balance).written_off_at,
        least((_moved.balance).next_due_at, _moved.due_at), (_moved.balance).may_spend, (_moved.balance).has_budgets,
        (_moved.balance).overdraft, (_moved.balance).overage_limit,
        (_moved.balance).spend_cap, (_moved.balance).spend_cap_period, (_moved.balance).spent_in_period,
        (_moved.balance).spend_period_start, (_moved.balance).low_balance_threshold, (_moved.balance).is_low,
        (_moved.balance).recharge_below, (_moved.balance).updated_at, (_moved.balance).epoch
    )::billing.credit_balances
$$;

-- Entries whose credits lapse unspent: expiries and forfeits.
create function billing._lets_lapse(entry billing.credit_entries)
returns boolean
language sql
immutable
as $$
    select (_lets_lapse.entry).kind = 'expiry'
        or (_lets_lapse.entry).kind = 'adjustment' and (_lets_lapse.entry).source = 'closing'
$$;

-- Writes movements of any number of accounts: the new balances, entries with balance_after, lots that are opened whole,
-- and what is taken from named lots. Returns how much that is.
create function billing._write_entries(
    balances billing.credit_balances[], entries billing.credit_entries[], lots billing.credit_grants[],
    takes billing.credit_consumptions[]
)
returns numeric
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- Uses indexes, even for tables that were small when the statement was planned; and a generic plan, because a plan for
-- one row looks so much cheaper than that for any number that each call would be planned again.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_taken numeric := 0;
begin
    update billing.credit_balances as balance
    set balance = moved.balance,
        debt = moved.debt,
        held = moved.held,
        withheld = moved.withheld,
        carried = moved.carried,
        written_off_debt = moved.written_off_debt,
        written_off_withheld = moved.written_off_withheld,
        written_off_at = moved.written_off_at,
        next_due_at = moved.next_due_at,
        spent_in_period = moved.spent_in_period,
        spend_period_start = moved.spend_period_start,
        updated_at = now(),
        epoch = balance.epoch + (random() < 0.02)::integer
    from unnest(_write_entries.balances) as moved
    where uuid_hash(balance.account_id) = uuid_hash(moved.account_id)
        and balance.account_id is not distinct from moved.account_id and balance.epoch >= moved.epoch;

    insert into billing.credit_entries (
        id, account_id, kind, amount, balance_after, debt, up_to, source, reference_id, description, feature, metadata,
        actor, reverses_entry_id, hold_id, key_space, idempotency_key, occurred_at
    )
    overriding system value
    select
        entry.id, entry.account_id, entry.kind, entry.amount, entry.balance_after, entry.debt, entry.up_to,
        entry.source, entry.reference_id, entry.description, entry.feature, entry.metadata, entry.actor,
        entry.reverses_entry_id, entry.hold_id, entry.key_space, entry.idempotency_key, entry.occurred_at
    from unnest(_write_entries.entries) as entry;

    if cardinality(_write_entries.lots) > 0 then
        insert into billing.credit_grants (
            id, account_id, entry_id, amount, remaining, priority, effective_at, expires_at, source, reference_id,
            description, key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
            stripe_checkout_session_id, stripe_payment_intent_id
        )
        overriding system value
        select
            lot.id, lot.account_id, lot.entry_id, lot.amount, lot.remaining, lot.priority, lot.effective_at,
            lot.expires_at, lot.source, lot.reference_id, lot.description, lot.key_space, lot.idempotency_key,
            lot.stripe_invoice_id, lot.stripe_subscription_item_id, lot.stripe_price_id,
            lot.stripe_checkout_session_id, lot.stripe_payment_intent_id
        from unnest(_write_entries.lots) as lot;
    end if;

    if cardinality(_write_entries.takes) > 0 then
        with written as (
            insert into billing.credit_consumptions (entry_id, grant_id, amount)
            select take.entry_id, take.grant_id, take.amount from unnest(_write_entries.takes) as take
            returning credit_consumptions.amount
        ),
        moved as (
            -- A capture takes the credits that its hold reserved.
            update billing.credit_grants
            set remaining = credit_grants.remaining - taken.amount,
                held = credit_grants.held - taken.captured,
                lapsed = credit_grants.lapsed + taken.lapsed,
                closed_at = case when credit_grants.remaining = taken.amount then taken.taken_at end,
                epoch = credit_grants.epoch + (random() < 0.02)::integer
            from (
                select
                    take.grant_id, sum(take.amount)::bigint as amount, max(entry.occurred_at) as taken_at,
                    coalesce(sum(take.amount) filter (where entry.kind = 'capture'), 0)::bigint as captured,
                    coalesce(sum(take.amount) filter (where billing._lets_lapse(entry)), 0)::bigint as lapsed
                from unnest(_write_entries.takes) as take
                join unnest(_write_entries.entries) as entry on entry.id = take.entry_id
                group by take.grant_id
            ) as taken
            where credit_grants.id = taken.grant_id
        )
        select sum(written.amount) into v_taken from written;
    end if;
    return v_taken;
end
$$;

-- Takes what entries of one account cost beyond their named lots from its open lots, in the order of spending, except
-- held credits. The caller holds the lock, so that a lot's row does not change after it was found.
create function billing._burn_lots(
    entries billing.credit_entries[], takes billing.credit_consumptions[], amount numeric
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_account_id uuid := (_burn_lots.entries[1]).account_id;
    v_lots cursor for
    select credit_grants.id, credit_grants.ctid as place, credit_grants.remaining - credit_grants.held as free
    from billing.credit_grants
    where credit_grants.account_id = v_account_id and credit_grants.closed_at is null
        and credit_grants.remaining > credit_grants.held
    order by credit_grants.priority, credit_grants.expires_at, credit_grants.id, credit_grants.epoch desc;
    v_lot record;
    v_left numeric := _burn_lots.amount;
    v_entry billing.credit_entries;
    v_number integer := 0;
    v_cost bigint := 0;
    v_taken bigint;
    v_part bigint;
    v_burnt billing.credit_consumptions[] := '{}';
begin
    open v_lots;
    while v_left > 0 loop
        fetch v_lots into v_lot;
        if not found then
            raise exception 'the open lots of account % hold % credits less than its balance', v_account_id, v_left
                using errcode = 'TB016', hint = 'Check billing.ledger_discrepancies before the account spends again.';
        end if;
        v_taken := 0;
        while v_left > 0 and v_taken < v_lot.free loop
            if v_cost <= 0 then
                v_number := v_number + 1;
                v_entry := _burn_lots.entries[v_number];
                v_cost := -(v_entry.amount + v_entry.debt);
                if cardinality(_burn_lots.takes) > 0 then
                    v_cost := v_cost - coalesce((
                        select sum(take.amount) from unnest(_burn_lots.takes) as take where take.entry_id = v_entry.id
                    ), 0);
                end if;
                continue when v_cost <= 0;
            end if;
            v_part := least(v_cost, v_lot.free - v_taken);
            v_burnt := v_burnt || row(v_entry.id, v_lot.id, v_part)::billing.credit_consumptions;
            v_cost := v_cost - v_part;
            v_taken := v_taken + v_part;
            v_left := v_left - v_part;
        end loop;
        update billing.credit_grants
        set remaining = credit_grants.remaining - v_taken,
            lapsed = credit_grants.lapsed + case when billing._lets_lapse(v_entry) then v_taken else 0 end,
            closed_at = case when credit_grants.remaining = v_taken then v_entry.occurred_at end,
            epoch = credit_grants.epoch + (random() < 0.02)::integer
        where credit_grants.ctid = v_lot.place;
    end loop;
    close v_lots;
    insert into billing.credit_consumptions (entry_id, grant_id, amount)
    select burnt.entry_id, burnt.grant_id, burnt.amount from unnest(v_burnt) as burnt;
end
$$;

-- Posts entries of one account, in their order. `balance` is the row that the caller has locked, with all other changes
-- of the movement. What entries take beyond the named lots is taken from open lots.
create function billing._post_entries(
    balance billing.credit_balances, entries billing.credit_entries[], lots billing.credit_grants[] default '{}',
    takes billing.credit_consumptions[] default '{}'
)
returns billing.credit_entries[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _post_entries.balance;
    v_entries billing.credit_entries[] := _post_entries.entries;
    v_lot billing.credit_grants;
    v_rest numeric := 0;
begin
    for v_number in 1 .. cardinality(v_entries) loop
        v_balance.balance := v_balance.balance + v_entries[v_number].amount;
        v_balance.debt := v_balance.debt + v_entries[v_number].debt;
        v_rest := v_rest - v_entries[v_number].amount - v_entries[v_number].debt;
        v_entries[v_number].balance_after := v_balance.balance;
    end loop;
    foreach v_lot in array _post_entries.lots loop
        v_rest := v_rest + v_lot.remaining;
        -- Unless it is used up at once.
        continue when cardinality(_post_entries.takes) > 0 and v_lot.remaining = (
            select sum(take.amount) from unnest(_post_entries.takes) as take where take.grant_id = v_lot.id
        );
        v_balance.next_due_at := least(
            v_balance.next_due_at, case when v_lot.entry_id is null then v_lot.effective_at else v_lot.expires_at end
        );
    end loop;
    v_rest := v_rest - billing._write_entries(array[v_balance], v_entries, _post_entries.lots, _post_entries.takes);
    if v_rest > 0 then
        perform billing._burn_lots(v_entries, _post_entries.takes, v_rest);
    end if;
    return v_entries;
end
$$;

create function billing._post_entry(
    balance billing.credit_balances, entry billing.credit_entries, lots billing.credit_grants[] default '{}',
    takes billing.credit_consumptions[] default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return (billing._post_entries(
        _post_entry.balance, array[_post_entry.entry], _post_entry.lots, _post_entry.takes
    ))[1];
end
$$;

revoke all on function
    billing._entry, billing._lot, billing._moved, billing._lets_lapse, billing._write_entries, billing._burn_lots,
    billing._post_entries, billing._post_entry
from public, anon, authenticated, service_role;
