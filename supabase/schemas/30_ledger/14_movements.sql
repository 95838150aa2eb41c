-- Checks that all movements of credits share.
--
-- Invariant: an account's balance row is locked before anything is read, so idempotency, freezing and sufficiency are
-- checked on the data that will be committed. Same key and same arguments: returns the first entry. Same key, other
-- arguments: TB002. Amounts are passed as numeric, so that a fraction, NaN or too many digits gives a clear error and
-- is never rounded.

create function billing._checked_amount(amount numeric)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_amount.amount between 1 and 9223372036854775807 and _checked_amount.amount = trunc(_checked_amount.amount) then
        return _checked_amount.amount::bigint;
    end if;
    raise exception 'amount is %, not a whole number of credits from 1 to 9223372036854775807',
        coalesce(_checked_amount.amount::text, 'null')
        using errcode = 'TB005', hint = 'Pass credits as a positive whole number.';
end
$$;

create function billing._checked_key(idempotency_key text, metadata jsonb)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_key.idempotency_key is null or length(_checked_key.idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key has % characters, it needs 1 to 255',
            coalesce(length(_checked_key.idempotency_key), 0)
            using errcode = 'TB006', hint = 'Use the id of what the credits are for, such as a job or an order.';
    elsif jsonb_typeof(_checked_key.metadata) is distinct from 'object' then
        raise exception 'metadata is %, it must be an object', coalesce(jsonb_typeof(_checked_key.metadata), 'null')
            using errcode = 'TB007', hint = 'Pass a JSON object, such as {"job": "42"}.';
    end if;
    return _checked_key.idempotency_key;
end
$$;

-- Who spends: null, or a name such as member:<id>, agent:writer or key:<id>.
create function billing._checked_actor(actor text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if length(_checked_actor.actor) not between 1 and 255 then
        raise exception 'actor has % characters, it needs 1 to 255', length(_checked_actor.actor)
            using errcode = 'TB092', hint = 'Pass who spends, such as agent:writer. Leave it out if the spend belongs to no actor.';
    end if;
    return _checked_actor.actor;
end
$$;

create function billing._check_reason(reason text, actor text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(length(_check_reason.reason), 0) = 0 or coalesce(length(_check_reason.actor), 0) = 0 then
        raise exception 'reason or actor is missing'
            using errcode = 'TB028', hint = 'Pass both. They are stored with the entry.';
    end if;
end
$$;

create function billing._raise_no_account(account_id uuid)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'there is no account %', coalesce(_raise_no_account.account_id::text, 'null')
        using errcode = 'TB004', hint = 'Use the id of a row in billing.accounts, not the id of the user.';
end
$$;

create function billing._raise_key_reused(idempotency_key text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'idempotency key % was used before with other arguments', _raise_key_reused.idempotency_key
        using errcode = 'TB002', hint = 'Repeat the first call unchanged, or use a new key for a new movement.';
end
$$;

-- Raises if another movement of the account has used the key.
create function billing._check_key_is_new(account_id uuid, idempotency_key text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.credit_entries
        where credit_entries.account_id = _check_key_is_new.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = _check_key_is_new.idempotency_key
    ) then
        perform billing._raise_key_reused(_check_key_is_new.idempotency_key);
    end if;
end
$$;

-- Locks the account's balance row; every movement starts with this. TB004 if there is none.
create function billing._lock_balance(account_id uuid)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_balance billing.credit_balances;
begin
    select * into v_balance from billing.credit_balances
    where uuid_hash(credit_balances.account_id) = uuid_hash(_lock_balance.account_id)
        and credit_balances.account_id is not distinct from _lock_balance.account_id
    order by credit_balances.epoch desc
    limit 1
    for update;
    if not found then
        perform billing._raise_no_account(_lock_balance.account_id);
    end if;
    return v_balance;
end
$$;

-- Raises if the account is frozen or closed, for movements that take credits.
create function billing._check_may_spend(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    select * into strict v_account from billing.accounts where accounts.id = _check_may_spend.account_id;
    if v_account.frozen_at is not null then
        raise exception 'account % is frozen: %', v_account.id, v_account.frozen_reason
            using errcode = 'TB003', hint = 'The account can spend again after it is unfrozen.';
    elsif v_account.closed_at is not null then
        perform billing._check_open(v_account.id);
    end if;
end
$$;

create function billing._check_open(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.accounts where accounts.id = _check_open.account_id and accounts.closed_at is not null) then
        raise exception 'account % is closed', _check_open.account_id
            using errcode = 'TB008', hint = 'Use another account, or reopen this one.';
    end if;
end
$$;

create function billing._raise_insufficient(account_id uuid, available numeric, needed numeric)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'account % has % credits available, % are needed',
        _raise_insufficient.account_id, greatest(_raise_insufficient.available, 0), _raise_insufficient.needed
        using errcode = 'TB001', hint = 'Offer the user a credit pack or a larger plan.';
end
$$;

-- When the period of a cap began that contains a moment (UTC); in total: before everything, but not '-infinity', which
-- many clients cannot read.
create function billing.period_start(period text, moment timestamptz)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case period_start.period
        when 'total' then timestamptz '1970-01-01 00:00:00Z' else date_trunc(period_start.period, period_start.moment, 'UTC')
    end
$$;

-- When the period ends that began then; null: never.
create function billing.period_end(period text, period_start timestamptz)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when period_end.period <> 'total'
            then (period_end.period_start at time zone 'UTC' + ('1 ' || period_end.period)::interval) at time zone 'UTC'
    end
$$;

create function billing._in_words(period text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case _in_words.period when 'total' then 'in total' else 'this ' || _in_words.period end
$$;

-- The balance row with the counter of the current period.
create function billing._in_running_period(balance billing.credit_balances)
returns billing.credit_balances
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _in_running_period.balance;
    v_period_start timestamptz := billing.period_start(v_balance.spend_cap_period, billing.current_time());
begin
    -- Only forward: a started period is never counted again.
    if coalesce(v_balance.spend_period_start < v_period_start, true) then
        v_balance.spend_period_start := v_period_start;
        v_balance.spent_in_period := 0;
    end if;
    return v_balance;
end
$$;

-- How many more credits the cap allows. Held credits count too, because they may be captured in this period; credits
-- frozen by a dispute don't, because they cannot be spent.
create function billing._room_under_cap(balance billing.credit_balances)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_room_under_cap.balance);
    v_held bigint := v_balance.held;
begin
    if v_held > 0 then
        v_held := v_held - coalesce((
            select sum(credit_holds.amount - credit_holds.captured) from billing.credit_holds
            where credit_holds.account_id = v_balance.account_id and credit_holds.status = 'held'
                and credit_holds.frozen_grant_id is not null
        ), 0);
    end if;
    return greatest(v_balance.spend_cap - v_balance.spent_in_period - v_held, 0);
end
$$;

-- Raises TB021 if the account's cap would be exceeded; otherwise returns the balance row with the spend counted.
create function billing._count_spend(balance billing.credit_balances, amount bigint)
returns billing.credit_balances
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_count_spend.balance);
    v_room bigint := billing._room_under_cap(v_balance);
begin
    if _count_spend.amount > v_room then
        raise exception 'account % may spend % more credits %, % are needed', v_balance.account_id,
            v_room, billing._in_words(v_balance.spend_cap_period), _count_spend.amount
            using errcode = 'TB021',
            detail = jsonb_build_object(
                'budget', null, 'cap', v_balance.spend_cap, 'period', v_balance.spend_cap_period, 'left', v_room,
                'needed', _count_spend.amount,
                'resets_at', billing.period_end(v_balance.spend_cap_period, v_balance.spend_period_start)
            )::text,
            hint = 'Release holds that are not needed, wait for the next period, or raise the cap with set_credit_limits.';
    end if;
    v_balance.spent_in_period := v_balance.spent_in_period + _count_spend.amount;
    return v_balance;
end
$$;

revoke all on function
    billing._checked_amount, billing._checked_key, billing._checked_actor, billing._check_reason, billing._check_key_is_new,
    billing._raise_no_account, billing._raise_key_reused, billing._lock_balance, billing._check_may_spend,
    billing._check_open, billing._raise_insufficient, billing.period_start, billing.period_end, billing._in_words,
    billing._in_running_period, billing._room_under_cap, billing._count_spend
from public, anon, authenticated, service_role;
-- For the view of budgets.
grant execute on function billing.period_start(text, timestamptz), billing.period_end(text, timestamptz)
to authenticated, service_role;

comment on function billing.period_start(text, timestamptz) is 'When the period of a cap began that contains a moment: hour, day, week or month (UTC); of total, in 1970.';
comment on function billing.period_end(text, timestamptz) is 'When the period of a cap ends that began at a moment; of total: null.';
