-- Holds: credits set aside for work in progress, then captured, in one part or several, or released.
--
-- Invariant: a hold reserves credits of the lots that will pay for it, so they don't expire meanwhile, and no other
-- spend takes them. It uses available credits only, never the overdraft. If an account is frozen later, its open holds
-- can still be captured. Callable by service_role.

create function billing.hold_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    actor text default null
)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(hold_credits.amount);
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(hold_credits.idempotency_key, hold_credits.metadata);
    perform billing._checked_actor(hold_credits.actor);
    perform billing._lock_balance(hold_credits.account_id);

    select * into v_hold from billing.credit_holds
    where credit_holds.account_id = hold_credits.account_id
        and credit_holds.idempotency_key = hold_credits.idempotency_key;
    if found then
        if (
            v_hold.amount, v_hold.expires_in, v_hold.description, v_hold.metadata, v_hold.feature, v_hold.actor
        ) is distinct from (
            v_amount, hold_credits.expires_in, hold_credits.description, hold_credits.metadata, hold_credits.feature,
            hold_credits.actor
        ) then
            perform billing._raise_key_reused(hold_credits.idempotency_key);
        end if;
        return v_hold;
    end if;

    perform billing._check_may_spend(hold_credits.account_id);
    perform billing._check_expires_in(hold_credits.expires_in);
    v_balance := billing._lock_settled_balance(hold_credits.account_id);
    if v_amount > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(v_balance.account_id, v_balance.balance - v_balance.held, v_amount);
    elsif v_balance.spend_cap is not null then
        perform billing._count_spend(v_balance, v_amount);
    end if;
    if v_balance.has_budgets and hold_credits.actor is not null then
        perform billing._judge_by_budgets(
            v_balance.account_id, hold_credits.actor, 0, v_amount, billing.current_time()
        );
    end if;

    insert into billing.credit_holds (
        account_id, amount, description, metadata, feature, actor, idempotency_key, expires_in, expires_at
    )
    values (
        hold_credits.account_id, v_amount, hold_credits.description, hold_credits.metadata, hold_credits.feature,
        hold_credits.actor, hold_credits.idempotency_key, hold_credits.expires_in,
        billing.current_time() + hold_credits.expires_in
    )
    returning * into v_hold;

    with free as (
        select
            credit_grants.id, credit_grants.remaining - credit_grants.held as amount,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_grants
        where credit_grants.account_id = hold_credits.account_id
            and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
    ),
    pinned as (
        insert into billing.credit_hold_lots (hold_id, grant_id, amount)
        select v_hold.id, free.id, least(free.amount, v_amount - (free.upper - free.amount)) from free
        where free.upper - free.amount < v_amount
        returning credit_hold_lots.grant_id, credit_hold_lots.amount
    )
    update billing.credit_grants set held = credit_grants.held + pinned.amount
    from pinned where credit_grants.id = pinned.grant_id;

    update billing.credit_balances
    set held = credit_balances.held + v_amount,
        next_due_at = least(credit_balances.next_due_at, v_hold.expires_at),
        updated_at = now()
    where credit_balances.account_id = v_hold.account_id;
    return v_hold;
end
$$;

create function billing._check_expires_in(expires_in interval)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_expires_in.expires_in is null or _check_expires_in.expires_in not between '1 second' and '1 year' then
        raise exception 'expires_in is %, it must be from one second to one year',
            coalesce(_check_expires_in.expires_in::text, 'null')
            using errcode = 'TB024', hint = 'Pass slightly more time than the work takes, such as interval ''15 minutes''.';
    end if;
end
$$;

-- Locks the account of a hold, processes what is due, and locks the hold. TB019 if there is none, TB070 if it belongs
-- to a dispute.
create function billing._lock_hold(hold_id uuid)
returns billing.credit_holds
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    select * into v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id;
    if not found then
        raise exception 'there is no hold %', coalesce(_lock_hold.hold_id::text, 'null')
            using errcode = 'TB019', hint = 'Pass the id that hold_credits returned.';
    end if;
    if v_hold.frozen_grant_id is not null then
        raise exception 'hold % belongs to a dispute', v_hold.id
            using errcode = 'TB070', hint = 'It ends when the dispute is closed.';
    end if;
    perform billing._lock_settled_balance(v_hold.account_id);
    select * into strict v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id for update;
    return v_hold;
