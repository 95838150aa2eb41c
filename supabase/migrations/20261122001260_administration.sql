-- What an administrator does to an account: adjust, transfer, set limits, close and open again.
--
-- Every adjustment and closing has a reason and an actor, written beside the entry for ever. Callable by service_role.

-- Takes credits from an account's lots by an entry of any kind; never on the overdraft. The caller has checked the key.
create function billing._take_credits(
    balance billing.credit_balances, kind text, amount bigint, idempotency_key text, source text, description text,
    metadata jsonb default '{}', actor text default null, reference_id text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_balance billing.credit_balances := _take_credits.balance;
    v_entry billing.credit_entries;
begin
    if _take_credits.amount > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(v_balance.account_id, v_balance.balance - v_balance.held, _take_credits.amount);
    end if;
    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, metadata, actor, key_space,
        idempotency_key, occurred_at
    )
    values (
        v_balance.account_id, _take_credits.kind, -_take_credits.amount, v_balance.balance - _take_credits.amount,
        _take_credits.source, _take_credits.reference_id, _take_credits.description, _take_credits.metadata,
        _take_credits.actor, 'caller', _take_credits.idempotency_key, billing.current_time()
    )
    returning * into v_entry;
    perform billing._burn_lots(v_balance.account_id, v_entry.id, _take_credits.amount);
    update billing.credit_balances set balance = v_entry.balance_after, updated_at = now()
    where credit_balances.account_id = v_balance.account_id;
    return v_entry;
end
$$;

create function billing.adjust_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    expires_at timestamptz default null
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := billing._checked_amount(abs(adjust_credits.amount));
    v_entry billing.credit_entries;
begin
    perform billing._check_request(adjust_credits.idempotency_key, '{}');
    perform billing._check_reason(adjust_credits.reason, adjust_credits.actor);
    if adjust_credits.amount > 0 then
        return billing._grant_credits(
            account_id => adjust_credits.account_id,
            amount => v_amount,
            key_space => 'caller',
            idempotency_key => adjust_credits.idempotency_key,
            source => 'adjustment',
            reference_id => null,
            description => adjust_credits.reason,
            expires_at => adjust_credits.expires_at,
            kind => 'adjustment',
            actor => adjust_credits.actor
        );
    end if;

    perform billing._lock_balance(adjust_credits.account_id);
    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = adjust_credits.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = adjust_credits.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.amount, v_entry.description, v_entry.actor) is distinct from (
            'adjustment', -v_amount, adjust_credits.reason, adjust_credits.actor
        ) then
            perform billing._raise_key_reused(adjust_credits.idempotency_key);
        end if;
        return v_entry;
    end if;
    perform billing._check_open(adjust_credits.account_id);
    return billing._take_credits(
        billing._lock_settled_balance(adjust_credits.account_id), 'adjustment', v_amount,
        adjust_credits.idempotency_key, 'adjustment', adjust_credits.reason, actor => adjust_credits.actor
    );
end
$$;

