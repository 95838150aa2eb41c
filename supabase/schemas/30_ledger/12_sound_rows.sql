-- Rules for the ledger's rows, besides the types of their columns.
--
-- Invariant: every written row is checked, by every writer. Triggers, because Postgres parses the CHECKs of a table
-- again for every statement that writes to it, which was a quarter of a spend; a trigger is compiled once for each
-- connection. Errors are those of a CHECK: 23514, with the rule's name.

create function billing._raise_unsound(table_name text, rule text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'new row for relation "%" violates check constraint "%"', _raise_unsound.table_name, _raise_unsound.rule
        using errcode = 'check_violation', schema = 'billing', table = _raise_unsound.table_name,
            constraint = _raise_unsound.rule;
end
$$;

-- What a cap can be counted over: the account's own, and those of budgets.
create function billing._is_cap_period(period text)
returns boolean
language sql
immutable
as $$
    select _is_cap_period.period in ('hour', 'day', 'week', 'month', 'total')
$$;

create function billing.tg_credit_balances__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Null (no cap, no threshold) violates no rule.
    if least(new.held, new.debt, new.withheld, new.carried, new.written_off_debt, new.written_off_withheld, new.overdraft, new.overage_limit, new.spend_cap, new.low_balance_threshold) < 0 then
        perform billing._raise_unsound(tg_table_name, 'only_the_balance_is_negative');
    elsif (new.spend_cap is null) <> (new.spend_cap_period is null)
        or not billing._is_cap_period(new.spend_cap_period) then
        perform billing._raise_unsound(tg_table_name, 'spend_cap_comes_with_its_period');
    end if;
    return new;
end
$$;

create trigger tg_credit_balances__sound
-- Only for the checked columns: a plain spend writes none of them.
before insert or update of held, debt, withheld, carried, written_off_debt, written_off_withheld, overdraft, overage_limit,
    spend_cap, spend_cap_period, low_balance_threshold
on billing.credit_balances
for each row execute function billing.tg_credit_balances__sound();

create function billing.tg_credit_entries__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        case
            when new.kind in ('grant', 'reinstatement', 'refund', 'transfer_in') then new.amount <= 0
            when new.kind = 'adjustment' then new.amount = 0
            when new.kind = 'repayment' then new.amount <> 0
            else new.amount >= 0
        end
    ) then
        perform billing._raise_unsound(tg_table_name, 'amount_has_the_sign_of_its_kind');
    end if;
    return new;
end
$$;

create trigger tg_credit_entries__sound
before insert on billing.credit_entries
for each row execute function billing.tg_credit_entries__sound();

create function billing.tg_credit_grants__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if new.held < 0 or new.held > new.remaining or new.remaining > new.amount then
        perform billing._raise_unsound(tg_table_name, 'held_remaining_and_amount_ascend');
    elsif new.remaining <> 0 and (new.entry_id is null or new.closed_at is not null) then
        perform billing._raise_unsound(tg_table_name, 'only_open_lots_hold_credits');
    elsif new.expires_at <= new.effective_at then
        perform billing._raise_unsound(tg_table_name, 'expires_after_it_takes_effect');
    end if;
    return new;
end
$$;

create trigger tg_credit_grants__sound
before insert or update on billing.credit_grants
for each row execute function billing.tg_credit_grants__sound();

revoke all on function
    billing._raise_unsound, billing._is_cap_period, billing.tg_credit_balances__sound, billing.tg_credit_entries__sound,
    billing.tg_credit_grants__sound
from public, anon, authenticated, service_role;
