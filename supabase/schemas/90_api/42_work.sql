-- Priced work over the Data API: the price list for everyone, an account's charges for its members, and functions in
-- `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. The app's own server (service_role) holds, settles and
-- spends; signed-in users may estimate.

create view public.billing_operations with (security_invoker = on) as
select
    prices.operation, prices.name, prices.charged_rates as rates, prices.minimum, prices.rounding, prices.on_excess,
    prices.valid_from
from billing.operation_prices as prices
where prices.active
    and prices.valid_from = (
        select max(latest.valid_from) from billing.operation_prices as latest
        where latest.operation = prices.operation and latest.valid_from <= (select billing.current_time())
    );

create view public.work_charges with (security_invoker = on) as
select
    charges.id, charges.account_id, prices.operation, prices.name, charges.quantities, prices.charged_rates as rates,
    charges.unrounded, charges.credits, charges.charged, charges.hold_id, charges.entry_id, charges.excess_entry_id,
    charges.occurred_at
from billing.work_charges as charges
join billing.operation_prices as prices on prices.id = charges.operation_price_id;

revoke all on public.billing_operations, public.work_charges from public, anon, authenticated, service_role;
grant select on public.billing_operations to anon, authenticated, service_role;
grant select on public.work_charges to authenticated, service_role;

create function public.estimate_work(operation text, quantities jsonb)
returns table (operation_price_id bigint, unrounded numeric, credits bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.estimate_work(estimate_work.operation, estimate_work.quantities)
$$;

create function public.hold_work(
    account_id uuid,
    operation text,
    quantities jsonb,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    actor text default null
)
returns billing.credit_holds
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.hold_work(
        hold_work.account_id, hold_work.operation, hold_work.quantities, hold_work.idempotency_key,
        hold_work.expires_in, hold_work.description, hold_work.metadata, hold_work.actor
    )
$$;

create function public.settle_work(
    hold_id uuid,
    usage jsonb,
    idempotency_key text,
    on_excess text default null,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.work_charges
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.settle_work(
        settle_work.hold_id, settle_work.usage, settle_work.idempotency_key, settle_work.on_excess,
        settle_work.description, settle_work.metadata
    )
$$;

create function public.spend_work(
    account_id uuid,
    operation text,
    quantities jsonb,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    actor text default null
)
returns billing.work_charges
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.spend_work(
        spend_work.account_id, spend_work.operation, spend_work.quantities, spend_work.idempotency_key,
        spend_work.description, spend_work.metadata, spend_work.actor
    )
$$;

revoke all on function
    public.estimate_work(text, jsonb),
    public.hold_work(uuid, text, jsonb, text, interval, text, jsonb, text),
    public.settle_work(uuid, jsonb, text, text, text, jsonb),
    public.spend_work(uuid, text, jsonb, text, text, jsonb, text)
from public, anon, authenticated, service_role;
grant execute on function public.estimate_work(text, jsonb) to authenticated, service_role;
grant execute on function
    public.hold_work(uuid, text, jsonb, text, interval, text, jsonb, text),
    public.settle_work(uuid, jsonb, text, text, text, jsonb),
    public.spend_work(uuid, text, jsonb, text, text, jsonb, text)
to service_role;

comment on view public.billing_operations is 'The price list in force: what each operation costs in credits.';
comment on column public.billing_operations.operation is 'The key by which the app names the operation.';
comment on column public.billing_operations.name is 'Its name for people.';
comment on column public.billing_operations.rates is 'For each component: credits, per how many, and the unit: {"input": {"credits": 0.36, "per": 1000, "unit": "tokens"}}.';
comment on column public.billing_operations.minimum is 'The fewest credits that a call costs.';
comment on column public.billing_operations.rounding is 'How the sum of a call is rounded to whole credits: up, half_up or down.';
comment on column public.billing_operations.on_excess is 'What happens if work costs more than was held: debt, clip or refuse.';
comment on column public.billing_operations.valid_from is 'Since when this price is in force.';
comment on view public.work_charges is 'What priced work of the user''s accounts cost: quantities, rates and credits.';
comment on column public.work_charges.id is 'Ascending; for paging.';
comment on column public.work_charges.account_id is 'The account that was charged.';
comment on column public.work_charges.operation is 'The key by which the app names the operation.';
comment on column public.work_charges.name is 'Its name for people.';
comment on column public.work_charges.quantities is 'How much of each component was used.';
comment on column public.work_charges.hold_id is 'The hold that was settled; null if there was none.';
comment on column public.work_charges.rates is 'The rates that were charged.';
comment on column public.work_charges.unrounded is 'What the quantities cost before rounding and the minimum.';
comment on column public.work_charges.credits is 'What the work costs by the price list.';
comment on column public.work_charges.charged is 'What was charged; less than credits only if the excess over the hold was clipped.';
comment on column public.work_charges.entry_id is 'The entry in credit_history; null if nothing was charged.';
comment on column public.work_charges.excess_entry_id is 'The entry of what the hold did not have.';
comment on column public.work_charges.occurred_at is 'When the work was charged.';
