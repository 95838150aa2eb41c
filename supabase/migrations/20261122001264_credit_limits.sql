-- Limits of an account: its overdraft, its spending cap, and the balance below which its customer is told.
--
-- Invariant: a cap counts the whole of its period, what was spent before it was set too; a fall below the threshold is
-- told once. set_credit_limits is callable by service_role; the trigger sees whatever moves a balance.

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
set search_path = ''
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(set_credit_limits.account_id);
begin
    if (set_credit_limits.spend_cap is null) <> (set_credit_limits.spend_cap_period is null)
        or set_credit_limits.spend_cap_period not in ('day', 'week', 'month') then
        raise exception 'spend_cap and spend_cap_period do not fit together'
            using errcode = 'TB031', hint = 'Pass both, the period being day, week or month, or neither for no cap.';
    end if;
    update billing.credit_balances
    set overdraft = billing._checked_limit('overdraft', coalesce(set_credit_limits.overdraft, 0)),
        spend_cap = billing._checked_limit('spend_cap', set_credit_limits.spend_cap),
        spend_cap_period = set_credit_limits.spend_cap_period,
        low_balance_threshold = nullif(
            billing._checked_limit('low_balance_threshold', set_credit_limits.low_balance_threshold), 0
        ),
        -- Set above the balance it tells nothing: that was no fall.
        is_low = credit_balances.balance - credit_balances.held < coalesce(set_credit_limits.low_balance_threshold, 0),
        -- A cap counts what was spent before it was set, too.
        spend_period_start = date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC'),
        spent_in_period = case
            when set_credit_limits.spend_cap_period is null then 0
            else greatest(-coalesce((
                select sum(credit_entries.amount) from billing.credit_entries
                where credit_entries.account_id = v_balance.account_id
                    and credit_entries.kind in ('spend', 'capture', 'refund')
                    -- A refund counts in the period of what it gives back, as refund_spend counts it.
                    and coalesce(
                        (
                            select original.occurred_at from billing.credit_entries as original
                            where original.id = credit_entries.reverses_entry_id
                        ),
                        credit_entries.occurred_at
                    ) >= date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC')
                    and credit_entries.occurred_at
                        >= date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC')
            ), 0), 0)
        end
    where credit_balances.account_id = v_balance.account_id
    returning * into v_balance;
    return v_balance;
end
$$;

create function billing._checked_limit(name text, amount numeric)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
    if _checked_limit.amount not between 0 and 1000000000000000 or _checked_limit.amount <> trunc(_checked_limit.amount) then
        raise exception '% is %, not a whole number of credits from 0 to 1000000000000000', _checked_limit.name, _checked_limit.amount
            using errcode = 'TB005', hint = 'Pass credits as a whole number.';
    end if;
    return _checked_limit.amount::bigint;
end
$$;

-- Tells the customer once when what is available falls below the threshold. At the end of the transaction, so that what
-- rises and falls within one, such as a hold that expires with its lot, is no fall.
create function billing.tg_credit_balances__low_balance()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
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
after update on billing.credit_balances
deferrable initially deferred
for each row
-- Parsed for every update, so as short as can be: null, which no threshold makes it, is no.
when (new.is_low <> (new.balance - new.held < new.low_balance_threshold))
execute function billing.tg_credit_balances__low_balance();

revoke all on function
    billing.set_credit_limits, billing._checked_limit, billing.tg_credit_balances__low_balance
from public, anon, authenticated, service_role;
grant execute on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) to service_role;

comment on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) is 'Sets all limits of an account: what is left out is no overdraft, no cap, no warning.';
