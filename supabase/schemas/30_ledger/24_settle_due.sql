-- Due changes of an account: holds expire, scheduled lots open, lots expire. Each writes an entry or releases credits.
--
-- Invariant: processed before an account moves, so a movement never sees anything due; the clock's run for all accounts
-- (expire_due_credits) only makes it visible sooner. Holds go first: a lot whose held credits outlived it expires with
-- what its hold releases. Credits that a hold still reserves of a due lot stay until the hold ends.

-- Processes accounts whose balance rows the caller has locked.
create function billing._settle_due(account_ids uuid[], as_of timestamptz)
returns table (holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- A plan that was made while a table was small must not stay.
set enable_seqscan = off
as $$
declare
    v_hold_ids uuid[];
    v_lot billing.credit_grants;
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with due as (
        update billing.credit_holds set status = 'expired', settled_at = credit_holds.expires_at
        where credit_holds.account_id = any (_settle_due.account_ids)
            and credit_holds.status = 'held' and credit_holds.expires_at <= _settle_due.as_of
        returning credit_holds.id, credit_holds.account_id, credit_holds.amount - credit_holds.captured as pinned
    ),
    totals as (
        select due.account_id, sum(due.pinned) as pinned from due group by due.account_id
    ),
    given_back as (
        update billing.credit_balances set held = credit_balances.held - totals.pinned
        from totals where credit_balances.account_id = totals.account_id
    )
    select array_agg(due.id), count(*) into v_hold_ids, holds_expired from due;
    if holds_expired > 0 then
        perform billing._release_pins(v_hold_ids);
        perform billing._count_in_budgets(holds.account_id, holds.actor, 0, -holds.pinned, _settle_due.as_of) from (
            select credit_holds.account_id, credit_holds.actor,
                sum(credit_holds.amount - credit_holds.captured)::bigint as pinned
            from billing.credit_holds
            where credit_holds.id = any (v_hold_ids) and credit_holds.actor is not null
            group by credit_holds.account_id, credit_holds.actor
        ) as holds;
        perform billing._repay_debt(credit_balances.account_id) from billing.credit_balances
        where credit_balances.account_id = any (_settle_due.account_ids) and credit_balances.debt > 0;
        perform billing._claim_returned_credits(holds.account_id, _settle_due.as_of) from (
            select distinct credit_holds.account_id from billing.credit_holds where credit_holds.id = any (v_hold_ids)
        ) as holds;
    end if;

    lots_opened := 0;
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.entry_id is null
            and credit_grants.closed_at is null and credit_grants.effective_at <= _settle_due.as_of
        order by credit_grants.account_id, credit_grants.effective_at, credit_grants.id
    loop
        -- A lot that would exceed the largest balance waits until there is room; nothing else of the account waits for
        -- it.
        if (
            select credit_balances.balance <= 9223372036854775807 - v_lot.amount from billing.credit_balances
            where credit_balances.account_id = v_lot.account_id
        ) then
            perform billing._open_scheduled_lot(v_lot);
            lots_opened := lots_opened + 1;
        end if;
    end loop;

    with due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            -- Credits that were returned after the lot's expiry expire when they were returned, not before.
            greatest(lots.expires_at, (
                select credit_entries.occurred_at from billing.credit_consumptions
                join billing.credit_entries on credit_entries.id = credit_consumptions.entry_id
                where credit_consumptions.grant_id = lots.id and credit_consumptions.amount < 0
                order by credit_consumptions.entry_id desc
                limit 1
            )) as expired_at
        from (
            select
                credit_grants.*, credit_grants as lot, credit_grants.remaining - credit_grants.held as expiring,
                credit_balances as locked,
                row_number() over account as number,
                sum(credit_grants.remaining - credit_grants.held) over account as so_far,
                sum(credit_grants.remaining - credit_grants.held) over (partition by credit_grants.account_id) as total
            from billing.credit_grants
            join billing.credit_balances on credit_balances.account_id = credit_grants.account_id
            where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.closed_at is null
                and credit_grants.expires_at <= _settle_due.as_of and credit_grants.remaining > credit_grants.held
            window account as (
                partition by credit_grants.account_id order by credit_grants.expires_at, credit_grants.id
            )
            order by credit_grants.account_id, credit_grants.expires_at, credit_grants.id
        ) as lots
    )
    select
        array_agg(billing._moved(due.locked, -due.total::bigint)) filter (where due.number = 1),
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            balance_after => (due.locked).balance - due.so_far::bigint, source => due.source,
            reference_id => due.reference_id, key_space => 'system',
            idempotency_key => billing._expiry_key(due.lot), occurred_at => due.expired_at
        )),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions),
        count(*), coalesce(sum(due.expiring), 0)
    into v_balances, v_entries, v_takes, lots_expired, credits_expired
    from due;
    if lots_expired > 0 then
        perform billing._write_entries(v_balances, v_entries, '{}', v_takes);
    end if;

    update billing.credit_balances
    set next_due_at = least(
            (
                select min(credit_grants.expires_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
            ),
            (
                select min(credit_grants.effective_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.entry_id is null and credit_grants.closed_at is null
            ),
            (
                select min(credit_holds.expires_at) from billing.credit_holds
                where credit_holds.account_id = credit_balances.account_id and credit_holds.status = 'held'
            )
        ),
        updated_at = now()
    where credit_balances.account_id = any (_settle_due.account_ids);
    return next;
end
$$;

-- Locks an account and processes what is due: returns its current balance row.
create function billing._lock_settled_balance(account_id uuid)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_lock_settled_balance.account_id);
begin
    if v_balance.next_due_at <= billing.current_time() then
        perform billing._settle_due(array[v_balance.account_id], billing.current_time());
        v_balance := billing._lock_balance(v_balance.account_id);
    end if;
    return v_balance;
end
$$;

create function billing.expire_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (
    accounts bigint, holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz := coalesce(expire_due_credits.as_of, billing.current_time());
    v_account_ids uuid[];
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of % is in the future', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out to process what is due now.';
    end if;
    -- Accounts that another transaction has locked are skipped: their movement processes them.
    select array_agg(due.account_id) into v_account_ids from (
        select credit_balances.account_id from billing.credit_balances
        where credit_balances.next_due_at <= v_as_of
        order by credit_balances.next_due_at
        limit case when expire_due_credits.accounts_max < 0 then 0 else expire_due_credits.accounts_max end
        for update skip locked
    ) as due;
    return query
    select coalesce(cardinality(v_account_ids), 0)::bigint, settled.*
    from billing._settle_due(coalesce(v_account_ids, '{}'), v_as_of) as settled;
end
$$;

revoke all on function
    billing._settle_due, billing._lock_settled_balance, billing.expire_due_credits
from public, anon, authenticated, service_role;
grant execute on function billing.expire_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.expire_due_credits(timestamptz, integer) is 'Expires due holds and lots and opens scheduled lots, for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';
