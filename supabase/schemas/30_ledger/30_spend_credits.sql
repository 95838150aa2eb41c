-- Spends credits: processes what is due, then takes from lots by priority, soonest expiry and age, with lineage.
--
-- Callable by service_role (the app's own server), inside the app's own transaction; never by clients. Below zero only
-- as far as the account's overdraft or its plan's overage limit, as debt that the next grant repays.

-- Posts the spends of one account, limited by its credits, what it may owe, cap and budgets. What its lots cannot pay becomes debt.
create function billing._post_spends(balance billing.credit_balances, spends billing.credit_entries[])
returns billing.credit_entries[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _post_spends.balance;
    v_spends billing.credit_entries[] := _post_spends.spends;
    v_number integer := cardinality(v_spends);
    v_may_owe bigint := greatest(v_balance.overdraft, v_balance.overage_limit);
    v_total numeric;
    v_has_actor boolean;
    v_debt bigint;
begin
    select -sum(spend.amount), count(spend.actor) > 0 into v_total, v_has_actor from unnest(v_spends) as spend;
    if v_total - v_may_owe > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(
            v_balance.account_id, v_balance.balance::numeric - v_balance.held + v_may_owe, v_total
        );
    elsif v_balance.spend_cap is not null then
        v_balance := billing._count_spend(v_balance, v_total::bigint);
    end if;
    if v_balance.has_budgets and v_has_actor then
        perform billing._judge_by_budgets(v_balance.account_id, actors.actor, actors.spent, 0, actors.moment)
        from (
            select spend.actor, -sum(spend.amount)::bigint as spent, max(spend.occurred_at) as moment
            from unnest(v_spends) as spend
            where spend.actor is not null
            group by spend.actor
            order by spend.actor
        ) as actors;
    end if;
    -- Lots contain balance + debt. The last credits are beyond them.
    v_debt := greatest(v_total - v_balance.debt - (v_balance.balance - v_balance.held), 0);
    while v_debt > 0 loop
        v_spends[v_number].debt := least(v_debt, -v_spends[v_number].amount);
        v_debt := v_debt - v_spends[v_number].debt;
        v_number := v_number - 1;
    end loop;
    return billing._post_entries(v_balance, v_spends);
end
$$;

-- A spend that is not plain: a used key, something due, a new period of the cap, or too few credits.
create function billing._spend_judged(
    account_id uuid,
    amount bigint,
    idempotency_key text,
    description text,
    metadata jsonb,
    feature text,
    reference_id text,
    up_to boolean,
    actor text
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_amount bigint := _spend_judged.amount;
    v_up_to bigint := case when _spend_judged.up_to then v_amount end;
    v_now timestamptz;
    v_room bigint;
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
begin
    v_balance := billing._lock_balance(_spend_judged.account_id);
    v_now := billing.current_time();

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _spend_judged.account_id
        and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = _spend_judged.idempotency_key;
    if found then
        if (
            v_entry.kind, coalesce(v_entry.up_to, -v_entry.amount), v_entry.up_to is not null, v_entry.description,
            v_entry.metadata, v_entry.feature, v_entry.reference_id, v_entry.actor
        ) is distinct from (
            'spend', v_amount, v_up_to is not null, _spend_judged.description, _spend_judged.metadata,
            _spend_judged.feature, _spend_judged.reference_id, _spend_judged.actor
        ) then
            perform billing._raise_key_reused(_spend_judged.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_may_spend(_spend_judged.account_id);
    end if;
    if v_balance.next_due_at <= v_now then
        v_balance := billing._lock_settled_balance(_spend_judged.account_id);
    end if;
    if v_up_to is not null then
        v_amount := least(
            v_up_to,
            v_balance.balance::numeric - v_balance.held + greatest(v_balance.overdraft, v_balance.overage_limit)
        );
        if v_balance.spend_cap is not null then
            -- At least one, so that a cap that is used up raises its own error.
            v_amount := least(v_amount, greatest(billing._room_under_cap(v_balance), 1));
        end if;
        if v_balance.has_budgets and _spend_judged.actor is not null then
            v_room := (billing._find_budgets(v_balance.account_id, _spend_judged.actor, v_now)).room;
            v_amount := least(v_amount, case when v_room is not null then greatest(v_room, 1) end);
        end if;
    end if;
    if v_amount <= 0 then
        perform billing._raise_insufficient(v_balance.account_id, 0, _spend_judged.amount);
    end if;
    v_entry := billing._entry(
        account_id => v_balance.account_id, kind => 'spend', amount => -v_amount, up_to => v_up_to,
        source => 'app', reference_id => _spend_judged.reference_id, description => _spend_judged.description,
        feature => _spend_judged.feature, metadata => _spend_judged.metadata, actor => _spend_judged.actor,
        key_space => 'caller', idempotency_key => _spend_judged.idempotency_key, occurred_at => v_now
    );
    return (billing._post_spends(v_balance, array[v_entry]))[1];
end
$$;

-- True if a trigger of credit_balances has something to do: a recharge, or a notice of a low balance.
create function billing._is_alarming(available bigint, recharge_below bigint, low_balance_threshold bigint, is_low boolean)
returns boolean
language sql
immutable
as $$
    select coalesce(available < recharge_below or is_low <> (available < low_balance_threshold), false)
$$;

create function billing.spend_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    reference_id text default null,
    up_to boolean default false,
    actor text default null
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_amount bigint := billing._checked_amount(spend_credits.amount);
    v_key text := billing._checked_key(spend_credits.idempotency_key, spend_credits.metadata);
    v_now timestamptz;
    v_entry billing.credit_entries;
    v_left bigint;
    v_due_at timestamptz;
    v_period text;
    v_period_start timestamptz;
    v_has_budgets boolean;
    v_is_alarming boolean;
    v_is_plain boolean;
    v_lot_id bigint;
begin
    if spend_credits.actor is not null then
        perform billing._checked_actor(spend_credits.actor);
    end if;
    -- The plain case, the common one: one statement locks, checks and moves the balance. Whether anything is due, and
    -- whether the cap's period is still running, is checked afterwards, with the time at which the lock is held.
    update billing.credit_balances
    set balance = credit_balances.balance - v_amount, updated_at = now(),
        spent_in_period = credit_balances.spent_in_period
            + case when credit_balances.spend_cap is null then 0 else v_amount end,
        epoch = credit_balances.epoch + (random() < 0.02)::integer
    where uuid_hash(credit_balances.account_id) = uuid_hash(spend_credits.account_id)
        and credit_balances.account_id is not distinct from spend_credits.account_id
        -- From this epoch on: it may be incremented while this statement waits for the lock.
        and credit_balances.epoch >= (
            select newest.epoch from billing.credit_balances as newest
            where uuid_hash(newest.account_id) = uuid_hash(spend_credits.account_id)
                and newest.account_id is not distinct from spend_credits.account_id
            order by newest.epoch desc
            limit 1
        )
        and not spend_credits.up_to and credit_balances.may_spend
        and v_amount <= credit_balances.balance - credit_balances.held
        and (
            credit_balances.spend_cap is null
            or v_amount <= credit_balances.spend_cap - credit_balances.spent_in_period - credit_balances.held
        )
    returning
        credit_balances.balance, credit_balances.next_due_at, credit_balances.spend_cap_period,
        credit_balances.spend_period_start, credit_balances.has_budgets,
        billing._is_alarming(
            credit_balances.balance - credit_balances.held, credit_balances.recharge_below,
            credit_balances.low_balance_threshold, credit_balances.is_low
        )
    into v_left, v_due_at, v_period, v_period_start, v_has_budgets, v_is_alarming;
    if found then
        -- billing.current_time(), without the cost of the call.
        select clock_timestamp() + clock.ahead_by into v_now from billing.clock;
        v_is_plain := (v_due_at > v_now) is not false
            and (v_period is null or v_period_start = billing.period_start(v_period, v_now));
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, actor,
            key_space, idempotency_key, occurred_at
        )
        select
            spend_credits.account_id, 'spend', -v_amount, v_left, 'app', spend_credits.reference_id,
            spend_credits.description, spend_credits.feature, spend_credits.metadata, spend_credits.actor, 'caller',
            v_key, v_now
        where v_is_plain
        on conflict do nothing
        returning * into v_entry;
        if found then
            if v_has_budgets and v_entry.actor is not null then
                perform billing._judge_by_budgets(v_entry.account_id, v_entry.actor, v_amount, 0, v_now);
            end if;
            -- The first lot usually has enough.
            update billing.credit_grants
            set remaining = credit_grants.remaining - v_amount, epoch = credit_grants.epoch + (random() < 0.02)::integer
            where credit_grants.remaining - credit_grants.held > v_amount and credit_grants.ctid = (
                select lots.ctid from billing.credit_grants as lots
                where lots.account_id = spend_credits.account_id and lots.closed_at is null
                    and lots.remaining > lots.held
                order by lots.priority, lots.expires_at, lots.id, lots.epoch desc
                limit 1
            )
            returning credit_grants.id into v_lot_id;
            if found then
                insert into billing.credit_consumptions (entry_id, grant_id, amount)
                values (v_entry.id, v_lot_id, v_amount);
            else
                perform billing._burn_lots(array[v_entry], '{}', v_amount);
            end if;
            if v_is_alarming then
                -- For the triggers, which a plain spend does not fire.
                update billing.credit_balances set held = credit_balances.held
                where credit_balances.account_id = v_entry.account_id;
            end if;
            return v_entry;
        end if;
        -- The key was used before, something is due first, or another period of the cap has begun.
        update billing.credit_balances
        set balance = credit_balances.balance + v_amount,
            spent_in_period = credit_balances.spent_in_period - case when v_period is null then 0 else v_amount end
        where credit_balances.account_id = spend_credits.account_id;
    end if;
    return billing._spend_judged(
        spend_credits.account_id, v_amount, v_key, spend_credits.description, spend_credits.metadata,
        spend_credits.feature, spend_credits.reference_id, spend_credits.up_to, spend_credits.actor
    );
end
$$;

revoke all on function billing._post_spends, billing._spend_judged, billing._is_alarming, billing.spend_credits
from public, anon, authenticated, service_role;
grant execute on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean, text) to service_role;

comment on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean, text) is 'Spends credits of an account, once for each idempotency key, and returns the entry. Fails below zero (TB001) and while frozen (TB003); with up_to it spends at most the available credits. Call it inside your own transaction.';