end
$$;

create function billing._check_held(hold billing.credit_holds)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_check_held.hold).status <> 'held' then
        raise exception 'hold % was % at %', (_check_held.hold).id, (_check_held.hold).status, (_check_held.hold).settled_at
            using errcode = 'TB020', hint = 'Create a new hold, or spend directly.';
    end if;
end
$$;

-- Ends a hold and releases what it still reserves.
create function billing._settle_hold(hold billing.credit_holds, status text, release_key text default null)
returns billing.credit_holds
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
    v_pinned bigint := (_settle_hold.hold).amount - (_settle_hold.hold).captured;
begin
    update billing.credit_holds
    set status = _settle_hold.status, release_key = _settle_hold.release_key, settled_at = billing.current_time()
    where credit_holds.id = (_settle_hold.hold).id
    returning * into v_hold;
    if v_pinned > 0 then
        update billing.credit_balances set held = credit_balances.held - v_pinned, updated_at = now()
        where credit_balances.account_id = v_hold.account_id;
        if v_hold.actor is not null then
            perform billing._count_in_budgets(v_hold.account_id, v_hold.actor, 0, -v_pinned, billing.current_time());
        end if;
        perform billing._remember_due(v_hold.account_id, billing._release_pins(array[v_hold.id]));
        perform billing._repay_debt(v_hold.account_id);
        perform billing._claim_returned_credits(v_hold.account_id);
    end if;
    return v_hold;
end
$$;

-- True if a capture was the last of its hold and ended it.
create function billing._ended_hold(capture billing.credit_entries, hold billing.credit_holds)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_ended_hold.hold).status = 'captured' and not exists (
        select from billing.credit_entries
        where credit_entries.hold_id = (_ended_hold.hold).id and credit_entries.id > (_ended_hold.capture).id
    )
$$;

