-- The price list: what an operation of the app costs in credits, as a dated version for each change.
--
-- Invariant: a version that has been in force is never changed or deleted, because holds and charges refer to it. The
-- version in force is the latest whose valid_from has come. A price is exact until its end and is rounded once for each
-- call, so a fraction of a credit is never lost or charged twice.
--
-- set_operation_price is callable by service_role. Everyone may read what is or was in force, without the markup.

-- Rates as the app's server passes them, complete: {"input": {"credits": 0.3, "per": 1000, "unit": "tokens"}, …}. A
-- number alone means credits for one.
create function billing._checked_rates(rates jsonb)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_component text;
    v_given jsonb;
    v_rate jsonb;
    v_rates jsonb := '{}';
begin
    if jsonb_typeof(_checked_rates.rates) is distinct from 'object' or _checked_rates.rates = '{}' then
        raise exception 'rates must be an object with at least one component'
            using errcode = 'TB107', hint = 'Pass {"input": {"credits": 0.3, "per": 1000, "unit": "tokens"}, "call": 1}.';
    end if;
    for v_component, v_given in select pair.key, pair.value from jsonb_each(_checked_rates.rates) as pair loop
        v_rate := jsonb_build_object('per', 1, 'unit', v_component) || case jsonb_typeof(v_given)
            when 'object' then v_given else jsonb_build_object('credits', v_given)
        end;
        if v_component !~ '^[a-z][a-z0-9_]{0,62}$'
            or (v_rate - array['credits', 'per', 'unit']) <> '{}'
            or jsonb_typeof(v_rate -> 'credits') is distinct from 'number' or jsonb_typeof(v_rate -> 'per') <> 'number'
            or jsonb_typeof(v_rate -> 'unit') <> 'string' or length(v_rate ->> 'unit') not between 1 and 100 then
            raise exception 'the rate % is %, it must be a number or {"credits", "per", "unit"}', v_component, v_given
                using errcode = 'TB107',
                hint = 'A name has lower-case letters, digits and underscores; per (1) and unit (the name) can be left out.';
        elsif (v_rate -> 'credits')::numeric not between 0 and 1000000000000
            or scale(trim_scale((v_rate -> 'credits')::numeric)) > 12
            or (v_rate -> 'per')::numeric not between 1 and 1000000000
            or (v_rate -> 'per')::numeric <> trunc((v_rate -> 'per')::numeric) then
            raise exception 'the rate % is % credits per %', v_component, v_rate -> 'credits', v_rate -> 'per'
                using errcode = 'TB107',
                hint = 'credits is from 0 to 10^12 with at most 12 decimal places, per a whole number from 1 to 10^9.';
        end if;
        v_rates := v_rates || jsonb_build_object(v_component, v_rate);
    end loop;
    return v_rates;
end
$$;

-- Rates with the markup, as clients see them and as work is charged. Exact: a percentage of a decimal is a decimal.
create function billing._marked_up(rates jsonb, markup numeric)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select jsonb_object_agg(rate.key, rate.value || jsonb_build_object(
            'credits', trim_scale((rate.value -> 'credits')::numeric * (1 + _marked_up.markup * 0.01))
        ))
        from jsonb_each(_marked_up.rates) as rate
    );
end
$$;

create table billing.operation_prices (
    id bigint generated always as identity primary key,
    operation text not null,
    valid_from timestamptz not null,
    name text not null,
    active boolean not null,
    rates jsonb not null,
    markup numeric not null,
    charged_rates jsonb not null generated always as (billing._marked_up(rates, markup)) stored,
    minimum billing.credits not null,
    rounding text not null,
    on_excess text not null,
    created_at timestamptz not null default now(),
    constraint operation_has_1_to_200_characters check (length(operation) between 1 and 200),
    constraint markup_is_a_percentage check (markup between -100 and 1000000 and scale(markup) <= 6),
    constraint rounding_is_known check (rounding in ('up', 'half_up', 'down')),
    constraint on_excess_is_known check (on_excess in ('debt', 'clip', 'refuse'))
);

create unique index operation_prices_in_force on billing.operation_prices (operation, valid_from desc);

alter table billing.operation_prices enable row level security;
revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.operation_prices from public, anon, authenticated, service_role;

-- Announced prices are not public until they are in force.
create policy operation_prices_select_everyone on billing.operation_prices
for select to anon, authenticated using (valid_from <= (select billing.current_time()));

grant select (
    id, operation, valid_from, name, active, charged_rates, minimum, rounding, on_excess
) on billing.operation_prices to anon, authenticated;
grant select on billing.operation_prices to service_role;

create trigger tg_operation_prices__append_only
before update or truncate on billing.operation_prices
for each statement execute function billing.tg_ledger__append_only();

create function billing.tg_operation_prices__kept()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if old.valid_from <= billing.current_time() then
        raise exception 'price % of operation % has been in force since %', old.id, old.operation, old.valid_from
            using errcode = 'TB108', hint = 'Add a new version with set_operation_price or `till plans push`.';
    end if;
    return old;
