-- Accounts whose period is over, or whose terms have changed → judged, a chunk at a time, by the worker's clock.
--
-- Invariant: a change of a plan or a pack locks no balance: it marks the accounts of its subscribers, however many, and the
-- worker judges them within seconds. claim_due_overages is callable by billing_worker and service_role.

-- Marks the accounts that subscribe to plans.
create function billing._mark_subscribers(stripe_price_ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.overage_periods as held (account_id, judge_at)
    select distinct subscriptions.account_id, billing.current_time()
    from billing.subscription_items as items
    join billing.subscriptions on subscriptions.stripe_subscription_id = items.stripe_subscription_id
    where items.stripe_price_id = any (_mark_subscribers.stripe_price_ids) and subscriptions.account_id is not null
        and subscriptions.ended_at is null
    order by subscriptions.account_id
    on conflict on constraint overage_periods_pkey do update set judge_at = excluded.judge_at
    where held.judge_at > excluded.judge_at;
end
$$;

create function billing.tg_plans__judge_overage()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._mark_subscribers(array[new.stripe_price_id]);
    return null;
end
$$;

create trigger tg_plans__judge_overage
after update of overage_limit, overage_pack on billing.plans
for each row when ((old.overage_limit, old.overage_pack) is distinct from (new.overage_limit, new.overage_pack))
execute function billing.tg_plans__judge_overage();

create trigger tg_plans__judge_overage_of_new
after insert on billing.plans
for each row when (new.overage_limit > 0)
execute function billing.tg_plans__judge_overage();

-- The pack that a plan names may arrive after it, move its lookup key, or be archived.
create function billing.tg_credit_packs__judge_overage()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._mark_subscribers(array(
        select plans.stripe_price_id from billing.plans
        where plans.overage_limit > 0
            and plans.overage_pack in (
                new.stripe_price_id, new.lookup_key, case when tg_op = 'UPDATE' then old.lookup_key end
            )
    ));
    return null;
end
$$;

create trigger tg_credit_packs__judge_overage
after insert or update of active, lookup_key on billing.credit_packs
for each row execute function billing.tg_credit_packs__judge_overage();

-- A subscription that is assigned to another account takes its overage along.
create function billing.tg_subscriptions__judge_overage()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.overage_periods set judge_at = billing.current_time()
    where overage_periods.account_id = old.account_id;
    return null;
end
$$;

create trigger tg_subscriptions__judge_overage
after update of account_id on billing.subscriptions
for each row when (old.account_id is distinct from new.account_id)
execute function billing.tg_subscriptions__judge_overage();

create function billing.claim_due_overages(accounts_max integer default null)
returns table (accounts bigint, overages_claimed bigint, credits_claimed numeric)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
    v_account_ids uuid[] := '{}';
    v_began_at timestamptz := billing.current_time();
begin
    accounts := 0;
    for v_account_id in
        select overage_periods.account_id from billing.overage_periods
        where overage_periods.judge_at <= v_began_at
        order by overage_periods.judge_at
        limit case when claim_due_overages.accounts_max < 0 then 0 else claim_due_overages.accounts_max end
    loop
        -- Another transaction's accounts are left for the next call.
        perform from billing.credit_balances where credit_balances.account_id = v_account_id for update skip locked;
        continue when not found;
        -- Another worker may have judged it meanwhile.
        perform billing._judge_overage(v_account_id) from billing.overage_periods
        where overage_periods.account_id = v_account_id and overage_periods.judge_at <= v_began_at;
        accounts := accounts + 1;
        v_account_ids := v_account_ids || v_account_id;
    end loop;
    if accounts > 0 then
        select count(*), coalesce(sum(overages.credits), 0) into overages_claimed, credits_claimed from billing.overages
        where overages.account_id = any (v_account_ids) and overages.claimed_at >= v_began_at;
    else
        overages_claimed := 0;
        credits_claimed := 0;
    end if;
    return next;
end
$$;

revoke all on function
    billing._mark_subscribers, billing.tg_plans__judge_overage, billing.tg_credit_packs__judge_overage,
    billing.tg_subscriptions__judge_overage, billing.claim_due_overages
from public, anon, authenticated, service_role;
grant execute on function billing.claim_due_overages(integer) to billing_worker, service_role;

comment on function billing.claim_due_overages(integer) is 'Ends the periods of overage that are over, for up to accounts_max accounts (null: all), and queues what they owe for billing. Returns counts. Safe to run at any time, repeatedly and in parallel.';
