-- The history of a plan's terms.
--
-- Invariant: a row is valid from valid_from until the valid_from of the next row; the first row also for all time
-- before it. A grant uses the terms of its own time, so editing a price in Stripe changes no earlier grant. Rows have
-- the time of Stripe's event, late events included, so their order makes no difference.
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

-- Inserting or updating a plan with SQL records new terms from now on. _resolve_plan records what Stripe declares, with
-- the time of the event.
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

revoke all on function billing._record_terms, billing.tg_plans__record_terms, billing._terms_at
from public, anon, authenticated, service_role;

comment on table billing.credit_terms is 'What each plan declared, and since when. Each grant uses the terms of its own time.';
comment on column billing.credit_terms.valid_from is 'Time of the Stripe event, or of the edit in SQL. The first row is also valid before it.';
