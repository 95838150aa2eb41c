-- Sets and removes budgets: the tree of who may use how much of an account's credits.
--
-- Invariant: a parent is a budget of the same account; no budget is above itself, and at most five are in a path. A
-- budget counts its whole running period, including what was spent before it was set: each spend counts where its actor
-- is in the tree now. Callable by service_role, and by signed-in users for the accounts that they own or administer.

create function billing._check_may_set_budgets(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not billing._sees_every_account() and not (
        billing._is_active_user(auth.uid())
        and _check_may_set_budgets.account_id = any (array(select billing.my_managed_account_ids()))
    ) then
        raise exception 'you may not change the budgets of account %', coalesce(_check_may_set_budgets.account_id::text, 'null')
            using errcode = 'TB097', hint = 'The owner of an account and the admins of a team may. Ask one of them.';
    end if;
end
$$;

-- What an actor has spent since a moment, less refunds, and what its open holds set aside.
create function billing._used_by(account_id uuid, actor text, since timestamptz, out spent bigint, out held bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    select coalesce(sum(
        case
            when credit_entries.kind = 'refund' then billing._counted_by_cap(credit_entries, _used_by.since)
            else -credit_entries.amount
        end
    ), 0)
    into spent
    from billing.credit_entries
    where credit_entries.account_id = _used_by.account_id and credit_entries.actor = _used_by.actor
        and credit_entries.occurred_at >= _used_by.since
        and credit_entries.kind in ('spend', 'capture', 'refund');
    select coalesce(sum(credit_holds.amount - credit_holds.captured), 0) into held
    from billing.credit_holds
    where credit_holds.account_id = _used_by.account_id and credit_holds.actor = _used_by.actor
        and credit_holds.status = 'held';
end
$$;

-- Adds what some actors have used to all budgets that count them now (sign 1), or takes it away (-1).
create function billing._count_actors(account_id uuid, actors text[], sign integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.budgets
    set spent_in_period = budgets.spent_in_period + _count_actors.sign * moved.spent,
        held = budgets.held + _count_actors.sign * moved.held
    from (
        select level.actor, sum(used.spent)::bigint as spent, sum(used.held)::bigint as held
        from unnest(_count_actors.actors) as named (actor)
        join billing.budgets as level
            on level.account_id = _count_actors.account_id
            and level.actor = any (billing._budget_path(_count_actors.account_id, named.actor))
        cross join lateral billing._used_by(_count_actors.account_id, named.actor, level.period_start) as used
        group by level.actor
    ) as moved
    where budgets.account_id = _count_actors.account_id and budgets.actor = moved.actor
        and (moved.spent <> 0 or moved.held <> 0);
end
$$;

-- Everybody who may count elsewhere once a budget changes: its actor and those below it. If one of these is for all
-- others (*), everybody who ever spent.
create function billing._actors_of_budget(account_id uuid, actor text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_actors text[] := array(
        select _actors_of_budget.actor
        union
        select budgets.actor from billing.budgets
        where budgets.account_id = _actors_of_budget.account_id and _actors_of_budget.actor = any (budgets.path)
    );
begin
    if exists (select from unnest(v_actors) as named (actor) where named.actor ~ '(^|:)[*]$') then
        v_actors := array(
            select unnest(v_actors)
            union
            select credit_entries.actor from billing.credit_entries
            where credit_entries.account_id = _actors_of_budget.account_id and credit_entries.actor is not null
                and credit_entries.kind in ('spend', 'capture', 'refund')
            union
            select credit_holds.actor from billing.credit_holds
            where credit_holds.account_id = _actors_of_budget.account_id and credit_holds.actor is not null
                and credit_holds.status = 'held'
        );
    end if;
    return v_actors;
end
$$;

create function billing._budget(account_id uuid, actor text)
returns billing.budgets
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_budget billing.budgets;
begin
    select * into v_budget from billing.budgets
    where budgets.account_id = _budget.account_id and budgets.actor = _budget.actor;
    if not found then
        raise exception 'account % has no budget %', _budget.account_id, coalesce(_budget.actor, 'null')
            using errcode = 'TB095', hint = 'The view budgets lists them. set_budget makes one.';
    end if;
    return v_budget;
end
$$;

-- The path of a budget below a parent. `below` is how many levels are under the budget.
create function billing._checked_path(account_id uuid, actor text, parent text, below integer)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_path text[] := array[_checked_path.actor];
begin
    if _checked_path.parent is not null then
        v_path := v_path || (billing._budget(_checked_path.account_id, _checked_path.parent)).path;
    end if;
    if _checked_path.actor = any (v_path[2:]) then
        raise exception 'budget % would be above itself', _checked_path.actor
            using errcode = 'TB094', hint = 'Pass a parent that is not below this budget.';
    elsif cardinality(v_path) + _checked_path.below > 5 then
        raise exception 'budget % would make a path of more than 5 budgets', _checked_path.actor
            using errcode = 'TB094', hint = 'Pass a parent that is higher in the tree.';
    end if;
    return v_path;
end
$$;

create function billing.set_budget(account_id uuid, actor text, cap numeric, period text, parent text default null)
returns billing.budgets
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_actor text := billing._checked_actor(coalesce(set_budget.actor, ''));
    v_cap bigint := billing._checked_limit('cap', set_budget.cap);
    v_budget billing.budgets;
    v_depth integer;
    v_path text[];
    v_actors text[];
begin
    perform billing._check_may_set_budgets(set_budget.account_id);
    if billing._is_cap_period(set_budget.period) is not true then
        raise exception 'period is %, it must be hour, day, week, month or total', coalesce(set_budget.period, 'null')
            using errcode = 'TB093', hint = 'Pass the period over which the cap counts.';
    end if;
    perform billing._lock_balance(set_budget.account_id);
    perform billing._check_open(set_budget.account_id);

    select * into v_budget from billing.budgets
    where budgets.account_id = set_budget.account_id and budgets.actor = v_actor;
    if v_budget.period = set_budget.period and v_budget.parent is not distinct from set_budget.parent then
        update billing.budgets set cap = v_cap, updated_at = now()
        where budgets.account_id = set_budget.account_id and budgets.actor = v_actor
        returning * into v_budget;
        return v_budget;
    end if;

    select coalesce(max(array_position(budgets.path, v_actor)), 1) - 1 into v_depth from billing.budgets
    where budgets.account_id = set_budget.account_id and v_actor = any (budgets.path);
    v_path := billing._checked_path(set_budget.account_id, v_actor, set_budget.parent, v_depth);
    v_actors := billing._actors_of_budget(set_budget.account_id, v_actor);
    perform billing._count_actors(set_budget.account_id, v_actors, -1);
    insert into billing.budgets as held (account_id, actor, parent, path, cap, period, period_start)
    values (
        set_budget.account_id, v_actor, set_budget.parent, v_path, v_cap, set_budget.period,
        billing.period_start(set_budget.period, billing.current_time())
    )
    on conflict on constraint budgets_pkey do update
    set parent = excluded.parent, path = excluded.path, cap = excluded.cap, period = excluded.period,
        period_start = excluded.period_start, updated_at = now();
    update billing.credit_balances set has_budgets = true where credit_balances.account_id = set_budget.account_id;
    update billing.budgets set path = budgets.path[: array_position(budgets.path, v_actor) - 1] || v_path
    where budgets.account_id = set_budget.account_id and v_actor = any (budgets.path) and budgets.actor <> v_actor;
    perform billing._count_actors(set_budget.account_id, v_actors, 1);
    return billing._budget(set_budget.account_id, v_actor);
end
$$;

create function billing.remove_budget(account_id uuid, actor text)
returns billing.budgets
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_budget billing.budgets;
    v_below text;
    v_actors text[];
begin
    perform billing._check_may_set_budgets(remove_budget.account_id);
    perform billing._lock_balance(remove_budget.account_id);
    v_budget := billing._budget(remove_budget.account_id, remove_budget.actor);
    select min(budgets.actor) into v_below from billing.budgets
    where budgets.account_id = v_budget.account_id and budgets.parent = v_budget.actor;
    if v_below is not null then
        raise exception 'budget % has other budgets below it, such as %', v_budget.actor, v_below
            using errcode = 'TB096', hint = 'Remove these first, or give them another parent with set_budget.';
    end if;
    v_actors := billing._actors_of_budget(v_budget.account_id, v_budget.actor);
    perform billing._count_actors(v_budget.account_id, v_actors, -1);
    delete from billing.budgets
    where budgets.account_id = v_budget.account_id and budgets.actor = v_budget.actor;
    perform billing._count_actors(v_budget.account_id, v_actors, 1);
    update billing.credit_balances
    set has_budgets = exists (select from billing.budgets where budgets.account_id = credit_balances.account_id)
    where credit_balances.account_id = v_budget.account_id;
    return v_budget;
end
$$;

revoke all on function
    billing._check_may_set_budgets, billing._used_by, billing._count_actors, billing._actors_of_budget, billing._budget,
    billing._checked_path, billing.set_budget, billing.remove_budget
from public, anon, authenticated, service_role;
grant execute on function
    billing.set_budget(uuid, text, numeric, text, text), billing.remove_budget(uuid, text)
to authenticated, service_role;

comment on function billing.set_budget(uuid, text, numeric, text, text) is 'Sets the budget of a member, an agent or an API key: at most cap credits in a period, and no more than the budgets above it allow. cap null: it only counts.';
comment on function billing.remove_budget(uuid, text) is 'Removes a budget that has none below it, and returns it as it was. What its actor spent no longer counts in the budgets above.';
