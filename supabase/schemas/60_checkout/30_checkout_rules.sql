-- Checkout's rules: who may buy for an account, what is on sale, and at which quantity.
--
-- Invariant: all decisions use rows that clients cannot write. Prices come from Stripe and plans from our tables; a
-- client never sends an amount.
--
-- Private: called by prepare_checkout and prepare_portal.

-- The account for which a user buys: their own, or one that they own or administer. Checks the user's row, because a
-- token outlives its user.
create function billing._account_to_bill(user_id uuid, account_id uuid)
returns uuid
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not billing._is_active_user(_account_to_bill.user_id) then
        raise exception 'this user no longer exists'
            using errcode = 'TB040', hint = 'Sign in again.';
    elsif _account_to_bill.account_id is null then
        return billing.ensure_account(_account_to_bill.user_id);
    elsif not exists (
        select from billing.accounts
        where accounts.id = _account_to_bill.account_id and accounts.owner_id = _account_to_bill.user_id
    ) and not exists (
        select from billing.account_members
        where account_members.account_id = _account_to_bill.account_id
            and account_members.user_id = _account_to_bill.user_id and account_members.role in ('owner', 'admin')
    ) then
        raise exception 'this user cannot buy for that account'
            using errcode = 'TB041', hint = 'Only owners and admins of an account can. Leave account_id out to buy for the user''s own account.';
    end if;
    return _account_to_bill.account_id;
end
$$;

-- The plan or pack with this price id or lookup key that is on sale now.
create function billing._price_on_sale(plan text, pack text)
returns table (stripe_price_id text, stripe_product_id text, is_metered boolean, seats_min bigint, seats_max bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_price_on_sale.plan is null) = (_price_on_sale.pack is null) then
        raise exception 'pass either plan or pack'
            using errcode = 'TB048', hint = 'Use a lookup key or a price id.';
    end if;
    return query
    select price.stripe_price_id, price.stripe_product_id, price.is_metered, price.seats_min, price.seats_max
    from (
        select plans.stripe_price_id, plans.stripe_product_id, plans.usage_type = 'metered', plans.seats_min,
            -- Each seat grants credits, and seats of a free plan cost nothing: only as many as were declared.
            case when plans.unit_amount = 0 then coalesce(plans.seats_max, plans.seats_min) else plans.seats_max end,
            plans.lookup_key, plans.as_of, 'plan'
        from billing.plans where plans.active and plans.livemode = billing.is_livemode()
        union all
        select credit_packs.stripe_price_id, credit_packs.stripe_product_id, false, 1, null, credit_packs.lookup_key,
            credit_packs.as_of, 'pack'
        from billing.credit_packs
        -- A free pack could be taken any number of times.
        where credit_packs.active and credit_packs.livemode = billing.is_livemode()
            and credit_packs.unit_amount is distinct from 0
    ) as price (
        stripe_price_id, stripe_product_id, is_metered, seats_min, seats_max, lookup_key, as_of, kind
    )
    join billing.products on products.stripe_product_id = price.stripe_product_id and products.active
    where price.kind = case when _price_on_sale.plan is null then 'pack' else 'plan' end
        and coalesce(_price_on_sale.plan, _price_on_sale.pack) in (price.stripe_price_id, price.lookup_key)
    -- A lookup key can move between prices in Stripe; until both events have arrived, the newer price has it.
    order by price.stripe_price_id = coalesce(_price_on_sale.plan, _price_on_sale.pack) desc, price.as_of desc
    limit 1;
    if not found then
        raise exception 'this % is not on sale', case when _price_on_sale.plan is null then 'pack' else 'plan' end
            using errcode = 'TB042', hint = 'See public.billing_plans and billing_packs. A new price appears after its event was processed.';
    end if;
end
$$;

-- A transaction that ends the price waits until the caller commits, and then sees the caller's rows. TB042 if the price
-- has ended by now, or no longer has that name. Product before price, as Stripe's events lock them.
create function billing._hold_price(stripe_price_id text, name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.products
    where products.stripe_product_id in (
        select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id
        union all
        select packs.stripe_product_id from billing.credit_packs as packs
        where packs.stripe_price_id = _hold_price.stripe_price_id
    )
    for share;
    perform from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id for share;
    perform from billing.credit_packs where credit_packs.stripe_price_id = _hold_price.stripe_price_id for share;
    if not exists (
        select from (
            select plans.stripe_price_id, plans.lookup_key, plans.active, plans.stripe_product_id from billing.plans
            union all
            select packs.stripe_price_id, packs.lookup_key, packs.active, packs.stripe_product_id
            from billing.credit_packs as packs
        ) as price
        join billing.products on products.stripe_product_id = price.stripe_product_id
        where price.stripe_price_id = _hold_price.stripe_price_id and price.active and products.active
            and _hold_price.name in (price.stripe_price_id, price.lookup_key)
    ) then
        raise exception '% is no longer on sale', _hold_price.name
            using errcode = 'TB042', hint = 'Try again: another price may have this lookup key now.';
    end if;
end
$$;

-- Whole units within the plan's or else the owner's limit; the default is the smallest quantity. Null for metered
-- prices, which Stripe counts.
create function billing._checked_quantity(quantity numeric, is_metered boolean, seats_min bigint, seats_max bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_least bigint := case when _checked_quantity.is_metered then 1 else _checked_quantity.seats_min end;
    v_most bigint := case
        when _checked_quantity.is_metered then 1
        else coalesce(_checked_quantity.seats_max, (select settings.max_checkout_quantity from billing.settings))
    end;
    v_quantity numeric := coalesce(_checked_quantity.quantity, v_least);
begin
    if v_quantity not between v_least and v_most or v_quantity % 1 <> 0 then
        raise exception 'quantity must be a whole number from % to %', v_least, v_most
            using errcode = 'TB043',
            hint = 'The limit is the plan''s metadata seats, or else billing.settings.max_checkout_quantity.';
    end if;
    return case when not _checked_quantity.is_metered then v_quantity end;
end
$$;

-- The URL with Stripe's placeholder for the session's id in its query, so that the page can show the purchase.
create function billing._with_session_id(url text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when pg_catalog.strpos(_with_session_id.url, '{CHECKOUT_SESSION_ID}') > 0 then _with_session_id.url
        else pg_catalog.regexp_replace(
            _with_session_id.url, '^([^#]*)',
            '\1' || case when _with_session_id.url ~ '^[^#]*\?' then '&' else '?' end || 'session_id={CHECKOUT_SESSION_ID}'
        )
    end
$$;

revoke all on function
    billing._account_to_bill, billing._price_on_sale, billing._hold_price, billing._checked_quantity,
    billing._with_session_id
from public, anon, authenticated, service_role;
