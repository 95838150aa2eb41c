-- Opening a lot: its entry, and what is owed taken from it at once.
--
-- Invariant: debt is repaid first, then a grant or a transfer gives up what earlier revocations withhold; only the rest
-- remains in the lot. Private: called by what grants credits, at once or on schedule.

-- Writes the entry of a lot and opens it: what is owed is taken from it at once, first debt, then what is withheld for
-- something already spent that was taken back. `balance` is the row as the caller has locked it; `lot` is a row that is not
-- written yet, or a scheduled one (with its id); `entry` names what is written beside amounts.
create function billing._open_lot(
    balance billing.credit_balances, entry billing.credit_entries, lot billing.credit_grants
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
    v_repaid bigint := least(v_balance.debt, v_entry.amount);
    v_withheld bigint := 0;
begin
    if v_balance.balance > 9223372036854775807 - v_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_entry.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    elsif v_entry.kind in ('grant', 'transfer_in') then
        v_withheld := least(v_balance.withheld, v_entry.amount - v_repaid);
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, debt, source, reference_id, description, metadata, actor,
        reverses_entry_id, key_space, idempotency_key, occurred_at
    )
    values (
        v_entry.account_id, v_entry.kind, v_entry.amount, v_balance.balance + v_entry.amount, -v_repaid, v_entry.source,
        v_entry.reference_id, v_entry.description, coalesce(v_entry.metadata, '{}'), v_entry.actor,
        v_entry.reverses_entry_id, v_entry.key_space, v_entry.idempotency_key, v_entry.occurred_at
    )
    returning * into v_entry;

    v_lot.remaining := v_entry.amount - v_repaid - v_withheld;
    v_lot.closed_at := case when v_lot.remaining = 0 then v_entry.occurred_at end;
    if v_lot.id is null then
        insert into billing.credit_grants (
            account_id, entry_id, amount, remaining, priority, effective_at, expires_at, closed_at, source,
            reference_id, key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
            stripe_checkout_session_id, stripe_payment_intent_id
        )
        values (
            v_entry.account_id, v_entry.id, v_entry.amount, v_lot.remaining, coalesce(v_lot.priority, 100),
            coalesce(v_lot.effective_at, v_entry.occurred_at), v_lot.expires_at, v_lot.closed_at, v_entry.source,
            v_entry.reference_id, v_entry.key_space, v_entry.idempotency_key, v_lot.stripe_invoice_id,
            v_lot.stripe_subscription_item_id, v_lot.stripe_price_id, v_lot.stripe_checkout_session_id,
            v_lot.stripe_payment_intent_id
        )
        returning id into v_lot.id;
    else
        update billing.credit_grants
        set entry_id = v_entry.id, remaining = v_lot.remaining, closed_at = v_lot.closed_at
        where credit_grants.id = v_lot.id;
    end if;
    if v_repaid > 0 then
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_lot.id, v_repaid);
    end if;

    if v_withheld > 0 then
        perform billing._withhold(v_entry, v_lot.id, v_withheld);
    end if;
    update billing.credit_balances
    set balance = v_entry.balance_after - v_withheld,
        debt = v_balance.debt - v_repaid,
        withheld = v_balance.withheld - v_withheld,
        next_due_at = least(v_balance.next_due_at, case when v_lot.closed_at is null then v_lot.expires_at end),
        updated_at = now()
    where credit_balances.account_id = v_entry.account_id;
    return v_entry;
end
$$;

-- Takes from a new lot what earlier revocations could not take: an entry of its own beside the grant's.
create function billing._withhold(entry billing.credit_entries, grant_id bigint, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_entry_id bigint;
begin
    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, reverses_entry_id, key_space,
        idempotency_key, occurred_at
    )
    values (
        (_withhold.entry).account_id, 'revocation', -_withhold.amount, (_withhold.entry).balance_after - _withhold.amount,
        (_withhold.entry).source, (_withhold.entry).reference_id, 'Withheld for credits taken back',
        (_withhold.entry).id, 'system', 'withheld:' || (_withhold.entry).id, (_withhold.entry).occurred_at
    )
    returning id into v_entry_id;
    insert into billing.credit_consumptions (entry_id, grant_id, amount)
    values (v_entry_id, _withhold.grant_id, _withhold.amount);
end
$$;

create function billing._open_scheduled_lot(lot billing.credit_grants)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_entry billing.credit_entries;
begin
    v_entry.account_id := (_open_scheduled_lot.lot).account_id;
    v_entry.kind := 'grant';
    v_entry.amount := (_open_scheduled_lot.lot).amount;
    v_entry.source := (_open_scheduled_lot.lot).source;
    v_entry.reference_id := (_open_scheduled_lot.lot).reference_id;
    v_entry.description := (_open_scheduled_lot.lot).description;
    v_entry.key_space := 'system';
    v_entry.idempotency_key := 'opening:' || (_open_scheduled_lot.lot).id;
    v_entry.occurred_at := (_open_scheduled_lot.lot).effective_at;
    perform billing._open_lot(billing._lock_balance(v_entry.account_id), v_entry, _open_scheduled_lot.lot);
end
$$;

revoke all on function
    billing._open_lot, billing._withhold, billing._open_scheduled_lot
from public, anon, authenticated, service_role;
