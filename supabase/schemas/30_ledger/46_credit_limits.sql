-- Limits of an account: its overdraft, its spending cap, and the low-balance threshold.
--
-- Invariant: a cap counts its whole period, including what was spent before it was set; a fall below the threshold
-- notifies once. set_credit_limits is callable by service_role; the trigger sees every change of a balance.

create function billing.set_credit_limits(
    account_id uuid,
    overdraft numeric default 0,
    spend_cap numeric default null,
    spend_cap_period text default null,
    low_balance_threshold numeric default null
)
returns billing.credit_balances
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
    v_last_entry_id bigint;
    v_period_start timestamptz;
    v_spent numeric := 0;
begin
    if (set_credit_limits.spend_cap is null) <> (set_credit_limits.spend_cap_period is null)
        or not billing._is_cap_period(set_credit_limits.spend_cap_period) then
        raise exception 'spend_cap and spend_cap_period must be set together'
            using errcode = 'TB031', hint = 'Pass both, with hour, day, week, month or total as the period. Pass neither for no cap.';
    end if;
    -- A cap also counts what was spent before it was set. Committed spends are added up before the lock is taken, which
    -- would block the account's movements; under the lock only those since then.
    if set_credit_limits.spend_cap is not null then
        select coalesce(max(credit_entries.id), 0) into v_last_entry_id from billing.credit_entries
        where credit_entries.account_id = set_credit_limits.account_id;
        v_period_start := billing.period_start(set_credit_limits.spend_cap_period, billing.current_time());
        v_spent := billing._spent_until(set_credit_limits.account_id, v_period_start, v_last_entry_id);
    end if;
    v_balance := billing._lock_balance(set_credit_limits.account_id);
    if set_credit_limits.spend_cap is not null then
        if v_period_start < billing.period_start(set_credit_limits.spend_cap_period, billing.current_time()) then
            -- A new period has started meanwhile.
            v_period_start := billing.period_start(set_credit_limits.spend_cap_period, billing.current_time());
            v_spent := 0;
        end if;
        v_spent := v_spent + billing._spent_after(v_balance.account_id, v_period_start, v_last_entry_id);
    end if;

    update billing.credit_balances
    set overdraft = billing._checked_limit('overdraft', coalesce(set_credit_limits.overdraft, 0)),
        spend_cap = billing._checked_limit('spend_cap', set_credit_limits.spend_cap),
        spend_cap_period = set_credit_limits.spend_cap_period,
        low_balance_threshold = nullif(
            billing._checked_limit('low_balance_threshold', set_credit_limits.low_balance_threshold), 0
        ),
        -- Setting it above the balance notifies nobody, because the balance did not fall.
        is_low = credit_balances.balance - credit_balances.held < coalesce(set_credit_limits.low_balance_threshold, 0),
        spend_period_start = v_period_start,
        spent_in_period = greatest(v_spent, 0)
    where credit_balances.account_id = v_balance.account_id
    returning * into v_balance;
    return v_balance;
end
$$;

-- What an entry counts towards the cap of the period that started then. A refund counts in the period of its original,
-- as refund_spend counts it.
create function billing._counted_by_cap(entry billing.credit_entries, period_start timestamptz)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_counted_by_cap.entry).kind = 'refund' and not exists (
        select from billing.credit_entries
        where credit_entries.id = (_counted_by_cap.entry).reverses_entry_id
            and credit_entries.occurred_at >= _counted_by_cap.period_start
    ) then
        return 0;
    end if;
    return -(_counted_by_cap.entry).amount;
end
$$;

-- Credits spent since the start of a period, by entries up to one.
create function billing._spent_until(account_id uuid, period_start timestamptz, last_entry_id bigint)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(
            case
                when credit_entries.kind = 'refund'
                    then billing._counted_by_cap(credit_entries, _spent_until.period_start)
                else -credit_entries.amount
            end
        ), 0)
        from billing.credit_entries
        where credit_entries.account_id = _spent_until.account_id
            and credit_entries.kind in ('spend', 'capture', 'refund')
            and credit_entries.occurred_at >= _spent_until.period_start
            and credit_entries.id <= _spent_until.last_entry_id
    );
end
$$;

-- Credits spent since the start of a period, by the entries after one, which are few: read by their ids alone (offset),
-- because the period may have a million entries.
create function billing._spent_after(account_id uuid, period_start timestamptz, last_entry_id bigint)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(billing._counted_by_cap(latest, _spent_after.period_start)), 0)
        from (
            select * from billing.credit_entries
            where credit_entries.account_id = _spent_after.account_id and credit_entries.id > _spent_after.last_entry_id
            order by credit_entries.id desc
            offset 0
        ) as latest
        where latest.kind in ('spend', 'capture', 'refund') and latest.occurred_at >= _spent_after.period_start
    );
end
$$;

create function billing._checked_limit(name text, amount numeric)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_limit.amount not between 0 and 1000000000000000 or _checked_limit.amount <> trunc(_checked_limit.amount) then
        raise exception '% is %, not a whole number of credits from 0 to 1000000000000000', _checked_limit.name, _checked_limit.amount
            using errcode = 'TB005', hint = 'Pass credits as a whole number.';
    end if;
    return _checked_limit.amount::bigint;
end
$$;

-- Notifies the customer once when the available credits fall below the threshold. At the end of the transaction, so
-- that a fall within one, such as a hold that expires with its lot, does not count.
create function billing.tg_credit_balances__low_balance()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
begin
    update billing.credit_balances
    set is_low = credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold
    where credit_balances.account_id = new.account_id
        and credit_balances.is_low is distinct from
            (credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold)
        and credit_balances.low_balance_threshold is not null
    returning * into v_balance;
    if v_balance.is_low then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_balance.account_id, 'customer', 'low_balance',
            pg_catalog.format('low_balance:%s:%s', v_balance.account_id, pg_current_xact_id()),
            jsonb_build_object(
                'available', greatest(v_balance.balance - v_balance.held, 0),
                'threshold', v_balance.low_balance_threshold
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return null;
end
$$;

create constraint trigger tg_credit_balances__low_balance
-- A plain spend writes none of these; it judges by _is_alarming, and then writes held.
after update of held, low_balance_threshold on billing.credit_balances
deferrable initially deferred
for each row
-- Null, for accounts without a threshold, counts as false.
when (new.is_low <> (new.balance - new.held < new.low_balance_threshold))
execute function billing.tg_credit_balances__low_balance();

revoke all on function
    billing.set_credit_limits, billing._counted_by_cap, billing._spent_until, billing._spent_after,
    billing._checked_limit, billing.tg_credit_balances__low_balance
from public, anon, authenticated, service_role;
grant execute on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) to service_role;

comment on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) is 'Sets all limits of an account: an omitted one means no overdraft, no cap, no warning.';
