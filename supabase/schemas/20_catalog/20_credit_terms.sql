-- What a plan promises in credits: what its metadata declares, and the history of it.
--
-- Invariant: a value comes from the metadata of the price, else of the product, else it stays as it is. A row of the
-- history is valid from valid_from until the valid_from of the next row; the first row also for all time before it. A
-- grant uses the terms of its own time, so editing a price in Stripe changes no earlier grant. Rows have the time of
-- Stripe's event, late events included, so their order makes no difference.
--
-- A new term is a column of billing.plans, a key here, and whatever reads it in 50_allocation.
--
-- Only functions write; service_role reads.

create table billing.credit_terms (
    stripe_price_id text not null references billing.plans (stripe_price_id) on delete cascade,
    valid_from timestamptz not null,
    initial_credits bigint not null,
    monthly_credits bigint not null,
    trial_credits bigint not null,
    rollover text not null,
    rollover_periods integer,
    rollover_cap bigint,
    proration_credits text not null,
    downgrade_credits text not null,
    cancel_credits text not null,
    trial_end_credits text not null,
    primary key (stripe_price_id, valid_from)
);

alter table billing.credit_terms enable row level security;
revoke all on billing.credit_terms from public, anon, authenticated, service_role;
grant select on billing.credit_terms to service_role;

-- The plan that its own and its product's metadata declare; undeclared values stay as they are. The product's credits
-- apply to its licensed prices only: a metered price bills usage, and has credits only by its own metadata.
create function billing._declared_plan(plan billing.plans, product billing.products)
returns billing.plans
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans := _declared_plan.plan;
    v_product billing.products := _declared_plan.product;
    v_rollover text;
    v_features text := coalesce(v_plan.metadata ->> 'features', v_product.metadata ->> 'features');
begin
    if v_plan.usage_type = 'metered' then
        v_product.metadata := '{}';
    end if;
    v_rollover := coalesce(v_plan.metadata ->> 'credits_rollover', v_product.metadata ->> 'credits_rollover');
    if v_rollover !~ '^(none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15})$' then
        raise exception 'metadata credits_rollover of % is "%", it must be none, all, periods:N or cap:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_rollover is not null then
        v_plan.rollover := split_part(v_rollover, ':', 1);
        v_plan.rollover_periods := case when v_rollover ^@ 'periods:' then split_part(v_rollover, ':', 2)::integer end;
        v_plan.rollover_cap := case when v_rollover ^@ 'cap:' then split_part(v_rollover, ':', 2)::bigint end;
    end if;
    v_plan.initial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'initial_credits', v_plan.metadata, v_product.metadata), v_plan.initial_credits);
    v_plan.monthly_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'monthly_credits', v_plan.metadata, v_product.metadata), v_plan.monthly_credits);
    v_plan.trial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'trial_credits', v_plan.metadata, v_product.metadata), v_plan.trial_credits);
    v_plan.proration_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_proration', array['none', 'delta', 'full']), v_plan.proration_credits);
    v_plan.downgrade_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_downgrade', array['take_back', 'keep']), v_plan.downgrade_credits);
    v_plan.cancel_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_cancel', array['period_end', 'stop']), v_plan.cancel_credits);
    v_plan.trial_end_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'trial_credits_end', array['trial_end', 'keep']), v_plan.trial_end_credits);
    v_plan.features := coalesce(billing._declared_features(v_plan.stripe_price_id, v_features), v_plan.features);
    return v_plan;
end
$$;

