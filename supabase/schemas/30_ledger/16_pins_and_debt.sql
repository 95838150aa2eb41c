-- Shared by all movements that return credits to lots: releases reserved credits, repays debt, updates the next due
-- time.
--
-- Private. The caller has locked the balance.

-- Moves the account's next due time earlier; never later.
create function billing._remember_due(account_id uuid, due_at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.credit_balances set next_due_at = _remember_due.due_at
    where credit_balances.account_id = _remember_due.account_id
        and _remember_due.due_at < coalesce(credit_balances.next_due_at, 'infinity')
$$;

-- Releases what holds still reserve. Returns the soonest expiry of the lots concerned.
create function billing._release_pins(hold_ids uuid[])
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with pins as (
        select credit_hold_lots.grant_id, sum(credit_hold_lots.amount) as amount from billing.credit_hold_lots
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
        group by credit_hold_lots.grant_id
    ),
    emptied as (
        update billing.credit_hold_lots set amount = 0
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
    ),
    freed as (
        update billing.credit_grants set held = credit_grants.held - pins.amount
        from pins where credit_grants.id = pins.grant_id
        returning credit_grants.expires_at
    )
    select min(freed.expires_at) from freed
$$;

-- The latest entry of an account: numbers movements that may occur more than once.
create function billing._last_entry_id(account_id uuid)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(max(credit_entries.id), 0) from billing.credit_entries
        where credit_entries.account_id = _last_entry_id.account_id
    );
end
$$;

-- Repays debt from credits that became free: free credits never stay beside debt, or they could expire and leave the
-- debt. Writes an entry of zero credits, with its lineage: lots and debt decrease together.
create function billing._repay_debt(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_repay_debt.account_id);
    v_repaid bigint := least(v_balance.debt, v_balance.balance + v_balance.debt - v_balance.held);
begin
    if v_repaid > 0 then
        perform billing._post_entry(v_balance, billing._entry(
            account_id => v_balance.account_id, kind => 'repayment', amount => 0, debt => -v_repaid,
            source => 'app', description => format('%s credits of debt repaid', v_repaid), key_space => 'system',
            idempotency_key => 'repayment:' || billing._last_entry_id(v_balance.account_id),
            occurred_at => billing.current_time()
        ));
    end if;
end
$$;

-- The key of an expiry. A lot may expire more than once: credits that are returned to it later expire separately, after
-- another entry of its account.
create function billing._expiry_key(lot billing.credit_grants)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return format('expiry:%s:%s', (_expiry_key.lot).id, (
        select max(credit_entries.id) from billing.credit_entries
        where credit_entries.account_id = (_expiry_key.lot).account_id
    ));
end
$$;

revoke all on function
    billing._remember_due, billing._release_pins, billing._last_entry_id, billing._repay_debt, billing._expiry_key
from public, anon, authenticated, service_role;