-- Spends credits of a hold that the caller has locked and checked.
create function billing._capture(
    hold billing.credit_holds, amount bigint, idempotency_key text, description text, metadata jsonb,
    release_rest boolean
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds := _capture.hold;
    v_balance billing.credit_balances := billing._lock_balance(v_hold.account_id);
    v_entry billing.credit_entries;
    v_takes billing.credit_consumptions[];
begin
    if v_balance.spend_cap is not null then
        -- Checked when the hold was created; counted now.
        v_balance := billing._in_running_period(v_balance);
        v_balance.spent_in_period := v_balance.spent_in_period + _capture.amount;
    end if;

    v_entry := billing._entry(
        account_id => v_hold.account_id, kind => 'capture', amount => -_capture.amount, source => 'app',
        description => _capture.description, feature => v_hold.feature,
        metadata => _capture.metadata, actor => v_hold.actor, hold_id => v_hold.id, key_space => 'caller',
        idempotency_key => _capture.idempotency_key, occurred_at => billing.current_time()
    );
    with pins as (
        select
            credit_hold_lots.grant_id, credit_hold_lots.amount,
            sum(credit_hold_lots.amount) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_hold_lots
        join billing.credit_grants on credit_grants.id = credit_hold_lots.grant_id
        where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.amount > 0
    ),
    captured as (
        select pins.grant_id, least(pins.amount, _capture.amount - (pins.upper - pins.amount))::bigint as amount from pins
        where pins.upper - pins.amount < _capture.amount
    ),
    unpinned as (
        update billing.credit_hold_lots set amount = credit_hold_lots.amount - captured.amount
        from captured where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.grant_id = captured.grant_id
    )
    select array_agg(row(v_entry.id, captured.grant_id, captured.amount)::billing.credit_consumptions) into v_takes
    from captured;
    if v_hold.actor is not null then
        perform billing._count_in_budgets(
            v_hold.account_id, v_hold.actor, _capture.amount, -_capture.amount, v_entry.occurred_at
        );
    end if;
    v_balance.held := v_balance.held - _capture.amount;
    v_entry := billing._post_entry(v_balance, v_entry, takes => v_takes);
    update billing.credit_holds set captured = credit_holds.captured + _capture.amount
    where credit_holds.id = v_hold.id
    returning * into v_hold;
    if _capture.release_rest or v_hold.captured = v_hold.amount then
        perform billing._settle_hold(v_hold, 'captured');
    end if;
    return v_entry;
end
$$;

create function billing.capture_hold(
    hold_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    release_rest boolean default false
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint;
    v_hold billing.credit_holds;
    v_entry billing.credit_entries;
begin
    perform billing._checked_key(capture_hold.idempotency_key, capture_hold.metadata);
    v_hold := billing._lock_hold(capture_hold.hold_id);
    v_amount := case when capture_hold.amount is not null then billing._checked_amount(capture_hold.amount) end;

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_hold.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = capture_hold.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.hold_id, -v_entry.amount, v_entry.description, v_entry.metadata) is distinct from (
                'capture', v_hold.id, coalesce(v_amount, -v_entry.amount),
                coalesce(capture_hold.description, v_hold.description), capture_hold.metadata
            ) or billing._ended_hold(v_entry, v_hold) <> capture_hold.release_rest
            and not (v_hold.status = 'captured' and v_hold.captured = v_hold.amount) then
            perform billing._raise_key_reused(capture_hold.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_held(v_hold);
    v_amount := coalesce(v_amount, v_hold.amount - v_hold.captured);
    if v_amount > v_hold.amount - v_hold.captured then
        raise exception 'hold % has % credits left, % cannot be captured', v_hold.id, v_hold.amount - v_hold.captured, v_amount
            using errcode = 'TB025', hint = 'Capture what is held and spend the rest with spend_credits.';
    end if;
    return billing._capture(
        v_hold, v_amount, capture_hold.idempotency_key, coalesce(capture_hold.description, v_hold.description),
        capture_hold.metadata, capture_hold.release_rest
    );
end
$$;

create function billing.release_hold(hold_id uuid, idempotency_key text)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(release_hold.idempotency_key, '{}');
    v_hold := billing._lock_hold(release_hold.hold_id);
    if v_hold.release_key = release_hold.idempotency_key then
        return v_hold;
    elsif exists (
        select from billing.credit_holds
        where credit_holds.account_id = v_hold.account_id and credit_holds.release_key = release_hold.idempotency_key
    ) then
        perform billing._raise_key_reused(release_hold.idempotency_key);
    elsif v_hold.status = 'expired' then
        -- Too late to release anything, but nothing is held any more, which is what the caller wanted.
        return v_hold;
    end if;
    perform billing._check_held(v_hold);
    return billing._settle_hold(v_hold, 'released', release_hold.idempotency_key);
end
$$;

create function billing.extend_hold(hold_id uuid, expires_in interval)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._check_expires_in(extend_hold.expires_in);
    v_hold := billing._lock_hold(extend_hold.hold_id);
    perform billing._check_held(v_hold);
    update billing.credit_holds
    set expires_at = greatest(credit_holds.expires_at, billing.current_time() + extend_hold.expires_in)
    where credit_holds.id = v_hold.id
    returning * into v_hold;
    return v_hold;
end
$$;

revoke all on function
    billing.hold_credits, billing._check_expires_in, billing._lock_hold, billing._check_held, billing._settle_hold,
    billing._ended_hold, billing._capture, billing.capture_hold, billing.release_hold, billing.extend_hold
from public, anon, authenticated, service_role;
grant execute on function
    billing.hold_credits(uuid, numeric, text, interval, text, jsonb, text, text),
    billing.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    billing.release_hold(uuid, text),
    billing.extend_hold(uuid, interval)
to service_role;

comment on function billing.hold_credits(uuid, numeric, text, interval, text, jsonb, text, text) is 'Sets credits aside until they are captured or released, or expires_in has passed; once for each idempotency key.';
comment on function billing.capture_hold(uuid, numeric, text, text, jsonb, boolean) is 'Spends credits of a hold, once for each idempotency key, and returns the entry. amount null: all that is left. The rest stays held until it is captured, released (release_rest) or expires.';
comment on function billing.release_hold(uuid, text) is 'Releases what a hold still has set aside.';
comment on function billing.extend_hold(uuid, interval) is 'Keeps a hold open for expires_in from now; never shortens it.';
