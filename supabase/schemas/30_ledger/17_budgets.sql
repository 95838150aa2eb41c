-- Budgets: how many credits of an account a member, an agent or an API key may use in a period.
--
-- Invariant: a budget counts what its actor and the budgets below it spend and hold; the counters are exact at every
-- commit, and a spend or a hold leaves no budget above its actor over its cap. The account's own cap (set_credit_limits)
-- is the level above all budgets.
--
-- A movement holds the lock of the account's balance when it comes here, so no two movements of an account are here at
-- once: budgets need no order of locks of their own. Clients read their account's budgets; only functions write.

create table billing.budgets (
    account_id uuid not null references billing.accounts (id),
    actor text not null,
    parent text,
    path text[] not null,
    cap bigint,
    period text not null,
    spent_in_period bigint not null default 0,
    period_start timestamptz not null,
    held bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    epoch integer not null default 0,
    primary key (account_id, actor)
) with (fillfactor = 70);

-- Look-ups start with the newest version of a row, as for credit_balances.
create index budgets_newest on billing.budgets (uuid_hash(account_id), actor, epoch desc);

create function billing.tg_budgets__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Null (no cap) violates no rule.
    if least(new.spent_in_period, new.held, new.cap) < 0 then
        perform billing._raise_unsound(tg_table_name, 'counters_and_cap_are_not_negative');
    elsif not billing._is_cap_period(new.period) then
        perform billing._raise_unsound(tg_table_name, 'period_is_known');
    elsif new.path[1] <> new.actor or new.path[2] is distinct from new.parent then
        perform billing._raise_unsound(tg_table_name, 'path_begins_with_actor_and_parent');
    end if;
    return new;
end
$$;

create trigger tg_budgets__sound
before insert or update of parent, path, cap, period on billing.budgets
for each row execute function billing.tg_budgets__sound();

-- What every movement writes: only the counters are checked, and only a broken one calls the function.
create trigger tg_budgets__sound_counters
before update on billing.budgets
for each row when (new.spent_in_period < 0 or new.held < 0)
execute function billing.tg_budgets__sound();

-- The names under which an actor may have a budget: its own, that of all others with its prefix, that of all others.
create function billing._budget_names(actor text)
returns text[]
language sql
immutable
as $$
    select array[_budget_names.actor, split_part(_budget_names.actor, ':', 1) || ':*', '*']
$$;

-- From the budget that counts what an actor spends up to the highest; null: no budget does.
create function billing._budget_path(account_id uuid, actor text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select budgets.path from billing.budgets
        where budgets.account_id = _budget_path.account_id
            and budgets.actor = any (billing._budget_names(_budget_path.actor))
        order by array_position(billing._budget_names(_budget_path.actor), budgets.actor)
        limit 1
    );
end
$$;

-- What a budget still allows at a moment; null: it has no cap.
create function billing._room_in_budget(budget billing.budgets, moment timestamptz)
returns bigint
language sql
stable
as $$
    select (_room_in_budget.budget).cap - (_room_in_budget.budget).held - case
        when (_room_in_budget.budget).period_start
            < billing.period_start((_room_in_budget.budget).period, _room_in_budget.moment) then 0
        else (_room_in_budget.budget).spent_in_period
    end
$$;