end
$$;

create trigger tg_operation_prices__kept
before delete on billing.operation_prices
for each row execute function billing.tg_operation_prices__kept();

-- The version that is in force at a time. TB100 if there is none, or if it is no longer offered.
create function billing._operation_price(operation text, moment timestamptz)
returns billing.operation_prices
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.operation_prices;
begin
    select * into v_price from billing.operation_prices
    where operation_prices.operation = _operation_price.operation
        and operation_prices.valid_from <= _operation_price.moment
    order by operation_prices.valid_from desc
    limit 1;
    if v_price.active is not true then
        raise exception 'there is no operation % in the price list', coalesce(_operation_price.operation, 'null')
            using errcode = 'TB100', hint = 'List operations with `till operations list`. Add one to the plan file and push it.';
    end if;
    return v_price;
end
$$;

-- What quantities cost by a version: exact, and as whole credits. A call is one `call` unless the quantities say more.
create function billing._price_work(
    price billing.operation_prices, quantities jsonb, out unrounded numeric, out credits bigint
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rates jsonb := (_price_work.price).charged_rates;
    v_component text;
    v_given jsonb;
    v_rate jsonb;
    v_quantity numeric;
    v_per numeric;
    -- A fraction, because a rate per 60 seconds is no decimal.
    v_top numeric := 0;
    v_bottom numeric := 1;
    v_credits numeric;
begin
    if jsonb_typeof(_price_work.quantities) is distinct from 'object' then
        raise exception 'quantities are %, they must be an object', coalesce(jsonb_typeof(_price_work.quantities), 'null')
            using errcode = 'TB102', hint = 'Pass a JSON object, such as {"input": 1200, "output": 350}.';
    end if;
    for v_component, v_given in
        select pair.key, pair.value from jsonb_each(
            case when v_rates ? 'call' then jsonb '{"call": 1}' else jsonb '{}' end || _price_work.quantities
        ) as pair
    loop
        v_rate := v_rates -> v_component;
        if v_rate is null then
            raise exception 'operation % has no rate for %, only for %', (_price_work.price).operation, v_component,
                (select string_agg(name, ', ' order by name) from jsonb_object_keys(v_rates) as name)
                using errcode = 'TB101', hint = 'Correct the name, or add a rate for it to the plan file and push it.';
        end if;
        v_quantity := case jsonb_typeof(v_given) when 'number' then v_given::numeric end;
        if v_quantity is null or v_quantity not between 0 and 1000000000000000 or scale(v_quantity) > 30 then
            raise exception 'the quantity % is %, it must be a number from 0 to 1000000000000000', v_component, v_given
                using errcode = 'TB102', hint = 'Pass a JSON number with at most 30 decimal places.';
        end if;
        v_quantity := v_quantity * (v_rate -> 'credits')::numeric;
        v_per := (v_rate -> 'per')::numeric;
        if v_per = v_bottom then
            v_top := v_top + v_quantity;
        else
            v_top := v_top * v_per + v_quantity * v_bottom;
            v_bottom := v_bottom * v_per;
        end if;
    end loop;
    v_credits := greatest((_price_work.price).minimum, case (_price_work.price).rounding
        when 'down' then div(v_top, v_bottom)
        when 'half_up' then div(2 * v_top + v_bottom, 2 * v_bottom)
        else div(v_top, v_bottom) + sign(mod(v_top, v_bottom))
    end);
    if v_credits > 9223372036854775807 then
        raise exception 'operation % would cost % credits', (_price_work.price).operation, v_credits
            using errcode = 'TB103', hint = 'Pass smaller quantities, or lower the rates: the most is 9223372036854775807 credits.';
    end if;
    _price_work.unrounded := trim_scale(div(v_top * 1000000000000000000, v_bottom) * 0.000000000000000001);
    _price_work.credits := v_credits;
end
$$;

create function billing.estimate_work(operation text, quantities jsonb)
returns table (operation_price_id bigint, unrounded numeric, credits bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.operation_prices := billing._operation_price(estimate_work.operation, billing.current_time());
begin
    return query
    select v_price.id, priced.unrounded, priced.credits
    from billing._price_work(v_price, estimate_work.quantities) as priced;
end
$$;

create function billing.set_operation_price(
    operation text,
    rates jsonb,
    name text default null,
    markup numeric default 0,
    minimum numeric default 0,
    rounding text default 'up',
    on_excess text default 'debt',
    active boolean default true,
    valid_from timestamptz default null
)
returns billing.operation_prices
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz;
    v_from timestamptz;
    v_wanted billing.operation_prices;
    v_price billing.operation_prices;
begin
    if coalesce(length(set_operation_price.operation), 0) not between 1 and 200 then
        raise exception 'operation has % characters, it needs 1 to 200', coalesce(length(set_operation_price.operation), 0)
            using errcode = 'TB107', hint = 'Pass a short key, such as chat or openai/gpt-5.';
    elsif (set_operation_price.markup between -100 and 1000000 and scale(set_operation_price.markup) <= 6) is not true then
        raise exception 'markup is %, it must be a percentage from -100 to 1000000', set_operation_price.markup
            using errcode = 'TB107', hint = 'Pass 20 for 20 % above the rates, with at most 6 decimal places.';
    elsif (set_operation_price.rounding in ('up', 'half_up', 'down')) is not true then
        raise exception 'rounding is %, it must be up, half_up or down', set_operation_price.rounding
            using errcode = 'TB107', hint = 'Leave it out to round up.';
    end if;
    perform billing._check_on_excess(set_operation_price.on_excess);
    -- One at a time, so that each sees the versions before it. Readers don't wait.
    lock table billing.operation_prices in share row exclusive mode;
    v_now := billing.current_time();
    v_from := greatest(set_operation_price.valid_from, v_now);
    v_wanted := row(
        null, set_operation_price.operation, v_from,
        coalesce(set_operation_price.name, set_operation_price.operation), set_operation_price.active,
        billing._checked_rates(set_operation_price.rates), trim_scale(set_operation_price.markup), null,
        billing._checked_limit('minimum', coalesce(set_operation_price.minimum, 0)), set_operation_price.rounding,
        set_operation_price.on_excess, null
    )::billing.operation_prices;

    select * into v_price from billing.operation_prices
    where operation_prices.operation = v_wanted.operation and operation_prices.valid_from <= v_now
    order by operation_prices.valid_from desc
    limit 1;
    -- What was announced and is no longer wanted never takes effect.
    delete from billing.operation_prices
    where operation_prices.operation = v_wanted.operation and operation_prices.valid_from > v_now
        and not (
            operation_prices.valid_from = v_from and billing._is_same_price(operation_prices, v_wanted)
        );
    if v_price.id is null or not billing._is_same_price(v_price, v_wanted) then
        insert into billing.operation_prices (
            operation, valid_from, name, active, rates, markup, minimum, rounding, on_excess
        )
        values (
            v_wanted.operation, v_from, v_wanted.name, v_wanted.active, v_wanted.rates, v_wanted.markup,
            v_wanted.minimum, v_wanted.rounding, v_wanted.on_excess
        )
        on conflict do nothing
        returning * into v_price;
        if not found then
            select * into strict v_price from billing.operation_prices
            where operation_prices.operation = v_wanted.operation and operation_prices.valid_from = v_from;
        end if;
    end if;
    return v_price;
end
$$;

create function billing._check_on_excess(on_excess text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_check_on_excess.on_excess in ('debt', 'clip', 'refuse')) is not true then
        raise exception 'on_excess is %, it must be debt, clip or refuse', coalesce(_check_on_excess.on_excess, 'null')
            using errcode = 'TB106', hint = 'debt charges all of it, clip what is held, refuse nothing.';
    end if;
end
$$;

create function billing._is_same_price(price billing.operation_prices, other billing.operation_prices)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        (price).name, (price).active, (price).rates, (price).markup, (price).minimum, (price).rounding,
        (price).on_excess
    ) is not distinct from (
        (other).name, (other).active, (other).rates, (other).markup, (other).minimum, (other).rounding,
        (other).on_excess
    );
end
$$;

revoke all on function
    billing._checked_rates, billing._marked_up, billing.tg_operation_prices__kept, billing._operation_price,
    billing._price_work, billing.estimate_work, billing.set_operation_price, billing._check_on_excess,
    billing._is_same_price
from public, anon, authenticated, service_role;
grant execute on function billing.estimate_work(text, jsonb) to authenticated, service_role;
grant execute on function
    billing.set_operation_price(text, jsonb, text, numeric, numeric, text, text, boolean, timestamptz)
to service_role;

comment on table billing.operation_prices is 'What operations cost: a version for each change of a price, never changed once it was in force.';
comment on column billing.operation_prices.operation is 'The key by which the app names the operation.';
comment on column billing.operation_prices.valid_from is 'From when it is in force, until the next version of the operation.';
comment on column billing.operation_prices.active is 'False: the operation is no longer offered. Open holds can still be settled.';
comment on column billing.operation_prices.rates is 'Credits for each component, before the markup: {"input": {"credits": 0.3, "per": 1000, "unit": "tokens"}}.';
comment on column billing.operation_prices.markup is 'Percentage that is added to all rates.';
comment on column billing.operation_prices.charged_rates is 'The rates with the markup: what is charged.';
comment on column billing.operation_prices.minimum is 'The fewest credits that a call costs.';
comment on column billing.operation_prices.rounding is 'How the sum of a call is rounded to whole credits: up, half_up or down.';
comment on column billing.operation_prices.on_excess is 'What settle_work does if work costs more than its hold has: debt, clip or refuse.';
comment on function billing.estimate_work(text, jsonb) is 'What an operation would cost now: unrounded, and as the whole credits that would be charged.';
comment on function billing.set_operation_price(text, jsonb, text, numeric, numeric, text, text, boolean, timestamptz) is 'Sets what an operation costs from valid_from on (null or past: now), as a new version; nothing if that is its price already. Announced versions that are not in force yet are replaced.';
