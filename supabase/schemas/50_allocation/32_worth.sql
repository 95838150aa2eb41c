-- Facts → worth: the credits that subscriptions have paid for, as moves of credits.
--
-- Invariant: pure, and the only place with these rules, for one subscription or ten thousand, for an event or the
-- clock. Everything that one subscription item adds and gives back at one time is added up exactly and rounded down. A
-- sum below zero is offset by the credits of other items of the subscription at that time, and the rest is taken back.
-- Free credits are granted once for each account, product and calendar month. Returned money reduces the worth of
-- months.
--
-- Private: called by _allocate_slots and entitlement_discrepancies.

create type billing.credit_move as (
    key text,
    account_id uuid,
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_invoice_id text,
    stripe_price_id text,
    source text,
    moment timestamptz,
    slot_start timestamptz,
    credits bigint,            -- below zero: to be taken back
    returned bigint,           -- how much less it is, because money was returned
    expires_at timestamptz,
    rollover text,
    rollover_cap bigint,
    is_waiting boolean
);

create function billing._moment_text(moment timestamptz)
returns text
language sql
stable
as $$
    select pg_catalog.to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

-- The credits that an invoice's months lose because its money was returned (with_contested: as if open disputes were
-- lost). moment null: the initial credits of the invoice, or a pack (with its key in place of the item). Each line
-- loses its share of the returned money, first from months that start after the return or never started, in proportion,
-- then from the others; rounded down in total.
create function billing._returned_credits(stripe_invoice_id text, with_contested boolean default false)
returns table (stripe_subscription_item_id text, moment timestamptz, credits bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_listed numeric;
    v_return billing.returned_money;
    v_line_ids text[];
    v_line_prices numeric[];
    v_line_worths numeric[];
    v_line_returned numeric[];
    v_line_gone numeric[];
    v_slot_lines integer[];
    v_slot_items text[];
    v_slot_moments timestamptz[];
    v_slot_unused boolean[];
    v_slot_worths numeric[];
    v_slot_left numeric[];
    v_spread numeric := 0;
    v_by_line numeric := 0;
    v_gone numeric;
    v_later numeric;
    v_part numeric;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _returned_credits.stripe_invoice_id;
    v_price := billing._price_of_invoice(v_invoice);
    if v_price is null or v_price <= 0 then
        return;
    end if;
    select coalesce(sum(billing._price_of_line(lines)), 0) into v_listed from billing.invoice_lines as lines
    where lines.stripe_invoice_id = v_invoice.stripe_invoice_id;

    -- Every month of every line; the initial credits count as one more month of the line that granted them.
    with found as (
        select
            months.*, months.whole_credits * months.line_seconds / months.slot_seconds as credits,
            months.gives_back and months.moment > months.slot_start as is_cut,
            months.proration_credits = 'none' and months.moment > months.slot_start and not months.gives_back
                as is_not_counted
        from billing._slots_of_lines('{}', '-infinity', 'infinity', v_invoice.stripe_invoice_id) as months
        where not months.is_free
    ),
    slots as (
        select
            found.stripe_line_id, found.stripe_subscription_item_id as item_id, found.moment,
            not found.is_reached as is_unused,
            case
                -- It offsets what was given back, at most.
                when found.is_not_counted then coalesce(
                    found.credits * least(
                        -sum(found.credits) filter (where found.is_cut) over together,
                        sum(found.credits) filter (where found.is_not_counted) over together
                    ) / nullif(sum(found.credits) filter (where found.is_not_counted) over together, 0), 0
                ) * (count(*) filter (where found.is_cut) over together > 0)::integer
                else found.credits
            end as worth
        from found
        window together as (partition by found.stripe_subscription_id, found.moment)
        union all
        select
            granting.stripe_line_id, lots.stripe_subscription_item_id, null, false, sum(lots.amount)
        from billing.credit_grants as lots
        cross join lateral (
            select min(schedules.stripe_line_id) as stripe_line_id, bool_or(schedules.is_free) as is_free
            from billing.credit_schedules as schedules
            where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id and not schedules.is_change
                and schedules.stripe_subscription_item_id = lots.stripe_subscription_item_id
                and schedules.stripe_price_id = lots.stripe_price_id
        ) as granting
        where lots.stripe_invoice_id = v_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:' and granting.is_free is not true
        group by granting.stripe_line_id, lots.stripe_subscription_item_id
        union all
        select purchases.stripe_line_id, purchases.business_key, null, false, purchases.credits
        from billing.pack_purchases as purchases
        where purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and purchases.stripe_line_id is not null
            and purchases.price > 0
    ),
    lines as (
        select
            slots.stripe_line_id, sum(slots.worth) as worth,
            case when v_listed > 0 then v_price * max(billing._price_of_line(invoice_lines)) / v_listed end
                as price,
            row_number() over (order by slots.stripe_line_id)::integer as place
        from slots
        left join billing.invoice_lines on invoice_lines.stripe_line_id = slots.stripe_line_id
        group by slots.stripe_line_id
    )
    select
        (select array_agg(lines.stripe_line_id order by lines.place) from lines),
        (select array_agg(lines.price order by lines.place) from lines),
        (select array_agg(lines.worth order by lines.place) from lines),
        array_agg(lines.place order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.item_id order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.moment order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.is_unused order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.worth order by slots.moment nulls first, slots.item_id, slots.stripe_line_id)
    into
        v_line_ids, v_line_prices, v_line_worths, v_slot_lines, v_slot_items, v_slot_moments, v_slot_unused,
        v_slot_worths
    from slots join lines on lines.stripe_line_id is not distinct from slots.stripe_line_id;
    if v_line_ids is null then
        return;
    end if;
    v_slot_left := v_slot_worths;
    v_line_returned := array_fill(0::numeric, array[cardinality(v_line_ids)]);
    v_line_gone := v_line_returned;

    for v_return in
        select * from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns
        where _returned_credits.with_contested or not returns.is_contested
        order by returns.is_contested, returns.returned_at, returns.stripe_line_id, returns.amount
    loop
        if v_return.stripe_line_id is null or v_listed <= 0 then
            v_spread := least(v_spread + v_return.amount, v_price - v_by_line);
        else
            v_by_line := least(v_by_line + v_return.amount, v_price);
            v_spread := least(v_spread, v_price - v_by_line);
        end if;
        for place in 1 .. cardinality(v_line_ids) loop
            if v_line_ids[place] = v_return.stripe_line_id then
                v_line_returned[place] := v_line_returned[place] + v_return.amount;
            end if;
            v_part := 1;
            if v_line_prices[place] > 0 then
                v_part := greatest(1 - v_line_returned[place] / v_line_prices[place], 0);
            end if;
            if v_by_line < v_price then
                v_part := v_part * (v_price - v_by_line - v_spread) / (v_price - v_by_line);
            end if;
            v_gone := v_line_worths[place] * (1 - v_part) - v_line_gone[place];
            continue when v_gone = 0;
            v_line_gone[place] := v_line_gone[place] + v_gone;
            select coalesce(sum(slots.worth), 0) into v_later
            from unnest(v_slot_lines, v_slot_moments, v_slot_unused, v_slot_left) as slots (line, moment, is_unused, worth)
            where slots.line = place and (slots.moment > v_return.returned_at or slots.is_unused);
            for slot in 1 .. cardinality(v_slot_left) loop
                continue when v_slot_lines[slot] <> place;
                if v_slot_unused[slot] or coalesce(v_slot_moments[slot] > v_return.returned_at, false) then
                    if v_later <> 0 then
                        v_slot_left[slot] := v_slot_left[slot] * (1 - least(v_gone / v_later, 1));
                    end if;
                elsif abs(v_gone) > abs(v_later) and v_line_worths[place] - v_line_gone[place] + v_gone - v_later <> 0 then
                    v_slot_left[slot] := v_slot_left[slot] * (
                        1 - (v_gone - v_later) / (v_line_worths[place] - v_line_gone[place] + v_gone - v_later)
                    );
                end if;
            end loop;
        end loop;
    end loop;

    -- Rounds the running total down; each part is the difference between its end and its start.
    return query
    select
        parts.item_id, parts.moment, (floor(round(parts.so_far, 9)) - floor(round(parts.so_far - parts.gone, 9)))::bigint
    from (
        select
            sums.item_id, sums.moment, sums.gone,
            sum(sums.gone) over (order by sums.moment nulls first, sums.item_id rows unbounded preceding) as so_far
        from (
            select slots.item_id, slots.moment, sum(slots.worth - slots.worth_left) as gone
            from unnest(v_slot_items, v_slot_moments, v_slot_worths, v_slot_left)
                as slots (item_id, moment, worth, worth_left)
            group by slots.item_id, slots.moment
        ) as sums
    ) as parts
    where floor(round(parts.so_far, 9)) <> floor(round(parts.so_far - parts.gone, 9));
end
$$;

-- Moves of plain lines, the common case: no other line shares their months.
create function billing._plain_worth(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz
)
returns setof billing.credit_move
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        case when slots.moment > slots.slot_start then 'proration:' else 'monthly:' end
            || slots.stripe_subscription_item_id || ':' || billing._moment_text(slots.moment),
        slots.account_id, slots.stripe_subscription_id, slots.stripe_subscription_item_id,
        slots.stripe_invoice_id, slots.stripe_price_id,
        case when slots.moment > slots.slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
        slots.moment, slots.slot_start,
        case
            when not slots.is_reached then 0
            when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
            else floor(slots.whole_credits * slots.line_seconds / slots.slot_seconds)::bigint
        end,
        0::bigint, slots.expires_at, slots.rollover, slots.rollover_cap, slots.is_waiting
    from billing._slots_of_lines(
        _plain_worth.stripe_subscription_ids, _plain_worth.from_moment, _plain_worth.until_moment
    ) as slots
    where billing._is_plain(slots) and slots.moment >= _plain_worth.from_moment;
end
$$;

create function billing._is_plain(slot billing.line_slot)
returns boolean
language sql
immutable
as $$
    select (slot).is_plain and not (slot).is_free and not (slot).has_returns
$$;

-- The moves of subscriptions between two times. Months that are not reached are moves of 0 credits, so that credits
-- granted for them earlier are taken back.
create function billing._worth(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz
)
returns setof billing.credit_move
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free_account_ids uuid[];
    -- All free claims of a calendar month count, even those of months of credits that have ended.
    v_free_from timestamptz := date_trunc('month', _worth.from_moment - interval '1 month', 'UTC');
begin
    return query
    select * from billing._plain_worth(_worth.stripe_subscription_ids, _worth.from_moment, _worth.until_moment);
    if not exists (
        select from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids)
            and credit_schedules.period_end > _worth.from_moment
            and (
                not credit_schedules.is_plain or credit_schedules.is_free or credit_schedules.has_returns
            )
    ) then
        return;
    end if;
    select array_agg(distinct credit_schedules.account_id) into v_free_account_ids from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids) and credit_schedules.is_free
        and credit_schedules.period_end > _worth.from_moment;

    return query
    with slots as materialized (
        select * from billing._slots_of_lines(
            _worth.stripe_subscription_ids,
            case when v_free_account_ids is null then _worth.from_moment else v_free_from end,
            _worth.until_moment, null, v_free_account_ids
        )
    ),
    shared as (
        select
            slots.*,
            slots.moment > slots.slot_start as is_part,
            case
                -- A free line gives nothing back; an earlier event may have counted it.
                when not slots.is_reached or slots.is_free then 0
                else slots.whole_credits * slots.line_seconds
            end as credit_seconds
        from slots
        where (slots.gives_back or not slots.is_free) and not billing._is_plain(slots)
    ),
    -- Exact for months of equal length: adds up first, then divides.
    by_length as (
        select
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.slot_seconds,
            sum(shared.credit_seconds) filter (
                where shared.gives_back or not shared.is_part or shared.proration_credits <> 'none'
            ) / shared.slot_seconds as counted,
            sum(shared.credit_seconds) filter (where shared.gives_back and shared.is_part) / shared.slot_seconds as given_back,
            sum(shared.credit_seconds) filter (
                where not shared.gives_back and shared.is_part and shared.proration_credits = 'none'
            ) / shared.slot_seconds as not_counted,
            bool_or(shared.gives_back) as has_credits,
            bool_or(shared.is_reached) as is_reached,
            bool_or(shared.is_waiting) filter (where not shared.gives_back) as is_waiting,
            min(shared.slot_start) filter (where shared.gives_back) as credited_from, min(shared.slot_start) as slot_start,
            bool_or(shared.downgrade_credits in ('keep', 'elsewhere')) as is_kept,
            bool_or(shared.downgrade_credits = 'elsewhere') as is_elsewhere
        from shared
        group by 1, 2, 3, 4
    ),
    by_item as (
        select
            by_length.stripe_subscription_id, by_length.stripe_subscription_item_id, by_length.moment,
            bool_or(by_length.is_reached) as is_reached, bool_or(by_length.is_waiting) as is_waiting,
            sum(by_length.counted) as counted, sum(by_length.given_back) as given_back,
            sum(sum(by_length.given_back)) over together as all_given_back,
            sum(sum(by_length.not_counted)) over together as all_not_counted,
            bool_or(by_length.has_credits) as is_credited,
            bool_or(bool_or(by_length.has_credits)) over together as has_credits,
            min(min(by_length.credited_from)) over together as credited_from,
            bool_or(bool_or(by_length.is_kept)) over together as is_kept,
            min(by_length.slot_start) as slot_start, bool_or(by_length.is_elsewhere) as is_elsewhere
        from by_length
        group by 1, 2, 3
        window together as (partition by by_length.stripe_subscription_id, by_length.moment)
    ),
    returned as (
        select credits.stripe_subscription_item_id, credits.moment, sum(credits.credits)::bigint as credits
        from (
            select distinct shared.stripe_invoice_id from shared where shared.has_returns
        ) as invoices
        cross join lateral billing._returned_credits(invoices.stripe_invoice_id) as credits
        where credits.moment is not null
        group by 1, 2
    ),
    -- A change to a plan with credits_on_proration=none offsets what was given back, at most. The offset part is
    -- exactly what is not taken back.
    rounded as (
        select
            by_item.stripe_subscription_id, by_item.stripe_subscription_item_id, by_item.moment, by_item.has_credits,
            by_item.is_credited, by_item.is_waiting, by_item.credited_from, by_item.is_kept, by_item.slot_start,
            by_item.is_elsewhere, coalesce(returned.credits, 0) as returned,
            floor(round(coalesce(by_item.counted, 0) + coalesce(
                -by_item.given_back * least(coalesce(by_item.all_not_counted, 0) / nullif(-by_item.all_given_back, 0), 1), 0
            ), 9))::bigint - coalesce(returned.credits, 0) as item_credits
        from by_item
        -- Months that never start have nothing to lose.
        left join returned
            on by_item.is_reached and returned.stripe_subscription_item_id = by_item.stripe_subscription_item_id
            and returned.moment = by_item.moment
    ),
    -- Once time is given back whose credits were granted elsewhere (counts_from), all later changes of the item within that
    -- month give no more than what they add to it: a downgrade and the way back add nothing.
    after_elsewhere as (
        select
            begun.*,
            case
                when begun.elsewhere_before > 0
                    then greatest(begun.so_far + begun.item_credits, 0) - greatest(begun.so_far, 0)
                else begun.item_credits
            end as credits
        from (
            select
                counted.*,
                coalesce(sum(counted.item_credits) filter (where counted.elsewhere_until_now > 0) over earlier, 0) as so_far,
                coalesce(max(counted.elsewhere_until_now) over earlier, 0) as elsewhere_before
            from (
                select
                    rounded.*,
                    count(*) filter (where rounded.is_elsewhere) over (
                        partition by rounded.stripe_subscription_id, rounded.stripe_subscription_item_id,
                            rounded.slot_start
                        order by rounded.moment
                    ) as elsewhere_until_now
                from rounded
            ) as counted
            window earlier as (
                partition by counted.stripe_subscription_id, counted.stripe_subscription_item_id, counted.slot_start
                order by counted.moment rows between unbounded preceding and 1 preceding
            )
        ) as begun
    ),
    offset_by_others as (
        select
            changes.*,
            coalesce(sum(greatest(changes.credits, 0)) over (
                together order by changes.stripe_subscription_item_id
                rows between unbounded preceding and 1 preceding
            ), 0) as before,
            -- While a month waits, its negative sum waits too.
            -coalesce(sum(least(changes.credits, 0)) filter (where changes.is_waiting is not true) over together, 0)
                as below_zero,
            coalesce(sum(greatest(changes.credits, 0)) over together, 0) as above_zero
        from after_elsewhere as changes
        window together as (partition by changes.stripe_subscription_id, changes.moment)
    ),
    -- The line that pays for a move: the one of the item that was bought last.
    payers as (
        select distinct on (shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment) shared.*
        from shared
        where shared.moment >= _worth.from_moment
        order by
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.gives_back,
            shared.is_part, shared.period_start desc, shared.stripe_line_id desc
    ),
    netted as (
        select
            case when payers.is_part then 'proration:' else 'monthly:' end || payers.stripe_subscription_item_id || ':'
                || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id,
            case when payers.is_part then 'stripe.proration' else 'stripe.monthly_allocation' end, payers.moment,
            payers.slot_start,
            (greatest(offset_by_others.credits, 0) - least(
                greatest(offset_by_others.credits, 0),
                greatest(offset_by_others.below_zero - offset_by_others.before, 0)
            ))::bigint,
            offset_by_others.returned, payers.expires_at, payers.rollover, payers.rollover_cap, payers.is_waiting
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where not payers.gives_back
    ),
    -- What is given back beyond everything that the subscription adds at that time.
    credited as (
        select distinct on (payers.stripe_subscription_id, payers.moment)
            'credited:' || payers.stripe_subscription_id || ':' || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id, 'stripe.proration', payers.moment,
            offset_by_others.credited_from,
            case
                when offset_by_others.is_kept then 0
                else least(offset_by_others.above_zero - offset_by_others.below_zero, 0)
            end::bigint,
            0::bigint, null::timestamptz, payers.rollover, payers.rollover_cap, false
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where offset_by_others.has_credits
        order by
            payers.stripe_subscription_id, payers.moment, payers.gives_back desc, offset_by_others.is_credited desc,
            payers.stripe_subscription_item_id
    ),
    unpaid as (
        select
            slots.account_id, slots.stripe_subscription_id, slots.moment, plans.stripe_product_id,
            case
                when plans.recurring_interval in ('day', 'week') then date_bin(
                    make_interval(days => plans.recurring_interval_count * case plans.recurring_interval when 'week' then 7 else 1 end),
                    slots.slot_start, '1970-01-05Z'
                )
                else date_trunc('month', slots.slot_start, 'UTC')
            end as bucket,
            floor(sum(
                case
                    when not slots.is_reached then 0
                    when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
                    else slots.whole_credits * slots.line_seconds / slots.slot_seconds
                end
            ))::bigint as credits,
            (array_agg(
                row(slots.*)::billing.line_slot order by slots.period_start desc, slots.stripe_line_id desc
            ))[1] as payer
        from slots
        join billing.plans on plans.stripe_price_id = slots.stripe_price_id
        where slots.is_free and not slots.gives_back
        -- Tiers of one purchase are one claim; a line that replaces another is a separate claim.
        group by 1, 2, 3, 4, 5, slots.stripe_invoice_id, slots.stripe_subscription_item_id, slots.period_start
    ),
    given as (
        select distinct on (unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket)
            'free:' || unpaid.account_id || ':' || unpaid.stripe_product_id || ':'
                || to_char(unpaid.bucket at time zone 'utc', 'YYYY-MM-DD'),
            unpaid.account_id, unpaid.stripe_subscription_id, (unpaid.payer).stripe_subscription_item_id,
            (unpaid.payer).stripe_invoice_id, (unpaid.payer).stripe_price_id,
            case when unpaid.moment > (unpaid.payer).slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
            unpaid.moment, (unpaid.payer).slot_start, unpaid.credits, 0::bigint, (unpaid.payer).expires_at,
            (unpaid.payer).rollover, (unpaid.payer).rollover_cap, (unpaid.payer).is_waiting
        from unpaid
        where unpaid.bucket >= v_free_from
        order by
            unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket, unpaid.credits desc, unpaid.moment,
            unpaid.stripe_subscription_id
    )
    select * from netted
    union all
    select * from credited
    union all
    select * from given;
end
$$;

revoke all on function
    billing._moment_text, billing._returned_credits, billing._is_plain, billing._plain_worth, billing._worth
from public, anon, authenticated, service_role;