-- The budgets that count what an actor spends: where their rows are, which the caller's lock keeps there, and what the
-- one with the least room still allows (null: none has a cap).
create function billing._find_budgets(
    account_id uuid, actor text, moment timestamptz, out places tid[], out room bigint
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
-- A plan for one actor looks so much cheaper than one for any that each call would be planned again.
set plan_cache_mode = force_generic_plan
as $$
declare
    v_name text;
begin
    foreach v_name in array billing._budget_names(_find_budgets.actor) loop
        select array_agg(level.place), min(level.room) into places, room
        from unnest((
            select budgets.path from billing.budgets
            where uuid_hash(budgets.account_id) = uuid_hash(_find_budgets.account_id)
                and budgets.account_id is not distinct from _find_budgets.account_id and budgets.actor = v_name
            order by budgets.epoch desc
            limit 1
        )) as name
        cross join lateral (
            select budgets.ctid as place, billing._room_in_budget(budgets, _find_budgets.moment) as room
            from billing.budgets
            where uuid_hash(budgets.account_id) = uuid_hash(_find_budgets.account_id)
                and budgets.account_id is not distinct from _find_budgets.account_id and budgets.actor = name
            order by budgets.epoch desc
            limit 1
        ) as level;
        exit when places is not null;
    end loop;
end
$$;

-- Changes what the budgets at these places have spent and hold. `moment` is when the credits were spent: what was spent
-- before the running period does not count, also when it is given back.
create function billing._move_budgets(places tid[], spent bigint, held bigint, moment timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    update billing.budgets
    set spent_in_period = case
                when budgets.period_start < billing.period_start(budgets.period, _move_budgets.moment) then 0
                else budgets.spent_in_period
            end + case when _move_budgets.moment < budgets.period_start then 0 else _move_budgets.spent end,
        period_start = greatest(
            budgets.period_start, billing.period_start(budgets.period, _move_budgets.moment)
        ),
        held = budgets.held + _move_budgets.held,
        epoch = budgets.epoch + (random() < 0.02)::integer
    where budgets.ctid = any (_move_budgets.places);
end
$$;

-- Counts what was decided before or is given back: a capture, a refund, the end of a hold.
create function billing._count_in_budgets(account_id uuid, actor text, spent bigint, held bigint, moment timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._move_budgets(
        (billing._find_budgets(_count_in_budgets.account_id, _count_in_budgets.actor, _count_in_budgets.moment)).places,
        _count_in_budgets.spent, _count_in_budgets.held, _count_in_budgets.moment
    );
end
$$;

-- Raises TB091 with the budget that allows least: of several the one next to the actor.
create function billing._raise_over_budget(account_id uuid, actor text, amount bigint, moment timestamptz)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_budget billing.budgets;
    v_left bigint;
begin
    select * into v_budget from billing.budgets
    where budgets.account_id = _raise_over_budget.account_id and budgets.cap is not null
        and budgets.actor = any (billing._budget_path(_raise_over_budget.account_id, _raise_over_budget.actor))
    order by billing._room_in_budget(budgets, _raise_over_budget.moment), cardinality(budgets.path) desc
    limit 1;
    v_left := greatest(billing._room_in_budget(v_budget, _raise_over_budget.moment), 0);
    raise exception 'budget % of account % allows % more credits %, % are needed', v_budget.actor, v_budget.account_id,
        v_left, billing._in_words(v_budget.period), _raise_over_budget.amount
        using errcode = 'TB091',
        detail = jsonb_build_object(
            'actor', _raise_over_budget.actor, 'budget', v_budget.actor, 'cap', v_budget.cap,
            'period', v_budget.period, 'left', v_left, 'needed', _raise_over_budget.amount,
            'resets_at', billing.period_end(
                v_budget.period,
                greatest(v_budget.period_start, billing.period_start(v_budget.period, _raise_over_budget.moment))
            )
        )::text,
        hint = 'Wait for the next period, release holds that are not needed, or raise the cap with set_budget.';
end
$$;

-- Counts what an actor is about to spend or hold. Raises TB091 if its budget, or one above it, does not allow it.
create function billing._judge_by_budgets(account_id uuid, actor text, spent bigint, held bigint, moment timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_found record := billing._find_budgets(
        _judge_by_budgets.account_id, _judge_by_budgets.actor, _judge_by_budgets.moment
    );
begin
    if v_found.room < _judge_by_budgets.spent + _judge_by_budgets.held then
        perform billing._raise_over_budget(
            _judge_by_budgets.account_id, _judge_by_budgets.actor, _judge_by_budgets.spent + _judge_by_budgets.held,
            _judge_by_budgets.moment
        );
    elsif v_found.places is not null then
        perform billing._move_budgets(
            v_found.places, _judge_by_budgets.spent, _judge_by_budgets.held, _judge_by_budgets.moment
        );
    end if;
end
$$;

alter table billing.budgets enable row level security;

revoke all on billing.budgets from public, anon, authenticated, service_role;

create policy budgets_select_own on billing.budgets
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

revoke all on function
    billing.tg_budgets__sound, billing._budget_names, billing._budget_path, billing._room_in_budget,
    billing._find_budgets, billing._move_budgets, billing._count_in_budgets, billing._raise_over_budget,
    billing._judge_by_budgets
from public, anon, authenticated, service_role;
grant select on billing.budgets to authenticated, service_role;

comment on table billing.budgets is 'What members, agents and API keys may use of an account''s credits.';
comment on column billing.budgets.actor is 'Who spends, such as agent:writer; agent:* counts all agents without a budget of their own, * all others.';
comment on column billing.budgets.parent is 'The budget above it, which counts the same credits too; null: only the account''s cap is above it.';
comment on column billing.budgets.path is 'The actor, its parent and so on, up to the highest budget.';
comment on column billing.budgets.cap is 'Credits that may be spent in a period; null: it only counts.';
comment on column billing.budgets.period is 'hour, day, week, month (UTC) or total.';
comment on column billing.budgets.spent_in_period is 'Credits that the actor and the budgets below spent since period_start, less refunds.';
comment on column billing.budgets.period_start is 'When the counted period began; a later one begins with the next movement in it.';
comment on column billing.budgets.held is 'Credits that open holds of the actor and of the budgets below set aside; they count towards the cap.';
comment on column billing.budgets.epoch is 'Incremented by one update in fifty, so that look-ups skip old versions of the row.';
