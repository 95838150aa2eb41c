-- Opens a lot: writes its entry, and takes what the account owes.
--
-- Invariant: debt is repaid first, then a grant or a transfer gives up what earlier revocations withhold; only the rest
-- remains in the lot. Private: called by the functions that grant credits, at once or on schedule.

-- Posts the entry of a lot. What is owed is taken from it at once: first debt, then what is withheld for spent credits
-- that were revoked. `balance` is the row as the caller has locked it. A scheduled lot is already written.
create function billing._open_lot(
    balance billing.credit_balances, entry billing.credit_entries, lot billing.credit_grants, is_scheduled boolean
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _open_lot.balance;
    v_entry billing.credit_entries := _open_lot.entry;
    v_lot billing.credit_grants := _open_lot.lot;
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[] := '{}';
    v_repaid bigint := least(v_balance.debt, v_entry.amount);
    v_withheld bigint := 0;
    v_withholding billing.credit_entries;
begin
    if v_balance.balance > 9223372036854775807 - v_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_entry.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    elsif v_entry.kind in ('grant', 'transfer_in') then
        v_withheld := least(v_balance.withheld, v_entry.amount - v_repaid);
    end if;

    v_entry.debt := -v_repaid;
    v_entries := array[v_entry];
    if v_repaid > 0 then
        v_takes := array[row(v_entry.id, v_lot.id, v_repaid)::billing.credit_consumptions];
    end if;
    if v_withheld > 0 then
        -- Earlier revocations could not take it: a separate entry beside the grant's.
        v_withholding := billing._entry(
            account_id => v_entry.account_id, kind => 'revocation', amount => -v_withheld,
            source => v_entry.source, reference_id => v_entry.reference_id,
            description => 'Withheld for credits taken back', reverses_entry_id => v_entry.id,
            key_space => 'system', idempotency_key => 'withheld:' || v_entry.id, occurred_at => v_entry.occurred_at
        );
        v_entries := v_entries || v_withholding;
        v_takes := v_takes || row(v_withholding.id, v_lot.id, v_withheld)::billing.credit_consumptions;
        v_balance.withheld := v_balance.withheld - v_withheld;
    end if;
    v_entries := billing._post_entries(
        v_balance, v_entries, case when _open_lot.is_scheduled then '{}' else array[v_lot] end, v_takes
    );
    return v_entries[1];
end
$$;

create function billing._open_scheduled_lot(lot billing.credit_grants)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _open_scheduled_lot.lot;
    v_entry billing.credit_entries := billing._entry(
        account_id => v_lot.account_id, kind => 'grant', amount => v_lot.amount, source => v_lot.source,
        reference_id => v_lot.reference_id, description => v_lot.description, key_space => 'system',
        idempotency_key => 'opening:' || v_lot.id, occurred_at => v_lot.effective_at
    );
begin
    update billing.credit_grants set entry_id = v_entry.id, remaining = credit_grants.amount
    where credit_grants.id = v_lot.id;
    perform billing._open_lot(billing._lock_balance(v_lot.account_id), v_entry, v_lot, is_scheduled => true);
end
$$;

revoke all on function billing._open_lot, billing._open_scheduled_lot from public, anon, authenticated, service_role;