create function billing._declares_credits(metadata jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select _declares_credits.metadata ?| array[
        'initial_credits', 'monthly_credits', 'trial_credits', 'credits_rollover', 'credits_on_proration',
        'credits_on_downgrade', 'credits_on_cancel', 'trial_credits_end'
    ]
$$;

-- Gives a plan the terms that were resolved. The caller records them with the time of Stripe's event, so the trigger
-- below must not.
create function billing._set_terms(plan billing.plans)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('billing.is_resolving_plan', 'true', true);
    update billing.plans
    set initial_credits = (_set_terms.plan).initial_credits,
        monthly_credits = (_set_terms.plan).monthly_credits,
        trial_credits = (_set_terms.plan).trial_credits,
        rollover = (_set_terms.plan).rollover,
        rollover_periods = (_set_terms.plan).rollover_periods,
        rollover_cap = (_set_terms.plan).rollover_cap,
        proration_credits = (_set_terms.plan).proration_credits,
        downgrade_credits = (_set_terms.plan).downgrade_credits,
        cancel_credits = (_set_terms.plan).cancel_credits,
        trial_end_credits = (_set_terms.plan).trial_end_credits,
        features = (_set_terms.plan).features,
        updated_at = now()
    where plans.stripe_price_id = (_set_terms.plan).stripe_price_id;
    perform set_config('billing.is_resolving_plan', '', true);
end
$$;

create function billing._record_terms(plan billing.plans, valid_from timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.credit_terms (
        stripe_price_id, valid_from, initial_credits, monthly_credits, trial_credits, rollover, rollover_periods,
        rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits
    )
    values (
        (_record_terms.plan).stripe_price_id, _record_terms.valid_from, (_record_terms.plan).initial_credits,
        (_record_terms.plan).monthly_credits, (_record_terms.plan).trial_credits, (_record_terms.plan).rollover,
        (_record_terms.plan).rollover_periods, (_record_terms.plan).rollover_cap,
        (_record_terms.plan).proration_credits, (_record_terms.plan).downgrade_credits,
        (_record_terms.plan).cancel_credits, (_record_terms.plan).trial_end_credits
    )
    on conflict on constraint credit_terms_pkey do update
    set initial_credits = excluded.initial_credits,
        monthly_credits = excluded.monthly_credits,
        trial_credits = excluded.trial_credits,
        rollover = excluded.rollover,
        rollover_periods = excluded.rollover_periods,
        rollover_cap = excluded.rollover_cap,
        proration_credits = excluded.proration_credits,
        downgrade_credits = excluded.downgrade_credits,
        cancel_credits = excluded.cancel_credits,
        trial_end_credits = excluded.trial_end_credits;
end
$$;

-- Inserting or updating a plan with SQL records new terms from now on. What Stripe declares is recorded by
-- _resolve_plan, with the time of the event.
create function billing.tg_plans__record_terms()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(current_setting('billing.is_resolving_plan', true), '') = '' then
        perform billing._record_terms(new, billing.current_time());
    end if;
    return null;
end
$$;

create trigger tg_plans__record_terms_of_new
after insert on billing.plans
for each row when (new.initial_credits + new.monthly_credits + new.trial_credits > 0)
execute function billing.tg_plans__record_terms();

create trigger tg_plans__record_terms
after update of
    initial_credits, monthly_credits, trial_credits, rollover, rollover_periods, rollover_cap, proration_credits,
    downgrade_credits, cancel_credits, trial_end_credits
on billing.plans
for each row execute function billing.tg_plans__record_terms();

-- The terms of a plan at a point in time. Private, on the hot path: one index look-up.
create function billing._terms_at(stripe_price_id text, moment timestamptz)
returns billing.credit_terms
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_terms billing.credit_terms;
begin
    select * into v_terms from billing.credit_terms
    where credit_terms.stripe_price_id = _terms_at.stripe_price_id and credit_terms.valid_from <= _terms_at.moment
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        select * into v_terms from billing.credit_terms
        where credit_terms.stripe_price_id = _terms_at.stripe_price_id
        order by credit_terms.valid_from
        limit 1;
    end if;
    return v_terms;
end
$$;

revoke all on function
    billing._declared_plan, billing._declares_credits, billing._set_terms, billing._record_terms,
    billing.tg_plans__record_terms, billing._terms_at
from public, anon, authenticated, service_role;

comment on table billing.credit_terms is 'What each plan declared, and since when. Each grant uses the terms of its own time.';
comment on column billing.credit_terms.valid_from is 'Time of the Stripe event, or of the edit in SQL. The first row is also valid before it.';
