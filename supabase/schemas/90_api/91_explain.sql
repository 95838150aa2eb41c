-- Why a customer has the credits that they have: what `till explain` and the account's page of the dashboard read.
--
-- Invariant: nothing here writes. The functions run as their owner, because the worth of payments is calculated by private
-- functions. Callable by service_role only. The cost grows with an account's payments, not with what it spends.
--
--   find_customers     an id, an e-mail address, a name or a part of one → Stripe customers that no account owns
--   explain_credits    an account → what each payment is worth, and what the ledger has of it
--   explain_free_credits   an account → why it gets no free credits

create function billing.find_customers(search text, results_max integer)
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id text := pg_catalog.btrim(find_customers.search);
    v_search text := lower(v_id);
begin
    return query
    select customers.stripe_customer_id from billing.customers
    where customers.account_id is null and (
        customers.stripe_customer_id in (
            select owners.stripe_customer_id from billing._owners_of_object(v_id) as owners
        )
        or lower(customers.email) = v_search
    )
    union
    select customers.stripe_customer_id from billing.customers
    where customers.status = 'unlinked' and length(v_search) >= 3
        and (pg_catalog.strpos(lower(customers.email), v_search) > 0 or pg_catalog.strpos(lower(customers.name), v_search) > 0)
    order by 1
    limit find_customers.results_max;
end
$$;

-- By business key, newest first: a month, a change, initial or trial credits, a pack. What a payment is worth now, what of
-- that was returned, what the ledger has of it (posted) and what is unspent; waits_for: why a month is not granted yet.
create function billing.explain_credits(account_id uuid, results_max integer)
returns table (
    business_key text, source text, moment timestamptz, stripe_price_id text, stripe_invoice_id text,
    stripe_payment_intent_id text, worth bigint, returned bigint, posted bigint, remaining bigint, expires_at timestamptz,
    waits_for text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_ids text[] := array(
        select distinct credit_schedules.stripe_subscription_id
        from billing.subscriptions
        join billing.credit_schedules using (stripe_subscription_id)
        where subscriptions.account_id = explain_credits.account_id
    );
begin
    return query
    with paid as materialized (
        select
            moves.key, moves.source, moves.moment, moves.stripe_price_id, moves.stripe_invoice_id,
            null as stripe_payment_intent_id, moves.credits, moves.returned, moves.expires_at, case
                when moves.is_waiting then (
                    select max(credit_schedules.disarmed_reason) from billing.credit_schedules
                    where credit_schedules.stripe_invoice_id = moves.stripe_invoice_id
                )
            end as waits_for
        from billing._worth(
            v_subscription_ids, '-infinity', billing._time_of_account(explain_credits.account_id)
        ) as moves
        union all
        select
            purchases.business_key, purchases.source, purchases.purchased_at, purchases.stripe_price_id,
            purchases.stripe_invoice_id, purchases.stripe_payment_intent_id,
            purchases.credits - billing._returned_of_purchase(purchases), billing._returned_of_purchase(purchases),
            purchases.expires_at, null
        from billing.pack_purchases as purchases
        where purchases.account_id = explain_credits.account_id
    ),
    lots as materialized (
        select
            split_part(grants.idempotency_key, '#', 1) as key, min(grants.source) as source,
            min(grants.effective_at) as moment, min(grants.stripe_price_id) as stripe_price_id,
            min(grants.stripe_invoice_id) as stripe_invoice_id,
            min(grants.stripe_payment_intent_id) as stripe_payment_intent_id,
            min(grants.stripe_subscription_item_id) as stripe_subscription_item_id,
            sum(grants.amount)::bigint as amount, sum(grants.remaining)::bigint as remaining,
            max(grants.expires_at) as expires_at
        from billing.credit_grants as grants
        where grants.account_id = explain_credits.account_id and grants.key_space = 'stripe'
            -- Of an allowance there may be one a day.
            and (grants.source <> 'free' or grants.closed_at is null)
        group by 1
    ),
    -- Initial credits of a paid invoice: minus what was returned of it.
    explained as (
        select
            coalesce(paid.key, lots.key) as key, coalesce(paid.source, lots.source) as source,
            coalesce(paid.moment, lots.moment) as moment,
            coalesce(paid.stripe_price_id, lots.stripe_price_id) as stripe_price_id,
            coalesce(paid.stripe_invoice_id, lots.stripe_invoice_id) as stripe_invoice_id,
            coalesce(paid.stripe_payment_intent_id, lots.stripe_payment_intent_id) as stripe_payment_intent_id,
            coalesce(paid.credits, lots.amount - coalesce(of_invoice.credits, 0)) as worth,
            coalesce(paid.returned, of_invoice.credits, 0) as returned,
            case
                when lots.key ^@ 'initial:' then lots.amount
                    + billing._posted_credits(explain_credits.account_id, lots.key || ':returned')
                else billing._posted_credits(explain_credits.account_id, coalesce(paid.key, lots.key))
            end as posted,
            coalesce(lots.remaining, 0) as remaining, coalesce(paid.expires_at, lots.expires_at) as expires_at,
            paid.waits_for
        from paid
        full join lots on lots.key = paid.key
        left join lateral (
            select sum(gone.credits)::bigint as credits
            from billing._returned_credits(lots.stripe_invoice_id) as gone
            where lots.key ^@ 'initial:' and gone.moment is null
                and gone.stripe_subscription_item_id = lots.stripe_subscription_item_id
        ) as of_invoice on true
    )
    select
        explained.key, explained.source, explained.moment, explained.stripe_price_id, explained.stripe_invoice_id,
        explained.stripe_payment_intent_id, explained.worth, explained.returned, explained.posted, explained.remaining,
        explained.expires_at, explained.waits_for
    from explained
    where explained.worth <> 0 or explained.returned <> 0 or explained.posted <> 0
    order by explained.moment desc, explained.key
    limit explain_credits.results_max;
end
$$;

-- Rules of free credits by which an account gets none, and why: see _free_candidates; same_person: another account of the
-- person gets them.
create function billing.explain_free_credits(account_id uuid)
returns table (rule text, reason text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select found.name, found.reason from (
        select
            free_credits.name, coalesce(candidates.reason, (
                select 'same_person' from billing.free_credit_persons as others
                where others.rule = free_credits.name and others.person = candidates.person
                    and others.account_id <> candidates.account_id
            )) as reason
        from billing.free_credits
        cross join lateral billing._free_candidates(
            free_credits, array[explain_free_credits.account_id]
        ) as candidates
        where free_credits.active
            and coalesce(candidates.granted_for < billing._free_period(free_credits.every, billing.current_time()), true)
    ) as found
    where found.reason is not null
    order by found.name;
end
$$;

revoke all on function billing.find_customers, billing.explain_credits, billing.explain_free_credits from public, anon, authenticated, service_role;
grant execute on function
    billing.find_customers(text, integer), billing.explain_credits(uuid, integer), billing.explain_free_credits(uuid)
to service_role;

comment on function billing.find_customers(text, integer) is 'Finds Stripe customers that no account owns: by their id, that of one of their objects, an e-mail address, or a part of an address or a name.';
comment on function billing.explain_credits(uuid, integer) is 'What each payment of an account is worth in credits, and what the ledger has of it, newest first.';
comment on function billing.explain_free_credits(uuid) is 'Rules of free credits by which an account gets none in the running period, and why.';
