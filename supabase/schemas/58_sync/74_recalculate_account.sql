-- One account, as its facts have it: balance, paid time and credits, after somebody changed or deleted rows by hand.
--
-- Invariant: entries and grants are what they are, except that what the facts paid for is granted again if it was deleted.
-- Everything else is calculated from them, by the functions that events call, so a sound account stays as it is. Where the
-- ledger stays broken, only a backup can help (TB082), and nothing is changed.
-- Called by the owner of the database (`till`).

-- What a balance repeats of entries, grants, holds and carried credits.
create function billing._recalculate_balance(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
    v_total bigint;
    v_debt bigint;
    v_held bigint;
    v_lot_due_at timestamptz;
    v_hold_due_at timestamptz;
begin
    select coalesce(sum(credit_entries.amount), 0), coalesce(sum(credit_entries.debt), 0) into v_total, v_debt
    from billing.credit_entries where credit_entries.account_id = _recalculate_balance.account_id;
    select least(
        min(lots.expires_at) filter (where lots.closed_at is null and lots.remaining > lots.held),
        min(lots.effective_at) filter (where lots.closed_at is null and lots.entry_id is null)
    )
    into v_lot_due_at
    from billing.credit_grants as lots where lots.account_id = _recalculate_balance.account_id;
    select coalesce(sum(holds.amount - holds.captured), 0), min(holds.expires_at) into v_held, v_hold_due_at
    from billing.credit_holds as holds
    where holds.account_id = _recalculate_balance.account_id and holds.status = 'held';
    select * into strict v_balance from billing.credit_balances
    where credit_balances.account_id = _recalculate_balance.account_id;
    v_balance.balance := v_total;
    v_balance.debt := v_debt;
    v_balance.held := v_held;
    v_balance.next_due_at := least(v_lot_due_at, v_hold_due_at);
    v_balance.carried := coalesce((
        select -sum(carried_credits.amount) from billing.carried_credits
        where carried_credits.account_id = _recalculate_balance.account_id
    ), 0);
    perform billing._write_entries(array[v_balance], '{}', '{}', '{}');
    update billing.credit_balances
    set may_spend = (
        select accounts.frozen_at is null and accounts.closed_at is null from billing.accounts
        where accounts.id = _recalculate_balance.account_id
    )
    where credit_balances.account_id = _recalculate_balance.account_id;
end
$$;

create function billing.recalculate_account(account_id uuid)
returns table (balance_before bigint, balance bigint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := recalculate_account.account_id;
    v_invoice billing.invoices;
    v_subscription billing.subscriptions;
    v_broken text;
begin
    select balances.balance into balance_before from billing.credit_balances as balances
    where balances.account_id = v_account_id
    for update;
    if not found then
        perform billing._raise_no_account(v_account_id);
    end if;
    perform billing._restore_grants(v_account_id);
    perform billing._recalculate_balance(v_account_id);
    if not exists (select from billing.accounts where accounts.id = v_account_id and accounts.closed_at is not null) then
        delete from billing.credit_schedules using billing.account_discrepancies(v_account_id) as off
        where off.invariant = 'recorded_and_not_paid' and credit_schedules.stripe_line_id = off.business_key;
        for v_invoice in
            select * from billing.invoices where invoices.account_id = v_account_id and invoices.status = 'paid'
            order by invoices.invoiced_at, invoices.stripe_invoice_id
        loop
            if v_invoice.stripe_subscription_id is not null then
                perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
                perform billing._grant_initial_of_invoice(v_invoice);
            end if;
            perform billing._purchase_packs_of_invoice(v_invoice);
        end loop;
        perform billing._purchase_packs_of_session(sessions) from billing.checkout_sessions as sessions
        where sessions.account_id = v_account_id and sessions.mode = 'payment' and sessions.status = 'complete'
            and sessions.payment_status <> 'unpaid';
        for v_subscription in
            select * from billing.subscriptions where subscriptions.account_id = v_account_id order by 1
        loop
            perform billing._allocate_subscription(v_subscription.stripe_subscription_id, '-infinity');
        end loop;
        perform billing._post_purchase(purchases.business_key) from billing.pack_purchases as purchases
        where purchases.account_id = v_account_id;
        perform billing._apply_returns_of_invoice(invoices.stripe_invoice_id) from billing.invoices
        where invoices.account_id = v_account_id and invoices.status = 'paid';
        perform billing._recalculate_free_credits(v_account_id);
    end if;
    select string_agg(broken.invariant || ': ' || broken.detail, '; ') into v_broken
    from billing.account_ledger_discrepancies(v_account_id) as broken;
    if v_broken is not null then
        raise exception 'the ledger of account % stays broken: %', v_account_id, v_broken
            using errcode = 'TB082', hint = 'Rows of the ledger are missing or edited: restore them from a backup.';
    end if;
    -- What the running proof found is over.
    perform billing._prove_account(v_account_id);
    select balances.balance into recalculate_account.balance from billing.credit_balances as balances
    where balances.account_id = v_account_id;
    return next;
end
$$;

revoke all on function billing._recalculate_balance, billing.recalculate_account
from public, anon, authenticated, service_role;

comment on function billing.recalculate_account(uuid) is 'Brings an account''s balance, paid time and credits to what its entries, grants and facts say, after rows were changed by hand. A sound account stays as it is. Returns the balance before and after.';
