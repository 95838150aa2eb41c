-- Budgets over the Data API: functions in `public` that call those in `billing`, and what is left of each budget.
--
-- Invariant: each function runs as its caller and adds no rules. Members of an account see its budgets; its owner and
-- admins set them.

create function public.set_budget(account_id uuid, actor text, cap numeric, period text, parent text default null)
returns billing.budgets
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_budget(
        set_budget.account_id, set_budget.actor, set_budget.cap, set_budget.period, set_budget.parent
    )
$$;

create function public.remove_budget(account_id uuid, actor text)
returns billing.budgets
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.remove_budget(remove_budget.account_id, remove_budget.actor)
$$;

-- Of one table, so that Postgres refuses a write for the missing privilege.
create view public.budgets with (security_invoker = on) as
select
    budgets.account_id, budgets.actor, budgets.parent, budgets.cap, budgets.period,
    case
        when budgets.period_start < billing.period_start(budgets.period, billing.current_time()) then 0
        else budgets.spent_in_period
    end as spent,
    budgets.held,
    case
        when budgets.cap is not null then greatest(budgets.cap - budgets.held - case
            when budgets.period_start < billing.period_start(budgets.period, billing.current_time()) then 0
            else budgets.spent_in_period
        end, 0)
    end as remaining,
    billing.period_end(
        budgets.period,
        greatest(budgets.period_start, billing.period_start(budgets.period, billing.current_time()))
    ) as resets_at,
    budgets.created_at, budgets.updated_at
from billing.budgets;

revoke all on public.budgets from public, anon, authenticated, service_role;
grant select on public.budgets to authenticated, service_role;

revoke all on function
    public.set_budget(uuid, text, numeric, text, text), public.remove_budget(uuid, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.set_budget(uuid, text, numeric, text, text), public.remove_budget(uuid, text)
to authenticated, service_role;

comment on view public.budgets is 'Budgets of members, agents and API keys, and what is left of each.';
comment on column public.budgets.account_id is 'The account whose credits it limits.';
comment on column public.budgets.actor is 'Who spends, such as agent:writer.';
comment on column public.budgets.parent is 'The budget above it; null: only the account''s cap is above it.';
comment on column public.budgets.cap is 'Credits that may be spent in a period; null: it only counts.';
comment on column public.budgets.period is 'hour, day, week, month (UTC) or total.';
comment on column public.budgets.spent is 'Credits spent in the running period by the actor and the budgets below, less refunds.';
comment on column public.budgets.held is 'Credits that their open holds set aside.';
comment on column public.budgets.remaining is 'What the cap still allows; null: it has none. A budget above may allow less.';
comment on column public.budgets.resets_at is 'When the next period begins; null: never.';
comment on column public.budgets.created_at is 'When it was first set.';
comment on column public.budgets.updated_at is 'When it was last set.';
