-- The calendar of months of credits.
--
-- Invariant: month k starts at anchor + k months, counted from the anchor in UTC and never from the previous month, so
-- month ends don't drift: after 31 January come 28 February and 31 March. Private; pure.

create function billing._slot(anchor timestamptz, k integer)
returns timestamptz
language sql
immutable
as $$
    select (anchor at time zone 'utc' + pg_catalog.make_interval(months => k)) at time zone 'utc'
$$;

-- The number of calendar months between two times: the month of credits that starts in the calendar month of `moment`.
create function billing._slot_number(anchor timestamptz, moment timestamptz)
returns integer
language sql
immutable
as $$
    select (12 * (pg_catalog.date_part('year', moment at time zone 'utc') - pg_catalog.date_part('year', anchor at time zone 'utc'))
        + pg_catalog.date_part('month', moment at time zone 'utc') - pg_catalog.date_part('month', anchor at time zone 'utc'))::integer
$$;

-- The first month that starts at or after a time.
create function billing._first_slot(anchor timestamptz, from_moment timestamptz)
returns timestamptz
language sql
immutable
as $$
    select case
        when billing._slot(anchor, billing._slot_number(anchor, from_moment)) >= from_moment
            then billing._slot(anchor, billing._slot_number(anchor, from_moment))
        else billing._slot(anchor, billing._slot_number(anchor, from_moment) + 1)
    end
$$;

-- The period of a plan in months; null for days and weeks.
create function billing._months(plan billing.plans)
returns integer
language sql
immutable
as $$
    select (plan).recurring_interval_count * case (plan).recurring_interval when 'year' then 12 when 'month' then 1 end
$$;

-- The anchor from which the months of a period are counted: the latest of the subscription's anchors that fits the end
-- of the period and is not after its start. Without one, a period that is as long as the plan's is counted from its start,
-- and any other from a later anchor that fits, or from its end. A period of days or weeks is a part of the month that
-- starts with it, and so is a change within it.
create function billing._anchor_of_period(
    plan billing.plans, anchors timestamptz[], period_start timestamptz, period_end timestamptz
)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_start timestamptz := _anchor_of_period.period_start;
    v_end timestamptz := _anchor_of_period.period_end;
    v_months integer := billing._months(_anchor_of_period.plan);
    v_anchor timestamptz;
    v_found timestamptz;
begin
    if v_months is null then
        return v_end - make_interval(days => (_anchor_of_period.plan).recurring_interval_count
            * case (_anchor_of_period.plan).recurring_interval when 'week' then 7 else 1 end);
    end if;
    foreach v_anchor in array _anchor_of_period.anchors loop
        if billing._first_slot(v_anchor, v_end) = v_end and (
            v_found is null
            or (v_anchor <= v_start) > (v_found <= v_start)
            or (v_anchor <= v_start) = (v_found <= v_start) and v_anchor > v_found
        ) then
            v_found := v_anchor;
        end if;
    end loop;
    return case
        when v_found <= v_start then v_found
        when billing._slot(v_start, v_months) = v_end then v_start
        else coalesce(v_found, v_end)
    end;
end
$$;

revoke all on function
    billing._slot, billing._slot_number, billing._first_slot, billing._months, billing._anchor_of_period
from public, anon, authenticated, service_role;
