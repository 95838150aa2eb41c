-- Reads the ledger over time: a balance at a point in time, a statement of a period, usage by day.
--
-- security invoker: clients see their own accounts, by the policies on credit_entries. By the time of the event
-- (occurred_at), so an expired lot counts from its expiry on, once the expiry is written.

create function public.credit_balance_as_of(account_id uuid, moment timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    -- From the current balance backwards, because most questions are about the recent past.
    select (credit_balances.balance - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.account_id = credit_balance_as_of.account_id
            and credit_entries.occurred_at > credit_balance_as_of.moment
    ), 0))::bigint
    from billing.credit_balances
    where credit_balances.account_id = credit_balance_as_of.account_id
$$;

create function public.credit_statement(account_id uuid, period_start timestamptz, period_end timestamptz)
returns table (line text, kind text, source text, feature text, entries bigint, amount bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        'opening', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_start - interval '1 microsecond')
    union all
    (
        select
            'movement', credit_entries.kind, credit_entries.source, credit_entries.feature, count(*),
            sum(credit_entries.amount)::bigint
        from billing.credit_entries
        where credit_entries.account_id = credit_statement.account_id
            and credit_entries.occurred_at >= credit_statement.period_start
            and credit_entries.occurred_at < credit_statement.period_end
        group by credit_entries.kind, credit_entries.source, credit_entries.feature
        order by credit_entries.kind, credit_entries.source, credit_entries.feature
    )
    union all
    select
        'closing', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_end - interval '1 microsecond')
$$;

create function public.credit_usage(account_id uuid, period_start timestamptz, period_end timestamptz)
returns table (day date, feature text, spends bigint, credits bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        (credit_entries.occurred_at at time zone 'utc')::date, credit_entries.feature,
        count(*) filter (where credit_entries.kind <> 'refund'), -sum(credit_entries.amount)::bigint
    from billing.credit_entries
    where credit_entries.account_id = credit_usage.account_id
        and credit_entries.kind in ('spend', 'capture', 'refund')
        and credit_entries.occurred_at >= credit_usage.period_start
        and credit_entries.occurred_at < credit_usage.period_end
    group by 1, 2
    order by 1, 2
$$;

create function public.credit_usage_by_actor(account_id uuid, period_start timestamptz, period_end timestamptz)
returns table (day date, actor text, spends bigint, credits bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        (credit_entries.occurred_at at time zone 'utc')::date, credit_entries.actor,
        count(*) filter (where credit_entries.kind <> 'refund'), -sum(credit_entries.amount)::bigint
    from billing.credit_entries
    where credit_entries.account_id = credit_usage_by_actor.account_id
        and credit_entries.kind in ('spend', 'capture', 'refund')
        and credit_entries.occurred_at >= credit_usage_by_actor.period_start
        and credit_entries.occurred_at < credit_usage_by_actor.period_end
    group by 1, 2
    order by 1, 2
$$;

revoke all on function
    public.credit_balance_as_of(uuid, timestamptz),
    public.credit_statement(uuid, timestamptz, timestamptz),
    public.credit_usage(uuid, timestamptz, timestamptz),
    public.credit_usage_by_actor(uuid, timestamptz, timestamptz)
from public, anon, authenticated, service_role;
grant execute on function
    public.credit_balance_as_of(uuid, timestamptz),
    public.credit_statement(uuid, timestamptz, timestamptz),
    public.credit_usage(uuid, timestamptz, timestamptz),
    public.credit_usage_by_actor(uuid, timestamptz, timestamptz)
to authenticated, service_role;

comment on function public.credit_balance_as_of(uuid, timestamptz) is 'The balance of an account at a point in time.';
comment on function public.credit_statement(uuid, timestamptz, timestamptz) is 'Opening balance, movements by kind, source and feature, and closing balance of a period [start, end).';
comment on function public.credit_usage(uuid, timestamptz, timestamptz) is 'Credits spent by day (UTC) and feature in a period [start, end), minus refunds.';
comment on function public.credit_usage_by_actor(uuid, timestamptz, timestamptz) is 'Credits spent by day (UTC) and actor in a period [start, end), minus refunds; actor null: spent without an actor.';
