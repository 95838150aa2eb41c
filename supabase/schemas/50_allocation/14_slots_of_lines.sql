-- The part of every month that each line of paid time covers.
--
-- Invariant: a pure function of the schedules and the terms, and the only place with these rules. A line gives
--     monthly credits * seats * (its time within the month) / (length of the month)
-- for each month that it overlaps, at the month's start or at its own start. A line that gives back takes the same amount of
-- the line that it credits. With credits_on_proration=full, the first change to a plan within a month counts from the start of
-- the month. Months that start after the subscription's end count nothing, except the first month of a line. Time that Stripe
-- credits although nobody paid for it counts at the time of the change. Time before a line's counts_from counts nothing.
--
-- Private.

create type billing.line_slot as (
    stripe_line_id text,
    account_id uuid,
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_invoice_id text,
    stripe_price_id text,
    gives_back boolean,
    is_free boolean,
    is_plain boolean,
    has_returns boolean,
    is_reached boolean,
    is_waiting boolean,
    period_start timestamptz,
    slot_start timestamptz,
    slot_end timestamptz,
    moment timestamptz,
    whole_credits numeric,     -- of the whole month; below zero where time is given back
    line_seconds numeric,
    slot_seconds numeric,
    expires_at timestamptz,
    rollover text,
    rollover_cap bigint,
    proration_credits text,
    downgrade_credits text     -- elsewhere: of a line that only offsets (credit_schedules.offsets_only)
);

-- True if a line is the first change to its plan within a month.
create function billing._is_first_change(line billing.credit_schedules, slot_start timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_line billing.credit_schedules := _is_first_change.line;
begin
    return not v_line.gives_back and not v_line.is_free and v_line.period_start > _is_first_change.slot_start
        and not exists (
            select from billing.credit_schedules as earlier
            where earlier.stripe_subscription_id = v_line.stripe_subscription_id
                and earlier.stripe_price_id = v_line.stripe_price_id and not earlier.gives_back and not earlier.is_free
                and earlier.period_start > _is_first_change.slot_start
                and earlier.period_end > _is_first_change.slot_start
                and earlier.period_start < v_line.period_start
        );
end
$$;

-- Months that end after from_moment and start by until_moment: of subscriptions, of one invoice (stripe_invoice_id), or
-- of the free lines of accounts (free_account_ids). The first month of a line counts as soon as it is paid, even before
-- it starts.
create function billing._slots_of_lines(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz,
    stripe_invoice_id text default null, free_account_ids uuid[] default null
)
returns setof billing.line_slot
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        lines.stripe_line_id, lines.account_id, lines.stripe_subscription_id, lines.stripe_subscription_item_id,
        lines.stripe_invoice_id, lines.stripe_price_id, lines.gives_back, lines.is_free, lines.is_plain,
        lines.has_returns,
        -- terms_from: for a line that gives back, the start of the line that it credits.
        (lines.is_unpaid or slots.slot_start <= lines.terms_from or slots.slot_start < lines.ends_at)
            and lines.ends_at > lines.counts_from,
        lines.disarmed_reason is not null and slots.slot_start > lines.period_start,
        lines.period_start, slots.slot_start, slots.slot_end,
        greatest(
            case when lines.is_unpaid then lines.period_start else greatest(slots.slot_start, lines.period_start) end,
            lines.counts_from
        ),
        (case when lines.gives_back then -1 else 1 end) * terms.monthly_credits::numeric * lines.quantity,
        extract(epoch from least(slots.slot_end, lines.period_end) - case
            when terms.proration_credits = 'full' and lines.counts_from <= slots.slot_start
                and billing._is_first_change(lines, slots.slot_start)
                then slots.slot_start
            else greatest(slots.slot_start, lines.period_start, lines.counts_from)
        end),
        extract(epoch from slots.slot_end - slots.slot_start),
        case terms.rollover
            when 'none' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(slots.slot_end, billing._slot(lines.paid_at, 1))
                else slots.slot_end
            end
            when 'periods' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(
                        billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods),
                        billing._slot(lines.paid_at, 1 + terms.rollover_periods)
                    )
                else billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods)
            end
        end,
        terms.rollover, terms.rollover_cap,
        -- The month in which the credits begin is no change of plan.
        case when lines.counts_from > slots.slot_start then 'delta' else terms.proration_credits end,
        case when lines.offsets_only then 'elsewhere' else terms.downgrade_credits end
    from (
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_invoice_id = _slots_of_lines.stripe_invoice_id
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.account_id = any (_slots_of_lines.free_account_ids) and credit_schedules.is_free
            and credit_schedules.stripe_subscription_id <> all (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
    ) as lines
    cross join lateral (
        select
            series.k, billing._slot(lines.anchor, series.k) as slot_start,
            billing._slot(lines.anchor, series.k + 1) as slot_end
        from generate_series(
            billing._slot_number(lines.anchor, greatest(lines.period_start, _slots_of_lines.from_moment)) - 1,
            billing._slot_number(lines.anchor, case
                when lines.is_unpaid then lines.period_end
                else least(lines.period_end, greatest(lines.period_start, _slots_of_lines.until_moment))
            end)
        ) as series (k)
        offset 0  -- or each month would be worked out at each place that names it
    ) as slots
    cross join lateral (
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.valid_from <= greatest(slots.slot_start, lines.terms_from)
            order by credit_terms.valid_from desc
            limit 1
        )
        union all
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
            order by credit_terms.valid_from
            limit 1
        )
        limit 1
    ) as terms
    where slots.slot_end > greatest(lines.period_start, _slots_of_lines.from_moment, lines.counts_from)
        and slots.slot_start < lines.period_end
        and (
            lines.is_unpaid or slots.slot_start <= lines.period_start
            or slots.slot_start <= _slots_of_lines.until_moment
        );
end
$$;

revoke all on function billing._is_first_change, billing._slots_of_lines from public, anon, authenticated, service_role;
