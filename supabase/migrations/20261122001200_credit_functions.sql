-- What moving credits has in common: what is refused at the door, and closing the lots that are due.
--
-- Invariant: an account's balance row is locked before anything is looked at, so idempotency, freezing and sufficiency
-- are judged on what will be committed. Same key and same arguments: the first entry again. Same key, other arguments:
-- TB002. Amounts arrive as numeric, so that a fraction, NaN or too many digits gets a clear refusal, not a rounding.

create function billing._checked_amount(amount numeric)
returns bigint
language plpgsql
immutable
set search_path = ''
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

create function billing._check_request(idempotency_key text, metadata jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
    if _check_request.idempotency_key is null or length(_check_request.idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key has % characters, it needs 1 to 255',
            coalesce(length(_check_request.idempotency_key), 0)
            using errcode = 'TB006', hint = 'Name what the credits are for, such as the id of the job or the order.';
    elsif jsonb_typeof(_check_request.metadata) is distinct from 'object' then
        raise exception 'metadata is %, it must be an object', coalesce(jsonb_typeof(_check_request.metadata), 'null')
            using errcode = 'TB007', hint = 'Pass a JSON object, such as {"job": "42"}.';
    end if;
end
$$;

create function billing._raise_no_account(account_id uuid)
returns void
language plpgsql
immutable
set search_path = ''
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
set search_path = ''
as $$
begin
    raise exception 'idempotency key % was used before with other arguments', _raise_key_reused.idempotency_key
        using errcode = 'TB002', hint = 'Repeat the first call unchanged, or use a new key for a new movement.';
end
$$;

-- Closes the lots of an account that are due, each by an entry. The caller holds the balance row's lock.
create function billing._close_due_lots(account_id uuid)
returns billing.credit_balances
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
    v_entry_id bigint;
begin
    select * into strict v_balance from billing.credit_balances
    where credit_balances.account_id = _close_due_lots.account_id
    for update;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _close_due_lots.account_id
            and credit_grants.closed_at is null and credit_grants.expires_at <= v_now and credit_grants.held = 0
        order by credit_grants.expires_at, credit_grants.id
    loop
        v_balance.balance := v_balance.balance - v_lot.remaining;
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, key_space, idempotency_key, occurred_at
        )
        values (
            v_lot.account_id, 'expiry', -v_lot.remaining, v_balance.balance, v_lot.source, v_lot.reference_id,
            'system', 'expiry:' || v_lot.id, v_lot.expires_at
        )
        returning id into v_entry_id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount)
        values (v_entry_id, v_lot.id, v_lot.remaining);
        update billing.credit_grants set remaining = 0, closed_at = v_now where credit_grants.id = v_lot.id;
    end loop;

    select min(credit_grants.expires_at) into v_balance.next_due_at from billing.credit_grants
    where credit_grants.account_id = _close_due_lots.account_id and credit_grants.closed_at is null;

    update billing.credit_balances
    set balance = v_balance.balance, next_due_at = v_balance.next_due_at, updated_at = now()
    where credit_balances.account_id = _close_due_lots.account_id;
    return v_balance;
end
$$;

revoke all on function
    billing._checked_amount, billing._check_request, billing._raise_no_account, billing._raise_key_reused,
    billing._close_due_lots
from public, anon, authenticated, service_role;