-- Lots keep their priority and their expiry on the way: nothing lives longer by being moved.
create function billing.transfer_credits(
    from_account_id uuid,
    to_account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := billing._checked_amount(transfer_credits.amount);
    v_out billing.credit_entries;
    v_lot record;
begin
    perform billing._check_request(transfer_credits.idempotency_key, transfer_credits.metadata);
    if transfer_credits.from_account_id = transfer_credits.to_account_id then
        raise exception 'account % cannot transfer to itself', transfer_credits.from_account_id
            using errcode = 'TB030', hint = 'Name another account to transfer to.';
    elsif transfer_credits.from_account_id is null or transfer_credits.to_account_id is null then
        perform billing._raise_no_account(null);
    end if;
    -- Both in the order of their ids, so that two transfers in opposite directions wait and never deadlock.
    perform billing._lock_balance(least(transfer_credits.from_account_id, transfer_credits.to_account_id));
    perform billing._lock_balance(greatest(transfer_credits.from_account_id, transfer_credits.to_account_id));

    select * into v_out from billing.credit_entries
    where credit_entries.account_id = transfer_credits.from_account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = transfer_credits.idempotency_key;
    if found then
        if (v_out.kind, v_out.amount, v_out.reference_id, v_out.description, v_out.metadata) is distinct from (
            'transfer_out', -v_amount, transfer_credits.to_account_id::text, transfer_credits.description,
            transfer_credits.metadata
        ) then
            perform billing._raise_key_reused(transfer_credits.idempotency_key);
        end if;
        return v_out;
    end if;

    perform billing._check_may_spend(transfer_credits.from_account_id);
    perform billing._check_open(transfer_credits.to_account_id);
    v_out := billing._take_credits(
        billing._lock_settled_balance(transfer_credits.from_account_id), 'transfer_out', v_amount,
        transfer_credits.idempotency_key, 'transfer', transfer_credits.description, transfer_credits.metadata,
        reference_id => transfer_credits.to_account_id::text
    );
    for v_lot in
        select credit_consumptions.amount, credit_grants.id, credit_grants.priority, credit_grants.expires_at
        from billing.credit_consumptions
        join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_consumptions.entry_id = v_out.id
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        perform billing._grant_credits(
            account_id => transfer_credits.to_account_id,
            amount => v_lot.amount,
            key_space => 'system',
            idempotency_key => pg_catalog.format('transfer:%s:%s', v_out.id, v_lot.id),
            source => 'transfer',
            reference_id => transfer_credits.from_account_id::text,
            description => transfer_credits.description,
            metadata => transfer_credits.metadata,
            priority => v_lot.priority,
            expires_at => v_lot.expires_at,
            kind => 'transfer_in'
        );
    end loop;
    return v_out;
end
$$;

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
when (
    new.low_balance_threshold is not null
    and new.is_low is distinct from (new.balance - new.held < new.low_balance_threshold)
)
execute function billing.tg_credit_balances__low_balance();

-- Limits are lifted, holds released, scheduled lots cancelled; what is left is forfeited, what is owed written off.
create function billing.close_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
    v_key text;
    v_entry_id bigint;
begin
    perform billing._check_reason(close_account.reason, close_account.actor);
    v_balance := billing._lock_settled_balance(close_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = close_account.account_id;
    if v_account.closed_at is not null then
        return v_account;
    end if;

    perform billing.set_credit_limits(close_account.account_id);
    for v_hold in
        select * from billing.credit_holds
        where credit_holds.account_id = close_account.account_id and credit_holds.status = 'held'
    loop
        perform billing._settle_hold(v_hold, 'released');
    end loop;
    update billing.credit_grants set closed_at = billing.current_time()
    where credit_grants.account_id = close_account.account_id
        and credit_grants.entry_id is null and credit_grants.closed_at is null;

    v_balance := billing._lock_settled_balance(close_account.account_id);
    -- A second closing is another movement: numbered by what came before it.
    v_key := 'closing:' || coalesce((
        select max(credit_entries.id) from billing.credit_entries
        where credit_entries.account_id = close_account.account_id
    ), 0);
    if v_balance.balance <> 0 or v_balance.debt <> 0 then
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, debt, source, description, actor, key_space, idempotency_key,
            occurred_at
        )
        select v_balance.account_id, 'adjustment', step.amount, step.balance_after, step.debt, 'closing',
            close_account.reason, close_account.actor, 'system', step.key, billing.current_time()
        from (
            values
            (1, v_balance.debt, v_balance.balance + v_balance.debt, -v_balance.debt, v_key || ':debt'),
            (2, -(v_balance.balance + v_balance.debt), 0::bigint, 0::bigint, v_key || ':lots')
        ) as step (number, amount, balance_after, debt, key)
        where step.amount <> 0
        order by step.number;
        select credit_entries.id into v_entry_id from billing.credit_entries
        where credit_entries.account_id = close_account.account_id and credit_entries.key_space = 'system'
            and credit_entries.idempotency_key = v_key || ':lots';
        perform billing._burn_lots(close_account.account_id, v_entry_id, v_balance.balance + v_balance.debt);
    end if;
    update billing.credit_balances
    set balance = 0, debt = 0, withheld = 0, next_due_at = null, updated_at = now()
    where credit_balances.account_id = close_account.account_id;
    update billing.accounts set closed_at = billing.current_time(), updated_at = now()
    where accounts.id = close_account.account_id
    returning * into v_account;
    return v_account;
end
$$;

create function billing.reopen_account(account_id uuid)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_account billing.accounts;
begin
    perform billing._lock_balance(reopen_account.account_id);
    update billing.accounts set closed_at = null, updated_at = now()
    where accounts.id = reopen_account.account_id
    returning * into v_account;
    return v_account;
end
$$;

revoke all on function
    billing._take_credits, billing.adjust_credits, billing.transfer_credits,
    billing.set_credit_limits, billing._checked_limit, billing.tg_credit_balances__low_balance, billing.close_account,
    billing.reopen_account
from public, anon, authenticated, service_role;
grant execute on function
    billing.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb),
    billing.set_credit_limits(uuid, numeric, numeric, text, numeric),
    billing.close_account(uuid, text, text),
    billing.reopen_account(uuid)
to service_role;

comment on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) is 'Adds or (amount below zero) takes credits by hand, with a reason and an actor; once for each idempotency key.';
comment on function billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb) is 'Moves credits to another account, once for each idempotency key of the giving one. Lots keep priority and expiry.';
comment on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) is 'Sets all limits of an account: what is left out is no overdraft, no cap, no warning.';
comment on function billing.close_account(uuid, text, text) is 'Closes an account: holds released, what is left forfeited, what is owed written off. Nothing moves until it is opened again.';
comment on function billing.reopen_account(uuid) is 'Opens a closed account again, with nothing in it.';
